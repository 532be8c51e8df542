"Tasks that an encoder was trained without: folds, the directed matrix, agreement of seeds, few examples."
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from taco.atlas.metrics import mantel
from taco.atlas.unseen.further import few_shot_table, recognised, weighed
from taco.atlas.unseen.left_out import (
    agreement,
    apart_share,
    arrangement_metrics,
    arrangements,
    directed,
    directed_by_seed,
    draw_left_out,
    folds_by_seed,
    in_order,
    left_out_answers,
    mantel_of_seeds,
    nearest_trained,
    over_tasks,
    symmetrised,
    told_apart,
)
from taco.base import TacoError
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task
from taco.workflow.profile import load_profile, plan, profile_folders

SIX = ALL_TASKS[8:10] + ALL_TASKS[18:22]
FOLDS = {"even": SIX[0::2], "odd": SIX[1::2]}


def planted(noise: float, seeds: int, size: int = 30, each: int = 5) -> list[np.ndarray]:
    "Directed matrices of one truth and noise of each seed's own, without values within folds of `each`."
    rng = np.random.default_rng(3)
    truth, fold = rng.normal(size=(size, size)), np.arange(size) // each
    holes = np.where(np.equal.outer(fold, fold), np.nan, 0)
    return [truth + noise * rng.normal(size=(size, size)) + holes for _ in range(seeds)]


def clouds(each: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    "Pairs of six tasks in eight dimensions; the first and second, third and fourth … lie together."
    codes, rng = np.repeat(np.arange(6), each), np.random.default_rng(seed)
    about = pd.DataFrame(dict(task=np.array(SIX)[codes], dataset="d", subject=np.arange(len(codes))))
    return np.repeat(4 * np.eye(8)[:3], 2, 0)[codes] + rng.normal(size=(len(codes), 8)), about


@pytest.fixture(scope="module")
def sides():
    "Features of bank, examples and queries, and their plans."
    made = [clouds(40, 0), clouds(12, 1), clouds(20, 2)]
    return [points for points, _ in made], [about for _, about in made]


# ── folds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_task_is_left_out_once_under_each_seed():
    def of(seed, *parts): return {f"{seed}{i}": dict(seed=seed, without=list(p)) for i, p in enumerate(parts)}
    good = of(0, SIX[:3], SIX[3:]) | of(4, SIX[:2], SIX[2:4], SIX[4:])
    found = folds_by_seed(good, SIX)
    assert list(found) == [0, 4] and found[4]["41"] == list(SIX[2:4])
    for wrong, task in (
        (of(0, SIX[:3], SIX[3:5]), SIX[5]), (of(0, SIX[:3], SIX[2:]), SIX[2]),
        (good | of(4, SIX[:2], SIX[2:4]) | {"42": dict(seed=4, without=[SIX[5]])}, SIX[4]),
        (of(0, SIX[:3], SIX[3:], ["shear"]), "shear"),  # which nobody asked about
    ):
        with pytest.raises(TacoError, match=f"one training of seed .*(?s:.*)'{task}'"): folds_by_seed(wrong, SIX)
    with pytest.raises(TacoError, match="no training"): folds_by_seed({}, SIX)
    for all_or_none in ([], list(SIX)):
        whole = dict(without=all_or_none, seed=0)
        with pytest.raises(TacoError, match="leaves out some"): folds_by_seed(good | dict(whole=whole), SIX)


@pytest.mark.parametrize("name, seeds, folds", [("study", 3, 5), ("smoke", 2, 2)])
def test_the_folds_of_a_profile_are_whole_and_of_every_family(name, seeds, folds):
    profile = load_profile(name)
    folders = profile_folders(profile)
    steps = [where.rpartition("/")[2] for where in plan(profile, "left_out", folders)["trainings"]]
    trainings = {step: dict(seed=0) | plan(profile, step, folders) for step in steps}
    found = folds_by_seed(trainings)
    assert len(found) == seeds and all(len(of_seed) == folds for of_seed in found.values())
    for without in (w for of_seed in found.values() for w in of_seed.values()):
        assert np.unique([get_task(t).family for t in without], return_counts=True)[1].tolist() == [10 // folds] * 3
    alike = [{k: v for k, v in p.items() if k not in ("folder", "seed", "without")} for p in trainings.values()]
    assert all(others == alike[0] for others in alike)


# ── where tasks are put ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_directed_row_lies_among_trained_tasks_only(sides):
    points, plans = [sides[0][0], sides[0][2]], [sides[1][0], sides[1][2]]
    even = directed(points, plans, SIX[0::2], SIX)
    assert np.isfinite(even[0::2, 1::2]).all() and np.isnan(even[1::2]).all() and np.isnan(even[:, 0::2]).all()
    whole = directed(points, plans, tasks=SIX)
    assert np.array_equal(np.isnan(whole), np.eye(6, dtype=bool))
    matrix, again = directed_by_seed({0: FOLDS, 1: FOLDS}, dict.fromkeys(FOLDS, points), plans, SIX)
    assert np.array_equal(matrix, again, equal_nan=True) and np.array_equal(matrix[0::2], even[0::2], equal_nan=True)
    assert np.nanargmax(matrix, 1).tolist() == [1, 0, 3, 2, 5, 4]


def test_what_a_task_is_like_does_not_hang_on_pairs_of_its_own_fold(sides):
    points, plans = [sides[0][0].copy(), sides[0][2]], [sides[1][0], sides[1][2]]
    before = directed(points, plans, SIX[0::2], SIX)
    points[0][np.isin(plans[0]["task"], SIX[0::2])] += 100  # the bank's pairs of tasks that were not trained
    assert np.array_equal(before, directed(points, plans, SIX[0::2], SIX), equal_nan=True)


def test_the_nearest_and_whether_all_seeds_name_it():
    a = np.array([[np.nan, .9, .1], [.8, np.nan, .2], [.3, .2, np.nan]])
    b = np.array([[np.nan, .7, .1], [.6, np.nan, .2], [.2, .25, np.nan]])
    told = nearest_trained([a, b], [SIX[0], SIX[1], SIX[2]])
    assert told["nearest"].tolist() == [SIX[1], SIX[0], SIX[0]] and told["seeds"].tolist() == [1, 1, .5]
    assert told["same_family"].tolist() == [True, True, False] and told["cosine"][0] == pytest.approx(.8)


# ── do seeds agree ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("noise", [.5, 1, 2])
def test_planted_agreement_is_found(noise):
    "Of normal numbers with a common part, Pearson's r is 1 / (1 + noise²), and Spearman's 6 / π · asin(r / 2)."
    truth = 6 / np.pi * np.arcsin(1 / (1 + noise**2) / 2)
    matrices = planted(noise, 4)
    value, (low, high) = over_tasks(
        lambda rows: agreement([m[np.ix_(rows, rows)] for m in matrices]), 30, -1, 1)
    assert value == agreement(matrices) == pytest.approx(truth, abs=.06) and low < value < high


def test_entries_that_one_of_two_lacks_do_not_count():
    a, b = planted(1, 2)
    a[0, 29] = b[7, 20] = 1e6
    a[7, 20] = b[0, 29] = np.nan
    both = np.isfinite(a) & np.isfinite(b)
    assert agreement([a, b]) == pytest.approx(spearmanr(a[both], b[both]).statistic) and both.sum() == 30 * 25 - 2
    with pytest.raises(TacoError, match="two at least"): agreement([a])
    with pytest.raises(TacoError, match="nothing to correlate"): agreement([a, np.full((30, 30), np.nan)])


def test_symmetrised_takes_the_direction_that_is_there():
    found = symmetrised(np.array([[np.nan, 1, 2], [3, np.nan, np.nan], [np.nan, np.nan, np.nan]]))
    assert np.array_equal(found, [[np.nan, 2, 2], [2, np.nan, np.nan], [2, np.nan, np.nan]], equal_nan=True)


def test_without_holes_it_is_the_mantel_test_and_with_them_it_tells_chance():
    a, b = (m + m.T for m in np.random.default_rng(0).normal(size=(2, 8, 8)))
    assert mantel_of_seeds([a, b], 99, 5) == pytest.approx(mantel(a, b, "spearman", 99, 5))
    r, p = mantel_of_seeds(planted(.5, 3), 199)
    assert p == 1 / 200 and r > .5
    assert mantel_of_seeds(planted(200, 3, 12, 3), 199)[1] > .05


def test_metrics_of_one_seed_say_nothing_of_agreement():
    one, three = (arrangement_metrics(planted(1, n), "_x", 49) for n in (1, 3))
    assert set(three) - set(one) == {
        "similarity_seed_agreement_x", "similarity_seed_mantel_p_x", "left_out_nearest_agree_x"}
    assert three["similarity_seed_agreement_x"][2] == dict(n=30 * 25, seeds=3)
    value, (low, high), about = three["left_out_family_auc_x"]
    assert 0 <= low < value < high <= 1 and low < .5 < high and about == dict(n=30, seeds=3)
    same = np.equal.outer(*[[get_task(t).family for t in ALL_TASKS]] * 2)
    assert arrangement_metrics([same + m * 0 for m in planted(1, 2)], draws=9)["left_out_family_auc"][0] == 1


def test_what_stands_beside_it_has_the_same_holes(sides):
    points, plans = [sides[0][0], sides[0][2]], [sides[1][0], sides[1][2]]
    other = [np.random.default_rng(4).normal(size=part.shape) for part in points]
    seeds = {0: FOLDS, 1: {f"{name}@": left for name, left in FOLDS.items()}}
    features = dict.fromkeys(["even", "odd", "even@", "odd@", "statistics", "full"], points)
    found = arrangements(seeds, features | {"random@0": points, "random@1": other}, plans, ["full"], SIX)
    assert {ending: len(some) for ending, some in found.items()} == {
        "": 2, "_untrained": 2, "_statistics": 1, "_trained": 1}
    holes = np.isnan(found[""][0])
    assert holes.sum() == 18 and all(np.array_equal(np.isnan(m), holes) for some in found.values() for m in some)
    assert np.array_equal(found["_untrained"][0], found["_statistics"][0], equal_nan=True)
    assert agreement(found["_untrained"]) < .7 and agreement(found[""]) == pytest.approx(1)


# ── recognised ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_query_is_answered_by_the_encoder_that_did_not_know_its_task(sides):
    points, plans = sides
    blind = [np.random.default_rng(9).normal(size=part.shape) for part in points]
    answers = left_out_answers({0: FOLDS}, dict(even=points, odd=blind), plans, (1, 5), 10, tasks=SIX)
    first = np.isin(plans[2]["task"], SIX[0::2])
    assert .3 < answers[5][first].mean() < .7 and answers[5][~first].mean() < .3  # one of two, one of six
    own = recognised(points, plans, SIX[1::2], SIX[0::2], (5,), 10)[5]
    assert np.array_equal(answers[5][first], own)


def test_seeds_are_averaged_for_each_pair_before_subjects_are_drawn(sides):
    points, plans = sides
    blind = [np.random.default_rng(9).normal(size=part.shape) for part in points]
    other, given = {f"{name}@": left for name, left in FOLDS.items()}, dict(shots=(5,), repeats=10, tasks=SIX)
    features = dict.fromkeys(FOLDS, points) | dict.fromkeys(other, blind)
    both, a, b = (left_out_answers(seeds, features, plans, **given) for seeds in
                  ({0: FOLDS, 1: other}, {0: FOLDS}, {1: other}))
    assert np.allclose(both[5], (a[5] + b[5]) / 2)
    row = few_shot_table(both, plans[2], 100).iloc[0]
    value, (low, high), about = weighed(both[5], plans[2], 100)
    assert (row["value"], row["low"], row["high"], row["n"]) == (value, low, high, about["n"])


def test_two_tasks_are_told_apart_by_their_own_pairs_alone(sides):
    unit = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (sides[0][0], sides[0][2])]
    plans = [sides[1][0], sides[1][2]]
    far, near = (told_apart(unit, plans, pair) for pair in (SIX[1:3], SIX[:2]))
    assert np.nanmean(far) > .95 and .3 < np.nanmean(near) < .7
    assert np.array_equal(np.isfinite(far), np.isin(plans[1]["task"], SIX[1:3]))
    value, (low, high), about = apart_share([unit, unit], plans, SIX[1:3], draws=50)
    assert value == np.nanmean(far) and low < value <= high <= 1 and about["seeds"] == 2 and about["tasks"] == 2


# ── the figure ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_figure_has_families_together_and_holes_grey():
    matrices = planted(1, 3)
    order = in_order(np.mean(matrices, 0))
    families = [get_task(ALL_TASKS[i]).family for i in order]
    assert sorted(order) == list(range(30)) and families == sorted(families, key=families.index)
    table = pd.DataFrame(dict(encoder="taco", shots=[1, 5], value=[.4, .6], low=[.3, .5], high=[.5, .7]))
    figure = draw_left_out(matrices, "Spearman 0.5", table, {"taco": ("TaCo", "k")})
    shown = figure.axes[0].images[0].get_array()
    assert shown.mask.sum() == 30 * 5
    assert np.allclose(shown.filled(0), np.nan_to_num(np.mean(matrices, 0)[np.ix_(order, order)]))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [get_task(ALL_TASKS[i]).title for i in order]
    assert sum(np.isfinite(line.get_xdata()).sum() for line in figure.axes[1].lines[:2]) == 3 * 30 * 25
    assert figure.axes[1].texts[0].get_text() == "Spearman 0.5" and figure.axes[2].get_ylabel() == "share named rightly"
    plt.close(figure)
