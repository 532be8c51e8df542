"Tasks that were never trained: votes, relatives, few examples, and what is like nothing."
import numpy as np
import pandas as pd
import pytest

from taco.atlas.embedding import plan_pairs
from taco.atlas.rivals.baselines import PixelEncoder
from taco.atlas.unseen.further import (
    Space,
    among_relatives,
    draw_further,
    features_by,
    few_shots,
    recognised,
    unusual,
    votes_for,
    weighed,
)
from taco.base import TacoError
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.further import FURTHER, RELATIVES


@pytest.fixture
def clouds():
    "Three tasks in sixteen dimensions, of which one is loud and common to all."
    rng, tasks = np.random.default_rng(0), np.repeat(["a", "b", "c"], 60)
    points = rng.normal(size=(180, 16)) + 4 * np.eye(16)[np.repeat([1, 2, 3], 60)]
    points[:, 0] *= 40
    return points.astype(np.float32), tasks, np.tile(np.arange(30), 6).astype(str)


def test_the_space_is_blind_to_what_scatters_within_tasks(clouds):
    points, tasks, subjects = clouds
    raw = points / np.linalg.norm(points, axis=1, keepdims=True)
    good = Space.fit(points, tasks)(points)
    half = slice(0, None, 2), slice(1, None, 2)
    named = [few_shots(x[half[0]], tasks[half[0]], subjects[half[0]], x[half[1]], tasks[half[1]], 5).mean()
             for x in (raw, good)]
    assert named[0] < .6 and named[1] > .95
    with pytest.raises(TacoError, match="of one 1 pairs"): Space.fit(points[:61], tasks[:61])


def test_more_examples_help_and_too_few_are_refused(clouds):
    points, tasks, subjects = clouds
    noisy = Space.fit(points, tasks)(points + np.random.default_rng(1).normal(size=points.shape) * 2)
    sides = noisy[::2], tasks[::2], subjects[::2], noisy[1::2], tasks[1::2]
    shares = [few_shots(*sides, n).mean() for n in (1, 3, 12)]
    assert shares == sorted(shares) and shares[0] < shares[2]
    assert np.array_equal(few_shots(*sides, 3, seed=5), few_shots(*sides, 3, seed=5))
    with pytest.raises(TacoError, match="30 of 'a'"): few_shots(*sides, 31)


def test_examples_are_of_different_patients(clouds):
    points, tasks, _ = clouds
    subjects = np.repeat(np.arange(6), 30).astype(str)  # two patients a task
    chosen = []

    class Spy(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, np.ndarray) and rows.dtype == int: chosen.append(rows)
            return np.asarray(super().__getitem__(rows))

    few_shots(points.view(Spy), tasks, subjects, points[:4], tasks[:4], 2, draws=3)
    assert len(chosen) == 9 and all(len(set(subjects[rows])) == 2 for rows in chosen)


def test_votes_and_relatives():
    tasks = np.array(["gamma", "gamma", "low_dose", "nothing_done"])
    guesses = np.array(["brightness_change", "shear", "despeckling", "colorization"])
    near = among_relatives(guesses, tasks)
    assert near[:3].tolist() == [1, 0, 1] and np.isnan(near[3])
    votes = votes_for(guesses, tasks)
    assert list(votes.columns) == list(ALL_TASKS) and (votes.sum(1) == 1).all()
    assert votes.loc["gamma", "brightness_change"] == .5


def test_a_task_counts_once():
    plan = pd.DataFrame(dict(task=["a"] * 8 + ["b"] * 2, dataset="d", subject=list("pqrstuvwxy")))
    value, (low, high), about = weighed(np.r_[np.ones(8), 0, 0], plan)
    assert value == pytest.approx(.5) and low < .5 < high and about == dict(n=10, subjects=10, tasks=2)


def test_unusual_is_what_lies_apart():
    rng = np.random.default_rng(0)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    known, alike = (unit(rng.normal(size=(300, 8)) * .2 + np.eye(8)[0]) for _ in range(2))
    assert unusual(-known, known).all() and unusual(alike, known).mean() < .15


def test_from_pairs_to_a_figure(phantoms):
    store = phantoms("busi", subjects=40)
    plans = [plan_pairs(store, list(ALL_TASKS), "train", 4), *(plan_pairs(store, list(FURTHER), part, 4, 1)
                                                              for part in ("train", "test"))]
    made = [features_by({"pixels": PixelEncoder(8)}, store, plan)["pixels"] for plan in plans]
    assert all(len(side[0]) == len(plan) for side, plan in zip(made, plans))
    table, answers = recognised([side[0] for side in made], plans, ALL_TASKS, FURTHER[:4], (1, 2), 5, 50)
    asked = plans[2]["task"].isin(FURTHER[:4]).sum()
    assert list(table["shots"]) == [1, 2] and set(table["n"]) == {asked} == {len(a) for a in answers.values()}
    votes = votes_for(np.full(len(plans[2]), "shear"), plans[2]["task"].to_numpy())
    figure = draw_further(votes, {"further tasks": table.assign(encoder="pixels")}, {"pixels": ("pixels", "C0")},
                          {"further tasks": .06})
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == sum(len(RELATIVES[n]) for n in votes.index)
