"Figure 11: no arm is left out of it, and it says what stands behind it."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from taco.transfer.sequences.arms import SEQUENCE_ARMS
from taco.transfer.sequences.pictures import ARM_STYLE, describe, draw_compared, draw_differences, with_band
from taco.transfer.sequences.results import ARM_TITLES, Comparison, arm_curves, contrasts

ARMS = ["scratch", "moco", "masked", "simclr", "all-encoder", "all"]


def made(counts=(1, 2), arms=ARMS, kind="phantom", looks=True) -> Comparison:
    rng, lines = np.random.default_rng(0), []
    for arm, n, seed, i in [(a, n, s, i) for a in arms for n in counts for s in range(2) for i in range(6)]:
        dice = .4 + .05 * arms.index(arm) + .1 * n + .01 * rng.standard_normal()
        lines.append(dict(arm=arm, labelled=n, seed=seed, take=0, subject=str(i), volume=str(i), structure="a",
                          dice=dice, hd95=np.nan, missed=False))
    scores = pd.DataFrame(lines)
    table = pd.DataFrame(dict(subject=["a", "b"], volume=["a", "b"], modality="MR"))
    domain = SimpleNamespace(name="x", kind=kind, rule="fixed", division="its own division",
                             volumes=SimpleNamespace(table=table))
    about = dict(labelled=1, seed=0, take=0, step=[10, 20], value=[.1, .2])
    seen = pd.concat([pd.DataFrame(about | dict(arm=arm)) for arm in arms])
    return Comparison(domain, arms, scores, arm_curves(scores, draws=50), contrasts(scores, arms, 50), None,
                      seen if looks else seen[:0])


def test_every_arm_has_a_colour_and_a_name():
    assert set(ARM_STYLE) == set(SEQUENCE_ARMS) == set(ARM_TITLES)
    assert len(set(ARM_STYLE.values())) == len(ARM_STYLE) and len(set(ARM_TITLES.values())) == len(ARM_TITLES)


def test_every_arm_that_was_run_is_drawn():
    figure = draw_compared([made()])
    (names,) = [[t.get_text() for t in legend.get_texts()] for legend in figure.legends]
    assert sorted(names) == sorted(ARM_TITLES[a] for a in ARMS)
    counts, apart, way = figure.axes
    assert len(counts.lines) == len(ARMS) == len(way.lines) and len(counts.collections) == 4, "bands"
    others = [t.get_text() for t in apart.get_yticklabels()]
    assert others == [f"− {ARM_TITLES[a]}" for a in ARM_STYLE if a in ARMS[:-1]]
    assert with_band(made()) == ["scratch", "moco", "all", "all-encoder"], "and the best of the rest"
    plt.close("all")


def test_a_mark_is_filled_where_all_intervals_at_once_leave_0_out():
    table = pd.DataFrame(dict(one="all", other=["scratch", "moco"], labelled="1", value=.1, low=.05, high=.15,
                              all_low=[.01, -.01], all_high=[.19, .21]))
    _, ax = plt.subplots()
    draw_differences(ax, table, ["1"])
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert [m.get_mfc() == m.get_color() for m in marks] == [True, False]
    plt.close("all")


@pytest.mark.parametrize("counts, looks", [((1,), True), ((1, 2), False), ((0,), False)])
def test_it_is_drawn_of_little_as_well(counts, looks):
    assert len(draw_compared([made(counts, looks=looks), made(counts, ["scratch", "all"], looks=looks)]).axes) >= 4
    plt.close("all")


def test_the_caption_says_what_to_read_with_care():
    text = describe([made(kind="real"), made(arms=["scratch", "all"])], [0, 1], "test", 64,
                    {"three": "One subject cannot be divided."})
    assert "x (real): 2 subjects, 6 test volumes, its own division; x (phantom)" in text and "1 of 1, 1 of 2" in text
    assert "The card of x keeps all subjects together" in text and "until Dice on val" in text
    assert "Not possible: three (one subject cannot be divided)." in text
    assert "keeps all" not in describe([made(looks=False)], [0], "test", 64), "phantoms are as many as are asked for"
