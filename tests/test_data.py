"Cards, readers and the store: what they read, how they split, and what they say about bad input."
import errno
import json
import os
import pickle
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from taco.base import CardError, DataError, StoreError
from taco.data import store as store_module
from taco.data.card import FRACTIONS, SPLITS, digest, list_cards, load_card, parse_card
from taco.data.readers import READERS, assign_splits, check_readers, divide, find, read, to_unit
from taco.data.record import NEEDS, collate, prepare
from taco.data.store import Store, describe, pack, read_manifest

CARD = '''name = "toy"
title = "Toy"
modality = "fluorescence microscopy"
anatomy = "cells"
annotation = "semantic"
channels = 1
labels_from = "drawn by the test"
licence = "none"
permits = "tests"
citation = "none"
homepage = "https://example.org"
'''
CLASSES = '\n[classes]\n1 = "disc"\n'
PAIRS = '\n[[read]]\nreader = "pairs"\nimages = "images/*.{png,tif,bmp,gif,jpg}"\nmasks = "masks/*.{png,tif,bmp,gif}"\nvalues = {0 = 0, 255 = 1}\n'
NPZ = '\n[[read]]\nreader = "npz"\nfile = "toy_{size}.npz"\n'
BY_SUBJECT = '\n[split]\nrule = "subject"\n'
GIVEN = '\n[split]\nrule = "given"\n'


def make_card(tmp_path: Path, text: str = CARD + CLASSES + PAIRS + BY_SUBJECT):
    path = tmp_path / "toy.toml"
    path.write_text(text)
    return load_card(path)


def disc(number: int, height: int = 40, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    "A noisy image with a disc, and the disc."
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    mask = (x - rng.integers(14, width - 14)) ** 2 + (y - rng.integers(14, height - 14)) ** 2 < rng.integers(6, 12) ** 2
    return (60 + 120 * mask + rng.integers(0, 30, mask.shape)).astype(np.uint8), mask


def write_pairs(root: Path, count: int = 12, per_subject: int = 2) -> Path:
    "A folder of PNG pairs, named subject_number."
    for kind in ("images", "masks"):
        (root / "toy" / kind).mkdir(parents=True)
    for n in range(count):
        image, mask = disc(n)
        name = f"p{n // per_subject:02d}_{n:02d}.png"
        Image.fromarray(image).save(root / "toy" / "images" / name)
        Image.fromarray((mask * 255).astype(np.uint8)).save(root / "toy" / "masks" / name)
    return root


def refused(error, *parts: str) -> str:
    "The message of an error, after checking that it names these parts."
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in: {error.value}"
    return str(error.value)


# ---------------------------------------------------------------- cards

def test_every_shipped_card_loads_and_can_be_read_from_something():
    from taco.data.phantoms import PHANTOMS
    names = list_cards()
    assert len(names) >= 25
    for name in names:
        card = load_card(name)
        check_readers(card)
        assert card.phantom.get("recipe") in PHANTOMS or any(t["reader"] == "packaged" for t in card.read), name
        assert all(len(f.get("md5", "0" * 32)) == 32 for f in card.files), name
        if card.phantom:  # the stand-in has no class that the real one lacks
            assert set(PHANTOMS[card.phantom["recipe"]].classes) <= set(card.classes), name


@pytest.mark.parametrize("change, field, hint", [
    (("title = ", "titel = "), "titel", "title"),
    (('"fluorescence microscopy"', '"flourescence microscopy"'), "modality", "fluorescence microscopy"),
    (("channels = 1", "channels = 2"), "channels", "1 or 3"),
    (("channels = 1", 'channels = "one"'), "channels", "int"),
    (('1 = "disc"', 'disc = "disc"'), "classes", "1 … 255"),
    (('"images/*.{png,tif,bmp,gif,jpg}"', '"re:images/(.png"'), "read.images", "unterminated"),
    (('rule = "subject"', 'rule = "subjects"'), "split.rule", "subject"),
    (('rule = "subject"', 'rule = "fixed"'), "split.fixed", "train, val, test"),
    (('rule = "subject"', 'rule = "subject"\nfractions = {train = 0.9, test = 0.2}'), "split.fractions", "1"),
    (('title = "Toy"', 'title = "Toy'), "TOML", "line"),
    (('licence = "none"\n', ""), "licence", "Add it"),
])
def test_a_bad_card_names_itself_and_the_field(tmp_path, change, field, hint):
    text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace(*change)
    with pytest.raises(CardError) as error:
        make_card(tmp_path, text)
    refused(error, "toy.toml", field, hint)


@pytest.mark.parametrize("change, field", [(('reader = "pairs"', 'reader = "pears"'), "read.reader"), (('values = ', 'value = '), "read.value")])
def test_an_unknown_reader_or_option_suggests_the_right_one(tmp_path, change, field):
    card = make_card(tmp_path, (CARD + CLASSES + PAIRS + BY_SUBJECT).replace(*change))
    with pytest.raises(CardError) as error:
        find(card, tmp_path)
    refused(error, "toy.toml", field, "Did you mean")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(CardError, match="chasedb1"):
        load_card("chase_db1")
    with pytest.raises(DataError, match="phantom"):
        find("drive", source="fantom")


def test_a_card_of_ones_own_is_found_by_name(tmp_path, monkeypatch):
    make_card(tmp_path)
    monkeypatch.setenv("TACO_CARDS", str(tmp_path))
    assert load_card("toy").title == "Toy" and "toy" in list_cards()


def test_digest_changes_with_content_only(tmp_path):
    text = CARD + CLASSES + PAIRS + BY_SUBJECT
    card = parse_card(text, "a.toml")
    assert digest(card) == digest(parse_card("# a remark\n" + text, "b.toml"))
    assert digest(card) != digest(parse_card(text.replace("255 = 1", "128 = 1"), "a.toml"))


# ---------------------------------------------------------------- splits

@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 57])
def test_divide_gives_every_subject_one_part_and_both_ends_something(count):
    parts = divide([f"s{i}" for i in range(count)], FRACTIONS)
    sizes = [list(parts.values()).count(s) for s in SPLITS]
    assert sum(sizes) == count and (count == 1 or (sizes[0] > 0 and sizes[2] > 0))
    assert parts == divide([f"s{i}" for i in reversed(range(count))], FRACTIONS)


def test_another_seed_divides_otherwise():
    names = [f"s{i}" for i in range(40)]
    assert divide(names, seed=0) != divide(names, seed=1)


def test_records_of_a_subject_stay_together(tmp_path):
    write_pairs(tmp_path, 24, 3)
    card = make_card(tmp_path, (CARD + CLASSES + PAIRS + BY_SUBJECT).replace("[split]", "").replace('rule = "subject"', "") + "subject = 're:(p\\d+)_'\n" + BY_SUBJECT)
    seen: dict[str, set] = {}
    for record in read(card, tmp_path):
        seen.setdefault(record.subject, set()).add(record.split)
    assert len(seen) == 8 and all(len(s) == 1 for s in seen.values()) and {"train", "test"} <= set.union(*seen.values())


def test_a_subject_in_two_given_splits_is_refused(tmp_path):
    write_pairs(tmp_path, 4, 1)
    folder = tmp_path / "toy"
    for kind in ("images", "masks"):
        for split in ("train", "test"):
            (folder / kind / split).mkdir()
        for path in sorted((folder / kind).glob("*.png")):
            path.rename(folder / kind / ("train" if path.name < "p02" else "test") / path.name)
        (folder / kind / "test" / "p02_02.png").rename(folder / kind / "test" / "p01_02.png")
    text = CARD + CLASSES + PAIRS.replace("images/*", "images/*/*").replace("masks/*", "masks/*/*") + "subject = 're:/(p\\d+)_'\nsplit = 're:/(train|test)/'\n" + GIVEN
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, text), tmp_path))
    refused(error, "p01", "subject", "train", "test")


def test_fixed_split_by_names(tmp_path):
    write_pairs(tmp_path, 6, 1)
    text = CARD + CLASSES + PAIRS + '\n[split]\nrule = "fixed"\nfixed = {train = ["p0[0-3]*"], test = ["p04*"]}\n'
    card = make_card(tmp_path, text)
    with pytest.raises(CardError) as error:
        list(read(card, tmp_path))
    refused(error, "toy.toml", "split.fixed", "p05")
    card = make_card(tmp_path, text.replace('"p04*"', '"p0[45]*"'))
    assert sorted(r.split for r in read(card, tmp_path)) == ["test"] * 2 + ["train"] * 4


# ---------------------------------------------------------------- pixels and labels

def test_to_unit_of_every_usual_kind():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    np.testing.assert_allclose(to_unit(grey)[0], grey / np.float32(255), rtol=1e-6)
    assert to_unit(grey[..., None]).shape == to_unit(np.stack([grey, grey], -1)).shape == (1, 9, 7)
    np.testing.assert_array_equal(to_unit(np.stack([grey] * 4, -1))[1], to_unit(grey)[0])
    wide = to_unit(grey.astype(np.uint16) * 10)  # twelve bits in sixteen: stretched, not black
    assert wide.min() == 0 and wide.max() == 1 and wide.dtype == np.float32
    assert to_unit(np.full((4, 4), 700, np.uint16)).max() <= 1
    with pytest.raises(DataError, match="NaN"):
        to_unit(np.array([[0, np.nan]]), file="a.tif")
    with pytest.raises(DataError, match="one image"):
        to_unit(np.zeros((3, 8, 8, 8)))


@pytest.mark.parametrize("kind", ["16-bit", "rgba", "palette", "grey+alpha", "bmp", "gif", "tif16", "jpeg"])
def test_pairs_of_every_usual_format(tmp_path, kind):
    write_pairs(tmp_path, 2, 1)
    image, mask = disc(0)
    place = tmp_path / "toy" / "images" / "p00_00.png"
    place.unlink()
    if kind == "16-bit":
        Image.fromarray(image.astype(np.uint16) * 16).save(place)
    elif kind == "rgba":
        Image.fromarray(np.stack([image, image // 2, image // 3, np.full_like(image, 7)], -1)).save(place)
    elif kind == "palette":
        Image.fromarray(np.stack([image, image, image], -1)).quantize(256).save(place)
    elif kind == "grey+alpha":
        Image.fromarray(np.stack([image, np.full_like(image, 9)], -1)).save(place)
    elif kind == "tif16":
        tifffile.imwrite(place.with_suffix(".tif"), image.astype(np.uint16) * 100)
    else:
        Image.fromarray(image).save(place.with_suffix({"jpeg": ".jpg"}.get(kind, "." + kind)))
    record = next(r for r in read(make_card(tmp_path), tmp_path) if r.key == "p00_00")
    assert record.image.shape == ((3 if kind in ("rgba", "palette", "gif") else 1), *mask.shape)
    np.testing.assert_array_equal(record.semantic, mask)
    assert record.image[0][mask].mean() > record.image[0][~mask].mean() + .2


@pytest.mark.parametrize("kind", ["1-bit", "palette", "rgb grey", "rgba grey"])
def test_masks_of_every_usual_format(tmp_path, kind):
    write_pairs(tmp_path, 2, 1)
    _, mask = disc(0)
    place = tmp_path / "toy" / "masks" / "p00_00.png"
    if kind == "1-bit":
        Image.fromarray(mask).save(place)
    elif kind == "palette":
        picture = Image.fromarray(mask.astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 200, 30, 30])
        picture.save(place)
    else:
        grey = (mask * 255).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3 + [np.full_like(grey, 255)] * (kind == "rgba grey"), -1)).save(place)
    text = CARD + CLASSES + PAIRS.replace("{0 = 0, 255 = 1}", "{0 = 0, 1 = 1, 255 = 1}") + BY_SUBJECT
    record = next(iter(read(make_card(tmp_path, text), tmp_path)))
    np.testing.assert_array_equal(record.semantic, mask)


def test_colour_masks_thresholds_and_one_mask_a_class(tmp_path):
    write_pairs(tmp_path, 1, 1)
    image, mask = disc(0)
    place = tmp_path / "toy" / "masks" / "p00_00.png"
    ring = np.roll(mask, 5, 1) & ~mask
    colours = np.zeros((*mask.shape, 3), np.uint8)
    colours[mask], colours[ring] = (255, 0, 0), (0, 128, 0)
    Image.fromarray(colours).save(place)
    text = CARD + CLASSES + '2 = "ring"\n' + PAIRS.replace("values = {0 = 0, 255 = 1}", 'colours = {"#000000" = 0, "#ff0000" = 1, "#008000" = 2}') + BY_SUBJECT
    np.testing.assert_array_equal(next(read(make_card(tmp_path, text), tmp_path)).semantic, mask + 2 * ring)
    with pytest.raises(DataError) as error:
        next(read(make_card(tmp_path, text.replace("#008000", "#00ff00")), tmp_path))
    refused(error, "p00_00.png", "mask", "#008000")

    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "noisy.jpg", quality=30)
    Image.open(tmp_path / "noisy.jpg").save(place)
    text = CARD + CLASSES + PAIRS.replace("values = {0 = 0, 255 = 1}", "threshold = 127") + BY_SUBJECT
    assert (next(read(make_card(tmp_path, text), tmp_path)).semantic == mask).mean() > .97

    for name, drawn in (("disc", mask), ("ring", ring)):
        Image.fromarray(drawn).save(tmp_path / "toy" / "masks" / f"p00_00_{name}.png")
    place.unlink()
    text = CARD + CLASSES + '2 = "ring"\n' + PAIRS.replace('masks = "masks/*.{png,tif,bmp,gif}"\nvalues = {0 = 0, 255 = 1}', 'masks = {1 = "masks/*_disc.png", 2 = "masks/*_ring.png"}') + BY_SUBJECT
    np.testing.assert_array_equal(next(read(make_card(tmp_path, text), tmp_path)).semantic, mask + 2 * ring)


# ---------------------------------------------------------------- other readers

def write_npz(path: Path, sizes=(6, 2, 3), side: int = 16, **more) -> dict:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in zip(SPLITS, sizes):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        arrays[f"{split}_label"] = rng.integers(0, 2, (n, side, side), dtype=np.uint8)
    arrays |= more
    np.savez_compressed(path, **arrays)
    return arrays


def test_npz_rows_and_given_split(tmp_path):
    arrays = write_npz(tmp_path / "toy_128.npz")
    card = make_card(tmp_path, CARD.replace("channels = 1", "channels = 3") + CLASSES + NPZ + GIVEN)
    records = list(read(card, tmp_path))
    assert [r.split for r in records] == ["train"] * 6 + ["val"] * 2 + ["test"] * 3 and len({r.subject for r in records}) == 11
    np.testing.assert_array_equal(records[7].semantic, arrays["val_label"][1])
    np.testing.assert_allclose(records[9].image, arrays["test_images"][1].transpose(2, 0, 1) / 255, rtol=1e-6)
    few = list(read(card, tmp_path, subjects=4))
    assert {r.split for r in few} == set(SPLITS) and len(few) < 8


def test_npz_takes_the_smallest_size_that_is_enough(tmp_path):
    for size in (128, 256, 512):
        write_npz(tmp_path / f"toy_{size}.npz", (1, 1, 1), size // 16)
    card = make_card(tmp_path, CARD + CLASSES + NPZ + GIVEN)
    side = lambda size: next(read(card, tmp_path, size=size)).image.shape[-1]
    assert (side(64), side(128), side(129), side(1000)) == (8, 8, 16, 32)


def test_npz_variants_and_label_variants(tmp_path):
    rng = np.random.default_rng(1)
    more = {"train_images_C1": np.full((2, 16, 16, 3), 9, np.uint8), "train_label_C1": np.zeros((2, 16, 16), np.uint8)}
    more |= {f"{s}_label_C{k}": rng.integers(0, 2, (n, 16, 16), dtype=np.uint8) for s, n in zip(SPLITS, (6, 2, 3)) for k in (2, 3)}
    arrays = write_npz(tmp_path / "toy_128.npz", **more)
    card = make_card(tmp_path, CARD + CLASSES + NPZ + 'variant = "C1"\n' + GIVEN)
    assert [r.image.max() for r in read(card, tmp_path)] == [np.float32(9 / 255)] * 2
    card = make_card(tmp_path, CARD + '\n[classes]\n1 = "a"\n2 = "b"\n' + NPZ + "labels = {C2 = 1, C3 = 2}\n" + GIVEN)
    first = next(read(card, tmp_path)).semantic
    np.testing.assert_array_equal(first, np.where(arrays["train_label_C3"][0], 2, arrays["train_label_C2"][0]))


def test_npz_is_streamed(tmp_path):
    "Reading 3000 rows needs far less memory than the 36 MB they unpack to."
    images = np.zeros((3000, 64, 64, 3), np.uint8)
    np.savez_compressed(tmp_path / "toy_128.npz", train_images=images, train_label=images[..., 0])
    del images
    card = make_card(tmp_path, CARD + CLASSES + NPZ + GIVEN)
    tracemalloc.start()
    count = sum(1 for _ in read(card, tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000 and peak < 8e6, f"{peak / 1e6:.1f} MB"


@pytest.mark.parametrize("fault, field", [("truncated", "toy_128.npz"), ("no labels", "train_label"), ("other length", "train_label"), ("other arrays", "keys"),
                                          ("undeclared", "train_label"), ("cut inside a row", "toy_128.npz")])
def test_bad_npz(tmp_path, fault, field):
    path = tmp_path / "toy_128.npz"
    arrays = write_npz(path, (4, 1, 1), 32)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif fault == "no labels":
        np.savez(path, train_images=arrays["train_images"])
    elif fault == "other length":
        np.savez(path, train_images=arrays["train_images"], train_label=arrays["train_label"][:3])
    elif fault == "other arrays":
        np.savez(path, images=arrays["train_images"])
    elif fault == "undeclared":
        np.savez(path, train_images=arrays["train_images"], train_label=arrays["train_label"] * 7)
    else:
        raw = bytearray(path.read_bytes())
        raw[600:1400] = bytes(800)
        path.write_bytes(raw)
    card = make_card(tmp_path, CARD + CLASSES + NPZ + GIVEN)
    with pytest.raises(DataError) as error:
        pack(card, tmp_path, tmp_path / "out", 16)
    refused(error, "toy_128.npz", field)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_instances_one_file_an_object(tmp_path):
    image, _ = disc(0)
    for name in ("a", "b"):
        (tmp_path / "toy" / name / "images").mkdir(parents=True)
        (tmp_path / "toy" / name / "masks").mkdir()
        Image.fromarray(np.stack([image] * 4, -1)).save(tmp_path / "toy" / name / "images" / f"{name}.png")
        for k in range(3):
            cell = np.zeros(image.shape, np.uint8)
            cell[4 + 12 * k:12 + 12 * k, 5:20] = 255
            Image.fromarray(cell).save(tmp_path / "toy" / name / "masks" / f"{k}.png")
    text = CARD + CLASSES + '\n[[read]]\nreader = "instances"\nimages = "*/images/*.png"\nobjects = "*/masks/*.png"\n' + BY_SUBJECT
    records = list(read(make_card(tmp_path, text), tmp_path))
    assert [r.key for r in records] == ["a", "b"] and {r.split for r in records} == {"train", "test"}
    assert np.unique(records[0].instances).tolist() == [0, 1, 2, 3] and (records[0].semantic == (records[0].instances > 0)).all()
    for path in (tmp_path / "toy" / "b" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, text), tmp_path))
    refused(error, "b.png", "objects")


VOLUMES = '\n[[read]]\nreader = "volumes"\nimages = "img/*.nii.gz"\nmasks = "lab/*.nii.gz"\nwindow = [0, 100]\n'


def write_volume(root: Path, name: str = "v1", affine=None, values=None, mask_affine=None) -> tuple[np.ndarray, np.ndarray]:
    affine = np.diag([1., 1.5, 3., 1.]) if affine is None else affine
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 24, 10), np.int16)
    labels[4:12, 5:15, 3:7] = 1
    voxels = (labels * 60 + rng.integers(0, 20, labels.shape)).astype(np.float32)
    for folder, array, place in (("img", values if values is not None else voxels, affine), ("lab", labels, affine if mask_affine is None else mask_affine)):
        (root / "toy" / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, place), root / "toy" / folder / f"{name}.nii.gz")
    return voxels, labels


def test_volumes_slices_orientation_and_spacing(tmp_path):
    voxels, labels = write_volume(tmp_path)
    card = make_card(tmp_path, CARD + CLASSES + VOLUMES + BY_SUBJECT)
    records = list(read(card, tmp_path))
    assert [r.slice for r in records] == [3, 4, 5, 6] and {r.subject for r in records} == {"v1"} and {r.split for r in records} == {"train"}
    assert records[0].spacing == (1.5, 1.)
    np.testing.assert_array_equal(records[1].semantic, labels[:, :, 4].T[::-1, ::-1])
    np.testing.assert_allclose(records[1].image[0], voxels[:, :, 4].T[::-1, ::-1].clip(0, 100) / 100, rtol=1e-5)
    # the same body stored from right to left and from feet to head gives the same pictures
    flipped = np.diag([-1., 1.5, 3., 1.])
    flipped[0, 3] = 19
    write_volume(tmp_path, values=voxels[::-1].copy(), affine=flipped)
    nibabel.save(nibabel.Nifti1Image(labels[::-1].copy(), flipped), tmp_path / "toy" / "lab" / "v1.nii.gz")
    for a, b in zip(records, read(card, tmp_path)):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.semantic, b.semantic)


@pytest.mark.parametrize("fault, words", [("elsewhere", ("v1.nii.gz", "mask", "lie")), ("four dimensions", ("v1.nii.gz", "frame")), ("nan", ("v1.nii.gz", "NaN")),
                                          ("truncated", ("v1.nii.gz", "NIfTI")), ("no mask", ("v1.nii.gz", "mask"))])
def test_bad_volumes(tmp_path, fault, words):
    voxels, _ = write_volume(tmp_path)
    path = tmp_path / "toy" / "img" / "v1.nii.gz"
    if fault == "elsewhere":
        write_volume(tmp_path, mask_affine=np.diag([1., 1.5, 3.5, 1.]))
    elif fault == "four dimensions":
        write_volume(tmp_path, values=np.stack([voxels] * 3, -1))
    elif fault == "nan":
        voxels[0, 0, 0] = np.nan
        write_volume(tmp_path, values=voxels)
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    else:
        (tmp_path / "toy" / "lab" / "v1.nii.gz").unlink()
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, CARD + CLASSES + VOLUMES + BY_SUBJECT), tmp_path))
    refused(error, *words)


def test_a_frame_of_four_dimensions_and_a_stack_of_pages(tmp_path):
    voxels, labels = write_volume(tmp_path)
    write_volume(tmp_path, values=np.stack([voxels * 0, voxels], -1))
    card = make_card(tmp_path, CARD + CLASSES + VOLUMES + "frame = 1\n" + BY_SUBJECT)
    np.testing.assert_allclose(next(read(card, tmp_path)).image[0], voxels[:, :, 3].T[::-1, ::-1].clip(0, 100) / 100, rtol=1e-5)

    pages = np.stack([disc(n)[0] for n in range(4)])
    masks = np.stack([disc(n)[1] for n in range(4)])
    tifffile.imwrite(tmp_path / "toy" / "a-volume.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "toy" / "a-labels.tif", (masks * 255).astype(np.uint8), photometric="minisblack")
    text = CARD + CLASSES + '\n[[read]]\nreader = "volumes"\nimages = "*-volume.tif"\nmasks = "*-labels.tif"\nvalues = {0 = 0, 255 = 1}\n' + BY_SUBJECT
    records = list(read(make_card(tmp_path, text), tmp_path))
    assert [r.slice for r in records] == [0, 1, 2, 3] and records[0].spacing is None
    np.testing.assert_array_equal(records[2].semantic, masks[2])
    np.testing.assert_allclose(records[2].image[0], pages[2] / 255, rtol=1e-6)


# ---------------------------------------------------------------- which source

def test_a_folder_that_fits_no_pattern_is_an_error_and_no_phantom(tmp_path):
    text = CARD + CLASSES + PAIRS + BY_SUBJECT + '\n[phantom]\nrecipe = "drive"\nsubjects = 2\n'
    card = make_card(tmp_path, text)
    assert find(card, tmp_path).source == "phantom"
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError) as error:
        find(card, tmp_path)
    refused(error, str(tmp_path / "toy"), "read", "readme.txt", "images/*")


def test_absent_files_tell_where_they_come_from(tmp_path):
    with pytest.raises(DataError) as error:
        find("drive", tmp_path, "real")
    refused(error, str(tmp_path), "drive", "zenodo.org")
    with pytest.raises(DataError) as error:
        find("acdc", tmp_path, "real")
    refused(error, "Register")
    with pytest.raises(DataError):
        find("drive", tmp_path, "packaged")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    write_pairs(tmp_path, 2)
    scandir = os.scandir
    def refuse(path):
        if str(path).endswith("masks"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)
    monkeypatch.setattr(os, "scandir", refuse)  # chmod would not stop an administrator
    with pytest.raises(DataError) as error:
        find(make_card(tmp_path), tmp_path)
    refused(error, str(tmp_path / "toy" / "masks"), "Permission denied")


def test_packaged_images_are_one_subject_in_one_split():
    seen = {}
    for name in list_cards():
        card = load_card(name)
        if any(t["reader"] == "packaged" for t in card.read) and name != "nilearn_mni152":  # that one is read in its chapter
            found = find(card)
            assert found.source == "packaged"
            splits = assign_splits(card, found.items, "packaged")
            assert len(splits) == 1
            seen[name] = set(splits.values()).pop()
    assert set(seen.values()) == {"train", "test"}


# ---------------------------------------------------------------- the store

@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    "Two packed datasets: written pairs and a phantom."
    place = tmp_path_factory.mktemp("packed")
    write_pairs(place, 12)
    card = make_card(place)
    return place, [pack(card, place, place / "out", 32), pack("wbc", None, place / "out", 32, subjects=6)]


def test_a_batch_equals_the_collated_records(packed):
    place, folders = packed
    store = Store.open(folders)
    direct = [prepare(r, 32) for r in read(load_card(place / "toy.toml"), place)] + [prepare(r, 32) for r in read("wbc", size=32, subjects=6)]
    assert len(store) == len(direct) == 18 and store.datasets == ["toy", "wbc"]
    index = [17, 3, 3, 0, 12, 11, 15]
    for name, tensor in vars(store.batch(index)).items():
        torch.testing.assert_close(tensor, getattr(collate([direct[i] for i in index]), name), rtol=0, atol=0, equal_nan=True)
    assert store.batch(torch.tensor([5])).image.shape == (1, 3, 32, 32)


def test_table_select_and_describe(packed):
    store = Store.open(packed[1])
    table = store.table
    assert list(table.dataset.unique()) == ["toy", "wbc"] and set(table.source) == {"real", "phantom"}
    assert table.subject[0] == "p00_00" and set(NEEDS) <= set(table.columns) and table[list(NEEDS)].dtypes.eq(bool).all()
    train, test = store.select("train"), store.select("test")
    assert set(table.subject[train]).isdisjoint(table.subject[test]) and len(train) and len(test)
    colour = store.select(needs="colour classes", dataset="wbc")
    assert (table.dataset[colour] == "wbc").all() and store.can[colour][:, list(NEEDS).index("colour")].all()
    with pytest.raises(StoreError, match="train"):
        store.select("trian")
    with pytest.raises(StoreError, match="wbc"):
        store.select(dataset="wcb")
    summary = describe(store)
    assert summary.loc["wbc", "source"] == "phantom" and summary.train.sum() == len(train) and "wbc" in store._repr_html_()


def test_a_store_goes_to_another_process(packed):
    store = Store.open(packed[1])
    again = pickle.loads(pickle.dumps(store))
    torch.testing.assert_close(again.batch([1, 14]).image, store.batch([1, 14]).image)


def test_positions_outside_are_refused(packed):
    store = Store.open(packed[1])
    for bad in ([18], [-1], []):
        with pytest.raises(StoreError, match="0 … 17"):
            store.batch(bad)


def test_fresh_is_not_redone_and_stale_is(tmp_path):
    write_pairs(tmp_path, 4)
    card, out = make_card(tmp_path), tmp_path / "out"
    folder = pack(card, tmp_path, out, 16)
    first = read_manifest(folder)["key"]
    before = (folder / "image.npy").stat().st_mtime_ns
    assert pack(card, tmp_path, out, 16) == folder and (folder / "image.npy").stat().st_mtime_ns == before
    assert pack(card, tmp_path, out, 24) != folder
    keys = {first}
    for changed in (dict(fit="contain"), dict(seed=1), dict(subjects=2)):
        keys.add(read_manifest(pack(card, tmp_path, out, 16, **changed))["key"])
    pack(replace(card, classes={1: "another name"}), tmp_path, out, 16)
    keys.add(read_manifest(folder)["key"])
    Image.fromarray(disc(9)[0]).save(tmp_path / "toy" / "images" / "p00_00.png")
    pack(card, tmp_path, out, 16)
    keys.add(read_manifest(folder)["key"])
    assert len(keys) == 6


def test_several_workers_give_the_same_store(tmp_path):
    write_pairs(tmp_path, 6)
    card = make_card(tmp_path)
    a, b = (Store.open([pack(card, tmp_path, tmp_path / f"out{n}", 16, workers=n)]) for n in (1, 2))
    torch.testing.assert_close(a.batch(range(6)).image, b.batch(range(6)).image)
    assert a.table.drop(columns="file").equals(b.table.drop(columns="file"))
    (tmp_path / "npz").mkdir()
    write_npz(tmp_path / "npz" / "toy_128.npz")
    card = make_card(tmp_path, CARD + CLASSES + NPZ + GIVEN)
    a, b = (Store.open([pack(card, tmp_path / "npz", tmp_path / f"npz{n}", 16, workers=n)]) for n in (1, 2))
    torch.testing.assert_close(a.batch(range(11)).image, b.batch(range(11)).image)


FAULTS = {
    "unreadable image": ("p01_02.png", "image"), "truncated image": ("p01_02.png", "image"), "missing mask": ("p01_02.png", "mask"), "missing image": ("p01_02.png", "image"),
    "other size": ("p01_02.png", "mask"), "undeclared label": ("p01_02.png", "mask"), "unreadable mask": ("p01_02.png", "mask"), "nan": ("p01_02.tif", "image"),
}


def spoil(folder: Path, fault: str) -> None:
    image, mask = folder / "images" / "p01_02.png", folder / "masks" / "p01_02.png"
    if fault == "unreadable image":
        image.write_bytes(b"this is no picture")
    elif fault == "truncated image":
        image.write_bytes(image.read_bytes()[:300])
    elif fault == "missing mask":
        mask.unlink()
    elif fault == "missing image":
        image.unlink()
    elif fault == "other size":
        Image.fromarray(np.zeros((20, 24), np.uint8)).save(mask)
    elif fault == "undeclared label":
        Image.fromarray((disc(2)[1] * 200).astype(np.uint8)).save(mask)
    elif fault == "unreadable mask":
        mask.write_bytes(b"")
    elif fault == "nan":
        image.unlink()
        pixels = disc(2)[0].astype(np.float32)
        pixels[3, 4] = np.nan
        tifffile.imwrite(image.with_suffix(".tif"), pixels)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_file_is_named_and_nothing_half_written_is_left(tmp_path, fault):
    write_pairs(tmp_path, 6)
    spoil(tmp_path / "toy", fault)
    card, out = make_card(tmp_path), tmp_path / "out"
    with pytest.raises(DataError) as error:
        pack(card, tmp_path, out, 16)
    message = refused(error, *FAULTS[fault])
    assert "fix:" in message
    assert list(out.iterdir()) == []
    # left out only when asked, and then it is on record
    folder = pack(card, tmp_path, out, 16, skip_bad=True)
    manifest = read_manifest(folder)
    assert manifest["records"] == 5 and len(manifest["skipped"]) == 1 and FAULTS[fault][0].split(".")[0] in manifest["skipped"][0]["file"]
    with pytest.raises(DataError):
        pack(card, tmp_path, out, 16)  # a store with gaps is not fresh for someone who did not ask for gaps
    assert [p.name for p in out.iterdir()] == [folder.name]


def test_undeclared_labels_are_listed(tmp_path):
    write_pairs(tmp_path, 2)
    Image.fromarray((disc(0)[1] * 200).astype(np.uint8)).save(tmp_path / "toy" / "masks" / "p00_00.png")
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path), tmp_path))
    refused(error, "p00_00.png", "0, 200", "255→1 (disc)", "toy.toml")


def test_empty_dataset(tmp_path):
    (tmp_path / "toy" / "images").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)
    refused(error, "toy", "read", "0 files")
    assert not (tmp_path / "out").exists()
    write_volume(tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 24, 10), np.int16), np.diag([1., 1.5, 3., 1.])), tmp_path / "toy" / "lab" / "v1.nii.gz")
    with pytest.raises(DataError) as error:  # no slice has foreground
        pack(make_card(tmp_path, CARD + CLASSES + VOLUMES + BY_SUBJECT), tmp_path, tmp_path / "out", 16)
    refused(error, "toy.toml", "no usable record")
    assert list((tmp_path / "out").iterdir()) == []


def test_one_image_is_a_dataset(tmp_path):
    write_pairs(tmp_path, 1)
    store = Store.open([pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)])
    assert len(store) == 1 and store.table.split[0] == "train" and len(store.select("test")) == 0


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    write_pairs(tmp_path, 4)
    def full(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(store_module.Appender, "append", full)
    with pytest.raises(StoreError) as error:
        pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)
    refused(error, "disk is full", "toy-real-16", "MB free")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_run_left_is_not_opened_and_is_swept(tmp_path):
    write_pairs(tmp_path, 4)
    out = tmp_path / "out"
    rest = out / ".toy-real-16-abc" / "toy-real-16"
    rest.mkdir(parents=True)
    (rest / "image.npy").write_bytes(b"half")
    with pytest.raises(StoreError):
        Store.open([rest])
    for path in (rest / "image.npy", rest, rest.parent):
        os.utime(path, (time.time() - 7200,) * 2)
    folder = pack(make_card(tmp_path), tmp_path, out, 16)
    assert [p.name for p in out.iterdir()] == [folder.name] and len(Store.open([folder])) == 4


def test_stores_that_cannot_be_opened(packed, tmp_path):
    place, folders = packed
    with pytest.raises(StoreError, match="empty list"):
        Store.open([])
    with pytest.raises(StoreError, match="nowhere"):
        Store.open([tmp_path / "nowhere"])
    other = pack(load_card(place / "toy.toml"), place, tmp_path, 16)
    with pytest.raises(StoreError, match="size"):
        Store.open([folders[0], other])
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"pack_version": -1}))
    with pytest.raises(StoreError, match="pack_version"):
        Store.open([other])
    (other / "manifest.json").write_text(json.dumps(manifest))
    (other / "image.npy").write_bytes((other / "image.npy").read_bytes()[:1000])
    with pytest.raises(StoreError, match="damaged"):
        Store.open([other])
    (other / "manifest.json").unlink()
    with pytest.raises(StoreError, match="manifest"):
        Store.open([other])


def test_registered_readers_have_options():
    assert {"npz", "pairs", "instances", "volumes", "packaged"} <= set(READERS)
