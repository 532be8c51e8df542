"Slices are stacked by where they lie, or refused."

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from taco.base import DataError
from taco.data.formats.grid import view_slice
from taco.data.formats.stack import read_stack, series_scan, stack_pixels, stack_window, write_series
from tests.data.formats.dicoms import changed, dicom, group
from tests.data.readers.bodies import refused


def packaged(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def sphere() -> np.ndarray:
    "A body with a mark on one side."
    x, y, z = np.mgrid[-8:8, -10:10, -6:6]
    return (x**2 + 2 * y**2 + z**2 < 36) * 1040 - 1000 + (x + z > 6) * 100


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


def twice(folder: Path, **attributes) -> list[Path]:
    "Two bodies at one place in one series, that differ in an attribute: name → two values."
    paths = []
    for n in range(2):
        own = {name: values[n] for name, values in attributes.items()}
        for k, path in enumerate(write_series(folder / f"{n}", sphere() + n, **own)):
            changed(path, SeriesInstanceUID="1.2.3", SOPInstanceUID=f"1.2.3.{n}.{k}")
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    "attributes, advice",
    [
        (dict(EchoNumbers=[1, 2]), {"EchoNumbers": "1"}),
        (
            dict(TemporalPositionIdentifier=[3, 4], ContentTime=["101010", "101011"]),
            {"TemporalPositionIdentifier": "3"},
        ),
        (dict(AcquisitionNumber=[1, 2]), {"AcquisitionNumber": "1"}),
        (dict(ImageType=[["ORIGINAL", "W"], ["ORIGINAL", "F"]]), {"ImageType": "W"}),
    ],
)
def test_several_bodies_at_one_place_and_how_to_choose(tmp_path, attributes, advice):
    paths = twice(tmp_path, **attributes)
    with pytest.raises(DataError) as error:
        series_scan(paths)
    ((name, value),) = advice.items()
    refused(error, "at one place", f'where = {{{name} = "{value}"}}')
    np.testing.assert_array_equal(series_scan(paths, where=advice).voxels, sphere())
    second = {name: attributes[name][1] if name != "ImageType" else "F"}
    np.testing.assert_array_equal(series_scan(paths, where=second).voxels, sphere() + 1)
    with pytest.raises(DataError) as error:
        series_scan(paths, where={name: "none such"})
    refused(error, f"where.{name}", str(value))


def test_several_series_and_how_to_choose(tmp_path):
    paths = write_series(tmp_path / "a", sphere(), SeriesNumber=2, ImageType=["ORIGINAL", "AXIAL"])
    scout = dict(SeriesNumber=1, ImageType=["ORIGINAL", "LOCALIZER"], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    paths += write_series(tmp_path / "b", sphere()[:, :, :1], **scout)
    with pytest.raises(DataError) as error:
        series_scan(paths)
    refused(error, "not one series", 'where = {SeriesNumber = "2"}')
    np.testing.assert_array_equal(series_scan(paths, where={"SeriesNumber": 2}).voxels, sphere())
    np.testing.assert_array_equal(series_scan(paths, where={"ImageType": "AXIAL"}).voxels, sphere())


def test_several_times_and_stacks_in_one_modern_file(tmp_path):
    pixels = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    groups = [
        group(
            PlanePositionSequence=dict(ImagePositionPatient=[0, 0, 2.0 * z]),
            FrameContentSequence=dict(TemporalPositionIndex=t, StackID="1"),
        )
        for z, t in ((1, 2), (0, 1), (0, 2), (1, 1))
    ]
    shared = group(
        PlaneOrientationSequence=dict(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=dict(PixelSpacing=[1, 1], SliceThickness=9),
    )
    path = dicom(
        tmp_path / "a.dcm",
        pixels,
        frames=True,
        PerFrameFunctionalGroupsSequence=groups,
        SharedFunctionalGroupsSequence=[shared],
    )
    with pytest.raises(DataError) as error:
        series_scan([path])
    refused(error, "at one place", 'where = {TemporalPositionIndex = "')
    for t, frames in ((1, [1, 3]), (2, [2, 0])):
        scan = series_scan([path], where={"TemporalPositionIndex": t})
        np.testing.assert_array_equal(scan.voxels, pixels[frames].transpose(2, 1, 0)[::-1, ::-1])
        np.testing.assert_allclose(scan.spacing, [1, 1, 2])  # where they lie, not how thick they are


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(SOPInstanceUID="same"), ("SOPInstanceUID", "twice", "exclude")),
        (dict(PatientID="P2"), ("PatientID", "P2")),
        (dict(ImagePositionPatient=None), ("do not say where they lie", "exclude")),
        (dict(Modality="SEG"), ("segmentation", "exclude")),
        (dict(PixelData=None), ("no pixels", "exclude")),
        (dict(SOPClassUID="1.2.840.10008.1.3.10"), ("DICOMDIR", "exclude")),
    ],
)
def test_a_file_that_does_not_belong(tmp_path, change, words):
    paths = write_series(tmp_path / "P1", sphere())
    if change.get("SOPInstanceUID"):
        change = dict(SOPInstanceUID=pydicom.dcmread(paths[0]).SOPInstanceUID)
    changed(paths[4], **change)
    with pytest.raises(DataError) as error:
        series_scan(paths)
    refused(error, paths[4].name, *words)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(PixelSpacing=[0, 1]), ("PixelSpacing", "above 0")),
        (dict(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), ("ImageOrientationPatient",)),
        (dict(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), ("ImageOrientationPatient",)),
        (dict(RescaleSlope=0), ("RescaleSlope",)),
        (dict(PhotometricInterpretation="PALETTE COLOR"), ("PhotometricInterpretation", "singly")),
        (dict(ImagePositionPatient=None, SpacingBetweenSlices=-2), ("SpacingBetweenSlices",)),
    ],
)
def test_a_series_whose_header_cannot_be(tmp_path, change, words):
    paths = write_series(tmp_path / "P1", sphere())
    for path in paths:
        changed(path, **change)
    with pytest.raises(DataError) as error:
        series_scan(paths)
    refused(error, *words)


def test_slices_by_number_are_complete_and_of_unknown_distance(tmp_path):
    paths = write_series(tmp_path / "P1", sphere(), SliceThickness=5)
    for path in paths:
        changed(path, ImagePositionPatient=None)
    assert np.isnan(series_scan(paths).spacing[2])
    (lost,) = [path for path in paths if pydicom.dcmread(path).InstanceNumber == 4]
    with pytest.raises(DataError) as error:
        series_scan([path for path in paths if path != lost])
    refused(error, "A slice is missing", "11 numbers from 1 to 12")
    for path in paths:
        changed(path, SpacingBetweenSlices=4)
    assert series_scan(paths).spacing[2] == 4


def test_one_slice_is_as_far_from_the_next_as_it_is_thick(tmp_path):
    (path,) = write_series(tmp_path / "P1", sphere()[:, :, :1])
    assert np.isnan(series_scan([path]).spacing[2])
    np.testing.assert_allclose(series_scan([changed(path, SliceThickness=5)]).spacing, [1, 1, 5])


def test_padding_and_windows_of_a_series(tmp_path):
    paths = write_series(tmp_path / "P1", sphere(), WindowCenter=40, WindowWidth=400)
    stack = read_stack(paths)
    assert stack_pixels(stack)[1] is None and stack_window(stack) == (-160, 239)
    for path in paths:
        data = pydicom.dcmread(path)
        data.add_new("PixelPaddingValue", "US", 24)
        data.save_as(path)
    array, outside = stack_pixels(read_stack(paths))
    np.testing.assert_array_equal(outside, array == -1000)
    changed(paths[3], WindowCenter=50)
    with pytest.raises(DataError) as error:
        stack_window(read_stack(paths))
    refused(error, "several windows", "[-160, 239]; [-150, 249]", "window = [-160, 249]")
