"What is there twice: two records of one key, one image under two keys."

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.check import check
from taco.data.pack import pack
from taco.data.store import read_manifest
from tests.data.made import HEAD, card_of

BARE = HEAD.replace('"boxes"', '"none"')


def pictures(root, *names):
    for number, name in enumerate(names):
        path = root / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20), 40 + number, np.uint8) + np.eye(20, dtype=np.uint8)).save(path)


def reads(*patterns):
    return "\n[[read]]\n".join(f'reader = "pairs"\nimages = "{p}"\n' for p in patterns)


def told(card, root) -> str:
    "The advice of pack, which is that of check."
    with pytest.raises(DataError) as error:
        pack(card, root, root / "out", 16)
    assert error.value.found and error.value.expected
    (fault,) = check(card, root).faults
    assert error.value.fix in fault
    return error.value.fix


def packed(root, *patterns) -> int:
    return read_manifest(pack(card_of(reads(*patterns), BARE), root, root / "out", 16))["records"]


def test_two_folders_with_files_of_one_name(tmp_path):
    pictures(tmp_path, "a/x.png", "b/x.png")
    advice = told(card_of(reads("a/*.png", "b/*.png"), BARE), tmp_path)
    assert "by one [[read]]" in advice and "here a and b" in advice
    assert packed(tmp_path, "*/*.png") == 2  # the fix
    (tmp_path / "toy/b/x.png").rename(tmp_path / "toy/b/y.png")
    assert packed(tmp_path, "a/*.png", "b/*.png") == 2  # the other one


def test_one_file_that_is_read_twice(tmp_path):
    pictures(tmp_path, "x.png")
    assert "One file is read twice: delete one [[read]]" in told(card_of(reads("*.png", "*.png"), BARE), tmp_path)
    assert packed(tmp_path, "*.png") == 1


def test_names_that_differ_at_their_ends(tmp_path):
    pictures(tmp_path, "x.png", "x_.png")
    assert "Rename x_.png" in told(card_of(reads("*.png"), BARE), tmp_path)
    (tmp_path / "toy/x_.png").rename(tmp_path / "toy/y.png")
    assert packed(tmp_path, "*.png") == 2


def test_one_image_under_several_keys_of_an_archive(tmp_path):
    (tmp_path / "toy").mkdir()
    images = np.random.default_rng(0).integers(0, 255, (6, 16, 16), np.uint8)
    images[5] = 7  # a picture of one value says nothing
    arrays = dict(train=images[[0, 1, 2, 1, 5]], val=images[[3, 5]], test=images[[4, 0]])
    named = {f"{split}_images": rows for split, rows in arrays.items()}
    labels = {f"{split}_label": rows // 128 for split, rows in arrays.items()}
    np.savez(tmp_path / "toy/a.npz", **named, **labels)
    head = HEAD.replace("\"boxes\"", "\"semantic\"").replace("\"subject\"", "\"given\"")
    card = card_of('reader = "npz"\nfile = "a.npz"\n', head)
    expected = (
        "2 images under several keys of one file, 1 of them in several parts of the split: "
        "train-00000 (train) = test-00001 (test), train-00001 (train) = train-00003 (train)"
    )
    found = check(card, tmp_path)
    assert found.ok and expected in found.notes
    manifest = read_manifest(pack(card, tmp_path, tmp_path / "out", 16))
    assert manifest["records"] == 9 and expected in manifest["counts"]["notes"]
