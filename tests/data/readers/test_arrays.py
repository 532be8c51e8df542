"Rows of an .npz, and arrays under names in HDF5."

import pickle
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from taco.base import CardError, DataError
from taco.data.card import SPLITS
from taco.data.find import find, read
from taco.data.pack import pack
from taco.data.readers.arrays import read_hdf5, read_npz
from taco.data.readers.source import Source, example_card
from tests.data.made import CARD, CLASSES, GIVEN, HDF5, HEAD, NPZ, card_of, make_card, refused, told
from tests.data.readers.bodies import card as body_card


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
    assert [r.split for r in records] == ["train"] * 6 + ["val"] * 2 + ["test"] * 3 and len(
        {r.subject for r in records}
    ) == 11
    np.testing.assert_array_equal(records[7].semantic, arrays["val_label"][1])
    np.testing.assert_allclose(
        records[9].image, arrays["test_images"][1].transpose(2, 0, 1) / 255, rtol=1e-6
    )
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
    more = {
        "train_images_C1": np.full((2, 16, 16, 3), 9, np.uint8),
        "train_label_C1": np.zeros((2, 16, 16), np.uint8),
    }
    more |= {
        f"{s}_label_C{k}": rng.integers(0, 2, (n, 16, 16), dtype=np.uint8)
        for s, n in zip(SPLITS, (6, 2, 3))
        for k in (2, 3)
    }
    arrays = write_npz(tmp_path / "toy_128.npz", **more)
    card = make_card(tmp_path, CARD + CLASSES + NPZ + 'variant = "C1"\n' + GIVEN)
    assert [r.image.max() for r in read(card, tmp_path)] == [np.float32(9 / 255)] * 2
    card = make_card(
        tmp_path,
        CARD + '\n[classes]\n1 = "a"\n2 = "b"\n' + NPZ + "labels = {C2 = 1, C3 = 2}\n" + GIVEN,
    )
    first = next(read(card, tmp_path)).semantic
    np.testing.assert_array_equal(
        first, np.where(arrays["train_label_C3"][0], 2, arrays["train_label_C2"][0])
    )


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


@pytest.mark.parametrize(
    "fault, field",
    [
        ("truncated", "toy_128.npz"),
        ("no labels", "train_label"),
        ("other length", "train_label"),
        ("other arrays", "keys"),
        ("undeclared", "train_label"),
        ("cut inside a row", "toy_128.npz"),
    ],
)
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
    told(error, "toy_128.npz", field)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def h5(path: Path, arrays: dict, **attributes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        for name, value in attributes.items():
            file.attrs[name] = value


def volume() -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros((6, 20, 30), np.uint8)
    label[2:5, 5:12, 8:20] = [[[1]], [[2]], [[3]]]
    return np.random.default_rng(0).random(label.shape).astype(np.float32), label


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_by_axis_foreground_and_spacing(tmp_path, axis):
    image, label = volume()
    sizes = [0.7, 0.9]
    sizes.insert(axis, 5)
    h5(
        tmp_path / "toy/p1_f1.h5",
        dict(image=np.moveaxis(image, 0, axis), label=np.moveaxis(label, 0, axis)),
        size=sizes,
    )
    lines = HDF5 + f'axis = {axis}\nspacing = "size"\nsubject = "re:(p[0-9]+)_"\n'
    records = list(read(card_of(lines), tmp_path))
    assert [r.slice for r in records] == [2, 3, 4] and [r.key for r in records] == [
        "p1_f1-002",
        "p1_f1-003",
        "p1_f1-004",
    ]
    assert records[0].subject == "p1" and records[0].spacing == (0.7, 0.9)
    for r in records:
        np.testing.assert_array_equal(r.semantic, label[r.slice])
        np.testing.assert_allclose(r.image[0], image[r.slice], atol=1e-6)
    assert [r.slice for r in read(card_of(lines + 'slices = "all"\nevery = 2\n'), tmp_path)] == [
        0,
        2,
        4,
    ]


def test_one_file_with_many_volumes_and_slices_in_files(tmp_path):
    image, label = volume()
    h5(
        tmp_path / "toy/all.h5",
        {
            f"patient{n}/{part}/{what}": a
            for n in (1, 2)
            for part in ("ed", "es")
            for what, a in (("image", image), ("label", label))
        }
        | {"info": np.arange(3)},
    )
    lines = (
        HDF5.replace('"image"', '''"re:(patient\\\\d)/(e.)/image"''').replace(
            '"label"', '''"re:(patient\\\\d)/(e.)/label"'''
        )
        + "subject = 're:/(patient\\d)/'\nspacing = [1.5, 1.25]\n"
    )
    found = find(card_of(lines), tmp_path)
    assert len(found.items) == 4 and {i.subject for i in found.items} == {"patient1", "patient2"}
    records = list(read(card_of(lines), tmp_path))
    assert (
        len(records) == 12
        and records[0].key == "patient1/ed-002"
        and records[0].spacing == (1.5, 1.25)
    )
    pickle.loads(pickle.dumps(found.items[0].load))()
    folder = tmp_path / "slices"
    for k in range(6):
        h5(folder / f"toy/p1_slice_{k}.h5", dict(image=image[k], label=label[k]))
    records = list(read(card_of(HDF5 + "slice = 're:slice_(\\d)'\n"), folder))
    assert [(r.key, r.slice) for r in records] == [
        ("p1_slice_2", 2),
        ("p1_slice_3", 3),
        ("p1_slice_4", 4),
    ]


def test_colour_slices(tmp_path):
    image, label = volume()
    h5(tmp_path / "toy/a.h5", dict(image=np.stack([image] * 3, -1), label=label))
    records = list(read(card_of(HDF5, HEAD.replace("channels = 1", "channels = 3")), tmp_path))
    assert [r.image.shape for r in records] == [(3, 20, 30)] * 3


@pytest.mark.parametrize(
    "fault, parts",
    [
        ("no key", ("a.h5", "label", "no such array", "image, mask")),
        ("shapes", ("a.h5", "one shape", "(6, 20, 30), label (6, 20, 29)")),
        ("no file", ("a.h5", "cannot be read", "complete HDF5")),
        ("four axes", ("a.h5", "(2, 6, 20, 30)")),
        ("class", ("a.h5[label]", "0, 1, 2, 3, 9", "Declare 9")),
        ("nan", ("a.h5", "1 NaN")),
        ("spacing", ("a.h5", "does not tell its pixel size", "no attributes")),
        ("pattern", ("a.h5", "no such array", "scan/image")),
    ],
)
def test_bad_hdf5(tmp_path, fault, parts):
    image, label = volume()
    lines, arrays = HDF5, dict(image=image, label=label)
    if fault == "no key":
        arrays["mask"] = arrays.pop("label")
    if fault == "shapes":
        arrays["label"] = label[..., :-1]
    if fault == "four axes":
        arrays["image"] = np.stack([image] * 2)
    if fault == "class":
        label[0, 0, 0] = 9
    if fault == "nan":
        image[0, 0, 0] = np.nan
    if fault == "spacing":
        lines += 'spacing = "voxel"\n'
    if fault == "pattern":
        lines = lines.replace('image = "image"', 'image = "*/scan/image"')
    h5(tmp_path / "toy/a.h5", arrays)
    if fault == "no file":
        (tmp_path / "toy/a.h5").write_bytes(b"not HDF5")
    refused(DataError, card_of(lines), tmp_path, *parts)


# What archives say of their arrays.

IMG = np.random.default_rng(0).integers(0, 255, (4, 20, 24)).astype(np.uint8)
LAB = (IMG > 128).astype(np.uint8)


def archive(
    root: Path, text: str = "", classes=("cell", "nucleus"), more: str = "", **arrays
) -> list:
    np.savez(root / "case.npz", **arrays)
    card = example_card(f'[[read]]\nreader = "npz"\nfile = "case.npz"\n{text}', classes, more)
    return [r for item in read_npz(Source(card, card.read[0], root)) for r in item.load()]


@pytest.mark.parametrize(
    "images",
    [
        IMG,
        np.asfortranarray(IMG),
        IMG[:, None].repeat(3, 1),
        IMG[:, None],
        IMG[..., None].repeat(3, 3),
        IMG.astype(">u2"),
    ],
)
@pytest.mark.parametrize(
    "labels",
    [
        LAB,
        np.asfortranarray(LAB),
        LAB[:, None],
        LAB[..., None],
        LAB.astype(bool),
        LAB.astype(np.float32),
    ],
)
def test_npz_of_every_order_and_type(tmp_path, images, labels):
    text = "window = [0, 255]"
    records = archive(tmp_path, text, train_images=images, train_label=labels)
    assert len(records) == 4 and records[0].image.shape[1:] == (20, 24)
    for record, image, label in zip(records, IMG, LAB):
        np.testing.assert_array_equal(record.semantic, label)
        for channel in record.image:
            np.testing.assert_allclose(channel * 255, image, atol=1e-3)


@pytest.mark.parametrize("name", ["train_label", "train_labels"])
@pytest.mark.parametrize("shape", [(4, 1), (4,), (4, 14)])
def test_class_numbers_are_no_masks_and_the_fix_works(tmp_path, name, shape):
    arrays = {"train_images": IMG, name: np.ones(shape, np.uint8)}
    with pytest.raises(DataError) as error:
        archive(tmp_path, **arrays)
    told(error, "case.npz", name, "class numbers of whole images", 'annotation = "none"')
    card = body_card('reader = "npz"\nfile = "case.npz"', "none")
    records = [r for i in read_npz(Source(card, card.read[0], tmp_path)) for r in i.load()]
    assert len(records) == 4 and records[0].semantic is None


@pytest.mark.parametrize(
    "arrays, words",
    [
        (
            dict(train_images=np.array([{}] * 4), train_label=LAB),
            ("train_images", "Python objects"),
        ),
        (dict(train_images=IMG, train_label=np.array([{}] * 4)), ("train_label", "Python objects")),
        (dict(train_images=IMG, train_label=LAB[:3]), ("train_label", "(3, 20, 24)")),
        (dict(train_images=IMG, train_label=LAB[:, :, :23]), ("train_label", "(4, 20, 23)")),
        (dict(train_images=IMG[0, 0], train_label=LAB), ("train_images", "no pictures")),
        (
            dict(train_images=np.stack([IMG] * 20, 1)[..., None], train_label=LAB),
            ("train_images", "no pictures"),
        ),
    ],
)
def test_npz_that_does_not_fit(tmp_path, arrays, words):
    with pytest.raises(DataError) as error:
        archive(tmp_path, **arrays)
    told(error, "case.npz", *words)


def test_npz_labels_of_one_class_by_threshold(tmp_path):
    soft = np.where(LAB, 0.8, 0.2).astype(np.float32)
    arrays = dict(train_images=IMG, train_label_a=LAB * 200, train_label_b=soft)
    with pytest.raises(DataError) as error:
        archive(tmp_path, "labels = {b = 2}", **arrays)
    told(error, "train_label_b", "threshold")
    records = archive(tmp_path, "labels = {b = 2}\nthreshold = 0.5", **arrays)
    np.testing.assert_array_equal(records[1].semantic, LAB[1] * 2)


def test_two_archives_of_one_size(tmp_path):
    for name in ("toy_64.npz", "toy_064.npz"):
        np.savez(tmp_path / name, train_images=IMG, train_label=LAB)
    card = example_card('[[read]]\nreader = "npz"\nfile = "toy_{size}.npz"')
    with pytest.raises(DataError) as error:
        read_npz(Source(card, card.read[0], tmp_path))
    told(error, "toy_064.npz", "one size")


def test_a_folder_with_brackets_is_packed(tmp_path):
    folder = tmp_path / "set [v2] copy"
    (folder / "toy").mkdir(parents=True)
    write_npz(folder / "toy" / "toy_128.npz")
    card = make_card(tmp_path, CARD.replace("channels = 1", "channels = 3") + CLASSES + NPZ + GIVEN)
    store = pack(card, folder, tmp_path / "out", 16, workers=1)
    assert sum(1 for _ in read(card, folder)) == 11 and store


def arrays_of(root: Path, text: str, classes=("cell", "nucleus"), channels: int = 3) -> list:
    card = example_card(
        f'[[read]]\nreader = "hdf5"\nfiles = "*.*"\nimage = "image"\nwindow = [0, 255]\n{text}',
        classes,
    )
    card.channels = channels
    return [r for item in read_hdf5(Source(card, card.read[0], root)) for r in item.load()]


@pytest.mark.parametrize("slices", [None, 0, 1])
def test_matlab_pictures_and_volumes(tmp_path, slices):
    volume, labels = np.moveaxis(IMG, 0, -1), np.moveaxis(LAB, 0, -1)  # rows, columns, slices
    with h5py.File(tmp_path / "a.mat", "w") as file:
        for name, array in (("image", volume), ("label", labels)):
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("uint8")
    text = 'label = "label"\nslices = "all"' + ("" if slices is None else f"\naxis = {slices}")
    records = arrays_of(tmp_path, text, channels=1)
    assert len(records) == (4, 20, 24)[0 if slices is None else slices + 1]
    wanted = np.moveaxis(volume, 2 if slices is None else slices, 0)
    for record, image in zip(records, wanted):
        np.testing.assert_allclose(record.image[0] * 255, image, atol=1e-3)
        np.testing.assert_array_equal(record.semantic, image > 128)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        for name, array in (("image", np.stack([IMG[0]] * 3, -1)), ("label", LAB[0])):
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("uint8")
    (record,) = arrays_of(tmp_path, 'label = "label"')
    assert record.image.shape == (3, 20, 24)
    np.testing.assert_array_equal(record.semantic, LAB[0])


def test_hdf5_labels_that_are_absent_or_alone(tmp_path):
    h5(tmp_path / "a.h5", dict(image=IMG, label=LAB))
    h5(tmp_path / "b.h5", dict(image=IMG))
    with pytest.raises(DataError):
        arrays_of(tmp_path, 'label = "label"')
    kept = arrays_of(tmp_path, 'label = "label"\nunlabelled = "keep"', channels=1)
    assert [r.semantic is None for r in kept] == [False] * 4 + [True] * 4
    empty = arrays_of(tmp_path, 'label = "label"\nunlabelled = "empty"', channels=1)
    assert len(empty) == 8 and not empty[7].semantic.any()
    assert len(arrays_of(tmp_path, 'label = "label"\nunlabelled = "skip"', channels=1)) == 4
    (tmp_path / "b.h5").unlink()
    h5(tmp_path / "a.h5", {"p1/image": IMG, "p1/label": LAB, "p2/label": LAB})
    card = example_card(
        '[[read]]\nreader = "hdf5"\nfiles = "*.h5"\nimage = "*/image"\nlabel = "*/label"'
    )
    items = read_hdf5(Source(card, card.read[0], tmp_path))
    assert len(items) == 2 and items[1].fails and "p2/label" in items[1].file


def test_hdf5_pictures_without_foreground(tmp_path):
    "A picture of its own is data; a slice of a volume is left out like others of its volume."
    h5(tmp_path / "p_1.h5", dict(image=IMG[0], label=LAB[0]))
    h5(tmp_path / "p_2.h5", dict(image=IMG[1], label=LAB[1] * 0))
    count = lambda text="": len(arrays_of(tmp_path, 'label = "label"\n' + text, channels=1))
    assert count() == 2 and count('healthy = "skip"') == 1
    assert (
        count("slice = 're:_(\\d)'") == 1 and count("healthy = \"keep\"\nslice = 're:_(\\d)'") == 2
    )
    h5(tmp_path / "p_1.h5", dict(image=IMG, label=LAB * 0))
    assert count() == 5 and count("number = 2") == 3


def test_hdf5_labels_with_a_scale(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["label"] = IMG[0], (LAB[0] * 2 * 85).astype(np.uint8)
        file["label"].attrs["scale_factor"] = np.float32(1 / 85)
    (record,) = arrays_of(tmp_path, 'label = "label"', channels=1)
    np.testing.assert_array_equal(record.semantic, LAB[0] * 2)


def test_hdf5_axes_that_are_none(tmp_path):
    h5(tmp_path / "a.h5", dict(image=IMG))
    for axis in ("3", "-1", '"axial"', "true"):
        with pytest.raises(CardError) as error:
            arrays_of(tmp_path, f"axis = {axis}", channels=1)
        told(error, "read.axis", axis.strip('"'), "0 to 2")


def test_three_axes_of_hdf5_are_a_volume_or_colours(tmp_path):
    read = lambda text="", channels=3: arrays_of(tmp_path, text, channels=channels)
    rgb = np.stack([IMG[0], IMG[1], IMG[2]], -1)
    for array in (rgb, np.moveaxis(rgb, -1, 0)):
        h5(tmp_path / "a.h5", dict(image=array, label=LAB[0]))
        (record,) = read('label = "label"')
        np.testing.assert_allclose(record.image * 255, IMG[:3], atol=1e-3)
        np.testing.assert_array_equal(record.semantic, LAB[0])
    h5(tmp_path / "a.h5", dict(image=IMG[0][..., None], label=LAB[0][..., None]))
    (record,) = read('label = "label"', 1)
    np.testing.assert_allclose(record.image[0] * 255, IMG[0], atol=1e-3)
    np.testing.assert_array_equal(record.semantic, LAB[0])
    for array, channels in (
        (rgb, 1),
        (np.stack([IMG[0]] * 4, -1), 3),
        (np.stack([IMG[0]] * 4, -1), 1),
    ):
        h5(tmp_path / "a.h5", dict(image=array))
        with pytest.raises(DataError) as error:
            read(channels=channels)
        told(error, "a.h5", "colours", "axis")
    h5(tmp_path / "a.h5", dict(image=rgb))
    slices = read("axis = 2", 1)  # the fix
    assert len(slices) == 3
    np.testing.assert_allclose(slices[1].image[0] * 255, IMG[1], atol=1e-3)
