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
    first = sorted((tmp_path / "toy/images").iterdir())[0]
    pixels = np.asarray(Image.open(first).convert("RGB")).copy()
    for channels, colour in ((1, False), (3, True)):
        here = notes(tmp_path, "channels = 3", f"channels = {channels}")
        assert any(f"channels = {channels}" in note for note in here) is (channels == 3 or not_grey(tmp_path))
    pixels[..., 0] = 255 - pixels[..., 2]
    Image.fromarray(pixels).save(first.with_suffix(".png"))
    here = notes(tmp_path, "channels = 3", "channels = 1")
    assert any("channels = 1" in note and "in colour" in note for note in here)


def not_grey(tmp_path) -> bool:
    found = [np.asarray(Image.open(p).convert("RGB")) for p in (tmp_path / "toy/images").iterdir()]
    return any(np.ptp(pixels.astype(int), 2).max() > 12 for pixels in found)


def test_a_grey_file_stored_in_three_channels_is_grey():
    grey = np.random.default_rng(0).random((1, 9, 9)).astype(np.float32)
    assert held(Record(np.repeat(grey, 3, 0))) == ["grey"]
    assert held(Record(np.concatenate([grey, grey, 1 - grey]), boxes=np.zeros((0, 4)))) == ["colour", "boxes"]


@pytest.mark.parametrize("said", ["instances", "boxes", "points"])
def test_labels_that_are_promised_and_not_read(tmp_path, said):
    write_pairs(tmp_path, 4)
    plain = notes(tmp_path, "channels = 3", "channels = 3")
    assert not any("annotation" in note for note in plain)
    here = notes(tmp_path, 'annotation = "semantic"', f'annotation = ["semantic", "{said}"]')
    assert any(f"annotation = '{said}', and none was read" in note for note in here)


def test_nothing_read_is_no_contradiction(tmp_path):
    card = make_card(tmp_path, ALL)
    assert notes_of_declared(card, Counter()) == []
    assert "semantic were read" in notes_of_declared(
        make_card(tmp_path, ALL.replace('annotation = "semantic"', 'annotation = "none"')),
        Counter(colour=2, semantic=2),
    )[0]
