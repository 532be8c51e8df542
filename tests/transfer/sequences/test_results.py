"Paired differences with their intervals, and the numbers that an experiment records."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from taco.transfer.sequences.results import (
    Comparison,
    arm_curves,
    at_equal_steps,
    contrasts,
    interval,
    paired,
    paper_table,
    reach_of_all,
    so_far,
)
from taco.transfer.sequences.study import Cell


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    "Four seeds, twelve volumes of very different difficulty; one arm is better by 0.08."
    rng, lines = np.random.default_rng(1), []
    for seed in range(4):
        for i in range(12):
            hard = .3 * rng.random()
            for arm, more in (("all", .08), ("moco", 0.), ("scratch", 0.)):
                dice = .4 + hard + more + .01 * rng.standard_normal()
                lines.append(dict(arm=arm, labelled=1, seed=seed, subject=str(i), volume=str(i), structure="a b",
                                  dice=dice, hd95=np.nan, missed=False))
    return pd.DataFrame(lines)


def difference(scores: pd.DataFrame, better: str, worse: str):
    return interval(paired(scores, (better, 1), (worse, 1)))


def test_intervals_are_paired_and_cover_seeds_and_volumes(scores):
    gap, (low, high) = difference(scores, "all", "moco")
    none, (below, above) = difference(scores, "moco", "scratch")
    assert .06 < low < gap < high < .1 and below < 0 < above and abs(none) < .02
    one_seed = scores[scores["seed"] < 1]
    assert difference(one_seed, "all", "moco")[0] > .06, "one seed: the bootstrap over volumes"
    few = scores[scores["subject"].isin(["0", "1"])]
    assert np.isnan(difference(few, "all", "moco")[1]).all()
    turned = scores[scores["seed"] == scores["subject"].astype(int) % 4]
    assert difference(turned, "all", "moco")[1][0] > .04
    assert set(arm_curves(turned)["arm"]) == {"all", "moco", "scratch"}


def test_contrasts_are_those_of_arms_that_were_run(scores):
    assert list(contrasts(scores, ["all", "scratch"])["other"]) == ["scratch"]
    found = contrasts(scores, ["all", "moco", "scratch"])
    assert [*zip(found["one"], found["other"])] == [("all", "moco"), ("all", "scratch"), ("moco", "scratch")]
    nothing = contrasts(scores, ["scratch"])
    assert nothing.empty and list(nothing.columns)[:2] == ["one", "other"]


def test_ten_comparisons_need_wider_intervals_and_one_does_not():
    "Ten arms without any difference: about half of such studies find one when each is asked alone."
    def study(seed: int, arms: int = 10) -> list[pd.DataFrame]:
        rng = np.random.default_rng(seed)
        about = dict(seed=0, subject=range(40), volume=range(40))
        return [pd.DataFrame(about | dict(dice=rng.standard_normal(40))) for _ in range(arms)]
    found = dict(alone=0, at_once=0)
    for tables in map(study, range(24)):
        wider = reach_of_all(tables, draws=400)
        assert 1.2 < wider < 1.7
        reach = lambda t, by: (lambda v, ci: abs(v) > by * (ci[1] - ci[0]) / 2)(*interval(t, draws=200))
        found["alone"] += any(reach(t, 1) for t in tables)
        found["at_once"] += any(reach(t, wider) for t in tables)
    assert found["alone"] > 8 and found["at_once"] <= found["alone"] / 3
    assert reach_of_all(study(0, 1)) == 1 == reach_of_all([])
    (one,) = study(0, 1)
    assert reach_of_all([one] * 5) < 1.05, "one question asked five times"


LOOKS = pd.DataFrame(dict(arm="all", labelled=1, seed=[0, 0, 0, 1, 1], take=0, step=[10, 20, 30, 10, 20],
                          value=[.2, .4, .3, .1, .5]))


def test_a_head_start_is_told_from_a_better_end():
    assert so_far(LOOKS)["value"].tolist() == [.2, .4, .4, .1, .5]
    late = pd.DataFrame(dict(arm="scratch", labelled=1, seed=0, take=0, step=[10, 20, 30, 40], value=[0, .1, .5, .7]))
    found = at_equal_steps(pd.concat([LOOKS, late])).set_index("arm")
    assert set(found["step"]) == {20}, "all have come to it"
    assert found.loc["all", ["then", "end", "steps"]].tolist() == pytest.approx([.45, .45, 25])
    assert found.loc["scratch", ["then", "end", "steps"]].tolist() == [.1, .7, 40]


def of(domain, scores, arms, monkeypatch, looks=LOOKS) -> Comparison:
    asked = []
    monkeypatch.setattr("taco.transfer.sequences.results.read_looks", lambda state, cells: asked.append(cells) or looks)
    found = Comparison.of(domain, scores.assign(take=0), arms, "state", draws=100)
    assert Cell("all", 1, 0) in asked[0] and len(asked[0]) == scores.groupby(["arm", "seed", "labelled"]).ngroups
    return found


def test_every_number_is_recorded_with_its_interval(scores, monkeypatch):
    arms = ["scratch", "moco", "all"]
    domain = SimpleNamespace(name="x:CT", kind="phantom")
    found = of(domain, scores, arms, monkeypatch)
    assert found.distances is None and found.fewest == 1 and found.best(1) == "all", "no distance is known"
    numbers = found.metrics()
    assert len(numbers) == 3 + 3 + 3 + 2 and all(n["n"] == 12 and n["seeds"] == 4 for n in numbers.values())
    gap = numbers["sequence_x_CT_all_minus_moco_1"]
    assert gap["ci"][0] > .06 and gap["ci_of_all"][0] < gap["ci"][0]
    assert numbers["sequence_x_CT_all_1_dice_a_b"]["value"] == round(scores.query("arm == 'all'")["dice"].mean(), 3)
    few = of(domain, scores[scores["subject"] == "0"], arms, monkeypatch, LOOKS[:0])
    alone = few.metrics()
    assert len(alone) == 3 + 3 + 3 and alone["sequence_x_CT_all_1_dice"]["ci"] is None, "too few subjects"


def test_what_labels_are_worth_is_asked_of_eight_at_most(scores, monkeypatch):
    more = pd.concat([scores.assign(labelled=n, dice=scores["dice"] + rise) for n, rise in
                      ((1, 0.), (4, .1), (8, .2), (0, .4))])
    found = of(SimpleNamespace(name="x", kind="real"), more, ["scratch", "moco", "all"], monkeypatch)
    risen = found.metrics()["sequence_x_scratch_rise"]
    assert risen["value"] == pytest.approx(.2) and risen["labels"] == "1 → 8" and risen["ci"][0] > .19
    assert found.curve["labelled"].unique().tolist() == ["1", "4", "8", "all"]


def test_a_paper_s_table_holds_every_arm_and_marks_the_best(scores, monkeypatch):
    found = of(SimpleNamespace(name="x", kind="real"), scores, ["scratch", "moco", "all"], monkeypatch)
    rows = paper_table([found]).splitlines()
    assert len(rows) == 2 + 3 and [row for row in rows if "**" in row] == [row for row in rows if "all tasks" in row]
    assert paper_table([found], latex=True).count(r"\textbf") == 1
