"What a card declares against what was read: `taco data check` tells where they differ, and is silent where not."

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from taco.data.check import as_dict, check
from taco.data.declared import held, notes_of_declared
from taco.data.record import Record
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, make_card, write_pairs

ALL = CARD + CLASSES + PAIRS + BY_SUBJECT


def notes(tmp_path, old: str, new: str) -> list[str]:
    assert old in ALL
    return as_dict(check(make_card(tmp_path, ALL.replace(old, new)), tmp_path))["notes"]


def test_colour_and_grey(tmp_path):
    write_pairs(tmp_path, 4)
    assert not any("channels" in note for note in notes(tmp_path, "channels = 1", "channels = 1"))
    (here,) = [n for n in notes(tmp_path, "channels = 1", "channels = 3") if "channels" in n]
    assert "channels = 3, and 4 of 4 images are grey" in here
    first = sorted((tmp_path / "toy/images").iterdir())[0]
    pixels = np.repeat(np.asarray(Image.open(first))[..., None], 3, 2)
    Image.fromarray(pixels).save(first)  # grey in three channels
    assert not any("channels" in note for note in notes(tmp_path, "channels = 1", "channels = 1"))
    pixels[..., 0] = 255 - pixels[..., 2]
    Image.fromarray(pixels).save(first)
    (here,) = [n for n in notes(tmp_path, "channels = 1", "channels = 1") if "channels" in n]
    assert "channels = 1, and 1 of 4 images are in colour" in here
    assert not any("channels" in note for note in notes(tmp_path, "channels = 1", "channels = 3"))


def test_a_grey_file_stored_in_three_channels_is_grey():
    grey = np.random.default_rng(0).random((1, 9, 9)).astype(np.float32)
    assert held(Record(np.repeat(grey, 3, 0))) == ["grey"]
    assert held(Record(np.concatenate([grey, grey, 1 - grey]), boxes=np.zeros((0, 4)))) == ["colour", "boxes"]


@pytest.mark.parametrize("said", ["instances", "boxes", "points"])
def test_labels_that_are_promised_and_not_read(tmp_path, said):
    write_pairs(tmp_path, 4)
    plain = notes(tmp_path, "channels = 1", "channels = 1")
    assert not any("annotation" in note for note in plain)
    here = notes(tmp_path, 'annotation = "semantic"', f'annotation = ["semantic", "{said}"]')
    assert any(f"annotation = '{said}', and none were read" in note for note in here)


def test_nothing_read_is_no_contradiction(tmp_path):
    card = make_card(tmp_path, ALL)
    assert notes_of_declared(card, Counter()) == []
    assert "semantic were read" in notes_of_declared(
        make_card(tmp_path, ALL.replace('annotation = "semantic"', 'annotation = "none"')),
        Counter(grey=2, semantic=2),
    )[0]


@pytest.mark.parametrize("twice, parts", [
    (False, ("p00_00.png", "p00_00_.png", "Rename p00_00_.png")), (True, ("read twice", "delete one [[read]]"))])
def test_keys_that_occur_twice(tmp_path, twice, parts):
    write_pairs(tmp_path, 1, 1)
    for folder in ("images", "masks") if not twice else ():
        place = tmp_path / "toy" / folder
        (place / "p00_00_.png").write_bytes((place / "p00_00.png").read_bytes())
    found = check(make_card(tmp_path, CARD + CLASSES + PAIRS * (1 + twice) + BY_SUBJECT), tmp_path)
    assert not found.ok and "keys occur twice" in found.faults[0]
    assert all(part in found.faults[0] for part in parts), found.faults
    if twice: return
    for folder in ("images", "masks"):  # the fix
        (tmp_path / "toy" / folder / "p00_00_.png").rename(tmp_path / "toy" / folder / "p00_00_b.png")
    assert check(make_card(tmp_path, CARD + CLASSES + PAIRS + BY_SUBJECT), tmp_path).ok
