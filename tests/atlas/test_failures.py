"Failed pairs: planned, embedded, and told from correct ones."
import numpy as np
import pandas as pd
import pytest

from taco.atlas.embedding import embed_blocks_by, plan_pairs
from taco.atlas.failures import (
    auroc,
    draw_failures,
    embed_arms,
    failed_pairs,
    failure_aurocs,
    failure_metrics,
    failure_panel,
    failure_plans,
    failure_scores,
    mean_auroc,
    plan_failures,
    still_accepted,
)
from taco.atlas.intervals import resampling_units
from taco.atlas.neighbours import typicality, weighted_knn
from taco.atlas.rivals.baselines import PixelEncoder
from taco.base import TacoError
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.failure import failures_of


def embed_plans(encoder, store, plans) -> dict[str, np.ndarray]:
    "All plans, shown to one encoder."
    return {name: embed_arms(dict(one=encoder), store, plan)["one"] for name, plan in plans.items()}


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "monusac", "kvasir", subjects=10)


def test_auroc_is_a_mean_over_tasks_and_refuses_nonsense():
    good = pd.DataFrame(
        dict(task=["a"] * 4 + ["b"] * 2, record=range(6), score=[4, 5, 6, 7, 100, 101.0])
    )
    bad = pd.DataFrame(
        dict(task=["a"] * 4 + ["b"] * 2, record=range(6), score=[0, 1, 2, 3, 200, 201.0])
    )
    value, _, by_task = auroc(good, bad, 50)
    assert by_task == dict(a=1., b=0.) and value == .5
    with pytest.raises(TacoError, match="numbers"): auroc(good, bad.assign(score=np.nan))
    with pytest.raises(TacoError, match="No task"): auroc(good, bad.assign(task="c"))


def test_planned_failures_stay_in_their_split_and_borrow_from_strangers(store):
    plan = plan_failures(plan_pairs(store, ALL_TASKS, "test", 3), store)
    partner = store.table.iloc[plan["partner"]].reset_index(drop=True)
    assert (partner["split"] == "test").all()
    home = partner["dataset"].to_numpy() == plan["dataset"].to_numpy()
    assert (partner["subject"].to_numpy() != plan["subject"].to_numpy())[
        home
    ].all() and home.mean() > 0.5
    assert all(
        kind in failures_of(task)
        for task, kind in plan[["task", "failure"]].drop_duplicates().itertuples(index=False)
    )
    with pytest.raises(TacoError, match="can fail"):
        plan_failures(plan_pairs(store, ALL_TASKS, "test", 3)[:0], store)


@pytest.fixture(scope="module")
def asked(store):
    "Vectors and plans as the experiment has them, by raw pixels."
    tasks = ["binary_segmentation", "deblurring"]
    bank, right = (
        plan_pairs(store, tasks, split, 6, seed) for seed, split in enumerate(("train", "test"))
    )
    plans = dict(
        bank=bank,
        right=right,
        wrong=plan_failures(right, store),
        wrong_bank=plan_failures(bank, store),
    )
    made = {n: embed_arms({"": PixelEncoder()}, store, p)[""] for n, p in plans.items()}
    return made, plans


def test_failed_pairs_are_embedded_at_their_rows(store, asked):
    vectors, plans = asked
    small = embed_blocks_by({"": PixelEncoder()}, failed_pairs(store, plans["wrong"], block=2), len(plans["wrong"]))[""]
    assert np.allclose(small, vectors["wrong"], atol=1e-5)
    rows = np.concatenate([rows for rows, _, _ in failed_pairs(store, plans["wrong"], 3)])
    assert sorted(rows) == list(range(len(plans["wrong"])))


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_all_arms_are_shown_the_same_pairs(store, asked, name):
    vectors, plans = asked
    arms = embed_arms(dict(one=PixelEncoder(), other=PixelEncoder(8)), store, plans[name])
    assert np.array_equal(arms["one"], vectors[name])
    assert np.array_equal(arms["other"], embed_plans(PixelEncoder(8), store, plans)[name])


def test_scores_are_typicality_with_and_without_known_failures(asked):
    "As the experiment wrote them down before they had a function."
    vectors, plans = asked
    bank, wrong_bank = plans["bank"]["task"], plans["wrong_bank"]["task"]
    for known in (False, True):
        for which, table in zip(("right", "wrong"), failure_scores(vectors, plans, known, k=3)):
            score = typicality(vectors["bank"], bank, vectors[which], plans[which]["task"], 3)
            if known:
                score = score - typicality(
                    vectors["wrong_bank"], wrong_bank, vectors[which], plans[which]["task"], 3
                )
            assert np.array_equal(table["score"], score) and table.drop(columns="score").equals(
                plans[which]
            )


def test_a_failed_pair_is_accepted_when_correct_pairs_win_the_vote(asked):
    vectors, plans = asked
    labels = np.concatenate([plans["bank"]["task"], np.full(len(plans["wrong_bank"]), "failed")])
    guess = weighted_knn(
        np.concatenate([vectors["bank"], vectors["wrong_bank"]]), labels, vectors["wrong"], 4
    )
    assert np.array_equal(
        still_accepted(vectors, plans, 4), guess == plans["wrong"]["task"].to_numpy()
    )


def test_the_mean_over_kinds_is_the_mean_of_each(asked):
    good, bad = failure_scores(*asked, known=False)
    value, (low, high) = mean_auroc(good, bad, 50)
    alone = [auroc(good, rows, 50)[0] for _, rows in bad.groupby("failure", sort=False)]
    assert np.isclose(value, np.mean(alone)) and low <= value <= high


@pytest.fixture(scope="module")
def studied(store):
    "Plans and vectors of two encoders, as the experiment makes them."
    plans = failure_plans(store, ["binary_segmentation", "deblurring"], 4, 8, seed=3)
    return plans, {arm: embed_plans(PixelEncoder(side), store, plans) for arm, side in (("without", 8), ("pixels", 16))}


def test_plans_are_drawn_as_the_experiment_drew_them(store, studied):
    plans, vectors = studied
    tasks = ["binary_segmentation", "deblurring"]
    bank, right = plan_pairs(store, tasks, "train", 8, 3), plan_pairs(store, tasks, "test", 4, 4)
    some = bank.groupby("task").sample(frac=.25, random_state=3)
    assert plans["bank"].equals(bank) and plans["wrong_bank"].equals(plan_failures(some, store, 3))
    for name, plan in dict(right=right, wrong=plan_failures(right, store, 3)).items():
        assert plans[name].drop(columns="unit").equals(plan)
        assert plans[name]["unit"].tolist() == resampling_units(plan, "subject").tolist()
    assert {name: len(v) for name, v in vectors["pixels"].items()} == {name: len(p) for name, p in plans.items()}
    assert np.array_equal(vectors["pixels"]["wrong"], embed_arms({"": PixelEncoder()}, store, plans["wrong"])[""])


def test_answers_of_several_seeds_are_their_mean_and_share_their_draws(studied):
    plans, vectors = studied
    rng = np.random.default_rng(0)
    noisy = {part: x + rng.normal(size=x.shape).astype(x.dtype) * x.std() for part, x in vectors["pixels"].items()}
    how = dict(k=3, draws=50, seed=1)
    one, other, both, twice = (failure_aurocs(dict(named), plans, **how) for named in (
        [("a", vectors["pixels"])], [("a", noisy)], [("a", vectors["pixels"]), ("a@1", noisy)],
        [("a", noisy), ("a@1", noisy)]))
    for i in (0, 1):
        assert set(one[i]) == set(both[i])
        assert all(twice[i][key][0] == pytest.approx(other[i][key][0]) for key in other[i])
        for key, (value, (low, high)) in both[i].items():
            assert value == pytest.approx((one[i][key][0] + other[i][key][0]) / 2) and low <= value <= high
    assert failure_metrics(*both, plans["wrong"], dict(a=2))["failure_auroc_typicality_a"][2]["seeds"] == 2


def test_every_auroc_has_a_metric_that_says_where_it_came_from(studied):
    plans, vectors = studied
    values, means = failure_aurocs(vectors, plans, k=3, draws=50, seed=1)
    assert set(means) == {(arm, known) for arm in vectors for known in (False, True)}
    good, bad = failure_scores(vectors["pixels"], plans, known=True, k=3)
    blank = bad[bad["failure"] == "blank"]
    assert values["pixels", True, "blank"] == auroc(good, blank, 50, 1, "unit")[:2]
    decided = bad[bad["failure"] != "wrong_class"]
    assert means["pixels", True] == mean_auroc(good, decided, 50, 1, "unit") and len(decided) < len(bad)
    found = failure_metrics(values, means, plans["wrong"])
    first = {f"failures_auroc{kind}{arm}" for kind in ("", "_other_image") for arm in ("", "_pixels")}
    assert first < set(found) and len(found) == len(values) + len(means) + len(first)
    assert found["failures_auroc_other_image_pixels"] == found["failure_auroc_other_image_typicality_pixels"]
    about = dict(n=len(blank), seeds=1, data="phantom")
    assert found["failure_auroc_blank_known_failures_pixels"] == (*values["pixels", True, "blank"], about)
    about = dict(n=len(decided), seeds=1, kinds=decided["failure"].nunique())
    assert found["failure_auroc_typicality_without"] == (*means["without", False], about)


def test_a_panel_holds_as_many_right_as_wrong_pairs_and_is_drawn(studied):
    plans, vectors = studied
    asked = []
    def place(rows, seed):
        asked.append((len(rows), seed))
        return rows[:, :2]
    panels = {arm: failure_panel(vectors[arm], plans, place, most=12, seed=5) for arm in vectors}
    right, families, wrong, kinds = panels["pixels"]
    assert asked == [(12, 5)] * 2 and right.shape == wrong.shape == (6, 2)
    assert set(kinds) <= set(plans["wrong"]["failure"]) and set(families) <= set(plans["right"]["family"])
    assert (panels["without"][3] == kinds).all(), "the same pairs for every encoder"
    values, _ = failure_aurocs(vectors, plans, draws=20)
    assert len(draw_failures(values, panels).axes) == 3
