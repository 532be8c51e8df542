"What a DICOM header says of its numbers is done, or refused."

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from taco.base import DataError
from taco.data.formats.dicom import (
    in_units,
    is_dicom,
    open_dicom,
    padding,
    pixel_spacing,
    stored_pixels,
    tag,
)
from tests.data.formats.dicoms import SEG, dicom, group, item
from tests.data.readers.bodies import refused

HU = np.linspace(-1024, 1000, 20 * 24).reshape(20, 24).round().astype(int)
STORED = (HU + 1024).astype(np.uint16)


def units(path: Path, frame: int = 0) -> np.ndarray:
    data = open_dicom(path)
    return in_units(stored_pixels(data, path)[frame], data, frame)


def lut(entries: list[int]) -> pydicom.Dataset:
    table = item(LUTDescriptor=[len(entries), 0, 16], ModalityLUTType="US")
    table.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return table


@pytest.mark.parametrize(
    "stored, header, expected",
    [
        (STORED, dict(RescaleSlope=1, RescaleIntercept=-1024), HU),
        (STORED, dict(RescaleIntercept=-1024), HU),
        (STORED, dict(RescaleSlope=2), 2 * STORED.astype(int)),
        (STORED, dict(RescaleSlope=-1, RescaleIntercept=5), 5 - STORED.astype(int)),
        (STORED, {}, STORED),
        ((HU & 0x0FFF).astype(np.uint16), dict(PixelRepresentation=1, BitsStored=12, HighBit=11), HU),
        ((HU & 0x0FFF).astype(np.uint16) << 4, dict(PixelRepresentation=1, BitsStored=12, HighBit=15), HU),
        (STORED << 4, dict(BitsStored=12, HighBit=15, RescaleIntercept=-1024), HU),
        (
            STORED | (np.arange(480).reshape(20, 24) % 3 << 13).astype(np.uint16),
            dict(BitsStored=12, HighBit=11, RescaleIntercept=-1024),
            HU,
        ),
        (
            STORED % 4,
            dict(ModalityLUTSequence=[lut([9, 7, 5, 300])]),
            np.array([9, 7, 5, 300])[STORED % 4],
        ),
    ],
)
def test_numbers_in_their_unit(tmp_path, stored, header, expected):
    np.testing.assert_array_equal(units(dicom(tmp_path / "a.dcm", stored, **header)), expected)


def test_numbers_of_signed_and_of_floating_pixels(tmp_path):
    np.testing.assert_array_equal(units(dicom(tmp_path / "a.dcm", HU.astype(np.int16))), HU)
    real = np.linspace(-1, 3, 30).reshape(5, 6).astype(np.float32)
    path = dicom(
        tmp_path / "b.dcm",
        real,
        FloatPixelData=real.tobytes(),
        BitsStored=None,
        HighBit=None,
        PixelRepresentation=None,
    )
    np.testing.assert_array_equal(units(path), real)


@pytest.mark.parametrize(
    "header, words",
    [
        (dict(RescaleSlope=0, RescaleIntercept=-1024), ("RescaleSlope", "zero")),
        (dict(RescaleSlope=[1, 2]), ("RescaleSlope", "one finite number")),
        (
            dict(RescaleSlope=2, ModalityLUTSequence=[lut([9, 7, 5, 300])]),
            ("ModalityLUTSequence", "disagree"),
        ),
        (dict(ModalityLUTSequence=[item(LUTDescriptor=[4, 0, 16])]), ("LUTData", "table")),
        (dict(NumberOfFrames=0), ("NumberOfFrames", "0")),
        (dict(NumberOfFrames=2), ("PixelData",)),
        (dict(Rows=10), ("Rows", "more pixels")),
        (dict(Rows=21), ("PixelData",)),
        (dict(SamplesPerPixel=3), ("SamplesPerPixel", "MONOCHROME2")),
        (dict(PhotometricInterpretation="HSV"), ("PhotometricInterpretation", "HSV")),
        (dict(PhotometricInterpretation=None), ("PhotometricInterpretation", "nothing")),
        (dict(PhotometricInterpretation="YBR_ICT", SamplesPerPixel=3, Columns=8), ("JPEG 2000",)),
        (dict(HighBit=3, BitsStored=12), ("HighBit", "11")),
        (dict(Modality="SEG"), ("segmentation", "masks")),
        (dict(SOPClassUID=SEG), ("segmentation", "masks")),
    ],
)
def test_headers_that_cannot_be(tmp_path, header, words):
    with pytest.raises(DataError) as error:
        units(dicom(tmp_path / "a.dcm", STORED, **header))
    refused(error, "a.dcm", *words)


def test_more_frames_than_the_header_counts(tmp_path):
    with pytest.raises(DataError) as error:
        units(dicom(tmp_path / "a.dcm", np.stack([STORED] * 3)))
    refused(error, "a.dcm", "NumberOfFrames", "more pixels")


def test_files_that_are_only_filled_up_are_read(tmp_path):
    path = dicom(tmp_path / "a.dcm", STORED, PixelData=STORED.tobytes() + b"\0" * 96)
    np.testing.assert_array_equal(units(path), STORED)


def test_units_of_each_frame(tmp_path):
    slopes = [group(PixelValueTransformationSequence=dict(RescaleSlope=s, RescaleIntercept=-s)) for s in (1, 3)]
    path = dicom(
        tmp_path / "a.dcm", np.stack([STORED] * 2), frames=True, PerFrameFunctionalGroupsSequence=slopes
    )
    np.testing.assert_array_equal(units(path, 0), STORED.astype(int) - 1)
    np.testing.assert_array_equal(units(path, 1), 3 * STORED.astype(int) - 3)
    path = dicom(
        tmp_path / "b.dcm", np.stack([STORED] * 2), frames=True, PerFrameFunctionalGroupsSequence=slopes[:1]
    )
    with pytest.raises(DataError) as error:
        units(path)
    refused(error, "b.dcm", "PerFrameFunctionalGroupsSequence", "NumberOfFrames")
    path = dicom(
        tmp_path / "c.dcm",
        np.stack([STORED] * 2),
        frames=True,
        RescaleSlope=7,
        RescaleIntercept=0,
        PerFrameFunctionalGroupsSequence=slopes,
    )
    with pytest.raises(DataError) as error:
        units(path)
    refused(error, "c.dcm", "RescaleSlope", "disagree")
    assert tag(open_dicom(path), "PatientID", 1) == "P1"


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_lie_one_by_one_or_plane_by_plane(tmp_path, planar):
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    there = colours if planar == 0 else np.ascontiguousarray(colours.transpose(2, 0, 1))
    path = dicom(tmp_path / "a.dcm", colours, PlanarConfiguration=planar, PixelData=there.tobytes())
    np.testing.assert_array_equal(units(path), colours)


def test_luminance_and_differences_become_colours(tmp_path):
    "Full range as in JPEG: grey is grey, and red is red."
    ybr = np.array([[[77, 85, 255], [128, 128, 128]]] * 2, np.uint8)
    found = units(dicom(tmp_path / "a.dcm", ybr, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(found[0], [[255, 0, 0], [128, 128, 128]], atol=2)


def test_a_palette_is_looked_up(tmp_path):
    tables = {}
    for colour, values in (("Red", [0, 200, 9]), ("Green", [0, 30, 8]), ("Blue", [0, 31, 7])):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 8]
        tables[f"{colour}PaletteColorLookupTableData"] = bytes(values) + b"\0"
    index = np.array([[0, 1], [2, 1]], np.uint8)
    path = dicom(tmp_path / "a.dcm", index, PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(units(path), [[[0, 0, 0], [200, 30, 31]], [[9, 8, 7], [200, 30, 31]]])
    path = dicom(tmp_path / "b.dcm", index, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError) as error:
        units(path)
    refused(error, "b.dcm", "LUT")


@pytest.mark.parametrize(
    "kind, header, expected",
    [
        (np.int16, dict(PixelPaddingValue=-2000), [1, 0, 0, 0]),
        (np.int16, dict(PixelPaddingValue=63536), [1, 0, 0, 0]),
        (np.int16, dict(PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1000), [1, 1, 0, 0]),
        (np.int16, dict(PixelPaddingValue=-1000, PixelPaddingRangeLimit=-2000), [1, 1, 0, 0]),
        (np.float32, dict(FloatPixelPaddingValue=7.0), [0, 0, 0, 1]),
    ],
)
def test_padding_of_any_type(kind, header, expected):
    found = padding(np.array([[-2000, -1500, 0, 7]], kind), item(**header))
    assert found.tolist() == [list(map(bool, expected))]
    assert padding(np.zeros((2, 2), kind), item()) is None


@pytest.mark.parametrize(
    "header, given, expected",
    [
        (dict(PixelSpacing=[0.5, 0.25]), None, (0.5, 0.25)),
        (dict(PixelSpacing=[0.5, 0.25], ImagerPixelSpacing=[1, 1]), None, (0.5, 0.25)),
        (dict(ImagerPixelSpacing=[0.1, 0.1], NominalScannedPixelSpacing=[1, 1]), None, (0.1, 0.1)),
        (dict(NominalScannedPixelSpacing=[0.2, 0.2]), None, (0.2, 0.2)),
        (dict(), None, None),
        (dict(), [0.3, 0.4], (0.3, 0.4)),
        (dict(PixelSpacing=[0.5, 0.25]), [0.5, 0.25], (0.5, 0.25)),
        (dict(PixelSpacing=[0, 0]), [0.3, 0.4], (0.3, 0.4)),
        (dict(PixelAspectRatio=["1", "1"]), None, None),
        (dict(PixelAspectRatio=["2", "1"]), [0.4, 0.2], (0.4, 0.2)),
        (dict(PixelAspectRatio=["2", "1"], PixelSpacing=[0.4, 0.2]), None, (0.4, 0.2)),
    ],
)
def test_the_size_of_a_pixel(header, given, expected):
    assert pixel_spacing(item(**header), 0, given) == expected


@pytest.mark.parametrize(
    "header, given, words",
    [
        (dict(PixelSpacing=[0, 0.5]), None, ("PixelSpacing", "spacing = [row, column]")),
        (dict(PixelSpacing=[-1, 1]), None, ("PixelSpacing",)),
        (dict(PixelSpacing=[0.5]), None, ("PixelSpacing",)),
        (dict(PixelSpacing=["", ""]), None, ("PixelSpacing",)),
        (dict(PixelSpacing=["nan", "1"]), None, ("PixelSpacing",)),
        (dict(ImagerPixelSpacing=[0, 0]), None, ("ImagerPixelSpacing",)),
        (dict(PixelSpacing=[0.5, 0.5]), [0.7, 0.7], ("another size", "Leave out spacing")),
        (dict(PixelAspectRatio=["2", "1"]), None, ("PixelAspectRatio", "spacing = [row, column]")),
        (dict(PixelAspectRatio=["2", "1"], PixelSpacing=[0.4, 0.4]), None, ("PixelAspectRatio",)),
    ],
)
def test_sizes_that_cannot_be(header, given, words):
    data = item(**header)
    data.filename = "a.dcm"
    with pytest.raises(DataError) as error:
        pixel_spacing(data, 0, given)
    refused(error, "a.dcm", *words)


def test_dicom_is_known_by_its_bytes(tmp_path):
    assert is_dicom(dicom(tmp_path / "IM0001", STORED)) and is_dicom(tmp_path / "absent.DCM")
    (tmp_path / "notes").write_text("DICM")
    assert not is_dicom(tmp_path / "notes") and not is_dicom(tmp_path / "a.png")
    with pytest.raises(DataError) as error:
        open_dicom(tmp_path / "notes")
    refused(error, "notes", "Part 10", 'exclude = "**/notes"')


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_packed_pixels_are_counted(tmp_path, frames):
    data = pydicom.dcmread(get_testdata_file("SC_rgb_rle_2frame.dcm", download=False))
    path = tmp_path / "a.dcm"
    data.NumberOfFrames = 2
    data.save_as(path)
    assert stored_pixels(open_dicom(path), path).shape == (2, 100, 100, 3)
    data.NumberOfFrames = frames
    data.save_as(path)
    with pytest.raises(DataError) as error:
        stored_pixels(open_dicom(path), path)
    refused(error, "a.dcm")


def test_a_palette_of_full_depth(tmp_path):
    tables = {}
    for colour, values in (("Red", [0, 65535]), ("Green", [0, 300]), ("Blue", [0, 5])):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = np.array(values, "<u2").tobytes()
    path = dicom(tmp_path / "a.dcm", np.eye(2, dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    assert units(path)[0].tolist() == [[65535, 300, 5], [0, 0, 0]]


def test_a_file_is_not_believed_more_than_fits_into_it(tmp_path):
    file = dicom(tmp_path / "a.dcm", np.zeros((8, 9), np.uint16))
    whole = file.read_bytes()
    for more in (dict(NumberOfFrames=2**31 - 1), dict(Rows=65535, Columns=65535)):
        data = pydicom.dcmread(dicom(file, np.zeros((8, 9), np.uint16), **more))
        data.filename = str(file)
        with pytest.raises(DataError) as error: stored_pixels(data, file)
        refused(error, "far more than it can", "a.dcm")
        with pytest.raises(DataError) as error: stored_pixels(open_dicom(file), file)
        refused(error, "far more than it can", "a.dcm")
    at = whole.rindex(b"\xe0\x7f\x10\x00") + 8
    file.write_bytes(whole[:at] + b"\xfe\xff\xff\xff" + whole[at + 4:])  # says four gigabytes, and all pixels are there
    assert stored_pixels(open_dicom(file), file).shape == (1, 8, 9)


def test_what_is_packed_as_a_whole_is_no_bomb(tmp_path, monkeypatch):
    deflated = dict(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    pixels = np.arange(72, dtype=np.uint16).reshape(8, 9)
    file = dicom(tmp_path / "a.dcm", pixels, **deflated)
    assert (stored_pixels(open_dicom(file), file)[0] == pixels).all()
    monkeypatch.setattr("taco.data.formats.dicom.VOXELS", 10_000)
    dicom(file, np.zeros((1000, 900), np.uint16), **deflated)
    with pytest.raises(DataError) as error: open_dicom(file)
    refused(error, "far more than it can", "a.dcm")


def test_a_way_of_packing_that_is_none(tmp_path):
    file = dicom(tmp_path / "a.dcm", np.zeros((8, 9), np.uint16))
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.2.1\0"))
    with pytest.raises(DataError) as error: stored_pixels(open_dicom(file), file)
    refused(error, "in no known way", "TransferSyntaxUID", "a.dcm")


def test_a_kind_of_value_that_is_none(tmp_path):
    file = dicom(tmp_path / "a.dcm", np.zeros((8, 9), np.uint16))
    at = file.read_bytes().index(b"\x28\x00\x01\x01US") + 4  # of BitsStored
    file.write_bytes(file.read_bytes()[:at] + b"ES" + file.read_bytes()[at + 2:])
    with pytest.raises(DataError) as error: stored_pixels(open_dicom(file), file)
    refused(error, "cannot be read", "a.dcm")
