"Tasks never seen, compositions, and folders of real data."
import numpy as np
import pytest
import torch
from PIL import Image

from taco.atlas.generalisation import compose, family_of_nearest, newcomers, placed_by_parts
from taco.atlas.real import find_datasets, plan_everything
from taco.base import CardError, DataError, TaskError
from taco.data.card import load_card
from taco.data.store import Store, pack
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.open([pack(load_card(n), out=tmp_path_factory.mktemp("stores"), size=32, source="phantom", subjects=8) for n in ("busi", "kvasir")])


def test_a_composition_is_the_second_task_of_the_first_ones_output(store):
    records, seeds = store.select(split="train", needs={"semantic"})[:3], torch.arange(3)
    input, output = compose("binary_segmentation", "horizontal_flip", store, records, seeds)
    same, mask = get_task("binary_segmentation")(store.batch(records), seeds=seeds)
    assert torch.equal(input, same) and torch.allclose(output, mask.flip(-1), atol=1e-5)
    for second in ("deblurring", "binary_segmentation"):
        with pytest.raises(TaskError, match="any picture"): compose("horizontal_flip", second, store, records, seeds)


def test_newcomers_and_parts_by_hand():
    vectors, labels = np.eye(3)[[0, 0, 1, 2]], np.array(["horizontal_flip", "shear", "deblurring", "inpainting"])
    near = newcomers(vectors, labels, ["shear"], ["horizontal_flip", "deblurring", "inpainting"])
    assert near.loc["shear"].tolist() == [1, 0, 0] and family_of_nearest(near).loc["shear"].tolist() == ["horizontal_flip", 1.0, True]
    parts = placed_by_parts(np.array([[.8, 0, .6]]), ("a", "b"), np.eye(3), ["a", "b", "c"])
    assert parts["other"] == .6 and parts["nearest_other"] == "c" and parts["rank_first"] == 1 and parts["rank_second"] == 3


def test_a_plan_over_all_splits_is_balanced(store):
    plan = plan_everything(store, list(ALL_TASKS), per_cell=3)
    counts = plan.groupby(["task", "dataset"]).size()
    assert counts.max() == 3 and set(plan["split"]) <= {"train", "val", "test"} and plan["split"].nunique() > 1
    assert plan_everything(store, list(ALL_TASKS), per_cell=3).equals(plan)


CARD = """name = "{name}"
title = "t"
modality = "CT"
anatomy = "none"
annotation = "semantic"
channels = 1
labels_from = "t"
licence = "CC0"
permits = "t"
citation = "t"
homepage = "t"
[classes]
1 = "t"
[[read]]
reader = "pairs"
images = 're:(?P<id>\\d+)\\.png'
masks = 're:(?P<id>\\d+)_m\\.png'
[split]
rule = "subject"
"""


def folder_of(data, name):
    (data / name).mkdir(parents=True)
    for i in range(3):
        for end in ("", "_m"): Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(data / name / f"{i}{end}.png")


def test_every_way_to_find_a_card(tmp_path):
    data, cards = tmp_path / "data", tmp_path / "cards"
    cards.mkdir()
    for name in ("inside", "beside", "renamed", "drive", "nothing"): folder_of(data, name)
    (data / "inside/card.toml").write_text(CARD.format(name="inside"))
    (cards / "beside.toml").write_text(CARD.format(name="beside"))
    (cards / "folders.toml").write_text('renamed = "kvasir"\n')
    found, without = find_datasets(data, cards)
    assert {folder.name: card.name for card, folder in found} == dict(inside="inside", beside="beside", renamed="kvasir", drive="drive")
    assert without == ["nothing"]


def test_folders_without_cards_and_broken_ones_are_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"): find_datasets(tmp_path / "none")
    folder_of(tmp_path / "data", "something")
    with pytest.raises(DataError, match="something"): find_datasets(tmp_path / "data")
    with pytest.raises(DataError, match="cards"): find_datasets(tmp_path / "data", tmp_path / "nowhere")
    for name in ("a", "b"): (tmp_path / f"data/something/{name}.toml").write_text(CARD.format(name=name))
    with pytest.raises(DataError, match="one card"): find_datasets(tmp_path / "data")
    (tmp_path / "data/something/b.toml").unlink(); (tmp_path / "data/something/a.toml").write_text(CARD.format(name="z"))
    with pytest.raises(CardError, match="named after its file"): find_datasets(tmp_path / "data")
    (tmp_path / "cards").mkdir(); (tmp_path / "cards/folders.toml").write_text('other = "kvasr"\n')
    folder_of(tmp_path / "data", "other")
    (tmp_path / "data/something/a.toml").unlink()
    with pytest.raises(DataError, match="kvasir"): find_datasets(tmp_path / "data", tmp_path / "cards")
