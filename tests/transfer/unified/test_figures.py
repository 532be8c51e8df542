"UMS-Rep: figure 10 of results that are known, and single images of a network that was trained."
import dataclasses

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from taco.transfer.unified.answers import ARM_NAMES, pretext_changes
from taco.transfer.unified.figures import (
    ARM_COLOURS,
    EXAMPLE_COLUMNS,
    Example,
    draw_changes,
    draw_examples,
    draw_study,
    examples_of,
)
from taco.transfer.unified.networks import Arm
from taco.transfer.unified.results import table_of
from taco.transfer.unified.study import Division, pack_modality, run_division, workshop
from tests.transfer.unified.toys import made, setting


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def study():
    results = made()
    return results, table_of(results)


def test_every_arm_has_a_colour_and_a_name(): assert ARM_COLOURS.keys() == ARM_NAMES.keys()


def test_a_row_is_a_modality_and_a_mark_an_arm(study):
    results, table = study
    other = dataclasses.replace(results, modality="breast ultrasound")
    figure = draw_study([results, other], [table, table], ("auroc", "dice"), ("dice",))
    assert isinstance(figure, Figure) and len(figure.axes) == 6
    assert [ax.get_title() for ax in figure.axes] == ["AUROC", "Dice", "Dice"] * 2
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["chest X-ray", "breast ultrasound"]
    cost, labels = figure.axes[1], figure.axes[2]
    marks = [line.get_xydata()[0] for line in cost.lines if len(line.get_xdata()) == 1]
    at = [table.set_index("arm").loc[f"{s}-all"] for s in ("separate", "guided", "joint", "full", "frozen")]
    for row in at: assert any(abs(x - row["gflops"] * 1e6) < 1e-6 and y == row["dice"] for x, y in marks), row["arm"]
    opened = [x for x, y in marks if (y, round(x, 6)) in {(row["dice"], .3) for row in at}]
    assert len(opened) == 1, "all stages, with stage 1 counted"
    assert [tick.get_text() for tick in labels.get_xticklabels()] == ["6", "all"] and cost.get_xscale() == "log"
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert words == {ARM_NAMES[s] for s in ("separate", "guided", "joint", "full", "frozen")}
    figure.canvas.draw()


def test_a_line_is_an_arm_of_other_pretexts(study):
    changes = pretext_changes(study[0])
    lacking = changes.drop(columns="auroc").assign(dice=float("nan"))
    figure = draw_changes({"chest X-ray": changes, "breast": lacking})
    assert isinstance(figure, Figure) and len(figure.axes) == 6
    drawn = [ax.containers[0].lines[0].get_xdata().tolist() if ax.containers else [] for ax in figure.axes]
    assert drawn == [[changes[m].item()] for m in ("auroc", "dice", "psnr")] + [[], [], [changes["psnr"].item()]]
    assert figure.axes[0].get_ylabel() == "chest X-ray" and figure.axes[0].get_yticklabels()[0].get_text() == (
        "denoising, told; all labels")
    figure.canvas.draw()


def test_examples_say_what_was_told_and_whether_it_is_wrong():
    pictures = [torch.rand(3, 8, 8) for _ in range(3)] + [torch.randint(0, 3, (3, 8, 8)) for _ in range(2)]
    one = Example(pictures, torch.tensor([.9, .2, .7]), torch.tensor([1, 1, 0]))
    figure = draw_examples({"malignant": one, "tuberculosis": Example(
        [p[:1] for p in pictures], torch.tensor([.1]), torch.tensor([0]))})
    assert isinstance(figure, Figure) and len(figure.axes) == 4 * len(EXAMPLE_COLUMNS)
    assert [figure.axes[5 * i].get_ylabel() for i in range(4)] == [
        "malignant 1\np = 0.90", "malignant 1\np = 0.20\nwrong", "malignant 0\np = 0.70\nwrong",
        "tuberculosis 0\np = 0.10"]
    assert [ax.get_title() for ax in figure.axes[:5]] == list(EXAMPLE_COLUMNS)
    shown = figure.axes[8].images[0]
    assert torch.equal(torch.as_tensor(shown.get_array()), pictures[3][1]) and shown.get_clim() == (0, 2)


def test_examples_are_of_each_class_right_and_wrong(tmp_path):
    films = pack_modality("chest X-ray", "montgomery", "tuberculosis", out=tmp_path, size=32, subjects=24,
                          source="phantom")
    short = setting(2, size=4, targets=())
    assert examples_of(films, short, tmp_path, 0) is None, "nothing was fine-tuned"
    run_division(films, short, [Arm("full")], Division(0), tmp_path)
    found, test = examples_of(films, short, tmp_path, 0), workshop(films, short, Division(0), tmp_path).test
    count = len(found.truth)
    assert 1 <= count <= 4 and [tuple(p.shape) for p in found.pictures] == [(count, 32, 32)] * 5
    right = (found.ill > .5) == (found.truth == 1)
    pairs = list(zip(found.truth.tolist(), right.tolist()))
    assert len(set(pairs)) == count and pairs == sorted(pairs, key=lambda pair: (pair[0], not pair[1]))
    assert set(found.truth.tolist()) == set(test.labels["finding"].tolist())
    known = test.clean(range(len(test)))[:, 0]
    rows = [next(i for i, image in enumerate(known) if image.equal(clean)) for clean in found.pictures[2]]
    assert torch.equal(test.labels["finding"][rows], found.truth)
    assert torch.equal(test.labels["structures"][rows], found.pictures[4])
    table = pd.read_csv(next(tmp_path.glob("montgomery-tuberculosis-0-0/full-all.csv")))
    probability = torch.tensor(table["margin finding"].to_numpy()[rows]).sigmoid()
    assert torch.allclose(found.ill.double(), probability, atol=1e-4), "the network that was scored"
    assert isinstance(draw_examples({films.finding: found}), Figure)
