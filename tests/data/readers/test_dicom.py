"DICOM: made files, and the test files that come with pydicom."

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from taco.base import CardError, DataError
from taco.data.find import find, read
from taco.data.formats.dicom import open_dicom, stored_pixels
from taco.data.formats.display import header_window, to_picture
from taco.data.formats.stack import write_series
from taco.data.readers.dicom import pseudonym
from taco.data.readers.source import Source
from tests.data.formats.dicoms import dicom, outlines, segmentation
from tests.data.readers.bodies import card, refused


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
    text = 'reader = "dicom"\nimages = "*.dcm"\n'
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
        ("no_meta.dcm", ("Part 10", "dcmconv")),
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


RAMP = np.arange(480, dtype=np.uint16).reshape(20, 24)
LEFT, RIGHT = np.zeros((2, 20, 24), np.uint8)
LEFT[4:16, 2:9], RIGHT[4:16, 14:21] = 1, 1
PAIRS = 'reader = "dicom"\nimages = "*_img.dcm"\nmasks = "*_seg.dcm"\nwindow = [0, 479]\n'


def only(text: str, folder: Path, annotation: str = "semantic"):
    (record,) = read(card(text, annotation), folder, "real")
    return record


def test_a_segmentation_of_one_image_has_all_its_segments(tmp_path):
    "One frame a segment, 84 pixels each; with a list of segments, and as older programs write it."
    dicom(tmp_path / "p_img.dcm", RAMP)
    dicom(tmp_path / "p_seg.dcm", np.stack([LEFT, RIGHT]), Modality="SEG", frames=True)
    np.testing.assert_array_equal(only(PAIRS, tmp_path).semantic, LEFT + RIGHT)
    names = {1: "left", 2: "right"}
    segmentation(tmp_path / "p_seg.dcm", np.stack([RIGHT, LEFT]), [2, 1], names)
    with pytest.raises(DataError) as error:
        only(PAIRS, tmp_path)
    refused(error, "p_seg.dcm", "left, right", 'segments = {"left" = 0, "right" = 0}')
    record = only(PAIRS + "segments = {left = 1, right = 2}", tmp_path)
    np.testing.assert_array_equal(record.semantic, LEFT + 2 * RIGHT)
    record = only(PAIRS + "values = {1 = 2, 2 = 1}", tmp_path)
    np.testing.assert_array_equal(record.semantic, 2 * LEFT + RIGHT)
    record = only(PAIRS.replace('"*_seg.dcm"', '{2 = "*_seg.dcm"}'), tmp_path)
    np.testing.assert_array_equal(record.semantic, 2 * (LEFT + RIGHT))
    dicom(tmp_path / "p_seg.dcm", np.stack([LEFT, 2 * LEFT]), Modality="SEG", frames=True)
    with pytest.raises(DataError, match="several classes"):
        only(PAIRS, tmp_path)


def test_a_segmentation_with_shares(tmp_path):
    dicom(tmp_path / "p_img.dcm", RAMP)
    shares, names = np.stack([LEFT * 200, RIGHT * 100]), {1: "organ", 2: "lesion"}
    segmentation(tmp_path / "p_seg.dcm", shares, [1, 2], names, kind="FRACTIONAL")
    with pytest.raises(DataError, match="threshold = 127"):
        only(PAIRS, tmp_path)
    np.testing.assert_array_equal(only(PAIRS + "threshold = 127", tmp_path).semantic, LEFT)
    np.testing.assert_array_equal(only(PAIRS + "threshold = 99", tmp_path).semantic, LEFT + 2 * RIGHT)


def test_a_segmentation_is_not_an_image(tmp_path):
    segmentation(tmp_path / "p_seg.dcm", LEFT[None], [1], {1: "organ"})
    with pytest.raises(DataError) as error:
        only('reader = "dicom"\nimages = "*.dcm"', tmp_path, "none")
    refused(error, "p_seg.dcm", "a segmentation", 'exclude = "**/p_seg.dcm"', "masks")
    dicom(tmp_path / "p_img.dcm", RAMP)
    only('reader = "dicom"\nimages = "*.dcm"\nexclude = "**/p_seg.dcm"', tmp_path, "none")  # the advice works
    outlines(tmp_path / "p_seg.dcm", {"organ": []})
    with pytest.raises(DataError, match="series = true"):
        only(PAIRS, tmp_path)


def test_masks_of_a_loop(tmp_path):
    "A mask of as many frames has one for each; a mask of one frame belongs to one frame."
    dicom(tmp_path / "p_img.dcm", np.stack([RAMP, RAMP]), frames=True)
    dicom(tmp_path / "p_seg.dcm", np.stack([LEFT, RIGHT]), frames=True)
    records = list(read(card(PAIRS + 'frame = "all"'), tmp_path, "real"))
    np.testing.assert_array_equal(np.stack([r.semantic for r in records]), np.stack([LEFT, RIGHT]))
    np.testing.assert_array_equal(only(PAIRS + "frame = 1", tmp_path).semantic, RIGHT)
    dicom(tmp_path / "p_seg.dcm", LEFT)
    np.testing.assert_array_equal(only(PAIRS + "frame = 1", tmp_path).semantic, LEFT)
    with pytest.raises(DataError, match="One mask for several frames"):
        list(read(card(PAIRS + 'frame = "all"'), tmp_path, "real"))
    dicom(tmp_path / "p_seg.dcm", np.stack([LEFT] * 3), frames=True)
    with pytest.raises(DataError) as error:
        only(PAIRS + "frame = 1", tmp_path)
    refused(error, "p_seg.dcm", "several frames", "1, or 2")


def test_numbers_of_a_mask_have_a_meaning(tmp_path):
    dicom(tmp_path / "p_img.dcm", RAMP)
    dicom(tmp_path / "p_seg.dcm", LEFT + np.uint8(9), RescaleSlope=2, RescaleIntercept=-18)
    np.testing.assert_array_equal(only(PAIRS, tmp_path).semantic, 2 * LEFT)
    dicom(tmp_path / "p_seg.dcm", 255 - 255 * LEFT, PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(DataError) as error:
        only(PAIRS, tmp_path)
    refused(error, "p_seg.dcm", "MONOCHROME1", "values = {")
    np.testing.assert_array_equal(only(PAIRS + "values = {0 = 1, 255 = 0}", tmp_path).semantic, LEFT)
    tables = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, value in (("Red", 255), ("Green", 0), ("Blue", 0)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 8]
        tables[f"{colour}PaletteColorLookupTableData"] = bytes([0, value])
    dicom(tmp_path / "p_seg.dcm", LEFT, **tables)
    np.testing.assert_array_equal(only(PAIRS, tmp_path).semantic, LEFT)
    colours = only(PAIRS + 'colours = {"#000000" = 0, "#ff0000" = 2}', tmp_path)
    np.testing.assert_array_equal(colours.semantic, 2 * LEFT)


def test_images_without_a_mask(tmp_path):
    for name in ("p", "q"):
        dicom(tmp_path / f"{name}_img.dcm", RAMP)
    dicom(tmp_path / "p_seg.dcm", LEFT)
    with pytest.raises(DataError, match="mask of an image is missing"):
        list(read(card(PAIRS), tmp_path, "real"))
    found = lambda how: {r.key: r.semantic for r in read(card(PAIRS + f'unlabelled = "{how}"'), tmp_path, "real")}
    assert list(found("skip")) == ["p"] and found("keep")["q"] is None and not found("empty")["q"].any()
    assert all(v["p"].sum() == 84 for v in map(found, ("skip", "keep", "empty")))


@pytest.mark.parametrize(
    "option",
    [
        "axis = 0",
        'slices = "all"',
        "every = 2",
        "number = 3",
        "foreground = 0.1",
        "where = {EchoNumbers = 1}",
        'healthy = "skip"',
    ],
)
def test_options_of_series_mean_nothing_for_files(tmp_path, option):
    dicom(tmp_path / "p_img.dcm", RAMP)
    with pytest.raises(CardError) as error:
        find(card('reader = "dicom"\nimages = "*.dcm"\n' + option, "none"), tmp_path, "real")
    assert option.split()[0] in str(error.value) and "series = true" in str(error.value)


@pytest.mark.parametrize(
    "option, expected",
    [
        ("window = [100, 200]", ((RAMP - 100.0) / 100).clip(0, 1)),
        ("percentiles = [0, 100]", RAMP / 479),
        ("window = [0, 479]\ninverted = true", 1 - RAMP / 479),
    ],
)
def test_options_change_what_is_read(tmp_path, option, expected):
    dicom(tmp_path / "p_img.dcm", RAMP, WindowCenter=[9, 99], WindowWidth=[10, 20])
    record = only('reader = "dicom"\nimages = "*.dcm"\n' + option, tmp_path, "none")
    np.testing.assert_allclose(record.image[0], expected, atol=1e-5)
    record = only('reader = "dicom"\nimages = "*.dcm"\nspacing = [3, 2]\ntag = "x"\n' + option, tmp_path, "none")
    assert record.spacing == (3, 2) and record.key == "p_img-x"


def test_the_window_of_a_card_counts_for_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    dicom(tmp_path / "p_img.dcm", colours)
    text = 'reader = "dicom"\nimages = "*.dcm"\n'
    np.testing.assert_allclose(only(text, tmp_path, "none").image, colours.transpose(2, 0, 1) / 255, atol=1e-6)
    record = only(text + "window = [0, 100]", tmp_path, "none")
    np.testing.assert_allclose(record.image, (colours.transpose(2, 0, 1) / 100).clip(0, 1), atol=1e-6)


def test_patients_of_any_alphabet(tmp_path):
    patients = (("a", "ISO_IR 192", "患者"), ("b", "ISO_IR 100", "Ärger"), ("c", "ISO_IR 100", "P1 "))
    for name, charset, patient in patients:
        dicom(tmp_path / f"{name}.dcm", RAMP, SpecificCharacterSet=charset, PatientID=patient)
    items = find(card('reader = "dicom"\nimages = "*.dcm"', "none"), tmp_path, "real").items
    assert [i.subject for i in items] == [pseudonym("患者"), pseudonym("Ärger"), pseudonym("P1")]


def test_images_of_one_identity_are_refused(tmp_path):
    for name in ("a1", "a2"):
        dicom(tmp_path / f"{name}.dcm", RAMP)
    with pytest.raises(CardError) as error:
        find(card('reader = "dicom"\nimages = "re:(.)..dcm"', "none"), tmp_path, "real")
    assert "a1.dcm" in str(error.value) and "a2.dcm" in str(error.value)


def test_a_folder_with_other_files(tmp_path):
    "Each is named with an advice that works."
    dicom(tmp_path / "IM1", RAMP)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").write_bytes(b"")
    there = packaged("CT_small.dcm").parent
    for name in ("test-SR.dcm", "rtstruct.dcm", "no_meta.dcm", "dicomdirtests/DICOMDIR"):
        (tmp_path / Path(name).name).write_bytes((there / name).read_bytes())
    text = 'reader = "dicom"\nimages = "**/*"\n'
    items = find(card(text, "none"), tmp_path, "real").items
    for found in items:
        name = Path(found.file).name
        if name == "IM1":
            continue
        with pytest.raises(DataError) as error:
            found.load()
        refused(error, name, f'exclude = "**/{name}"')
    names = ",".join(Path(i.file).name for i in items if not i.file.endswith("IM1"))
    record = only(text + f'exclude = "**/{{{names}}}"', tmp_path, "none")
    assert record.key == "IM1"
