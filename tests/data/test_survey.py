"What a survey says of files, patterns and records; the folders themselves are in test_counts."

import os
from collections import Counter

import numpy as np
import pytest

from taco.data.find import find
from taco.data.folders import is_archive
from taco.data.pack import pack
from taco.data.readers.files import compile_pattern
from taco.data.readers.source import example_card
from taco.data.record import Record
from taco.data.store import read_manifest
from taco.data.survey import (
    NEARLY,
    UNREAD,
    all_read,
    counts_of,
    ending,
    file_patterns,
    fits_otherwise,
    in_words,
    kind_of,
    listening,
    survey,
)
from tests.data.made import make_card, write_pairs


def test_which_options_name_files():
    table = {
        "reader": "pairs", "images": ["a/*.png", "b/*.png"], "masks": {"1": "m/*.png"}, "layout": "x",
        "subject": {"table": "who.csv", "match": "re:(.*)", "row": 0}, "values": {"0": 0}, "exclude": "*_old.png",
        "attributes": {"age": {"table": "{site}.csv", "pattern": "re:(.*)", "values": {"a": "b"}}},
    }  # fmt: skip
    assert set(file_patterns(table)) == {
        ("images", "a/*.png"), ("images", "b/*.png"), ("masks", "m/*.png"), ("subject", "who.csv"),
        ("attributes", "{site}.csv"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "path, end", [("a.PNG", ".png"), ("a.nii.GZ", ".nii.gz"), ("a", ""), (".b/c", ""), ("a.ome.tiff", ".tiff")]
)
def test_endings(path, end):
    assert ending(path) == end


def test_near_misses_are_images_only():
    patterns = [compile_pattern("img/*.png")]
    assert fits_otherwise("img/a.jpeg", patterns) and fits_otherwise("img/a.nii.gz", patterns)
    assert not fits_otherwise("img/a.txt", patterns) and not fits_otherwise("other/a.jpg", patterns)
    assert is_archive("A.TAR.GZ") and is_archive("b.Zip") and not is_archive("c.gz")


def test_kinds_of_records():
    image, empty = np.zeros((1, 4, 4), np.float32), np.zeros((4, 4), np.uint8)
    box = np.array([[0, 0, 0.5, 0.5]], np.float32)
    assert kind_of(Record(image)) == "unlabelled"
    assert kind_of(Record(image, semantic=empty)) == kind_of(Record(image, boxes=box[:0])) == "healthy"
    assert kind_of(Record(image, semantic=empty + 1)) == kind_of(Record(image, boxes=box)) == "drawn"


def test_what_is_opened_is_heard(tmp_path):
    for name in "ab":
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    with listening() as first, listening() as second:
        (tmp_path / "link").read_bytes()
    (tmp_path / "b").read_bytes()
    assert os.path.realpath(tmp_path / "a") in first & second and str(tmp_path / "b") not in first


def test_a_file_that_fits_and_is_never_opened_is_named(tmp_path):
    write_pairs(tmp_path, 4)
    found = find(make_card(tmp_path), tmp_path)
    masks = {os.path.realpath(p) for p in (tmp_path / "toy/masks").iterdir()}
    lost = sorted(masks)[0]
    assert survey(found, masks).trouble() == {}
    assert survey(found, masks - {lost}).trouble() == {UNREAD: [f"masks/{os.path.basename(lost)}"]}


def test_counts_in_words_and_whole(tmp_path):
    (tmp_path / "toy").mkdir()
    for name in ("a.png", *(f"b{n}.jpeg" for n in range(9))):
        (tmp_path / "toy" / name).write_bytes(b"x")
    found = find(example_card('[[read]]\nreader = "pairs"\nimages = "*.png"'), tmp_path)
    counts = counts_of(survey(found), Counter(healthy=2), ["x.nii"])
    lines = in_words(counts)
    assert lines[0] == f"9 files left out, {NEARLY}: b0.jpeg, b1.jpeg, b2.jpeg … (9 files)"
    assert lines[1:] == ["1 item gave no record: x.nii", "2 records on which nothing is drawn (healthy)."]
    assert "b8.jpeg" in in_words(counts, whole=True)[0] and not all_read(counts)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_manifest_counts(tmp_path, workers):
    write_pairs(tmp_path, 4)
    (tmp_path / "toy/images/more.webp").write_bytes(b"x")
    counts = read_manifest(pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16, workers=workers))["counts"]
    assert counts["seen"] == 9 and counts["read"] == 8 and counts["left_out"] == 1 and counts["bare"] == 0
    assert [(row["reason"], row["examples"]) for row in counts["why"]] == [(NEARLY, ["images/more.webp"])]
