"Tasks that were never trained: votes, relatives, few examples, and what is like nothing."
import numpy as np
import pandas as pd
import pytest
import torch

from taco.atlas.embedding import plan_pairs
from taco.atlas.rivals.baselines import PixelEncoder
from taco.atlas.unseen.further import (
    Space,
    among_relatives,
    draw_further,
    features_by,
    few_shot_table,
    few_shots,
    recognised,
    taken_for,
    votes_for,
    weighed,
)
from taco.base import TacoError
from taco.learning.encoder import EncoderConfig, PairEncoder
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
    space, even = Space.fit(points, tasks), np.full(16, 1e6)
    half = slice(0, None, 2), slice(1, None, 2)
    named = [few_shots(x[half[0]], tasks[half[0]], subjects[half[0]], x[half[1]], tasks[half[1]], 5, between).mean()
             for x, between in ((raw, even), (space(points), even), (space(points), space.between))]
    assert named[0] < .6 and min(named[1:]) > .95
    assert space.between[-2:].min() > 10 * space.between[:-2].max(), "three means lie in a plane"
    with pytest.raises(TacoError, match="of one 1 pairs"): Space.fit(points[:61], tasks[:61])


def test_more_examples_help_and_too_few_are_refused(clouds):
    points, tasks, subjects = clouds
    noisy = Space.fit(points, tasks)(points + np.random.default_rng(1).normal(size=points.shape) * 2)
    sides, even = (noisy[::2], tasks[::2], subjects[::2], noisy[1::2], tasks[1::2]), np.ones(16)
    shares = [few_shots(*sides, n, even).mean() for n in (1, 3, 12)]
    assert shares == sorted(shares) and shares[0] < shares[2]
    assert np.array_equal(few_shots(*sides, 3, even, seed=5), few_shots(*sides, 3, even, seed=5))
    with pytest.raises(TacoError, match="30 of 'a'"): few_shots(*sides, 31, even)


def test_a_mean_is_trusted_where_tasks_differ():
    "One direction in which tasks differ, and forty in which they do not: from one example, forty accidents decide."
    rng, tasks = np.random.default_rng(0), np.repeat(list("abcdefgh"), 80)
    points = rng.normal(size=(640, 41))
    points[:, 0] += np.repeat(np.linspace(-12, 12, 8), 80)
    space = Space.fit(points, tasks)
    found, subjects = space(points), np.arange(640).astype(str)
    sides = found[::2], tasks[::2], subjects[::2], found[1::2], tasks[1::2]
    blind, told = (few_shots(*sides, 1, between).mean() for between in (np.full(41, 1e6), space.between))
    assert space.between[-1] > 10 * space.between[:-1].max() and told > blind + .2


def test_what_is_computed_before_the_embedding_are_all_layers(phantoms):
    store = phantoms("busi", subjects=40)
    plan = plan_pairs(store, list(ALL_TASKS)[:3], "test", 2)
    encoder = PairEncoder(EncoderConfig("resnet10", width=.25, size=store.size)).eval()
    features, points = features_by({"taco": encoder}, store, plan)["taco"]
    width = encoder.projection[0].out_features
    assert features.shape[1] == encoder.features + width and len(features) == len(points) == len(plan)
    hidden = torch.from_numpy(features[:, :encoder.features])
    np.testing.assert_allclose(encoder.projection[:2](hidden).detach(), features[:, encoder.features:], atol=1e-5)


def test_examples_are_of_different_patients(clouds):
    points, tasks, _ = clouds
    subjects = np.repeat(np.arange(6), 30).astype(str)  # two patients a task
    chosen = []

    class Spy(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, np.ndarray) and rows.dtype == int: chosen.append(rows)
            return np.asarray(super().__getitem__(rows))

    few_shots(points.view(Spy), tasks, subjects, points[:4], tasks[:4], 2, np.ones(16), draws=3)
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


def test_what_is_like_nothing_else_in_the_bank_is_taken_for_the_new_task():
    rng = np.random.default_rng(0)
    unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    about = lambda place, count: unit(rng.normal(size=(count, 8)) * .1 + np.eye(8)[place])
    bank, names = np.concatenate([about(0, 40), about(1, 40)]), np.repeat(["a", "b"], 40)
    banks = bank, about(2, 40)
    assert taken_for("new", banks, names, about(2, 30)).all() and not taken_for("new", banks, names, about(1, 30)).any()


def test_from_pairs_to_a_figure(phantoms):
    store = phantoms("busi", subjects=40)
    plans = [plan_pairs(store, list(ALL_TASKS), "train", 4), *(plan_pairs(store, list(FURTHER), part, 4, 1)
                                                              for part in ("train", "test"))]
    made = [features_by({"pixels": PixelEncoder(8)}, store, plan)["pixels"] for plan in plans]
    assert all(len(side[0]) == len(plan) for side, plan in zip(made, plans))
    answers = recognised([side[0] for side in made], plans, ALL_TASKS, FURTHER[:4], (1, 2), 5)
    table = few_shot_table(answers, plans[2][plans[2]["task"].isin(FURTHER[:4])], 50)
    asked = plans[2]["task"].isin(FURTHER[:4]).sum()
    assert list(table["shots"]) == [1, 2] and set(table["n"]) == {asked} == {len(a) for a in answers.values()}
    votes = votes_for(np.full(len(plans[2]), "shear"), plans[2]["task"].to_numpy())
    figure = draw_further(votes, {"further tasks": table.assign(encoder="pixels")}, {"pixels": ("pixels", "C0")},
                          {"further tasks": .06})
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == sum(len(RELATIVES[n]) for n in votes.index)
