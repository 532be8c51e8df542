"DICOM files as images and masks of the readers that take pictures: boxes, points, masks, objects, channels."

import numpy as np
import pytest

from taco.base import DataError
from taco.data.find import read
from tests.data.formats.dicoms import dicom, segmentation
from tests.data.made import BOXES, CHANNELS, FORMATS, HEIGHT, WIDTH, card_of, refused, write

FILM = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
POINTS = ('reader = "table"\nimages = "*.dcm"\nannotations = "*.txt"\n'
          'columns = {x = 0, y = 1, class = 2}\nseparator = "space"\nheader = false\n')
PAIR = 'reader = "pairs"\nimages = "*_img.dcm"\nmasks = "*_mask.dcm"\n'
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[10:20, 30:50], MASK[40:50, 5:9] = 1, 2
OBJECTS = np.array([0, 255, 700], np.uint16)[MASK]


def film(path, pixels=FILM, **more):
    return dicom(path, pixels, **{"BitsStored": 12, "HighBit": 11} | more)


def annotated(root, form, **more):
    card, name, text = FORMATS[form]
    film(root / "toy/a.dcm", **more)
    write(root, name, text().replace("a.png", "a.dcm"))
    return card.replace(".png", ".dcm")


@pytest.mark.parametrize("form", FORMATS)
def test_boxes_on_a_film(tmp_path, form):
    card = annotated(tmp_path, form)
    (record,) = read(card_of(card + "window = [0, 4095]\n"), tmp_path)
    np.testing.assert_allclose(record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [b[1:] for b in BOXES], atol=1e-3)
    np.testing.assert_allclose(record.image[0], FILM / 4095, atol=1e-6)
    assert record.box_classes.tolist() == [1, 2] and record.image.shape == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize("form", FORMATS)
def test_what_the_header_says_is_shown(tmp_path, form):
    "Small numbers are white, the window lies in the header, numbers have a slope."
    card = annotated(tmp_path, form, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-100,
                     WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    (record,) = read(card_of(card), tmp_path)
    units = FILM * 2.0 - 100
    np.testing.assert_allclose(record.image[0], 1 - ((units - 1500) / 1000).clip(0, 1), atol=1e-5)


def test_points_on_a_film_in_colour(tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    dicom(tmp_path / "toy/a.dcm", colours)
    write(tmp_path, "a.txt", "10 12 red\n44 20 white\n")
    (record,) = read(card_of(POINTS), tmp_path)
    np.testing.assert_allclose(record.points * [WIDTH, HEIGHT], [[10.5, 12.5], [44.5, 20.5]], atol=1e-3)
    np.testing.assert_allclose(record.image, colours.transpose(2, 0, 1) / 255, atol=1e-6)


def test_one_of_several_frames(tmp_path):
    card = annotated(tmp_path, "yolo", pixels=np.stack([FILM, FILM // 2]), frames=True)
    message = refused(DataError, card_of(card), tmp_path, "a.dcm", "frame", "0 … 1", "page = 0")
    assert "skip_bad" not in message
    (record,) = read(card_of(card + "page = 1\nwindow = [0, 4095]\n"), tmp_path)  # the fix
    np.testing.assert_allclose(record.image[0], FILM // 2 / 4095, atol=1e-6)


@pytest.mark.parametrize("options, wanted", [
    ("", MASK), ("values = {0 = 0, 1 = 2, 2 = 1}\n", np.array([0, 2, 1])[MASK]), ("threshold = 1\n", MASK > 1)])
def test_masks_that_are_dicom(tmp_path, options, wanted):
    film(tmp_path / "toy/a_img.dcm")
    dicom(tmp_path / "toy/a_mask.dcm", MASK)
    (record,) = read(card_of(PAIR + options), tmp_path)
    np.testing.assert_array_equal(record.semantic, wanted)


def test_a_dicom_mask_of_objects_and_of_what_is_unknown(tmp_path):
    film(tmp_path / "toy/a_img.dcm")
    dicom(tmp_path / "toy/a_mask.dcm", OBJECTS)
    (record,) = read(card_of(PAIR + 'objects = true\nvalues = "nonzero"\n'), tmp_path)
    np.testing.assert_array_equal(record.instances, OBJECTS)
    (record,) = read(card_of(PAIR + "values = {0 = 0, 700 = 3}\nignore = 255\n"), tmp_path)
    np.testing.assert_array_equal(record.ignore, MASK == 1)
    np.testing.assert_array_equal(record.semantic, (MASK == 2) * 3)


def test_a_dicom_mask_counted_from_white(tmp_path):
    film(tmp_path / "toy/a_img.dcm")
    dicom(tmp_path / "toy/a_mask.dcm", 255 * (MASK == 0).astype(np.uint8), PhotometricInterpretation="MONOCHROME1")
    refused(DataError, card_of(PAIR), tmp_path, "a_mask.dcm", "MONOCHROME1", "values")
    (record,) = read(card_of(PAIR + "values = {255 = 0, 0 = 1}\n"), tmp_path)  # the fix
    np.testing.assert_array_equal(record.semantic, MASK > 0)


def test_a_mask_an_object(tmp_path):
    film(tmp_path / "toy/a/img.dcm")
    for number in (1, 2):
        dicom(tmp_path / f"toy/a/{number}_mask.dcm", (number == MASK).astype(np.uint8))
    card = 'reader = "instances"\nimages = "*/img.dcm"\nobjects = "*/*_mask.dcm"\n'
    (record,) = read(card_of(card), tmp_path)
    np.testing.assert_array_equal(record.instances, MASK)


@pytest.mark.parametrize("frames", [True, False])
def test_channels(tmp_path, frames):
    film(tmp_path / "toy/images/a.dcm")
    planes = np.stack([MASK == 1, MASK == 2, MASK > 9], -1).astype(np.uint8) * 255
    dicom(tmp_path / "toy/masks/a.dcm", np.moveaxis(planes, 2, 0) if frames else planes, frames=frames)
    (record,) = read(card_of(CHANNELS.replace(".png", ".dcm").replace(".tif", ".dcm")), tmp_path)
    np.testing.assert_array_equal(record.semantic, MASK)


def test_a_segmentation_is_no_picture(tmp_path):
    film(tmp_path / "toy/a_img.dcm", BitsStored=16, HighBit=15)
    segmentation(tmp_path / "toy/a_mask.dcm", MASK[None] > 0, [1], {1: "organ"})
    refused(DataError, card_of(PAIR), tmp_path, "a_mask.dcm", "a segmentation", 'reader = "dicom"')


@pytest.mark.parametrize("reader", ["pairs", "dicom"])
@pytest.mark.parametrize("stored, said, wanted", [
    (255 * (MASK > 0), "values = {0 = 0, 255 = 1}", None),    # a viewer shows the object in black on white
    (255 * (MASK > 0), "threshold = 127", None),
    (255 * (MASK == 0), "values = {0 = 1, 255 = 0}", MASK > 0),
    (MASK > 0, "values = {0 = 0, 1 = 1}", MASK > 0),          # 0 and 1 are not its white and black
])
def test_a_mask_whose_ground_would_be_white(tmp_path, reader, stored, said, wanted):
    film(tmp_path / "toy/a_img.dcm")
    dicom(tmp_path / "toy/a_mask.dcm", stored.astype(np.uint8), PhotometricInterpretation="MONOCHROME1")
    card = PAIR.replace("pairs", reader) + said + "\n"
    if wanted is None:
        refused(DataError, card_of(card), tmp_path, "a_mask.dcm", "MONOCHROME1", "values = {0 = 1, 255 = 0}")
        dicom(tmp_path / "toy/a_mask.dcm", stored.astype(np.uint8))  # the other fix: saved as MONOCHROME2
        wanted = stored > 0
    (record,) = read(card_of(card), tmp_path)
    np.testing.assert_array_equal(record.semantic, wanted)
