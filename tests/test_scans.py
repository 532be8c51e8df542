"Volumes of every format and DICOM: made files, the test files that come with pydicom, and everything that can be wrong with them."
import zlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file

from taco.base import CardError, DataError
from taco.data.card import list_cards, load_card, parse_card
from taco.data.dicom import header_window, open_dicom, pseudonym, series_scan, stored_pixels, to_picture, write_series
from taco.data.readers import check_readers, find, read
from taco.data.record import Record, fit_square
from taco.data.scans import read_scan, view_slice

HEAD = '''name = "toy"\ntitle = "Toy"\nmodality = "MR"\nanatomy = "none"\nannotation = "{}"\nchannels = 1\nlabels_from = "made here"
licence = "none"\npermits = "tests"\ncitation = "none"\nhomepage = "none"\nsplit = {{rule = "subject"}}\nclasses = {{1 = "organ", 2 = "lesion"}}\n\n[[read]]\n'''
AFFINE = np.diag([.5, .75, 3., 1.])
META = "ObjectType = Image\nNDims = 3\nDimSize = 6 8 5\nElementType = MET_SHORT\nElementSpacing = 0.5 0.75 3\nTransformMatrix = -1 0 0 0 -1 0 0 0 1\nOffset = 0 0 0\n"
SPACE = {"space": "left-posterior-superior", "space directions": np.diag([-.5, -.75, 3.]), "space origin": [0, 0, 0]}


def card(text: str, annotation: str = "semantic"):
    return parse_card(HEAD.format(annotation) + text, "toy.toml")


def body() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (6, 8, 5)).astype(np.int16)


def refused(error, *words):
    message = str(error.value)
    for word in words:
        assert word in message, (word, message)
    assert error.value.fix and error.value.file


def volume_card(**options) -> str:
    lines = {"reader": '"volumes"', "images": '"*_image.nii.gz"', "masks": '"*_label.nii.gz"'} | options
    return "\n".join(f"{k} = {v}" for k, v in lines.items() if v is not None)


def write_pair(folder: Path, name: str = "a", image=None, labels=None, label_affine=AFFINE) -> tuple[np.ndarray, np.ndarray]:
    image = body() if image is None else image
    if labels is None:
        labels = np.zeros((6, 8, 5), np.uint8)
        labels[1:4, 2:6, 1:4] = 1
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), folder / f"{name}_image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, label_affine), folder / f"{name}_label.nii.gz")
    return image, labels


# ---------------------------------------------------------------- formats

def write(kind: str, path: Path, voxels: np.ndarray) -> Path:
    "The same volume in a format; voxels are in canonical order, on the grid AFFINE."
    if kind.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path / f"a.{kind}")
    elif kind in ("nrrd", "nhdr"):
        nrrd.write(str(path / f"a.{kind}"), voxels, SPACE, detached_header=kind == "nhdr")
    elif kind == "nrrd raw":
        nrrd.write(str(path / "a.nrrd"), voxels, SPACE | {"encoding": "raw"})
        kind = "nrrd"
    elif kind == "nrrd sideways":  # axes in another order, counted in another space
        turn = {"space": "right-anterior-superior", "space directions": np.diag([.5, .75, 3.])[[2, 0, 1]], "space origin": [0, 0, 0]}
        nrrd.write(str(path / "a.nrrd"), voxels.transpose(2, 0, 1), turn)
        kind = "nrrd"
    elif kind == "mha big-endian":
        (path / "a.mha").write_bytes((META + "BinaryDataByteOrderMSB = True\nElementDataFile = LOCAL\n").encode() + voxels.astype(">i2").tobytes("F"))
        kind = "mha"
    elif kind == "mha":
        (path / "a.mha").write_bytes((META + "CompressedData = True\nElementDataFile = LOCAL\n").encode() + zlib.compress(voxels.tobytes("F")))
    elif kind == "mhd":
        (path / "a.mhd").write_text(META + "ElementDataFile = a.raw\n")
        (path / "a.raw").write_bytes(voxels.tobytes("F"))
    return path / f"a.{kind}"


KINDS = ("nii", "nii.gz", "nrrd", "nrrd raw", "nrrd sideways", "nhdr", "mha", "mha big-endian", "mhd")


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_the_same_in_every_format(tmp_path, kind):
    scan = read_scan(write(kind, tmp_path, body()))
    np.testing.assert_array_equal(scan.voxels, body())
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(scan.spacing, [.5, .75, 3.], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_broke_off_is_refused(tmp_path, kind):
    path = write(kind, tmp_path, body())
    data = next((p for p in tmp_path.iterdir() if p != path), path)
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.")


@pytest.mark.parametrize("line, words", [
    ("ElementType = MET_STRING", ("ElementType", "MET_STRING", "MET_SHORT")), ("DimSize = 6 8", ("DimSize", "3 numbers")),
    ("DimSize = 6 8 50", ("480 bytes", "4800 bytes")), ("NDims = 7", ("NDims", "2, 3 or 4")), ("ElementSpacing = wide", ("ElementSpacing", "wide")),
    ("BinaryData = False", ("BinaryData", "text"))])
def test_wrong_lines_of_a_metaimage_are_named(tmp_path, line, words):
    key = line.split(" = ")[0]
    kept = [f for f in META.splitlines() if not f.startswith(key)]
    path = tmp_path / "a.mha"
    path.write_bytes("\n".join([*kept, line, "ElementDataFile = LOCAL\n"]).encode() + body().tobytes("F"))
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.mha", *words)


def test_data_that_lie_elsewhere(tmp_path):
    for kind, data in (("mhd", "a.raw"), ("nhdr", "a.raw.gz")):
        path = write(kind, tmp_path, body())
        (tmp_path / data).unlink()
        with pytest.raises(DataError) as error:
            read_scan(path)
        refused(error, path.name, data)
    (tmp_path / "b.mha").write_bytes(b"no header at all\n")
    with pytest.raises(DataError, match="no complete header"):
        read_scan(tmp_path / "b.mha")
    with pytest.raises(DataError, match="No format of volumes"):
        read_scan(tmp_path / "a.mnc")


def test_an_nrrd_without_a_body_lies_as_in_the_file(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), body(), {"spacings": [.5, .75, 3.]})
    scan = read_scan(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1], body())
    assert scan.spacing.tolist() == [.5, .75, 3.]
    nrrd.write(str(tmp_path / "b.nrrd"), body(), SPACE | {"space": "scanner-xyz"})
    with pytest.raises(DataError) as error:
        read_scan(tmp_path / "b.nrrd")
    refused(error, "b.nrrd", "scanner-xyz")


def test_channels_become_frames(tmp_path):
    both = np.stack([body(), body() + 1])
    nrrd.write(str(tmp_path / "a.nrrd"), both, SPACE | {"space directions": np.vstack([np.full(3, np.nan), np.diag([-.5, -.75, 3.])]),
                                                       "kinds": ["vector", "domain", "domain", "domain"]})
    (tmp_path / "a.mha").write_bytes((META + "ElementNumberOfChannels = 2\nElementDataFile = LOCAL\n").encode() + both.tobytes("F"))
    for name in ("a.nrrd", "a.mha"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, np.moveaxis(both, 0, -1))


# ---------------------------------------------------------------- from volumes to records

def test_planes_by_name_and_by_number(tmp_path):
    image, labels = write_pair(tmp_path)
    for plane, axis, cut in (("sagittal", 0, lambda a: a[2, :, :]), ("coronal", 1, lambda a: a[:, 3, :]), ("axial", 2, lambda a: a[:, :, 2])):
        for name in (f'"{plane}"', axis):
            record = next(r for r in read(card(volume_card(axis=name, window="[0, 1000]")), tmp_path, "real") if r.slice == (2, 3, 2)[axis])
            np.testing.assert_array_equal(record.semantic, cut(labels).T[::-1, ::-1])
            np.testing.assert_allclose(record.image[0], cut(image).T[::-1, ::-1] / 1000, atol=1e-6)
    assert record.spacing == (.75, .5)
    for wrong, words in (({"axis": '"saggital"'}, ("a_image.nii.gz", "Did you mean 'sagittal'")), ({"every": 0}, ("a_image.nii.gz", "every")),
                         ({"spacing": "[1, 2]"}, ("toy.toml", "read.spacing"))):
        with pytest.raises((DataError, CardError)) as error:
            list(read(card(volume_card(**wrong)), tmp_path, "real"))
        refused(error, *words)


@pytest.mark.parametrize("fit", ["cover", "contain"])
def test_a_ball_stays_round_in_every_plane(fit):
    y, x = np.mgrid[-19:20:2.5, -30:31]  # rows 2.5 mm apart, columns 1 mm
    ball = (x**2 + y**2 < 225)
    record = Record(ball[None].astype(np.float32), ball.astype(np.uint8), spacing=(2.5, 1.))
    square = fit_square(record, 60, fit).semantic
    height, width = np.ptp(np.flatnonzero(square.any(1))) + 1, np.ptp(np.flatnonzero(square.any(0))) + 1
    assert abs(height - width) <= .1 * width


def test_frames(tmp_path):
    image, labels = body(), np.ones((6, 8, 5), np.uint8)
    write_pair(tmp_path, image=np.stack([image, image + 1, image + 2], -1), labels=labels)
    with pytest.raises(DataError) as error:
        list(read(card(volume_card()), tmp_path, "real"))
    refused(error, "a_image.nii.gz", "frame", "0 … 2")
    records = list(read(card(volume_card(frame='"all"', window="[0, 1000]")), tmp_path, "real"))
    assert [r.key for r in records][::5] == ["a-t00-000", "a-t01-000", "a-t02-000"] and {r.subject for r in records} == {"a"}
    assert [r.key for r in read(card(volume_card(frame="[2]")), tmp_path, "real")][0] == "a-000"
    write_pair(tmp_path, image=np.stack([image] * 3, -1), labels=np.stack([labels, labels * 2, labels], -1))
    records = list(read(card(volume_card(frame="[0, 1]")), tmp_path, "real"))
    assert {r.key[:5]: int(r.semantic.max()) for r in records} == {"a-t00": 1, "a-t01": 2}
    write_pair(tmp_path, image=np.stack([image] * 3, -1), labels=np.stack([labels] * 2, -1))
    with pytest.raises(DataError, match="other frames"):
        list(read(card(volume_card(frame="0")), tmp_path, "real"))


def test_slices_that_a_card_asks_for(tmp_path):
    write_pair(tmp_path)
    keys = lambda **options: [r.slice for r in read(card(volume_card(**options)), tmp_path, "real")]
    assert keys() == [1, 2, 3] and keys(slices='"all"') == [0, 1, 2, 3, 4] and keys(slices='"all"', every=2) == [0, 2, 4]
    assert keys(slices="[4, 2]") == [4, 2] and keys(number=2) == [1, 3] and keys(slices='"all"', masks=None) == [0, 1, 2, 3, 4]
    for wrong in ("[9]", '"foregruond"'):
        with pytest.raises(DataError) as error:
            keys(slices=wrong)
        refused(error, "a_image.nii.gz", "slices")


def test_a_file_for_every_structure(tmp_path):
    image = body()
    organ, lesion = np.zeros((2, 6, 8, 5), np.uint8)
    organ[1:5, 1:6], lesion[2:4, 2:4] = 1, 1
    for name, structures in {"s1": {"organ": organ, "lesion": lesion}, "s2": {"organ": organ}}.items():
        (tmp_path / name / "segmentations").mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / name / "ct.nii.gz")
        for structure, mask in structures.items():
            nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / name / "segmentations" / f"{structure}.nii.gz")
    text = 'reader = "volumes"\nimages = "*/ct.nii.gz"\n[read.masks]\n1 = "*/segmentations/organ.nii.gz"\n2 = "*/segmentations/lesion.nii.gz"'
    records = list(read(card(text), tmp_path, "real"))
    both = {r.subject: r.semantic for r in records if r.slice == 0}
    np.testing.assert_array_equal(both["s1"], np.where(lesion, 2, organ)[:, :, 0].T[::-1, ::-1])
    assert both["s2"].max() == 1
    for path in (tmp_path / "s2" / "segmentations").iterdir():
        path.unlink()
    with pytest.raises(DataError) as error:
        list(read(card(text), tmp_path, "real"))
    refused(error, "s2", "label volume of an image is missing")


def test_labels_that_do_not_fit(tmp_path):
    labels = np.zeros((6, 8, 5), np.int16)
    labels[2:5, 2:5, 1:4] = 500
    labels[3, 3, 2] = 421
    text = volume_card(values="{0 = 0, 500 = 1}")
    write_pair(tmp_path, labels=labels)
    with pytest.raises(DataError) as error:
        list(read(card(text), tmp_path, "real"))
    refused(error, "a_label.nii.gz", "0, 421, 500; first in axial slice 2", "500→1 (organ)", "Declare 421")
    labels[3, 3, 2] = 500
    write_pair(tmp_path, labels=labels)
    assert {int(r.semantic.max()) for r in read(card(text), tmp_path, "real")} == {1}
    tilted = AFFINE.copy()
    tilted[0, 2] = 1.  # same origin, same voxel sizes to a few per cent: the far corner is 4 mm off
    for affine in (np.diag([.5, .75, 3.5, 1.]), tilted):
        write_pair(tmp_path, labels=labels, label_affine=affine)
        with pytest.raises(DataError) as error:
            list(read(card(text), tmp_path, "real"))
        refused(error, "a_label.nii.gz", "does not lie on its image", "mm off", "Resample")
    write_pair(tmp_path, labels=labels[:, :, :4])
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card(text), tmp_path, "real"))


def test_one_subject_in_several_tables_stays_in_one_split(tmp_path):
    for name in "abcd":
        write_pair(tmp_path, name)
    tables = "\n[[read]]\n".join(volume_card(axis=f'"{plane}"', tag=f'"{plane}"') for plane in ("axial", "coronal"))
    records = list(read(card(tables), tmp_path, "real"))
    splits = {}
    for record in records:
        splits.setdefault(record.subject, set()).add(record.split)
    assert sorted(splits) == list("abcd") and all(len(s) == 1 for s in splits.values())
    assert len({r.key for r in records}) == len(records)


# ---------------------------------------------------------------- DICOM

def packaged(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def picture(name: str, **table) -> np.ndarray:
    data = open_dicom(packaged(name))
    return to_picture(data, stored_pixels(data, Path(name)), 0, table, name)


def save(path: Path, pixels: np.ndarray, **attributes) -> Path:
    "A single DICOM file of 16-bit pixels without a place."
    write_series(path.parent / "spare", np.zeros((2, 2, 1), int))
    data = pydicom.dcmread(path.parent / "spare" / "000.dcm")
    (path.parent / "spare" / "000.dcm").unlink()
    (path.parent / "spare").rmdir()
    data.Rows, data.Columns = pixels.shape[-2:]
    data.PixelData = pixels.astype("<u2").tobytes()
    for name in ("RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    if "PixelPaddingValue" in attributes:  # signed or not, as the pixels are
        data.add_new("PixelPaddingValue", "US", attributes.pop("PixelPaddingValue"))
    for key, value in attributes.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_dicom_in_hounsfield_units_and_windows():
    raw = pydicom.dcmread(packaged("CT_small.dcm"))
    expected = ((raw.pixel_array * 1. - 1024) + 160) / 400
    np.testing.assert_allclose(picture("CT_small.dcm", window=[-160, 240])[0], expected.clip(0, 1), atol=1e-5)
    raw = pydicom.dcmread(packaged("MR_small.dcm"))  # centre 600, width 1600
    assert header_window(raw) == (-200, 1399)
    np.testing.assert_allclose(picture("MR_small.dcm")[0], ((raw.pixel_array + 200.) / 1599).clip(0, 1), atol=1e-5)
    assert picture("MR_small.dcm", percentiles=[0, 100]).min() == 0 and picture("MR_small.dcm", percentiles=[0, 100]).max() == 1


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm"])
def test_the_packing_of_a_dicom_file_does_not_matter(name):
    np.testing.assert_array_equal(picture(name), picture("MR_small.dcm"))


def test_colours_of_dicom():
    plain = picture("SC_rgb_rle.dcm")
    assert plain.shape == (3, 100, 100) and plain[:, 0, 0].tolist() == [1, 0, 0]  # the first bar is red
    np.testing.assert_allclose(picture("SC_rgb_jpeg_dcmtk.dcm"), plain, atol=.03)  # YBR_FULL, as JPEG rounds it
    np.testing.assert_allclose(picture("SC_ybr_full_422_uncompressed.dcm")[:, 5, 5], plain[:, 5, 5], atol=.03)
    np.testing.assert_allclose(picture("SC_rgb_rle_16bit.dcm"), plain, atol=.01)
    palette = picture("examples_palette.dcm")
    assert palette.shape == (3, 350, 800) and palette.max() > .9 and np.ptp(palette, axis=0).max() > .3


def test_inverted_radiographs_and_padding(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    straight = save(tmp_path / "a.dcm", ramp, PatientID="A", WindowCenter=32, WindowWidth=64)
    inverse = save(tmp_path / "b.dcm", ramp, PatientID="B", WindowCenter=32, WindowWidth=64, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    a, b = (to_picture(open_dicom(p), stored_pixels(open_dicom(p), p), 0, {}, "") for p in (straight, inverse))
    assert a[0, 0, 0] == 0 and a[0, -1, -1] == 1 and b[0, 0, 0] == 0 and b[0, 0, 1] > .95 and b[0, -1, -1] == 0
    np.testing.assert_allclose(a[0].ravel()[1:], 1 - b[0].ravel()[1:], atol=1e-6)


def test_radiographs_with_png_masks_and_patients(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for name, patient in (("x1", "A"), ("x2", "A"), ("x3", "B")):
        save(tmp_path / f"{name}.dcm", ramp, PatientID=patient, PixelSpacing=[.2, .1])
        Image.fromarray(((ramp > 30) * 255).astype(np.uint8)).save(tmp_path / f"{name}_mask.png")
    text = 'reader = "dicom"\nimages = "*.dcm"\nmasks = "*_mask.png"\nvalues = {0 = 0, 255 = 1}'
    records = list(read(card(text), tmp_path, "real"))
    assert {r.key: r.subject for r in records} == {"x1": pseudonym("A"), "x2": pseudonym("A"), "x3": pseudonym("B")} and {r.split for r in records} == {"train", "test"}
    np.testing.assert_array_equal(records[0].semantic, ramp > 30)
    assert records[0].spacing == (.2, .1)
    assert [i.subject for i in find(card(text + '\nsubject = "re:x(.)"'), tmp_path, "real").items] == ["1", "2", "3"]
    bare = list(read(card('reader = "dicom"\nimages = "*.dcm"', "none"), tmp_path, "real"))
    assert len(bare) == 3 and bare[0].semantic is None
    save(tmp_path / "x3.dcm", ramp, PatientID="")
    with pytest.raises(DataError) as error:
        list(read(card(text), tmp_path, "real"))
    refused(error, "x3.dcm", "PatientID", "subject")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "x1_mask.png")
    with pytest.raises(DataError, match="not of the size"):
        list(read(card(text + '\nsubject = "re:x(.)"'), tmp_path, "real"))


def test_a_loop_of_frames(tmp_path):
    (tmp_path / "echo.dcm").write_bytes(packaged("examples_ybr_color.dcm").read_bytes())
    text = 'reader = "dicom"\nimages = "*.dcm"\nmodality = "ultrasound"\n'
    records = list(read(card(text + "frame = [0, 10, 29]", "none"), tmp_path, "real"))
    assert [(r.key, r.slice, r.subject, r.image.shape) for r in records] == [(f"echo-t{t:03d}", t, pseudonym("204"), (3, 240, 320)) for t in (0, 10, 29)]
    assert len(list(read(card(text + 'frame = "all"', "none"), tmp_path, "real"))) == 30
    for wrong in ("", "frame = 30"):
        with pytest.raises(DataError) as error:
            list(read(card(text + wrong, "none"), tmp_path, "real"))
        refused(error, "echo.dcm", "frame", "0 … 29")


@pytest.mark.parametrize("name, words", [
    ("rtplan.dcm", ("no pixels", "RTPLAN")), ("test-SR.dcm", ("no pixels", "SR")), ("MR_truncated.dcm", ("PixelData", "8130", "Fetch")),
    ("JPEGLSNearLossless_08.dcm", ("JPEG-LS", "1.2.840.10008.1.2.4.81", "pylibjpeg")), ("no_meta.dcm", ("Part 10",)),
    ("JPGExtended.dcm", ("JPEG Extended", "12-bit", "gdcmconv")), ("SC_rgb_jpeg_gdcm.dcm", ("JPEG Lossless", "pylibjpeg"))])
def test_dicom_files_that_are_no_images(tmp_path, name, words):
    (tmp_path / name).write_bytes(packaged(name).read_bytes())
    text = card('reader = "dicom"\nimages = "*.dcm"\nsubject = "(.)"', "none")
    with pytest.raises(DataError) as error:
        list(read(text, tmp_path, "real"))
    refused(error, name, *words)


SERIES = 'reader = "dicom"\nimages = "*/*.dcm"\nseries = true\n'


def sphere() -> np.ndarray:
    x, y, z = np.mgrid[-8:8, -10:10, -6:6]
    return (x**2 + 2 * y**2 + z**2 < 36) * 1040 - 1000 + (x + z > 6) * 100


def test_a_series_is_sorted_and_placed(tmp_path):
    files = write_series(tmp_path / "P1", sphere(), (.7, .8, 2.5))
    scan, _ = series_scan(sorted(files))
    np.testing.assert_array_equal(scan.voxels, sphere())
    np.testing.assert_allclose(scan.spacing, [.7, .8, 2.5])
    labels = np.zeros(sphere().shape, np.uint8)
    labels[4:12, 5:15, 3:9] = 1
    nibabel.save(nibabel.Nifti1Image(labels, scan.affine), tmp_path / "P1_organ.nii.gz")
    text = SERIES + 'masks = "*_organ.nii.gz"\nwindow = [-1000, 100]\naxis = "coronal"\n'
    record = next(read(card(text), tmp_path, "real"))
    assert record.slice == 5 and record.spacing == pytest.approx((2.5, .7)) and record.subject == pseudonym("P1")
    np.testing.assert_array_equal(record.semantic, labels[:, 5].T[::-1, ::-1])
    np.testing.assert_allclose(record.image[0], ((sphere()[:, 5].T[::-1, ::-1] + 1000) / 1100).clip(0, 1), atol=1e-5)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "P1_organ.nii.gz")
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card(text), tmp_path, "real"))
    for path in files:
        path.rename(tmp_path / path.name)
    write_series(tmp_path / "P2", sphere(), patient="B")
    messages = []
    for item in find(card(text), tmp_path, "real").items:  # labels without a series, a series without labels
        with pytest.raises(DataError) as error:
            item.load()
        messages.append(error.value.what)
    assert messages == ["The series of a label volume is missing.", "The label volume of a series is missing."]


def test_a_sagittal_series_shows_the_same_body(tmp_path):
    "Rows run to the back, columns of a picture downwards: the planes follow the first axis."
    volume = sphere()
    files = write_series(tmp_path / "P1", volume[::-1, ::-1].transpose(1, 2, 0)[::-1], (1., 1., 1.))
    for path in files:
        data = pydicom.dcmread(path)
        k = float(data.ImagePositionPatient[2])
        data.ImageOrientationPatient, data.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [k, 0, 0]
        data.save_as(path)
    scan, _ = series_scan(files)
    np.testing.assert_array_equal(scan.voxels, volume)


def test_series_of_the_pydicom_package():
    "Real headers of a hospital: a series whose names do not tell its order, one with a gap, and scouts in several directions under one number."
    folder = packaged("CT_small.dcm").parent / "dicomdirtests"
    files = sorted((folder / "98892001" / "CT5N").iterdir())
    scan, _ = series_scan(files)
    assert scan.voxels.shape == (16, 16, 5) and scan.spacing[2] == pytest.approx(2.5)
    low = pydicom.dcmread(min(files, key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2])))
    np.testing.assert_allclose(view_slice(scan.voxels, 0, 2), low.pixel_array * float(low.RescaleSlope) + float(low.RescaleIntercept))
    for name, words in (("77654033/CT2", ("evenly spaced", "202 mm", "1.25 mm")), ("98892001/CT2N", ("not one series", "ImageOrientationPatient")),
                        ("98892003/MR700", ("not one series", "ImageOrientationPatient"))):
        with pytest.raises(DataError) as error:
            series_scan(sorted((folder / name).iterdir()))
        refused(error, *words)


def test_frames_of_one_modern_file_are_a_volume(tmp_path):
    "Position, orientation, spacing, intercept and window lie in functional groups; the frames lie in another order than the body."
    volume, order = sphere(), np.random.default_rng(1).permutation(12)
    data = pydicom.dcmread(write_series(tmp_path / "spare", volume)[0])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    def group(sequence, **values):
        element, groups = pydicom.Dataset(), pydicom.Dataset()
        for key, value in values.items():
            setattr(element, key, value)
        setattr(groups, sequence, [element])
        return groups
    data.PerFrameFunctionalGroupsSequence = [group("PlanePositionSequence", ImagePositionPatient=[0, 0, 2.5 * int(k)]) for k in order]
    shared = group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.update(group("PixelMeasuresSequence", PixelSpacing=[.8, .7]))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-1000))
    shared.update(group("FrameVOILUTSequence", WindowCenter=40, WindowWidth=400))
    data.SharedFunctionalGroupsSequence = [shared]
    data.NumberOfFrames = 12
    data.PixelData = np.stack([((volume[::-1, ::-1, k].T + 1000) / 2) for k in order]).astype("<u2").tobytes()
    data.save_as(tmp_path / "one.dcm")
    scan, window = series_scan([tmp_path / "one.dcm"])
    np.testing.assert_array_equal(scan.voxels, volume)
    np.testing.assert_allclose(scan.spacing, [.7, .8, 2.5])
    assert window == (-160, 239)


def test_a_tilted_gantry_shifts_the_planes(tmp_path):
    files = write_series(tmp_path / "P1", sphere())
    for path in files:
        data = pydicom.dcmread(path)
        data.ImagePositionPatient[1] = .5 * data.ImagePositionPatient[2]
        data.save_as(path)
    scan, _ = series_scan(files)
    lowest, highest = (np.array([15, 19, k, 1]) for k in (0, 11))  # the first pixel: right, in front
    np.testing.assert_allclose((scan.affine @ (highest - lowest))[:3], [0, -11, 22])  # LPS +y is RAS -y


def test_without_positions_numbers_have_to_do(tmp_path):
    files = write_series(tmp_path / "P1", sphere())
    for path in files:
        data = pydicom.dcmread(path)
        del data.ImagePositionPatient
        data.save_as(path)
    np.testing.assert_array_equal(series_scan(sorted(files))[0].voxels, sphere())
    data = pydicom.dcmread(files[2])
    del data.InstanceNumber
    data.save_as(files[2])
    with pytest.raises(DataError) as error:
        series_scan(files)
    refused(error, "P1", "InstanceNumber", "order of the slices is unknown")


@pytest.mark.parametrize("change, words", [
    (dict(SeriesInstanceUID="1.2.3"), ("SeriesInstanceUID", "1.2.3")), (dict(PixelSpacing=[2, 2]), ("PixelSpacing",)),
    (dict(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ("ImageOrientationPatient",)), (dict(ImagePositionPatient=[0, 0, 7]), ("evenly spaced", "mm")),
    (dict(ImagePositionPatient=[0, 0, 8]), ("evenly spaced", "doubled"))])
def test_mixed_series_are_refused(tmp_path, change, words):
    files = write_series(tmp_path / "P1", sphere())
    data = pydicom.dcmread(files[3])
    for key, value in change.items():
        setattr(data, key, value)
    data.save_as(files[3])
    with pytest.raises(DataError) as error:
        list(read(card(SERIES, "none"), tmp_path, "real"))
    refused(error, ".dcm", *words)


def test_one_series_of_several_by_its_description(tmp_path):
    write_series(tmp_path / "P1", sphere(), SeriesDescription="portal venous")
    for path in write_series(tmp_path / "spare", sphere()[:, :, :4], SeriesDescription="scout"):
        path.rename(tmp_path / "P1" / f"scout_{path.name}")
    with pytest.raises(DataError, match="not one series"):
        list(read(card(SERIES, "none"), tmp_path, "real"))
    records = list(read(card(SERIES.replace("true", '"portal"'), "none"), tmp_path, "real"))
    assert len(records) == sphere().shape[2] and {r.subject for r in records} == {pseudonym("P1")} and records[0].semantic is None
    with pytest.raises(DataError, match="No series has this description"):
        list(read(card(SERIES.replace("true", '"arterial"'), "none"), tmp_path, "real"))


# ---------------------------------------------------------------- shipped cards of volumes, on files of the published names

PUBLISHED = {
    "mmwhs": (["ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz", "mr_train_1001_image.nii.gz", "mr_train_1001_label.nii.gz"],
              [205, 420, 500, 550, 600, 820, 850], 2),
    "acdc": (["training/patient001/patient001_frame01.nii.gz", "training/patient001/patient001_frame01_gt.nii.gz", "training/patient001/patient001_4d.nii.gz",
              "training/patient001/patient001_frame12.nii.gz", "training/patient001/patient001_frame12_gt.nii.gz"], [1, 2, 3], 1),
    "hvsmr": (["cropped/pat0_cropped.nii.gz", "cropped/pat0_cropped_seg.nii.gz", "cropped/pat0_cropped_norm.nii.gz", "cropped/pat0_cropped_seg_endpoints.nii.gz"],
              [1, 2, 3, 4, 5, 6, 7, 8], 1),
    "promise12": (["TrainingData_Part1/Case00.mhd", "TrainingData_Part1/Case00_segmentation.mhd", "TrainingData_Part1/Case01.mhd",
                   "TrainingData_Part1/Case01_segmentation.mhd"], [1], 2),
}


def write_published(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = body()
    if any(word in path.name for word in ("label", "_gt", "seg")):
        voxels = np.resize(np.array([0, *values], np.int16), voxels.shape)
    if path.suffix == ".mhd":
        path.write_text(META + f"ElementDataFile = {path.stem}.raw\n")
        path.with_suffix(".raw").write_bytes(voxels.tobytes("F"))
    else:
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_cards_read_the_published_names(tmp_path, name):
    files, values, subjects = PUBLISHED[name]
    for file in files:
        write_published(tmp_path / name / file, values)
    found = find(name, tmp_path)
    assert found.source == "real" and len({i.subject for i in found.items}) == subjects
    records = list(read(name, tmp_path))
    assert set(np.unique([r.semantic.max() for r in records])) <= set(load_card(name).classes)
    assert {v for r in records for v in np.unique(r.semantic).tolist()} == {0, *load_card(name).classes}


@pytest.mark.parametrize("name, parts, spacing", [("epfl", {"training": "train", "testing": "test"}, 5e-6), ("isbi2012", {"train": "train"}, 4e-6)])
def test_stacks_of_electron_micrographs_by_their_published_names(tmp_path, name, parts, spacing):
    pages = np.random.default_rng(0).integers(0, 255, (6, 20, 30)).astype(np.uint8)
    masks = (pages > 100).astype(np.uint8) * 255
    (tmp_path / name).mkdir()
    for part in parts:
        image, label = (f"{part}.tif", f"{part}_groundtruth.tif") if name == "epfl" else ("train-volume.tif", "train-labels.tif")
        tifffile.imwrite(tmp_path / name / image, pages, photometric="minisblack")
        tifffile.imwrite(tmp_path / name / label, masks, photometric="minisblack")
    records = list(read(name, tmp_path))
    assert {r.split for r in records} == set(parts.values()) and records[0].spacing == (spacing, spacing)
    wanted = masks[records[0].slice] == (255 if name == "epfl" else 0)  # mitochondria are white, membranes black
    np.testing.assert_array_equal(records[0].semantic, wanted)


def test_every_shipped_card_has_options_that_its_reader_knows():
    for name in list_cards():
        check_readers(load_card(name))
    with pytest.raises(CardError, match="Did you mean 'series'"):
        check_readers(card('reader = "dicom"\nimages = "*.dcm"\nserie = true', "none"))
