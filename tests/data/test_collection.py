"A folder of datasets: the card of each, which are trained on, and images that stand in two of them."
import os

import numpy as np
import pytest
from PIL import Image

from taco.base import CardError, DataError
from taco.data.collection import (
    HELD_OUT,
    TRAINED,
    contents,
    divide_datasets,
    draw_folders,
    equal_images,
    find_datasets,
    may_be_shown,
    pack_datasets,
    refuse_equal,
)
from taco.data.pack import pack
from taco.data.store import Store, read_manifest

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
    collection = find_datasets(data, cards)
    assert {folder.name: card.name for card, folder in collection.found} == dict(
        inside="inside", beside="beside", renamed="kvasir", drive="drive"
    )
    assert collection.without == ["nothing"]


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


def named(data, name, origin=None, count=3, seed=0):
    "A folder of images that differ, with a card in it."
    rng = np.random.default_rng([seed, *name.encode()])
    (data / name).mkdir(parents=True)
    text = CARD.format(name=name).replace("[classes]", f'origin = "{origin}"\n[classes]' if origin else "[classes]")
    (data / name / "card.toml").write_text(text)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (16, 16)).astype(np.uint8)).save(data / f"{name}/{i}.png")
        Image.fromarray((np.indices((16, 16))[0] > 7).astype(np.uint8)).save(data / f"{name}/{i}_m.png")


def test_of_two_folders_with_one_card_the_one_named_like_it_is_read(tmp_path):
    data, cards = tmp_path / "data", tmp_path / "cards"
    cards.mkdir()
    for name in ("a_drive", "drive", "z_drive"): folder_of(data, name)
    (cards / "folders.toml").write_text('a_drive = "drive"\nz_drive = "drive"\n')
    collection = find_datasets(data, cards)
    assert [(card.name, folder.name) for card, folder in collection.found] == [("drive", "drive")]
    assert collection.doubles == dict(a_drive="drive", z_drive="drive")


def test_what_is_held_out_takes_its_source_along_and_a_source_is_trained_on_once(tmp_path):
    for name, origin, count in (("a", "one", 3), ("b", "one", 5), ("c", "two", 3), ("d", "two", 4), ("e", None, 3)):
        named(tmp_path, name, origin, count)
    found = find_datasets(tmp_path).found
    parts = divide_datasets(found, ["c", "nowhere"])
    assert parts == dict(a="of the same source as b, which is larger", b=TRAINED, c=HELD_OUT, d=HELD_OUT, e=TRAINED)
    with pytest.raises(DataError, match="stay out of training"): divide_datasets(found, ["a", "c", "e"])


@pytest.mark.parametrize("names", ["ab", "abc", "abcdefg"])
def test_without_a_list_a_third_stays_out_and_always_the_same(tmp_path, names):
    for name in names: named(tmp_path, name)
    parts = divide_datasets(find_datasets(tmp_path).found)
    assert list(parts.values()).count(HELD_OUT) == max(1, len(names) // 3) and TRAINED in parts.values()
    assert parts == divide_datasets(find_datasets(tmp_path).found, ["nowhere"])


def test_a_damaged_dataset_does_not_displace_a_sound_one_of_its_source(tmp_path):
    for name, origin, count in (("a", "one", 3), ("b", "one", 9), ("c", "two", 3)): named(tmp_path, name, origin, count)
    for file in (tmp_path / "b").glob("*_m.png"): file.write_bytes(b"cut off")
    parts = divide_datasets(find_datasets(tmp_path).found, ["c"])
    assert parts == dict(a=TRAINED, b=TRAINED, c=HELD_OUT)  # packing says why nothing of b can be read


def test_a_single_dataset_cannot_be_divided(tmp_path):
    named(tmp_path, "alone")
    with pytest.raises(DataError, match="stay out of training"): divide_datasets(find_datasets(tmp_path).found)


def test_an_image_under_two_names_is_found_and_refused_across_parts(tmp_path):
    for name in ("first", "second"): named(tmp_path / "data", name, count=6)
    for i in range(6):
        # under another name, by which it may fall into another part
        (tmp_path / f"data/second/{5 - i}.png").write_bytes((tmp_path / f"data/first/{i}.png").read_bytes())
    folders, failed = pack_datasets(find_datasets(tmp_path / "data").found, tmp_path / "out", size=16, source="real")
    first, second = map(Store.open, folders)
    assert not failed and len(equal_images(first, second)) == 6 and not equal_images(first)
    with pytest.raises(DataError, match="first, subject .* second, subject"): refuse_equal(first, second)
    with pytest.raises(DataError, match="under two names"): refuse_equal(Store.open(folders))
    refuse_equal(first)


def test_equal_images_in_one_part_and_images_of_one_value_are_no_fault(tmp_path):
    for name in ("first", "second"): named(tmp_path / "data", name, count=6)
    for name in ("first", "second"):
        Image.fromarray(np.full((16, 16), 7, np.uint8)).save(tmp_path / f"data/{name}/0.png")
    folders, _ = pack_datasets(find_datasets(tmp_path / "data").found, tmp_path / "out", size=16, source="real")
    refuse_equal(*map(Store.open, folders))


def test_draws_of_datasets_are_nested_and_follow_the_seed(tmp_path):
    folders = [tmp_path / f"{i}" for i in range(12)]
    for seed in range(3):
        draws = [set(draw_folders(folders, count, seed)) for count in (1, 2, 4, 8, 12)]
        assert [len(draw) for draw in draws] == [1, 2, 4, 8, 12]
        assert all(a < b for a, b in zip(draws, draws[1:]))
    assert len({tuple(draw_folders(folders, 3, seed)) for seed in range(8)}) > 3
    for count in (0, 13):
        with pytest.raises(DataError, match="drawn"): draw_folders(folders, count)


def test_a_dataset_holds_the_same_when_its_files_were_copied_and_not_when_one_changed(tmp_path):
    folder_of(tmp_path, "dots")
    (tmp_path / "dots/card.toml").write_text(CARD.format(name="dots"))
    def packed():
        return read_manifest(pack(tmp_path / "dots/card.toml", root=tmp_path, out=tmp_path / "packed", size=32))
    first = packed()
    for file in (tmp_path / "dots").glob("*.png"): os.utime(file, (1, 1))
    copied = packed()
    assert copied["key"] != first["key"] and contents(copied) == contents(first)
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "dots/0.png")
    assert contents(packed()) != contents(first)


@pytest.mark.parametrize("licence, shown", [
    ("CC BY 4.0", True), ("CC-BY-NC 4.0", False), ("CC BY-NC-SA", False), ("CC BY-ND 4.0", False), ("CC0 1.0", True),
    ("CC0: Public Domain", True), ("research only", False)])
def test_real_images_are_shown_where_the_licence_allows_it(licence, shown, tmp_path, monkeypatch):
    for source, seen in (("real", shown), ("phantom", True), ("packaged", True)):
        about = dict(source=source, licence=licence)
        monkeypatch.setattr("taco.data.collection.read_manifest", lambda folder, about=about: about)
        assert may_be_shown(tmp_path) is seen
