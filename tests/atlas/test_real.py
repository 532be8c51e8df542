"Folders of real data: which card reads which, what is left out, and how the answers are counted."
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from taco.atlas.real import (
    accuracy_by_task,
    find_datasets,
    most_mistaken,
    pack_strangers,
    plan_everything,
)
from taco.base import CardError, DataError
from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.open(
        [
            pack(
                load_card(n),
                out=tmp_path_factory.mktemp("stores"),
                size=32,
                source="phantom",
                subjects=8,
            )
            for n in ("busi", "kvasir")
        ]
    )


def test_a_plan_over_all_splits_is_balanced(store):
    plan = plan_everything(store, list(ALL_TASKS), per_cell=3)
    counts = plan.groupby(["task", "dataset"]).size()
    assert (
        counts.max() == 3
        and set(plan["split"]) <= {"train", "val", "test"}
        and plan["split"].nunique() > 1
    )
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
        for end in ("", "_m"):
            Image.fromarray(np.full((8, 8), i % 2, np.uint8)).save(data / name / f"{i}{end}.png")


def test_every_way_to_find_a_card(tmp_path):
    data, cards = tmp_path / "data", tmp_path / "cards"
    cards.mkdir()
    for name in ("inside", "beside", "renamed", "drive", "nothing"): folder_of(data, name)
    (data / "inside/card.toml").write_text(CARD.format(name="inside"))
    (cards / "beside.toml").write_text(CARD.format(name="beside"))
    (cards / "folders.toml").write_text('renamed = "kvasir"\n')
    found, without = find_datasets(data, cards)
    assert {folder.name: card.name for card, folder in found} == dict(
        inside="inside", beside="beside", renamed="kvasir", drive="drive"
    )
    assert without == ["nothing"]


def test_folders_without_cards_and_broken_ones_are_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"): find_datasets(tmp_path / "none")
    folder_of(tmp_path / "data", "something")
    with pytest.raises(DataError, match="something"): find_datasets(tmp_path / "data")
    with pytest.raises(DataError, match="cards"):
        find_datasets(tmp_path / "data", tmp_path / "nowhere")
    for name in ("a", "b"):
        (tmp_path / f"data/something/{name}.toml").write_text(CARD.format(name=name))
    with pytest.raises(DataError, match="one card"): find_datasets(tmp_path / "data")
    (tmp_path / "data/something/b.toml").unlink()
    (tmp_path / "data/something/a.toml").write_text(CARD.format(name="z"))
    with pytest.raises(CardError, match="named after its file"): find_datasets(tmp_path / "data")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards/folders.toml").write_text('other = "kvasr"\n')
    folder_of(tmp_path / "data", "other")
    (tmp_path / "data/something/a.toml").unlink()
    with pytest.raises(DataError, match="kvasir"):
        find_datasets(tmp_path / "data", tmp_path / "cards")


def test_one_broken_dataset_does_not_hide_the_others(tmp_path):
    for name in ("good", "broken", "known"):
        folder_of(tmp_path / "data", name)
        (tmp_path / f"data/{name}/card.toml").write_text(CARD.format(name=name))
    for file in (tmp_path / "data/broken").glob("*.png"): file.write_bytes(b"no picture")
    found, _ = find_datasets(tmp_path / "data")
    folders, failed, left_out = pack_strangers(found, tmp_path / "out", 16, "real", {"known"})
    assert (
        [f.name for f in folders] == ["good-real-16"]
        and list(failed) == ["broken"]
        and left_out == ["known"]
    )
    assert "fix:" in failed["broken"] or "found:" in failed["broken"]


def test_tasks_are_counted_beside_the_phantoms():
    plan = pd.DataFrame(dict(task=["shear", "shear", "deblurring"]))
    posed = pd.DataFrame(dict(task=["deblurring", "shear", "translation"]), index=[7, 8, 9])
    table = accuracy_by_task(
        "real", plan, np.array([True, False, True]), posed, np.array([False, True, True])
    )
    assert table.index.tolist() == [t for t in ALL_TASKS if t in ("shear", "deblurring")]
    assert (
        table.loc["shear"].to_dict() == dict(real=0.5, phantom=1)
        and table.loc["deblurring", "phantom"] == 0
    )
    wrong = most_mistaken(plan, np.array(["shear", "translation", "shear"]))
    assert set(zip(wrong["task"], wrong["taken_for"])) == {
        ("shear", "translation"),
        ("deblurring", "shear"),
    }
