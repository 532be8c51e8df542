"How a DICOM frame is seen: windows, tables, polarity, padding."

from pathlib import Path

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.dicom import open_dicom, stored_pixels
from taco.data.formats.display import (
    choices_counted,
    dicom_labels,
    dicom_picture,
    header_window,
    notes_on_choices,
    to_picture,
)
from taco.data.readers.source import Source
from tests.data.formats.dicoms import dicom, item
from tests.data.readers.bodies import card, refused

RAMP = np.arange(64, dtype=np.int16).reshape(8, 8)


def whole(numbers: np.ndarray) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def seen(path: Path, scaled: bool = False, inverted: bool | None = None) -> np.ndarray:
    data = open_dicom(path)
    return to_picture(stored_pixels(data, path), data, 0, whole, scaled, inverted)


def table(entries: list[int], bits: int = 8):
    found = item(LUTDescriptor=[len(entries), 0, bits])
    found.add_new("LUTData", "OW", np.array(entries, "<u2").tobytes())
    return found


@pytest.mark.parametrize(
    "header, expected",
    [
        ({}, RAMP / 63),
        (dict(WindowCenter=32, WindowWidth=32), ((RAMP - 16) / 31).clip(0, 1)),
        (dict(WindowCenter=32, WindowWidth=32, VOILUTFunction="LINEAR"), ((RAMP - 16) / 31).clip(0, 1)),
        (
            dict(WindowCenter=32, WindowWidth=32, VOILUTFunction="LINEAR_EXACT"),
            ((RAMP - 16) / 32).clip(0, 1),
        ),
        (
            dict(WindowCenter=32, WindowWidth=32, VOILUTFunction="SIGMOID"),
            1 / (1 + np.exp(-4 * (RAMP - 32.0) / 32)),
        ),
        (dict(WindowCenter=32, WindowWidth=1), RAMP > 31),
        (dict(WindowCenter=[32, 32], WindowWidth=[32, 32]), ((RAMP - 16) / 31).clip(0, 1)),
        (dict(VOILUTSequence=[table([0, 100, 255])]), np.array([0, 100, 255])[RAMP.clip(0, 2)] / 255),
        (dict(PhotometricInterpretation="MONOCHROME1"), 1 - RAMP / 63),
        (
            dict(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
            1 - RAMP / 63,
        ),
        (dict(PresentationLUTShape="IDENTITY"), RAMP / 63),
        (dict(PixelPaddingValue=63), np.where(RAMP == 63, 0, RAMP / 62)),
        (
            dict(PixelPaddingValue=0, PixelPaddingRangeLimit=9, PhotometricInterpretation="MONOCHROME1"),
            np.where(RAMP < 10, 0, 1 - (RAMP - 10.0) / 53),
        ),
    ],
)
def test_black_and_white(tmp_path, header, expected):
    np.testing.assert_allclose(seen(dicom(tmp_path / "a.dcm", RAMP, **header)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "header, words",
    [
        (dict(WindowCenter=[32, 40], WindowWidth=32), ("as many centres",)),
        (dict(WindowCenter=32), ("as many centres", "percentiles")),
        (dict(WindowCenter=32, WindowWidth=0), ("WindowWidth", "at least 1")),
        (dict(WindowCenter=32, WindowWidth=-5, VOILUTFunction="SIGMOID"), ("WindowWidth",)),
        (dict(WindowCenter=32, WindowWidth=8, VOILUTFunction="CUBIC"), ("CUBIC", "window = [")),
    ],
)
def test_scales_among_which_the_card_chooses(tmp_path, header, words):
    path = dicom(tmp_path / "a.dcm", RAMP, **header)
    with pytest.raises(DataError) as error:
        seen(path)
    refused(error, "a.dcm", *words)
    np.testing.assert_allclose(seen(path, scaled=True), RAMP / 63, atol=1e-6)  # the advice works


SOFT = ((RAMP - 16) / 31).clip(0, 1)


@pytest.mark.parametrize(
    "header, expected, views",
    [
        (dict(WindowCenter=[32, 40], WindowWidth=[32, 64]), SOFT, "[16, 47] of [16, 47], [8, 71]"),
        (
            dict(WindowCenter=[32, 40, 0], WindowWidth=[32, 64, 9], VOILUTFunction="SIGMOID"),
            1 / (1 + np.exp(-4 * (RAMP - 32.0) / 32)),
            "around 32 of around 32, a window, a window",
        ),
        (
            dict(WindowCenter=32, WindowWidth=32, VOILUTSequence=[table([0, 9, 255])]),
            SOFT,
            "[16, 47] of [16, 47], a table",
        ),
        (
            dict(VOILUTSequence=[table([0, 9, 255]), table([0, 255, 9])]),
            np.array([0, 9, 255])[RAMP.clip(0, 2)] / 255,
            "a table of a table, a table",
        ),
    ],
)
def test_the_first_of_several_scales_is_taken_and_counted(tmp_path, header, expected, views):
    path = dicom(tmp_path / "a.dcm", RAMP, **header)
    with choices_counted() as chosen:
        np.testing.assert_allclose(seen(path), expected, atol=1e-5)
    assert chosen == {str(path): views}
    (note,) = notes_on_choices(chosen)
    assert note.startswith("1 DICOM file proposes several grey scales") and views in note and "window = [" in note
    with choices_counted() as chosen:
        np.testing.assert_allclose(seen(path, scaled=True), RAMP / 63, atol=1e-6)
        seen(dicom(tmp_path / "b.dcm", RAMP, WindowCenter=[32, 32], WindowWidth=[32, 32]))
    assert not chosen and not notes_on_choices(chosen)


@pytest.mark.parametrize(
    "header",
    [
        dict(PresentationLUTShape="INVERSE"),
        dict(PresentationLUTShape="IDENTITY", PhotometricInterpretation="MONOCHROME1"),
    ],
)
def test_polarity_told_in_two_ways(tmp_path, header):
    path = dicom(tmp_path / "a.dcm", RAMP, **header)
    with pytest.raises(DataError) as error:
        seen(path)
    refused(error, "a.dcm", "PresentationLUTShape", "inverted = true")
    np.testing.assert_allclose(seen(path, inverted=True), 1 - RAMP / 63, atol=1e-6)
    np.testing.assert_allclose(seen(path, inverted=False), RAMP / 63, atol=1e-6)


def test_values_that_are_not_numbers(tmp_path):
    real = np.full((4, 4), np.nan, np.float32)
    path = dicom(tmp_path / "a.dcm", real, FloatPixelData=real.tobytes(), BitsStored=None, HighBit=None)
    with pytest.raises(DataError) as error:
        seen(path)
    refused(error, "a.dcm", "16 NaN")


def test_a_whole_file_as_a_picture(tmp_path):
    path = dicom(tmp_path / "a", np.stack([RAMP, RAMP * 2]), frames=True)
    with pytest.raises(DataError) as error:
        dicom_picture(path, whole)
    refused(error, "frame", "0 … 1")
    np.testing.assert_allclose(dicom_picture(path, whole, frame=1), RAMP / 63, atol=1e-6)
    np.testing.assert_array_equal(dicom_labels(path, frame=1), RAMP * 2)
    assert header_window(item(WindowCenter=5, WindowWidth=4)) == (3, 6)


@pytest.mark.parametrize(
    "table, expected",
    [
        ({}, ((RAMP - 16) / 31).clip(0, 1)),
        ({"window": [0, 126]}, RAMP / 126),
        ({"percentiles": [0, 100]}, RAMP / 63),
    ],
)
def test_a_picture_for_any_reader(tmp_path, table, expected):
    "As `Source.image` gives it: the card's scale, else the header's."
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=32, WindowWidth=32)
    source = Source(card('reader = "dicom"'), table, None)
    np.testing.assert_allclose(dicom_picture(path, source.grey_range, bool(table)), expected, atol=1e-6)
