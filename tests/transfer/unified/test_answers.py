"UMS-Rep: the sentences, tables and numbers that an experiment records."
import dataclasses

import pytest

from taco.transfer.unified.answers import (
    arm_title,
    most_saved,
    overview,
    paper_table,
    pretext_changes,
    say_asked,
    say_gained,
    say_saved,
    sentences,
    shared_arms,
    study_metrics,
)
from taco.transfer.unified.results import MARGINS, REFERENCE, table_of
from tests.transfer.unified.toys import ARMS, IMAGES, made, scores_of

PREFIX = "ums_rep_chest_X-ray_"


@pytest.fixture(scope="module")
def results(): return made()


@pytest.fixture(scope="module")
def table(results): return table_of(results)


@pytest.fixture(scope="module")
def elsewhere(results):
    "With images of another source, of which the shared arm makes more."
    return dataclasses.replace(results, asked=results.asked | {
        REFERENCE: [scores_of(.9, .5)] * 3, "full-all": [scores_of(.9, .6)] * 3, "full-6": [scores_of(.9, .6)] * 3})


# ---------------------------------------------------------------- saved

def test_most_is_saved_by_an_arm_that_is_not_worse(results, table):
    assert shared_arms(table)["arm"].tolist() == ["full-all", "frozen-all"]
    best, fair = most_saved(results, table)
    assert best["arm"] == "full-all" and fair, "frozen saves more, and loses Dice"
    best, fair = most_saved(results, table, MARGINS | dict(dice=.3))
    assert best["arm"] == "frozen-all" and fair, "by another margin"
    lines = list(say_saved(results, table))
    assert lines[0] == "chest X-ray: 80% saved by full-all, not worse by the margins"
    assert len(lines) == 1 + len(MARGINS) + 2 and all("not worse" in line for line in lines[1:6])
    assert "Dice +0.000, at worst +0.000 (margin 0.01): not worse" in lines[3]
    assert "fewer steps 0%, one encoder 70%, fewer images to denoise 5%, stages held still 5%" in lines[-2]
    assert "70% over 1, 75% over 2, 78% over 4" in lines[-1]


def test_nothing_is_saved_where_the_reference_does_not_beat_chance():
    results = made(**{REFERENCE: ("separate", [], None, 1000, .5, .8)})
    table = table_of(results)
    assert "does not beat chance" in next(say_saved(results, table))
    found = study_metrics(results, table, "phantom")
    for name in ("saved", "saved_with_first", "saved_over_4"):
        assert found[PREFIX + name]["value"] == 0 < found[PREFIX + name]["best"]
    assert found[f"{PREFIX}saved"]["arm"] == "full-all" and found[f"{PREFIX}saved"]["best"] == pytest.approx(.8)
    assert found[f"{PREFIX}full-all_saved"]["value"] == pytest.approx(.8), "what an arm cost is a fact"


def test_every_shared_arm_may_be_worse(results, table):
    lost = table.assign(**{"dice change": -.2, "dice change low": -.5})
    best, fair = most_saved(results, lost)
    assert best["arm"] == "frozen-all" and not fair, "in all else it is as good, and saves more"
    lines = list(say_saved(results, lost))
    assert "every shared arm may be worse" in lines[0] and "at worst -0.500 (margin 0.01): may be worse" in lines[3]
    found = study_metrics(results, lost, "phantom")
    assert found[f"{PREFIX}saved"]["value"] == 0 and found[f"{PREFIX}non_inferior_dice"]["value"] == 0


def test_without_a_shared_arm_there_is_no_answer(results, table):
    alone = table[table["strategy"].isin(["separate", "joint"])]
    assert most_saved(results, alone) == (None, False) and not list(say_saved(results, alone))
    assert f"{PREFIX}saved" not in study_metrics(results, alone, "phantom")


# ---------------------------------------------------------------- gained, asked, pretexts

def test_gains_are_over_the_best_of_the_baselines(results, table):
    lines = list(say_gained(results, table))
    assert "chest X-ray, 6 labelled: Dice of full-6 +0.200 [+0.200, +0.200] over separate-6" in lines
    assert any(line.startswith("chest X-ray, all labelled: Dice of full-all +0.000") for line in lines)
    assert len(lines) == 2 * 3, "two numbers of labels, three measures"


def test_other_images_are_spoken_of_where_they_were_asked_about(results, elsewhere):
    assert not list(say_asked(results))
    lines = list(say_asked(elsewhere))
    assert len(lines) == 4 and all("full-6" not in line for line in lines), "AUROC and Dice of two arms"
    assert any("another source, full-all: Dice 0.600" in line and "+0.100 [+0.100" in line for line in lines)
    table = table_of(elsewhere)
    every = [list(say(elsewhere, table)) for say in (say_saved, say_gained)]
    assert sentences(elsewhere, table) == [*every[0], *every[1], *lines]


def test_other_pretexts_are_compared_with_the_arm_without(results):
    (row,) = pretext_changes(results).to_dict("records")
    assert row["title"] == "denoising, told; all labels" and row["dice"] == pytest.approx(.05)
    assert row["dice low"] <= row["dice"] <= row["dice high"] and row["accuracy"] == 0
    without = dataclasses.replace(results, costs={a: c for a, c in results.costs.items() if a != "full-all"})
    assert not len(pretext_changes(without))


# ---------------------------------------------------------------- numbers and tables

def test_every_number_is_recorded_by_its_name(elsewhere):
    table = table_of(elsewhere)
    found = study_metrics(elsewhere, table, "phantom+real")
    assert all(name.startswith(PREFIX) for name in found)
    assert all(n["n"] == IMAGES and n["seeds"] == 3 and n["data"] == "phantom+real" for n in found.values())
    number = lambda name: found[PREFIX + name]
    assert number("saved")["value"] == pytest.approx(.8) and number("saved")["arm"] == "full-all"
    assert number("saved_with_first")["value"] == pytest.approx(.7)
    assert number("saved_over_4")["value"] == pytest.approx(.775)
    assert number("saved_by_one_encoder")["value"] == pytest.approx(.7)
    for m in MARGINS:
        assert number(f"non_inferior_{m}")["value"] == 1 and number(f"non_inferior_{m}")["margin"] == MARGINS[m]
    gain = number("dice_gain_at_6_over_best_baseline")
    assert gain["value"] == pytest.approx(.2) and (gain["ours"], gain["baseline"]) == ("full-6", "separate-6")
    assert number("gain_at_6_over_best_baseline")["measure"] == "auroc"
    assert number("gain_at_all_over_best_baseline")["ci"][0] <= 0
    assert number("full-all_saved")["with_stage_1"] == pytest.approx(.7) and number("full-all_saved")["steps"] == 4
    assert number("full-all_dice_asked")["value"] == pytest.approx(.6)
    assert number("frozen-all_dice_change")["value"] == pytest.approx(-.2) and "frozen-all_dice_asked" not in found
    assert not any(f"{arm}_dice_change" in name for name in found for arm in ("full-6", "separate-6"))
    assert {f"{PREFIX}{arm}_saved" for arm in ARMS} <= found.keys()


def test_the_overview_names_each_arm(table):
    shown = overview(table)
    titles = [arm_title(strategy, "+".join(pretexts)) for strategy, pretexts, *_ in ARMS.values()]
    assert shown.index.get_level_values("arm").tolist() == titles
    assert shown.loc[("all", "all stages"), ["saved", "saved with stage 1"]].tolist() == [.8, .7]
    assert shown.loc[(6, "all stages"), "accuracy"].startswith("0.8 [") and "all stages (denoising, told)" in titles


@pytest.mark.parametrize("latex", [False, True])
def test_a_table_for_a_paper_has_a_line_for_every_arm(table, latex):
    text = paper_table({"chest X-ray": table, "breast ultrasound": table}, latex)
    lines = [line for line in text.splitlines() if (" & " in line if latex else line.startswith("| "))]
    for title in overview(table).index.get_level_values("arm").unique():
        assert sum(title in line for line in lines) >= 2, title
    assert all(word in text for word in ("chest X-ray", "breast ultrasound", "AUROC", "Dice", "GFLOP"))
    if latex: assert text.startswith("\\begin{longtable}") and text.rstrip().endswith("\\end{longtable}")
    else:
        assert len(lines) == 2 + 2 * len(ARMS) and set(lines[1]) == set("| -")
        assert len({line.count("|") for line in lines}) == 1
