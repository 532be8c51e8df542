"Values that the card ignores: no class, no object, in every reader whose masks hold numbers."

import h5py
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from taco.base import CardError, DataError
from taco.data.find import read
from taco.data.formats.stack import write_series
from taco.data.prepare import prepare
from tests.data.formats.dicoms import dicom, segmentation
from tests.data.made import HEAD, card_of, refused

MASK = np.zeros((24, 20), np.uint8)
MASK[4:12, 3:9], MASK[14:20, 10:18], MASK[10:16, 6:12] = 1, 2, 255  # the last covers parts of both
FILM = np.arange(480, dtype=np.uint8).reshape(24, 20)
KNOWN = np.where(MASK == 255, 0, MASK)
HEAD = HEAD.replace('"boxes"', '"semantic"')
GREY = 'window = [0, 255]\nslices = "all"\n'
SERIES = 'reader = "dicom"\nseries = true\nimages = "re:(?P<id>p)/.*"\n' + GREY


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def volume(mask: np.ndarray) -> np.ndarray:
    "A volume (X, Y, 2) whose second slice shows the mask, and whose first one nothing."
    return np.stack([mask * 0, mask], -1)[::-1, ::-1].swapaxes(0, 1)


def pairs(home):
    save(home / "a_img.png", FILM)
    save(home / "a_mask.png", MASK)
    return 'reader = "pairs"\nimages = "*_img.png"\nmasks = "*_mask.png"\n'


def channels(home):
    save(home / "images/a.png", FILM)
    planes = np.stack([MASK == 1, MASK == 2, MASK < 0], -1) * np.uint8(1) + (MASK == 255)[..., None] * np.uint8(255)
    planes = np.concatenate([planes, np.full((24, 20, 1), 255, np.uint8)], -1)  # and an opacity of 255
    (home / "masks").mkdir()
    tifffile.imwrite(home / "masks/a.tif", planes, photometric="rgb", extrasamples=["unassalpha"])
    lines = 'reader = "channels"\nimages = "images/*.png"\nmasks = "masks/*.tif"\n'
    return lines + "channels = {0 = 1, 1 = 2, 2 = 0, 3 = 0}\n"


def crops(home):
    save(home / "a.png", FILM)
    rows = ["image,mask,class,top,left"]
    for value, word in ((1, "red"), (2, "white")):
        save(home / f"masks/{value}.png", np.where(MASK == 255, 255, (value == MASK) * 7).astype(np.uint8))
        rows.append(f"a.png,masks/{value}.png,{word},0,0")
    (home / "where.csv").write_text("\n".join(rows))
    columns = ", ".join(f'{n} = "{n}"' for n in ("image", "mask", "class", "top", "left"))
    return f'reader = "crops"\nimages = "*.png"\ntable = "where.csv"\ncolumns = {{{columns}}}\n'


def volumes(home):
    for kind, array in (("img", volume(FILM)), ("mask", volume(MASK))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), home / f"a_{kind}.nii.gz")
    return f'reader = "volumes"\nimages = "*_img.nii.gz"\nmasks = "*_mask.nii.gz"\n{GREY}'


def apart(home):
    "A label volume a class; what one does not know is a class in the other."
    volumes(home)
    for value in (1, 2):
        part = np.where(MASK == 255, 255 if value == 1 else 2, (value == MASK) * value).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(volume(part), np.eye(4)), home / f"a_{value}.nii.gz")
    masks = '{1 = "*_1.nii.gz", 2 = "*_2.nii.gz"}'
    return f'reader = "volumes"\nimages = "*_img.nii.gz"\nmasks = {masks}\n{GREY}'


def stacked(home):
    for n, (image, mask) in enumerate([(FILM, MASK * 0), (FILM, MASK)]):
        save(home / f"img/{n}.png", image)
        save(home / f"mask/{n}.png", mask)
    return f'reader = "volumes"\nstack = true\nimages = "img/*.png"\nmasks = "mask/*.png"\n{GREY}'


def hdf5(home):
    with h5py.File(home / "a.h5", "w") as file:
        file["image"], file["label"] = np.stack([FILM, FILM]), np.stack([MASK * 0, MASK])
    return f'reader = "hdf5"\nfiles = "*.h5"\nimage = "image"\nlabel = "label"\n{GREY}'


def npz(home):
    np.savez(home / "a.npz", train_images=FILM[None], train_label=MASK[None])
    return 'reader = "npz"\nfile = "a.npz"\n'


def npz_apart(home):
    named = {f"train_label_{n}": np.where(MASK == 255, MASK, n == MASK)[None] for n in (1, 2)}
    np.savez(home / "a.npz", train_images=FILM[None], **named)
    return 'reader = "npz"\nfile = "a.npz"\nlabels = {1 = 1, 2 = 2}\n'


def one_dicom(home):
    dicom(home / "a_img.dcm", FILM)
    dicom(home / "a_mask.dcm", MASK)
    return 'reader = "dicom"\nimages = "*_img.dcm"\nmasks = "*_mask.dcm"\nwindow = [0, 255]\n'


def regions(home):
    one_dicom(home)
    parts = np.stack([MASK == 1, MASK == 2, MASK == 255]).astype(np.uint8)
    segmentation(home / "a_mask.dcm", parts, [1, 2, 9], {1: "red", 2: "white", 9: "nobody knows"})
    return 'reader = "dicom"\nimages = "*_img.dcm"\nmasks = "*_mask.dcm"\nwindow = [0, 255]\n'


def series_of_files(home):
    write_series(home / "p", volume(FILM.astype(np.int16)))
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:2, 3] = -19, -23  # DICOM counts from the other corner
    nibabel.save(nibabel.Nifti1Image(volume(MASK), affine), home / "p_mask.nii")
    return SERIES + 'masks = "*_mask.nii"\n'


def read_one(tmp_path, make, more: str):
    (tmp_path / "toy").mkdir(exist_ok=True)
    *_, record = read(card_of(make(tmp_path / "toy") + more, HEAD), tmp_path, "real")
    return record


PLAIN = [pairs, channels, crops, volumes, apart, stacked, hdf5, npz, npz_apart]
DICOM = [one_dicom, regions]


def check(record):
    np.testing.assert_array_equal(record.ignore, MASK == 255)
    np.testing.assert_array_equal(record.semantic, KNOWN)
    assert record.semantic.dtype == np.uint8
    assert "borders" not in prepare(record, 24).can


@pytest.mark.parametrize("make", PLAIN, ids=lambda f: f.__name__)
def test_files_of_which_a_part_is_unknown(tmp_path, make):
    record = read_one(tmp_path, make, "ignore = 255\n")
    np.testing.assert_allclose(record.image[0], FILM / 255, atol=1e-6)
    check(record)


@pytest.mark.parametrize("make", DICOM, ids=lambda f: f.__name__)
def test_dicom_files_of_which_a_part_is_unknown(tmp_path, make):
    check(read_one(tmp_path, make, f"ignore = {9 if make is regions else 255}\n"))


def series_with_a_mask_a_slice(home):
    files = write_series(home / "p", volume(FILM.astype(np.int16)))
    for path in files:
        top = float(pydicom.dcmread(path).ImagePositionPatient[2]) > 0
        Image.fromarray(MASK * top).save(home / f"p_{path.stem}.png")
    return SERIES.replace("p)/.*", "p)/(.*)[.]dcm").replace("(?P<id>p)", "(p)") + 'masks = "re:(p)_(.*)[.]png"\n'


def segments(home):
    "Three named segments in one layer."
    nibabel.save(nibabel.Nifti1Image(volume(FILM), np.eye(4)), home / "a_img.nii")
    header = {"space": "RAS", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    for n, (name, value) in enumerate({"red": 1, "white": 2, "nobody knows": 255}.items()):
        header |= {f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value), f"Segment{n}_Layer": "0"}
    nrrd.write(str(home / "a_mask.seg.nrrd"), volume(MASK), header)
    lines = f'reader = "volumes"\nimages = "*_img.nii"\nmasks = "*_mask.seg.nrrd"\n{GREY}'
    return lines + "segments = {red = 1, white = 2}\n"


@pytest.mark.parametrize("make", [series_of_files, series_with_a_mask_a_slice, segments], ids=lambda f: f.__name__)
def test_a_series_of_which_a_part_is_unknown(tmp_path, make):
    check(read_one(tmp_path, make, "ignore = 255\n"))


@pytest.mark.parametrize("make", [pairs, volumes, hdf5, npz, one_dicom], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "more, wanted",
    [
        ("", np.where(MASK == 2, 2, 0)),  # class 1 is implied, and unknown all the same
        ("values = {0 = 0, 2 = 2, 255 = 1}\n", np.select([MASK == 255, MASK == 2], [1, 2])),
        ("threshold = 0\n", MASK > 1),
        ('values = "nonzero"\n', MASK > 1),
    ],
)
def test_one_is_not_foreground_where_it_is_ignored(tmp_path, make, more, wanted, monkeypatch):
    if not more:
        monkeypatch.setattr("tests.data.readers.test_unknown.MASK", np.where(MASK == 255, 0, MASK).astype(np.uint8))
    record = read_one(tmp_path, make, "ignore = 1\n" + more)
    np.testing.assert_array_equal(record.ignore, MASK == 1)
    np.testing.assert_array_equal(record.semantic, wanted)


def test_a_value_is_not_declared_as_a_class_and_as_unknown():
    with pytest.raises(CardError, match="class and unknown"):
        card_of('reader = "volumes"\nimages = "*.nii"\nmasks = "*_m.nii"\nignore = 1\nvalues = {1 = 1}\n', HEAD)


def test_what_is_not_a_number_may_be_unknown_in_a_volume(tmp_path):
    text = volumes(tmp_path)
    soft = volume(np.where(MASK == 255, np.nan, MASK).astype(np.float32))
    nibabel.save(nibabel.Nifti1Image(soft, np.eye(4)), tmp_path / "a_mask.nii.gz")
    refused(DataError, card_of(text, HEAD), tmp_path, "a_mask.nii.gz", "NaN", "ignore = nan")
    *_, record = read(card_of(text + "ignore = nan\n", HEAD), tmp_path, "real")
    check(record)


def test_objects_and_unknown_parts_of_two_files(tmp_path):
    "What one file of a class does not know is no object of the other."
    home = tmp_path / "toy"
    save(home / "a_img.png", FILM)
    save(home / "a_1.png", np.where(MASK == 255, MASK, (MASK == 1) * 5).astype(np.uint8))
    save(home / "a_2.png", np.where(MASK == 1, 0, MASK > 0).astype(np.uint8) * 9)  # sure of what the other is not
    masks = 'masks = {1 = "*_1.png", 2 = "*_2.png"}\nobjects = true\nignore = 255\n'
    (record,) = read(card_of('reader = "pairs"\nimages = "*_img.png"\n' + masks, HEAD), tmp_path, "real")
    np.testing.assert_array_equal(record.ignore, MASK == 255)
    np.testing.assert_array_equal(record.semantic, KNOWN)
    np.testing.assert_array_equal(record.instances > 0, KNOWN > 0)
