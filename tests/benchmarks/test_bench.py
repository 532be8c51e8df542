"The benchmark compares like with like: the image-by-image side does what the batched side does."

import io
import json
import os
import time

import numpy as np
import pytest
import torch

from benchmarks import bench, kornia_batched, loop, tasks
from benchmarks.one_by_one import REFERENCES
from taco.base import ParameterError
from taco.data.prepare import collate
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def rows():
    return tasks.inputs(64, subjects=1)


def both(name, rows, **parameters):
    "The pairs of either side for one record, with the same parameters: batched input and output, then image by image."
    row = next(r for r in rows if get_task(name).needs <= r.can)
    drawn = tasks.Dice().parameters(get_task(name)) | parameters
    batched = get_task(name)(
        collate([row]), seeds=torch.tensor([3]), **(drawn if parameters or not drawn else {})
    )
    single = REFERENCES[name][0](tasks.plain(row), tasks.Dice(), **drawn)
    return [t[0].numpy() for t in batched], [np.asarray(s) for s in single]


@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_reference_makes_a_pair_with_the_same_clean_side(name, rows):
    (a_in, a_out), (b_in, b_out) = both(name, rows)
    assert a_in.shape == np.shape(b_in) == (3, 64, 64) == a_out.shape == np.shape(b_out)
    for picture in (b_in, b_out):
        assert np.isfinite(picture).all() and picture.min() > -1e-4 and picture.max() < 1 + 1e-4
    if get_task(name).family == "generative":
        assert np.allclose(a_out, b_out) and not np.allclose(b_in, b_out, atol=1e-3)
    else:
        assert np.allclose(a_in, b_in) and not np.allclose(b_in, b_out, atol=1e-3)


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("horizontal_flip", {}),
        ("vertical_flip", {}),
        ("quarter_turn", dict(turns=1)),
        ("quarter_turn", dict(turns=3)),
        ("free_rotation", dict(angle=30.0)),
        ("translation", dict(x=0.2, y=-0.1)),
        ("scaling", dict(zoom=0.6)),
        ("scaling", dict(zoom=-0.6)),
        ("shear", dict(angle=25.0, vertical=0)),
        ("shear", dict(angle=-25.0, vertical=1)),
        ("intensity_inversion", {}),
        ("brightness_change", dict(shift=0.2)),
        ("colorization", dict(strength=1.0)),
        ("super_resolution", dict(reduction=0.75)),
        ("deblurring", dict(width=0.03, motion=0, angle=0.0)),
    ],
)
def test_what_is_not_random_comes_out_the_same_on_both_sides(name, parameters, rows):
    (a_in, a_out), (b_in, b_out) = both(name, rows, **parameters)
    inside = (slice(None), slice(4, -4), slice(4, -4))
    assert np.abs(a_in - b_in)[inside].mean() < 0.01 and np.abs(a_out - b_out)[inside].mean() < 0.01


@pytest.mark.parametrize(
    "name", ["binary_segmentation", "box_detection", "boundary_detection", "centreline", "convex_hull"]
)
def test_masks_are_the_same_on_both_sides_but_for_their_colours(name, rows):
    (_, a), (_, b) = both(
        name,
        rows,
        **(dict(palette=1, width=2 / 64) if name in ("box_detection", "centreline") else dict(palette=1)),
    )
    mask = lambda picture: np.abs(picture - picture[:, :1, :1]).sum(0) > 1e-3
    same = (mask(a) == mask(b)).mean()
    assert max(same, 1 - same) > 0.99


def test_results_are_written_whole_beside_those_of_other_sections(tmp_path):
    path = tmp_path / "latest.json"
    bench.write({"one": {"value": 1}}, path)
    bench.write({"two": {"value": 2}}, path)
    found = json.loads(path.read_text())
    assert (
        found["one"]["value"] == 1
        and found["two"]["value"] == 2
        and found["two"]["provenance"]["versions"]["torch"]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["latest.json"]
    assert "/" not in json.dumps(found), "no paths"


def test_a_quick_run_writes_nothing_and_fits_a_narrow_screen(tmp_path, capsys):
    file = tmp_path / "latest.json"
    result = bench.main(["tasks"], quick=True, file=file)["tasks"]
    assert not file.exists() and set(result["tasks"]) == set(tasks.QUICK["names"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_kornia_makes_pairs_of_the_same_shape_or_says_that_it_is_not_there(rows):
    found = kornia_batched.batched(64)
    assert bool(found) == kornia_batched.INSTALLED and set(found) <= set(ALL_TASKS)
    for name, make in found.items():
        some = [r for r in rows if get_task(name).needs <= r.can][:4]
        input, output = make(batch := collate(some))
        assert torch.equal(input, batch.image) and output.shape == batch.image.shape, name
        assert output.min() >= 0 and output.max() <= 1 + 1e-4 and not torch.equal(input, output), name


@pytest.mark.skipif(not kornia_batched.INSTALLED, reason="kornia is not installed")
@pytest.mark.parametrize("name", ["boundary_detection", "distance_map", "centre_point_detection"])
def test_semantic_tasks_of_kornia_show_the_same_but_for_their_colours(name, rows):
    batch = collate([r for r in rows if get_task(name).needs <= r.can][:4])
    drawn = dict(palette=0) | (dict(sigma=0.0375) if name == "centre_point_detection" else {})
    _, ours = get_task(name)(batch, seeds=torch.arange(4), **drawn)
    _, theirs = kornia_batched.batched(64)[name](batch)
    for pictures in zip(ours, theirs):
        shades = [picture.flatten(1).mean(0) for picture in pictures]
        assert abs(np.corrcoef(*shades)[0, 1]) > 0.85


def test_others_are_who_computes_besides():
    others = bench.Others()
    with loop.neighbours(1):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        found = others.cores()  # a neighbour that has not ended counts as another
    assert 0 < found < os.cpu_count() + 1
    others.own -= 3600.0  # as if this process had computed an hour
    assert others.cores() == 0


@pytest.mark.long
def test_time_is_that_of_one_thread():
    spent = tasks.race({"sleeps": lambda _: time.sleep(0.02), "works": lambda _: sum(range(100_000))}, 0.12)
    assert spent["sleeps"] < spent["works"]


def test_a_misspelt_section_is_refused():
    with pytest.raises(ParameterError, match="Did you mean 'tasks'"):
        bench.main(["taskz"])


def test_the_table_holds_every_task(rows):
    from rich.console import Console

    numbers = {
        name: tasks.measure(get_task(name), rows, (2, 4), 0.05)
        for name in ("horizontal_flip", "binary_segmentation")
    }
    result = dict(
        size=64,
        batches=[2, 4],
        tasks=numbers,
        goal_ratio=10,
        median_ratio={"2": 1.0, "4": 1.0},
        below_goal={"2": [], "4": []},
        ms_per_pair_over_all_tasks={"one_by_one": 1.0, "2": 1.0, "4": 1.0},
        prepare_ms_per_record=1.0,
        kornia="not installed",
    )
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(tasks.show(result))
    text = console.export_text()
    assert (
        "horizontal flip" in text
        and "binary segmentation" in text
        and all(n["one_by_one"] > 0 for n in numbers.values())
    )
