"The matrix: who is asked about whom, on which images, and what a killed run has left."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from taco.base import DataError, EncoderError, ParameterError, StoreError, TaskError
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.random import Draw
from taco.tasks.semantic import choose_colours, paint
from taco.transfer.affinity import outcomes as chapter
from taco.transfer.affinity.network import (
    Course,
    Translator,
    load_weights,
    mean_dice,
    mean_psnr,
    picture_score,
    shuffled,
)
from taco.transfer.affinity.outcomes import (
    ALL,
    SCRATCH,
    ask_target,
    asked_images,
    cell_file,
    labelled_plan,
    learn_source,
    measure,
    outcomes,
    read_cell,
    source_file,
)
from taco.transfer.affinity.problems import (
    GROUP_OF,
    Problem,
    classes_of,
    colour_count,
    problem_pictures,
    problem_plan,
    smaller_map,
)


def test_a_problem_is_named_by_its_task_and_images():
    assert Problem.named("shear@a b").images == "a b"
    for wrong in ("shear", "@radiology", "shear@", "shar@radiology"):
        with pytest.raises(TaskError): Problem.named(wrong)


def test_a_source_has_images_of_its_group_only_and_none_twice(matrix):
    for source in matrix.sources:
        plan = problem_plan(matrix.source_store, source, "train", 10**6)
        assert {GROUP_OF[m] for m in plan["modality"]} == {source.images} and plan["record"].is_unique
        assert set(plan["split"]) == {"train"}


def test_pictures_are_the_task_of_their_image_at_any_block_and_in_fixed_colours(matrix):
    plan = problem_plan(matrix.target_store, matrix.targets[0], "train", 5)
    one, other = (problem_pictures(matrix.target_store, plan, 64, block) for block in (2, 128))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert set(one[1].unique().tolist()) == {0., 1.}  # black and white


def test_labelled_pairs_are_nested_in_training_images_and_alike_for_all_sources(matrix):
    target = matrix.targets[1]
    few, again, other = (labelled_plan(matrix, target, seed) for seed in (0, 0, 1))
    everything = labelled_plan(matrix, target, None)
    assert few.equals(again) and set(few["record"]) != set(other["record"])
    assert set(few["record"]) <= set(everything["record"]) and few["subject"].is_unique
    assert few.merge(everything, on=["record", "seed"]).shape[0] == len(few)  # the same picture in both
    asked = asked_images(matrix)
    assert not set(everything["subject"]) & set(asked.loc[asked["dataset"] == target.images, "subject"])


def test_every_pair_is_seen_once_before_any_is_seen_twice():
    x = torch.arange(10.)[:, None]
    batches = shuffled(x, x, 5, seed=3)
    assert sorted(torch.cat([batches(0)[0], batches(1)[0]]).flatten().tolist()) == list(range(10))
    assert torch.equal(batches(7)[0], shuffled(x, x, 5, seed=3)(7)[0])
    assert not torch.equal(batches(7)[0], shuffled(x, x, 5, seed=4)(7)[0])


def test_first_weights_depend_on_the_seed_and_on_nothing_else():
    torch.manual_seed(5)
    one = Translator(Course(), 2).state_dict()
    torch.rand(7)
    other, third = Translator(Course(), 2).state_dict(), Translator(Course(), 3).state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert not torch.equal(one["encoder.stages.0.conv_0.conv.weight"], third["encoder.stages.0.conv_0.conv.weight"])


def test_dice_and_psnr_by_hand():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.integers(0, 3, (4, 6, 6))) for _ in range(2))
    by_hand = np.mean([2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in (1, 2)])
    assert mean_dice(a, b, 3) == pytest.approx(by_hand)
    some = a.clamp(max=1)  # one class never occurs
    assert mean_dice(a * 0, a * 0, 3) == 1 and mean_dice(some, some, 3) == 1
    x, y = torch.full((1, 3, 4, 4), .5), torch.full((1, 3, 4, 4), .6)
    assert mean_psnr(x, y) == pytest.approx(20, abs=1e-3) and mean_psnr(x, x) == pytest.approx(60)


def test_the_table_has_every_cell_and_its_scratch(matrix, measured):
    table = outcomes(matrix, [0, 1], measured)
    assert len(table) == 2 * 2 * 2 * 2 and not table.isna().any(axis=None)
    assert set(table["metric"]) == {"dice", "psnr"} and set(table["data"]) == {"phantom"}
    one = table[(table["target"] == matrix.targets[1].name) & (table["seed"] == 1) & (table["steps"] == 4)]
    assert one["scratch"].nunique() == 1 and one["all_labels"].nunique() == 1


def cells(matrix, seed, state):
    names = [SCRATCH, ALL, *(s.name for s in matrix.sources)]
    return {(n, t.name): cell_file(matrix, n, t, seed, state) for n in names for t in matrix.targets}


def test_what_was_killed_goes_on_and_comes_to_the_same_numbers(matrix, measured, tmp_path):
    for source in (None, *matrix.sources): learn_source(matrix, source, 0, tmp_path)
    ask_target(matrix, matrix.targets[0], 0, tmp_path)
    there = {key: file.stat().st_mtime_ns for key, file in cells(matrix, 0, tmp_path).items() if file.exists()}
    assert len(there) == 4
    cells(matrix, 0, tmp_path)[SCRATCH, matrix.targets[0].name].unlink()  # killed after the others
    for _ in measure(matrix, [0], tmp_path): pass
    after = {key: file.stat().st_mtime_ns for key, file in cells(matrix, 0, tmp_path).items()}
    assert {key for key in there if after[key] == there[key]} == {key for key in there if key[0] != SCRATCH}
    for (name, _), file in cells(matrix, 0, tmp_path).items():
        target = next(t for t in matrix.targets if file == cell_file(matrix, name, t, 0, tmp_path))
        assert read_cell(matrix, name, target, 0, tmp_path) == read_cell(matrix, name, target, 0, measured)


def test_a_source_that_came_later_is_asked_about_too_and_changes_nothing(matrix, measured, tmp_path):
    fewer = replace(matrix, sources=matrix.sources[:1])
    for _ in measure(fewer, [0], tmp_path): pass
    for _ in measure(matrix, [0], tmp_path): pass
    assert outcomes(matrix, [0], tmp_path).equals(outcomes(matrix, [0], measured))
    assert source_file(fewer, None, 0, tmp_path).exists() and source_file(matrix, None, 0, tmp_path).exists()


def test_other_images_of_a_target_have_another_file(matrix, folders, tmp_path):
    target = matrix.targets[0]
    other = str(pack("nuset", out=tmp_path, size=64, source="phantom", subjects=10))
    changed = replace(matrix, target_folders=(other, folders["usforkidney"]))
    assert cell_file(matrix, ALL, target, 0, tmp_path) != cell_file(changed, ALL, target, 0, tmp_path)


def test_refusals_name_what_is_wrong(matrix, folders, tmp_path):
    with pytest.raises(DataError, match="yeaz"):
        replace(matrix, targets=(Problem.named("shear@yeaz"),), target_folders=(folders["yeaz"],))
    with pytest.raises(TaskError, match="no image|No image"):
        problem_plan(Store.open([folders["nuset"]]), Problem("shear", "drive"), "train", 3)
    for wrong in (dict(steps=()), dict(steps=(4, 2)), dict(size=0), dict(learning_rate=-1.)):
        with pytest.raises(ParameterError): Course(**wrong)
    broken = tmp_path / "net.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(EncoderError, match="net.safetensors"): load_weights(Translator(Course()), broken)
    file = cell_file(matrix, ALL, matrix.targets[0], 0, tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"scores": {}}))
    with pytest.raises(StoreError, match="Delete"): read_cell(matrix, ALL, matrix.targets[0], 0, tmp_path)
    with pytest.raises(Exception, match="nothing to score"):
        picture_score(Translator(Course()), (torch.zeros(0, 3, 16, 16),) * 2, 0)


def test_what_is_scored_by_dice_is_a_map_of_classes(matrix):
    store = matrix.target_store
    count = lambda task: colour_count(store, problem_plan(store, Problem.named(f"{task}@nuset"), "train", 4))
    assert [count(t) for t in ("binary_segmentation", "boundary_detection", "centreline")] == [2, 2, 2]
    shades = ("distance_map", "centre_point_detection", "instance_segmentation", "foreground_extraction", "deblurring")
    assert [count(t) for t in shades] == [0] * 5


def test_a_smaller_map_has_the_classes_that_most_of_a_pixel_has():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, :, 3:] = 1   # a fourth of the pixels of the second column, of four, is background
    labels[:, :4, 6:] = 3
    colours = choose_colours(Draw(torch.zeros(1, dtype=torch.int64)), 4, torch.zeros(1))
    small = smaller_map(paint(labels, colours), 4, 4)
    wanted = torch.tensor([0, 0, 1, 3]).repeat(2, 1), torch.tensor([0, 0, 1, 1]).repeat(2, 1)
    found = classes_of(small, 4)[0]
    assert found[:, [0, 2, 3]].equal(torch.cat(wanted)[:, [0, 2, 3]]) and set(found[:, 1].tolist()) <= {0, 1}
    assert torch.equal(small, paint(found[None], colours))  # pure colours, none between


def test_real_datasets_of_one_source_are_no_strangers(matrix, monkeypatch):
    about = {f: dict(name=n, source="real") for f, n in (("a", "covid19radio"), ("b", "covidquex"))}
    monkeypatch.setattr(chapter, "read_manifest", about.__getitem__)
    sources, targets = matrix.sources, (Problem.named("deblurring@covidquex"),)
    with pytest.raises(DataError, match="covidquex"): chapter.Matrix(sources, targets, ("a",), ("b",))
    about["b"]["source"] = "phantom"
    chapter.Matrix(sources, targets, ("a",), ("b",))


def test_a_users_card_says_that_a_target_is_of_a_sources_origin(root, tmp_path, monkeypatch):
    card = (root / "tests/cards/acdc_h5.toml").read_text().replace('name = "acdc_h5"', 'name = "my_hearts"')
    (tmp_path / "my_hearts.toml").write_text(card)
    monkeypatch.setattr(chapter, "read_manifest", lambda name: dict(name=name, source="real"))
    of = lambda cards: chapter.Matrix((), (), ("acdc",), ("my_hearts",), cards=cards)
    assert of(None).target_folders == ("my_hearts",)  # nobody knows it
    with pytest.raises(DataError, match="images are a source's") as refused: of(str(tmp_path))
    assert "my_hearts" in str(refused.value)
    for drawn in ("my_hearts", "acdc"):  # drawn images are of nowhere
        kind = lambda name, d=drawn: dict(name=name, source="phantom" if name == d else "real")
        monkeypatch.setattr(chapter, "read_manifest", kind)
        assert of(str(tmp_path)).target_folders == ("my_hearts",)
