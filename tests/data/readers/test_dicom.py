"DICOM: made files, and the test files that come with pydicom."

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from taco.base import DataError
from taco.data.find import find, read
from taco.data.formats.dicom import open_dicom, stored_pixels
from taco.data.formats.display import header_window, to_picture
from taco.data.formats.stack import read_stack, series_scan, stack_window, write_series
from taco.data.readers.dicom import pseudonym
from taco.data.readers.source import Source
from taco.data.readers.volumes import view_slice
from tests.data.readers.bodies import (
    card,
    refused,
)


def packaged(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def source(**table) -> Source:
    return Source(card('reader = "dicom"'), table, None)


def picture(name: str, **table) -> np.ndarray:
    data = open_dicom(packaged(name))
    image = to_picture(stored_pixels(data, Path(name)), data, 0, source(**table).grey_range, bool(table))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


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
    expected = ((raw.pixel_array * 1.0 - 1024) + 160) / 400
    np.testing.assert_allclose(
        picture("CT_small.dcm", window=[-160, 240])[0], expected.clip(0, 1), atol=1e-5
    )
    raw = pydicom.dcmread(packaged("MR_small.dcm"))  # centre 600, width 1600
    assert header_window(raw) == (-200, 1399)
    np.testing.assert_allclose(
        picture("MR_small.dcm")[0], ((raw.pixel_array + 200.0) / 1599).clip(0, 1), atol=1e-5
    )
    assert (
        picture("MR_small.dcm", percentiles=[0, 100]).min() == 0
        and picture("MR_small.dcm", percentiles=[0, 100]).max() == 1
    )


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
    ],
)
def test_the_packing_of_a_dicom_file_does_not_matter(name):
    np.testing.assert_array_equal(picture(name), picture("MR_small.dcm"))


def test_colours_of_dicom():
    plain = picture("SC_rgb_rle.dcm")
    assert plain.shape == (3, 100, 100) and plain[:, 0, 0].tolist() == [
        1,
        0,
        0,
    ]  # the first bar is red
    np.testing.assert_allclose(
        picture("SC_rgb_jpeg_dcmtk.dcm"), plain, atol=0.03
    )  # YBR_FULL, as JPEG rounds it
    np.testing.assert_allclose(
        picture("SC_ybr_full_422_uncompressed.dcm")[:, 5, 5], plain[:, 5, 5], atol=0.03
    )
    np.testing.assert_allclose(picture("SC_rgb_rle_16bit.dcm"), plain, atol=0.01)
    palette = picture("examples_palette.dcm")
    assert (
        palette.shape == (3, 350, 800)
        and palette.max() > 0.9
        and np.ptp(palette, axis=0).max() > 0.3
    )


def test_inverted_radiographs_and_padding(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    straight = save(tmp_path / "a.dcm", ramp, PatientID="A", WindowCenter=32, WindowWidth=64)
    inverse = save(
        tmp_path / "b.dcm",
        ramp,
        PatientID="B",
        WindowCenter=32,
        WindowWidth=64,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=0,
    )
    opened = [(open_dicom(p), p) for p in (straight, inverse)]
    a, b = (to_picture(stored_pixels(data, p), data, 0, source().grey_range)[None] for data, p in opened)
    assert (
        a[0, 0, 0] == 0
        and a[0, -1, -1] == 1
        and b[0, 0, 0] == 0
        and b[0, 0, 1] > 0.95
        and b[0, -1, -1] == 0
    )
    np.testing.assert_allclose(a[0].ravel()[1:], 1 - b[0].ravel()[1:], atol=1e-6)


def test_radiographs_with_png_masks_and_patients(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for name, patient in (("x1", "A"), ("x2", "A"), ("x3", "B")):
        save(tmp_path / f"{name}.dcm", ramp, PatientID=patient, PixelSpacing=[0.2, 0.1])
        Image.fromarray(((ramp > 30) * 255).astype(np.uint8)).save(tmp_path / f"{name}_mask.png")
    text = 'reader = "dicom"\nimages = "*.dcm"\nmasks = "*_mask.png"\nvalues = {0 = 0, 255 = 1}'
    records = list(read(card(text), tmp_path, "real"))
    assert {r.key: r.subject for r in records} == {
        "x1": pseudonym("A"),
        "x2": pseudonym("A"),
        "x3": pseudonym("B"),
    } and {r.split for r in records} == {"train", "test"}
    np.testing.assert_array_equal(records[0].semantic, ramp > 30)
    assert records[0].spacing == (0.2, 0.1)
    assert [
        i.subject for i in find(card(text + '\nsubject = "re:x(.)"'), tmp_path, "real").items
    ] == ["1", "2", "3"]
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
    assert [(r.key, r.slice, r.subject, r.image.shape) for r in records] == [
        (f"echo-t{t:03d}", t, pseudonym("204"), (3, 240, 320)) for t in (0, 10, 29)
    ]
    assert len(list(read(card(text + 'frame = "all"', "none"), tmp_path, "real"))) == 30
    for wrong in ("", "frame = 30"):
        with pytest.raises(DataError) as error:
            list(read(card(text + wrong, "none"), tmp_path, "real"))
        refused(error, "echo.dcm", "frame", "0 … 29")


@pytest.mark.parametrize(
    "name, words",
    [
        ("rtplan.dcm", ("no pixels", "RTPLAN")),
        ("test-SR.dcm", ("no pixels", "SR")),
        ("MR_truncated.dcm", ("PixelData", "8130", "Fetch")),
        ("JPEGLSNearLossless_08.dcm", ("JPEG-LS", "1.2.840.10008.1.2.4.81", "pylibjpeg")),
        ("no_meta.dcm", ("Part 10",)),
        ("JPGExtended.dcm", ("JPEG Extended", "12-bit", "gdcmconv")),
        ("SC_rgb_jpeg_gdcm.dcm", ("JPEG Lossless", "pylibjpeg")),
    ],
)
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
    files = write_series(tmp_path / "P1", sphere(), (0.7, 0.8, 2.5))
    scan = series_scan(sorted(files))
    np.testing.assert_array_equal(scan.voxels, sphere())
    np.testing.assert_allclose(scan.spacing, [0.7, 0.8, 2.5])
    labels = np.zeros(sphere().shape, np.uint8)
    labels[4:12, 5:15, 3:9] = 1
    nibabel.save(nibabel.Nifti1Image(labels, scan.affine), tmp_path / "P1_organ.nii.gz")
    text = SERIES + 'masks = "*_organ.nii.gz"\nwindow = [-1000, 100]\naxis = "coronal"\n'
    record = next(read(card(text), tmp_path, "real"))
    assert (
        record.slice == 5
        and record.spacing == pytest.approx((2.5, 0.7))
        and record.subject == pseudonym("P1")
    )
    np.testing.assert_array_equal(record.semantic, labels[:, 5].T[::-1, ::-1])
    np.testing.assert_allclose(
        record.image[0], ((sphere()[:, 5].T[::-1, ::-1] + 1000) / 1100).clip(0, 1), atol=1e-5
    )
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "P1_organ.nii.gz")
    with pytest.raises(DataError, match="does not lie on its image"):
        list(read(card(text), tmp_path, "real"))
    for path in files:
        path.rename(tmp_path / path.name)
    write_series(tmp_path / "P2", sphere(), patient="B")
    messages = []
    for item in find(
        card(text), tmp_path, "real"
    ).items:  # labels without a series, a series without labels
        with pytest.raises(DataError) as error:
            item.load()
        messages.append(error.value.what)
    assert messages == [
        "The series of a label volume is missing.",
        "The label volume of a series is missing.",
    ]


def test_a_sagittal_series_shows_the_same_body(tmp_path):
    "Rows run to the back, columns of a picture downwards: the planes follow the first axis."
    volume = sphere()
    files = write_series(
        tmp_path / "P1", volume[::-1, ::-1].transpose(1, 2, 0)[::-1], (1.0, 1.0, 1.0)
    )
    for path in files:
        data = pydicom.dcmread(path)
        k = float(data.ImagePositionPatient[2])
        data.ImageOrientationPatient, data.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [k, 0, 0]
        data.save_as(path)
    scan = series_scan(files)
    np.testing.assert_array_equal(scan.voxels, volume)


def test_series_of_the_pydicom_package():
    "Real headers: names that do not tell the order, a gap, and scouts in several directions under one number."
    folder = packaged("CT_small.dcm").parent / "dicomdirtests"
    files = sorted((folder / "98892001" / "CT5N").iterdir())
    scan = series_scan(files)
    assert scan.voxels.shape == (16, 16, 5) and scan.spacing[2] == pytest.approx(2.5)
    low = pydicom.dcmread(
        min(files, key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))
    )
    np.testing.assert_allclose(
        view_slice(scan.voxels, 0, 2),
        low.pixel_array * float(low.RescaleSlope) + float(low.RescaleIntercept),
    )
    for name, words in (
        ("77654033/CT2", ("evenly spaced", "202 mm", "1.25 mm")),
        ("98892001/CT2N", ("not one series", "ImageOrientationPatient")),
        ("98892003/MR700", ("not one series", "ImageOrientationPatient")),
    ):
        with pytest.raises(DataError) as error:
            series_scan(sorted((folder / name).iterdir()))
        refused(error, *words)


def test_frames_of_one_modern_file_are_a_volume(tmp_path):
    "Position, spacing, intercept and window lie in functional groups; the frames in another order than the body."
    volume, order = sphere(), np.random.default_rng(1).permutation(12)
    data = pydicom.dcmread(write_series(tmp_path / "spare", volume)[0])
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(data, name)

    def group(sequence, **values):
        element, groups = pydicom.Dataset(), pydicom.Dataset()
        for key, value in values.items():
            setattr(element, key, value)
        setattr(groups, sequence, [element])
        return groups

    data.PerFrameFunctionalGroupsSequence = [
        group("PlanePositionSequence", ImagePositionPatient=[0, 0, 2.5 * int(k)]) for k in order
    ]
    shared = group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.update(group("PixelMeasuresSequence", PixelSpacing=[0.8, 0.7]))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-1000))
    shared.update(group("FrameVOILUTSequence", WindowCenter=40, WindowWidth=400))
    data.SharedFunctionalGroupsSequence = [shared]
    data.NumberOfFrames = 12
    data.PixelData = (
        np.stack([((volume[::-1, ::-1, k].T + 1000) / 2) for k in order]).astype("<u2").tobytes()
    )
    data.save_as(tmp_path / "one.dcm")
    scan = series_scan([tmp_path / "one.dcm"])
    window = stack_window(read_stack([tmp_path / "one.dcm"]))
    np.testing.assert_array_equal(scan.voxels, volume)
    np.testing.assert_allclose(scan.spacing, [0.7, 0.8, 2.5])
    assert window == (-160, 239)


def test_a_tilted_gantry_shifts_the_planes(tmp_path):
    files = write_series(tmp_path / "P1", sphere())
    for path in files:
        data = pydicom.dcmread(path)
        data.ImagePositionPatient[1] = 0.5 * data.ImagePositionPatient[2]
        data.save_as(path)
    scan = series_scan(files)
    lowest, highest = (
        np.array([15, 19, k, 1]) for k in (0, 11)
    )  # the first pixel: right, in front
    np.testing.assert_allclose(
        (scan.affine @ (highest - lowest))[:3], [0, -11, 22]
    )  # LPS +y is RAS -y


def test_without_positions_numbers_have_to_do(tmp_path):
    files = write_series(tmp_path / "P1", sphere())
    for path in files:
        data = pydicom.dcmread(path)
        del data.ImagePositionPatient
        data.save_as(path)
    np.testing.assert_array_equal(series_scan(sorted(files)).voxels, sphere())
    data = pydicom.dcmread(files[2])
    del data.InstanceNumber
    data.save_as(files[2])
    with pytest.raises(DataError) as error:
        series_scan(files)
    refused(error, "P1", "InstanceNumber", "order of the slices is unknown")


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(SeriesInstanceUID="1.2.3"), ("SeriesInstanceUID", "1.2.3")),
        (dict(PixelSpacing=[2, 2]), ("PixelSpacing",)),
        (dict(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ("ImageOrientationPatient",)),
        (dict(ImagePositionPatient=[0, 0, 7]), ("evenly spaced", "mm")),
        (dict(ImagePositionPatient=[0, 0, 8]), ("at one place", "doubled")),
    ],
)
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
    assert (
        len(records) == sphere().shape[2]
        and {r.subject for r in records} == {pseudonym("P1")}
        and records[0].semantic is None
    )
    with pytest.raises(DataError, match="No series has this description"):
        list(read(card(SERIES.replace("true", '"arterial"'), "none"), tmp_path, "real"))
