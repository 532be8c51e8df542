"UMS-Rep: the sentences and numbers that an experiment records."
import numpy as np
import pandas as pd
import pytest

from taco.transfer.unified.answers import most_saved, overview, say_gained, say_saved, study_metrics
from taco.transfer.unified.results import Results, table_of
from tests.transfer.unified.toys import TARGETS

ARMS = {  # strategy, labelled, budget, operations, share of right findings, Dice
    "separate-all-1": ("separate", None, 1., 10, .9, .8), "separate-all-0.5": ("separate", None, .5, 5, .7, .7),
    "joint-all-0.5": ("joint", None, .5, 4, .9, .7), "full-all-0.5": ("full", None, .5, 2, .9, .8),
    "separate-6-0.5": ("separate", 6, .5, 5, .6, .5), "full-6-0.5": ("full", 6, .5, 2, .8, .7)}


def made(right_of_reference: float = .9) -> Results:
    "Three seeds of forty test images, with the same error in each image for every arm."
    noise, truth = .02 * np.random.default_rng(0).standard_normal(40), np.arange(40) % 2
    def scores(right: float, dice: float) -> pd.DataFrame:
        correct = 1. * (np.arange(40) < 40 * right)
        table = {"dice organs": dice + noise, "correct finding": correct, "class finding": truth,
                 "margin finding": (2 * correct - 1) * (2 * truth - 1)}
        for kind in ("Gaussian", "speckle"):
            table |= {f"psnr {kind}": 20. + noise, f"ssim {kind}": .5 + noise}
        return pd.DataFrame(table)
    def cost(strategy, labelled, budget, flops):
        return dict(strategy=strategy, labelled=labelled, budget=budget, flops=flops, note="", seconds=1., weights=2,
                    all_weights=2)
    arms = ARMS | {"separate-all-1": (*ARMS["separate-all-1"][:4], right_of_reference, .8)}
    return Results("chest X-ray", TARGETS, [0, 1, 2], {n: [scores(*a[4:])] * 3 for n, a in arms.items()},
                   {n: [cost(*a[:4])] * 3 for n, a in arms.items()}, [dict(flops=1)] * 3)


@pytest.fixture(scope="module")
def results(): return made()


@pytest.fixture(scope="module")
def table(results): return table_of(results)


def test_what_is_saved_is_saved_at_no_loss(results, table):
    saved = lambda column, *measures: most_saved(results, table, measures, column)
    assert saved("saved", "accuracy", "dice", "psnr")["arm"] == "full-all-0.5"
    assert saved("saved", "dice")["saved"] == pytest.approx(.8)
    assert saved("saved_with_first", "dice")["saved_with_first"] == pytest.approx(.7), "stage 1 counts as well"
    lines = list(say_saved(results, table, .5))
    first = "chest X-ray, accuracy: 80% of stage 2 saved at no loss by full-all-0.5"
    assert len(lines) == 8 and lines[0].startswith(first)
    assert "baseline at equal epochs -0.100" in next(line for line in lines if ", dice:" in line)


def test_nothing_is_saved_where_the_reference_does_not_beat_chance():
    results = made(.5)
    table = table_of(results)
    lines = list(say_saved(results, table, .5))
    assert sum("does not beat chance" in line for line in lines) == 4, "accuracy, and all three"
    found = study_metrics(results, table, "phantom")
    assert found["ums_rep_chest_X-ray_most_saved_at_no_loss_in_accuracy"]["value"] == 0
    assert found["ums_rep_chest_X-ray_most_saved_at_no_loss_in_dice"]["value"] == pytest.approx(.8)


def test_every_shared_arm_may_lose_something(results, table):
    lost = table.assign(**{"dice change": -.5, "dice change high": -.4})
    assert most_saved(results, lost, ("dice",), "saved") is None
    said = [line for line in say_saved(results, lost, .5) if ", dice:" in line]
    assert len(said) == 2 and all("every shared arm loses something" in line for line in said)


def test_gains_are_those_of_arms_from_the_representation(results, table):
    lines = list(say_gained(results, table))
    assert any("6 labelled, full, budget 0.5: Dice +0.200" in line for line in lines)
    assert not any("joint" in line or "separate" in line for line in lines)


def test_every_number_is_recorded_once(results, table):
    found = study_metrics(results, table, "phantom+real")
    prefix = "ums_rep_chest_X-ray_"
    assert all(name.startswith(prefix) and number["seeds"] == 3 for name, number in found.items())
    assert found[f"{prefix}full-6-0.5_dice_gain"]["value"] == pytest.approx(.2)
    assert f"{prefix}full-6-0.5_dice_change" not in found, "few labels have no reference"
    assert not any(name.startswith(f"{prefix}separate-all-1_") and name.endswith(("gain", "change")) for name in found)
    assert found[f"{prefix}full-all-0.5_accuracy"]["n"] == 40 and found[f"{prefix}full-all-0.5_saved"]["n"] == 1
    assert found[f"{prefix}full-all-0.5_saved"]["with_stage_1"] == pytest.approx(.7)


def test_the_overview_names_each_arm(results, table):
    shown = overview([results], [table]).loc["chest X-ray"]
    assert list(shown.index) == list(ARMS) and shown.loc["full-all-0.5", "saved"] == .8
    assert shown.loc["full-6-0.5", "accuracy"].startswith("0.8 [")
