"Larger real sets, read through cards alone, against the manifest beside each. Skipped where there are none."

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from taco.data.card import load_card
from taco.data.find import assign_splits, find, part_equals, read
from taco.data.folders import Found
from taco.data.prepare import fit_square
from taco.data.readers.source import Item
from tests.data.test_real_files import CARDS, edges, extract

# folder → layout, images or volumes, subjects, classes
SETS = {
    "acdc": ("hdf5 volumes", 198, 99, 3),
    "mscmr_lge": ("volumes", 20, 20, 3),
    "la2018": ("volumes", 100, 100, 1),
    "msd_hippocampus_more": ("volumes", 50, 50, 2),
    "lgg_flair": ("volumes", 27, 27, 1),
    "montgomery": ("pairs", 138, 138, 2),
    "shenzhen": ("pairs", 300, 300, 1),
    "busi": ("original images", 95, 95, 1),
    "hc18": ("npz", 298, 254, 1),
    "ph2": ("npz", 200, 200, 1),
    "drive": ("npz", 40, 40, 1),
    "orvs": ("npz", 48, 48, 1),
    "drhagis": ("npz", 39, 39, 1),
    "cellnuclei": ("npz", 300, 117, 1),
    "wbc": ("npz", 200, 200, 2),
    "neuroproof_em": ("npz", 58, 1, 1),
}
# moved so, a mask no longer lies on what it names
MOVED = {
    "mirrored": lambda m: m[:, ::-1],
    "upside down": lambda m: m[::-1],
    "transposed": lambda m: m.T,
    "shifted by a sixteenth": lambda m: np.roll(m, 16, (0, 1)),
}


def dark(image: np.ndarray, labels: np.ndarray) -> float:
    "How much darker the labels are than what lies around them; for lines, which are all border."
    return (ndimage.gaussian_filter(image, 6) - image)[labels > 0].mean() / image.std()


def calm(image: np.ndarray, labels: np.ndarray) -> float:
    "How much less the image varies in the labels than elsewhere; for a chamber among others as bright."
    return image.std() / image[labels > 0].std()


SCORES = dict.fromkeys(("drive", "orvs", "drhagis", "neuroproof_em"), dark) | {"la2018": calm}


DIAGNOSES = {
    ("diagnosis", 0): ["common nevus"],
    ("diagnosis", 1): ["atypical nevus"],
    ("diagnosis", 2): ["melanoma"],
    ("melanoma", 0): ["common nevus", "atypical nevus"],
    ("melanoma", 1): ["melanoma"],
}


def card_of(name: str) -> Path | str:
    "The card of tests/cards, or the shipped one."
    path = CARDS / f"{name}.toml"
    return path if path.exists() else name


@cache
def found_in(folder: Path) -> tuple[Found, dict[str, str]]:
    "What the card finds, and the part of each subject."
    found = find(card_of(folder.name), folder, "real")
    return found, part_equals(found, assign_splits(found.card, found.items, "real"))


@cache
def manifest(folder: Path) -> dict[str, dict]:
    "Row of the manifest by what it describes: an image below the folder, or part and row of an array."
    with open(folder / "MANIFEST.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    inside = [re.search(r"(?:train|val|test)\[\d+\]$", r["file"]) for r in rows]
    return {m[0] if m else r["file"].split(" + ")[0]: r for m, r in zip(inside, rows)}


def row_of(item: Item, folder: Path) -> dict:
    "The manifest's row of an item."
    name = Path(item.file).relative_to(folder).as_posix()
    return manifest(folder)[re.sub(r"^.*\.npz\[(\w+)_images\]", r"\1", name)]


@pytest.mark.parametrize("name", SETS)
def test_all_images_are_found_and_divided_by_subject(shared_data, name):
    layout, images, subjects, classes = SETS[name]
    folder = extract(shared_data, name)
    found, splits = found_in(folder)
    assert found.source == "real" and found.layout == layout and len(found.items) == images
    assert set(found.card.classes) == set(range(1, classes + 1))
    rows = [row_of(i, folder) for i in found.items]
    assert len({r["file"] for r in rows}) == images == len(manifest(folder))
    assert len({r["subject"] for r in rows}) == subjects
    parts: dict[str, set] = {}
    owners: dict[str, set] = {}
    for item, row in zip(found.items, rows):
        parts.setdefault(row["subject"], set()).add(splits[item.subject])
        owners.setdefault(item.subject, set()).add(row["subject"])
    assert all(len(o) == 1 for o in owners.values())  # nobody is taken for someone else
    assert len(owners) == subjects and all(len(p) == 1 for p in parts.values())
    given = Counter(r["split"] for r in rows)
    counts = Counter(splits[i.subject] for i in found.items)
    if name == "neuroproof_em":  # cut into three parts there; one block of one animal, so here it is one part
        assert set(counts) == {"train"} and len(given) == 3
    elif "" not in given:
        assert counts == given and all(splits[i.subject] == r["split"] for i, r in zip(found.items, rows))
    else:
        assert set(given) == {""} and counts["train"] > counts["test"] > 0 < counts["val"]


@pytest.mark.parametrize("name", SETS)
def test_masks_of_a_few_lie_on_their_images(shared_data, name):
    folder = extract(shared_data, name)
    card, score = load_card(card_of(name)), SCORES.get(name, edges)
    records = list(read(card, folder, "real", subjects=8))
    assert len(records) >= 8 and len({r.subject for r in records}) <= 10
    assert set().union(*(np.unique(r.semantic).tolist() for r in records)) == {0, *card.classes}
    scores = []
    for r in records[:: max(1, len(records) // 12)]:
        assert r.image.shape == (card.channels, *r.semantic.shape) and r.modality == card.modality[0]
        small = fit_square(r, 256)
        image, labels = small.image[len(small.image) // 2], small.semantic  # grey, or green
        if labels.any():
            scores.append([score(image, m) for m in (labels, *(f(labels) for f in MOVED.values()))])
    right, *wrong = np.mean(scores, 0)
    assert right > 0 and all(right > 1.1 * w for w in wrong), (right, dict(zip(MOVED, wrong)))


@pytest.mark.parametrize(
    ("name", "attribute", "count"),
    [
        ("montgomery", "tuberculosis", {0: 80, 1: 58}),
        ("shenzhen", "tuberculosis", {0: 137, 1: 163}),
        ("busi", "malignant", {0: 49, 1: 46}),
        ("ph2", "diagnosis", {0: 80, 1: 80, 2: 40}),
        ("ph2", "melanoma", {0: 160, 1: 40}),
    ],
)
def test_a_finding_is_that_of_the_manifest(shared_data, name, attribute, count):
    folder = extract(shared_data, name)
    found, _ = found_in(folder)
    said = Counter()
    for item in found.items:
        (record,) = item.load()
        value = record.attributes[attribute]
        extra = row_of(item, folder)["extra"]
        assert f"{attribute}={value};" in extra or extra in DIAGNOSES.get((attribute, value), ())
        said[value] += 1
    assert said == count


def test_both_times_of_a_heart_are_one_subject(shared_data):
    found, _ = found_in(extract(shared_data, "acdc"))
    times: dict[str, list] = {}
    for item in found.items:
        times.setdefault(item.subject, []).append(Path(item.file).stem.split("_")[1])
    assert all(len(set(t)) == 2 for t in times.values())
    first = [min(t) for t in times.values()]
    assert first.count("frame01") == 98 and times["patient090"] == ["frame04", "frame11"]
    assert "patient074" in times and "patient076" not in times


def test_a_heart_is_smaller_at_the_end_of_systole(shared_data):
    cavity: dict[str, dict[int, int]] = {}
    for item in found_in(extract(shared_data, "acdc"))[0].items:
        records = item.load()
        (late,) = {r.attributes["end_systole"] for r in records}
        pixels = sum(int((r.semantic == 3).sum()) for r in records)
        cavity.setdefault(item.subject, {})[late] = pixels
    assert len(cavity) == 99 and all(c[0] > c[1] for c in cavity.values())


def test_the_left_lung_lies_on_the_right_of_the_picture(shared_data):
    for r in read("montgomery", extract(shared_data, "montgomery"), "real", subjects=8):
        left, right = (np.nonzero(r.semantic == v)[1].mean() for v in (1, 2))
        assert right < r.semantic.shape[1] / 2 < left


def test_a_nucleus_lies_inside_its_cell_and_is_darker(shared_data):
    for r in read("wbc", extract(shared_data, "wbc"), "real", subjects=8):
        cytoplasm, nucleus = (r.image[1][r.semantic == v].mean() for v in (1, 2))
        assert nucleus < cytoplasm


def test_the_heart_has_its_muscle_round_its_left_ventricle(shared_data):
    "The numbers of both sets mean the same: the left ventricle touches muscle, hardly ever the right one."
    for name in ("acdc", "mscmr_lge"):
        touched = Counter()
        for r in read(card_of(name), extract(shared_data, name), "real", subjects=5):
            cavity = r.semantic == 3
            for axis in (0, 1):
                for step in (1, -1):
                    touched.update(r.semantic[np.roll(cavity, step, axis) & ~cavity].tolist())
        assert touched[2] > 20 * touched[1] and touched[2] > touched[0]


def test_a_larger_file_of_arrays_is_read_where_it_is_asked_for(shared_data):
    folder = extract(shared_data, "drive")
    for size, side in ((64, 128), (128, 128), (256, 256)):
        item = find("drive", folder, "real", size=size).items[0]
        assert item.load()[0].image.shape == (3, side, side)


@pytest.mark.parametrize(
    ("name", "small"), [("hc18", "hc18_fetal_us"), ("msd_hippocampus_more", "msd_hippocampus")]
)
def test_nobody_is_in_the_small_extract_of_the_same_source(shared_data, name, small):
    folder = extract(shared_data, name)
    others = find(CARDS / f"{small}.toml", extract(shared_data, small), "real")
    mine = {row_of(i, folder)["subject"] for i in found_in(folder)[0].items}
    assert mine and not mine & {i.subject for i in others.items}
