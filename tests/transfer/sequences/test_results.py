"Paired differences with their intervals, and the numbers that an experiment records."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from taco.transfer.sequences.results import (
    Comparison,
    arm_curves,
    arm_difference,
    contrasts,
    describe_real,
)


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


def test_intervals_are_paired_and_cover_seeds_and_volumes(scores):
    gap, (low, high) = arm_difference(scores, "all", "moco", 1)
    none, (below, above) = arm_difference(scores, "moco", "scratch", 1)
    assert .06 < low < gap < high < .1 and below < 0 < above and abs(none) < .02
    one_seed = scores[scores["seed"] < 1]
    assert arm_difference(one_seed, "all", "moco", 1)[0] > .06, "one seed: the bootstrap over volumes"
    few = scores[scores["subject"].isin(["0", "1"])]
    assert np.isnan(arm_difference(few, "all", "moco", 1)[1]).all()
    turned = scores[scores["seed"] == scores["subject"].astype(int) % 4]
    assert arm_difference(turned, "all", "moco", 1)[1][0] > .04
    assert set(arm_curves(turned)["arm"]) == {"all", "moco", "scratch"}


def test_contrasts_are_those_of_arms_that_were_run(scores):
    assert list(contrasts(scores, ["all", "scratch"])["other"]) == ["scratch"]
    assert len(contrasts(scores, ["all", "moco", "scratch"])) == 3
    nothing = contrasts(scores, ["scratch"])
    assert nothing.empty and list(nothing.columns)[:2] == ["one", "other"]


def test_every_number_is_recorded_with_its_interval(scores):
    arms = ["scratch", "moco", "all"]
    domain = SimpleNamespace(name="x:CT", kind="phantom")
    found = Comparison.of(domain, scores, arms, draws=100)
    assert found.distances is None, "no distance is known"
    numbers = found.metrics(1)
    assert len(numbers) == 3 + 3 + 3 and all(number["n"] == 12 and number["seeds"] == 4 for number in numbers.values())
    assert numbers["sequence_x_CT_gap_all_over_moco_1"]["ci"][0] > .06
    assert numbers["sequence_x_CT_dice_all_1_a_b"]["value"] == round(scores.query("arm == 'all'")["dice"].mean(), 3)
    few = Comparison.of(domain, scores[scores["subject"] == "0"], arms, draws=100)
    alone = few.metrics(prefix="sequence_real")
    assert len(alone) == 3 + 3 and alone["sequence_real_x_CT_dice_all_1"]["ci"] is None, "too few subjects"


def test_the_caption_says_what_to_read_with_care(scores):
    table = pd.DataFrame(dict(subject=["a", "b"], volume=["a", "b"]))
    volumes = SimpleNamespace(table=table)
    domain = lambda **about: SimpleNamespace(domain=SimpleNamespace(volumes=volumes, **about))
    found = [domain(name="one", rule="fixed", division="its own division"),
             domain(name="two", rule="", division="divided anew for each seed")]
    text = describe_real(found, {"three": "One subject cannot be divided."}, [0, 1])
    assert "one: 2 subjects, 2 volumes, its own division; two: 2 subjects, 2 volumes, divided anew for each" in text
    assert "The card of one keeps all subjects together" in text
    assert text.endswith("; not possible: three (one subject cannot be divided)")
