"The original files of BUSI: folders by kind, one to three masks an image, and what can be wrong with them."
import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.check import check
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.store import Store

FIRST, SECOND, THIRD = np.s_[5:15, 5:20], np.s_[20:30, 30:50], np.s_[32:38, 2:10]


def breast(root, kind: str, number: int, *masks, suffix=("", "_1", "_2"), image: bool = True) -> None:
    "One image of the original distribution with its masks, each (rows, columns) slices."
    folder = root / "busi/Dataset_BUSI_with_GT" / kind
    folder.mkdir(parents=True, exist_ok=True)
    if image:
        picture = np.full((40, 60, 3), 10 * number + 20, np.uint8)
        Image.fromarray(picture).save(folder / f"{kind} ({number}).png")
    for end, where in zip(suffix, masks):
        mask = np.zeros((40, 60), np.uint8)
        if where: mask[where] = 255
        Image.fromarray(mask).save(folder / f"{kind} ({number})_mask{end}.png")


def test_the_original_folders_of_busi(tmp_path):
    breast(tmp_path, "benign", 1, FIRST)
    breast(tmp_path, "benign", 2, FIRST, SECOND, THIRD)
    breast(tmp_path, "malignant", 1, SECOND)
    breast(tmp_path, "malignant", 12, SECOND, FIRST)
    breast(tmp_path, "normal", 1, None)
    found = find("busi", tmp_path)
    assert (found.source, found.layout) == ("real", "original images")
    records = {r.key: r for r in read("busi", tmp_path)}
    assert {k: r.attributes for k, r in records.items()} == {
        "benign/benign (1)": {"malignant": 0}, "benign/benign (2)": {"malignant": 0},
        "malignant/malignant (1)": {"malignant": 1}, "malignant/malignant (12)": {"malignant": 1},
    }, "normal ones are left out"
    assert all(type(r.attributes["malignant"]) is int for r in records.values())
    several, other = records["benign/benign (2)"], records["malignant/malignant (1)"]
    assert several.instances.max() == 3
    for where in (FIRST, SECOND, THIRD):
        assert len(np.unique(several.instances[where])) == 1 and several.semantic[where].all()
    assert several.semantic.sum() == 150 + 200 + 48 and other.semantic.sum() == 200
    assert several.image[0, 0, 0] == pytest.approx(40 / 255)
    assert other.image[0, 0, 0] == pytest.approx(30 / 255)
    store = Store.open(pack("busi", tmp_path, tmp_path / "out", 32, source="real"))
    bad = [int(key.startswith("malignant")) for key in store.table.key]
    assert store.attribute("malignant").tolist() == bad


def test_counts_of_the_arrays_are_not_held_against_the_original_images(tmp_path):
    for number in (1, 2, 3):
        breast(tmp_path, "benign", number, FIRST)
    assert not [note for note in check("busi", tmp_path).notes if "The card says" in note]
    rows = {f"{part}_{what}": np.arange(64, dtype=np.uint8).reshape(1, 8, 8) % 2
            for part in ("train", "val", "test") for what in ("images", "label")}
    np.savez(tmp_path / "busi/busi_128.npz", **rows)
    (note,) = [note for note in check("busi", tmp_path).notes if "The card says" in note]
    assert "452" in note and "'train': 1" in note


def test_the_arrays_of_medsegbench_come_first_and_know_no_kind(tmp_path):
    breast(tmp_path, "benign", 1, FIRST)
    names = (f"{s}_{k}" for s in ("train", "val", "test") for k in ("images", "label"))
    np.savez(tmp_path / "busi/busi_128.npz", **{name: np.zeros((1, 128, 128), np.uint8) for name in names})
    assert find("busi", tmp_path).layout == "npz"
    assert all(r.attributes == {} for r in read("busi", tmp_path))


@pytest.mark.parametrize("fault, words", [
    ("no mask", "masks of an image are missing"),
    ("no image", "image of a mask is missing"),
    ("grey mask", "does not declare"),
])
def test_faults_of_the_original_files_are_named(tmp_path, fault, words):
    breast(tmp_path, "benign", 1, FIRST)
    masks = [] if fault == "no mask" else [FIRST]
    breast(tmp_path, "malignant", 3, *masks, image=fault != "no image")
    if fault == "grey mask":
        grey = Image.fromarray(np.full((40, 60), 100, np.uint8))
        grey.save(tmp_path / "busi/Dataset_BUSI_with_GT/malignant/malignant (3)_mask.png")
    with pytest.raises(DataError, match=words) as caught:
        list(read("busi", tmp_path))
    assert "malignant (3)" in str(caught.value)
