"Pixels of every usual kind become unit images."

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.find import read
from taco.data.formats.raster import read_pixels
from taco.data.readers.pixels import class_rule, ignored, lossy, numbered_anew, object_numbers, to_labels, to_unit
from taco.data.readers.source import example_card
from tests.data.made import disc, make_card, told, write_pairs


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


def test_undeclared_labels_are_listed(tmp_path):
    write_pairs(tmp_path, 2)
    Image.fromarray((disc(0)[1] * 200).astype(np.uint8)).save(
        tmp_path / "toy" / "masks" / "p00_00.png"
    )
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path), tmp_path))
    told(error, "p00_00.png", "0, 200", "255→1 (disc)", "toy.toml")


CELLS = example_card(classes=["cell", "nucleus", "debris"])


def labels(mask, rule=None, file="a.png"):
    return to_labels(np.asarray(mask), CELLS, rule or {}, file).tolist()


def refuses(call, *words):
    with pytest.raises(DataError) as error: call()
    return told(error, *words)


@pytest.mark.parametrize("mask, rest", [
    ([[0, 3, 90, 180, 255]], "threshold = 127"),      # JPEG, or a soft edge
    ([[1, 2, 2, 2, 2]], "threshold = 1"),             # which of them is the background?
    ([[254, 255, 255, 255, 255]], "threshold = 254"),
    ([[0, .2, .5, .9, 1]], "threshold = 0.5"),
    ([[np.nan, np.nan, np.nan, 1, 1]], "threshold = 0.5"),
    ([[np.nan, 0, 0, 0, 1]], "threshold = 0.5"),
])
def test_not_zero_is_not_foreground_where_a_file_holds_one_class(mask, rest):
    mask = np.array(mask, np.float32 if any(isinstance(v, float) for v in mask[0]) else np.uint8)
    text = refuses(lambda: to_labels(mask, CELLS, class_rule({}), "a.png"), "mask", rest)
    limit = float(text.split("threshold = ")[1].split()[0].rstrip(",."))  # the advice, followed
    with np.errstate(invalid="ignore"): wanted = (mask > limit).astype(int).tolist()
    assert labels(mask, class_rule({"threshold": limit})) == wanted


@pytest.mark.parametrize("mask", [[[0, 0]], [[0, 1]], [[0, 255]], [[7, 7]], [[0., 1.]], [[False, True]]])
def test_one_value_beside_zero_is_foreground(mask):
    assert labels(mask, class_rule({})) == (np.array(mask) != 0).astype(int).tolist()


def test_a_file_of_one_class_follows_values_and_colours_of_the_card():
    assert labels([[0, 1, 2, 9]], class_rule({"values": {"0": 0, "1": 0, "2": 1, "9": 3}})) == [[0, 0, 1, 3]]
    red = np.array([[[0, 0, 0], [200, 9, 9], [200, 9, 9]]], np.uint8)
    assert labels(red, class_rule({})) == [[0, 1, 1]]
    red[0, 2] = 9, 9, 200
    refuses(lambda: labels(red, class_rule({})), "not clear")
    assert labels(red, class_rule({"colours": {"#000000": 0, "#c80909": 0, "#0909c8": 1}})) == [[0, 0, 1]]


def test_nonzero_is_for_numbers_not_for_parts_and_noise():
    assert labels([[0, 7, 9]], {"values": "nonzero"}) == [[0, 1, 1]]
    refuses(lambda: labels([[0, .3, 1]], {"values": "nonzero"}), "not clear", "threshold")
    refuses(lambda: labels([[0, 3, 255]], {"values": "nonzero"}, "a.JPG"), "not clear", "threshold")
    refuses(lambda: labels([[0, 3, 255]], {"threshold": .5}, "a.JPG"), "not clear", "threshold = 127")
    assert labels([[0, 255]], {"threshold": .5}, "a.JPG") == [[0, 1]]
    assert labels([[0, 3, 255]], {"threshold": .5}, "a.png") == [[0, 1, 1]]
    assert labels([[0, 3, 255]], {"threshold": 127}, "a.JPG") == [[0, 0, 1]]
    refuses(lambda: labels([[np.nan, 1]], {"values": "nonzero"}), "NaN", "threshold")


def test_whole_numbers_that_were_rounded_and_those_that_were_not():
    assert labels(np.array([0, 85, 170, 255])[None] * np.float64(np.float32(1 / 85))) == [[0, 1, 2, 3]]
    assert labels(np.array([[0, .99995, 3.00004]], np.float32)) == [[0, 1, 3]]
    refuses(lambda: labels([[0, 1.01, 2]]), "whole numbers", "tolerance")
    assert labels([[0, 1.01, 1.99]], {"tolerance": .02}) == [[0, 1, 2]]
    refuses(lambda: labels([[0, 1.5, 2]], {"tolerance": .2}), "1.5")
    refuses(lambda: labels([[0, 4, 2]]), "4", "1→1 (cell)")
    refuses(lambda: labels([[np.nan, 1, 2]]), "1 NaN pixels; else 1.0, 2.0", "ignore = nan")
    with pytest.raises(DataError, match="NaN") as error: labels([[np.nan, 1]], class_rule({"reader": "volumes"}))
    assert "ignore = nan" in error.value.fix and "threshold" in error.value.fix
    assert labels([[0, 120, 250]], {"values": {"0": 0, "128": 1, "255": 2}, "tolerance": 8}) == [[0, 1, 2]]
    refuses(lambda: labels([[0, 119, 250]], {"values": {"0": 0, "128": 1, "255": 2}, "tolerance": 8}), "119")


def test_colours_of_grey_of_jpeg_and_of_sixteen_bits():
    colours = {"colours": {"#000000": 0, "#ffffff": 2, "#ff0000": 1}}
    assert labels(np.array([[0, 255]], np.uint8), colours) == labels([[False, True]], colours) == [[0, 2]]
    noisy = np.array([[[3, 0, 5], [250, 6, 0], [255, 251, 255]]], np.uint8)
    refuses(lambda: labels(noisy, colours), "#030005", "tolerance")
    assert labels(noisy, colours | {"tolerance": 8}) == [[0, 1, 2]]
    refuses(lambda: labels(np.zeros((1, 2, 3), np.uint16), colours), "8 bits")


@pytest.mark.parametrize("mask, ignore", [
    ([[0, 1, 255]], 255), ([[0, 1, 7]], [7, 9]), ([[0, 1, np.nan]], float("nan")), ([[0, 1, -1]], -1)])
def test_ignored_values_are_background_and_remembered(mask, ignore):
    mask = np.array(mask)
    for rule in ({}, {"values": "nonzero"}, {"threshold": .5}, {"values": {"0": 0, "1": 1}}, class_rule({})):
        assert labels(mask, rule | {"ignore": ignore}) == [[0, 1, 0]]
    assert ignored(mask, {"ignore": ignore}).tolist() == [[False, False, True]] and ignored(mask, {}) is None


def test_ignored_colours():
    mask = np.array([[[0, 0, 0], [255, 0, 0], [224, 224, 192]]], np.uint8)  # Pascal VOC draws the unknown so
    rule = {"colours": {"#000000": 0, "#ff0000": 1}, "ignore": "#e0e0c0"}
    assert labels(mask, rule) == [[0, 1, 0]] and ignored(mask, rule).tolist() == [[False, False, True]]
    assert labels(mask[:, 2:], rule) == [[0]]


def test_numbers_of_objects():
    assert object_numbers(np.array([[0, 7, 70001]], np.uint32), "a.tif").tolist() == [[0, 7, 70001]]
    assert numbered_anew(np.array([[0, 7, 70001]])).tolist() == [[0, 1, 2]]
    assert numbered_anew(np.array([[7, 70001]])).tolist() == [[1, 2]]
    assert numbered_anew(np.array([[0, 7, 65535]])).tolist() == [[0, 7, 65535]]
    assert object_numbers(np.array([[0., 3.00001]]), "a.tif").tolist() == [[0, 3]]
    for bad, word in (([[-1, 3]], "not negative"), ([[0, .4]], "whole"), ([[np.nan, 1]], "NaN")):
        refuses(lambda: object_numbers(np.array(bad), "a.tif"), word, "hreshold")  # noqa: B023
    refuses(lambda: object_numbers(np.array([[0, 1]], np.uint8), "a.jpg"), "JPEG", "threshold")


def test_two_channels_that_differ_are_no_opacity():
    two = np.zeros((2, 2, 2), np.uint8)
    two[..., 1] = [[0, 1], [1, 0]]
    refuses(lambda: labels(two), "colour image")
    two[..., 1] = 255
    assert labels(two) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name, options", [
    ("a.tif", dict(compression="jpeg")), ("a.tif", dict(compression="tiff_jpeg")), ("a.webp", dict(quality=50)),
    ("a.webp", dict(lossless=True)), ("a.tif", dict(compression="tiff_lzw")), ("a.png", {})])
def test_noise_of_compression_in_any_container_is_no_foreground(tmp_path, name, options):
    drawn = np.zeros((64, 64), np.uint8)
    drawn[20:43, 11:37] = 255
    Image.fromarray(drawn).save(tmp_path / name, **options)
    pixels = read_pixels(tmp_path / name, mask=True)
    exact = "lossless" in options or name == "a.png" or "lzw" in options.get("compression", "")
    assert lossy(str(tmp_path / name)) != exact
    for rule in ({"values": "nonzero"}, {"values": "one"}):
        if exact: assert labels(pixels, rule, str(tmp_path / name)) == (drawn > 0).tolist()
        else: refuses(lambda rule=rule: labels(pixels, rule, str(tmp_path / name)), "not clear", "threshold")
    rule = {"threshold": 127}  # the fix
    if not exact and pixels.ndim == 3:  # grey has become colours, nearly
        refuses(lambda: labels(pixels, rule, str(tmp_path / name)), "colour image", "tolerance")
        rule = {"colours": {"#000000": 0, "#ffffff": 1}, "tolerance": 127}
    assert labels(pixels, rule, str(tmp_path / name)) == (drawn > 0).tolist()


def test_numbers_beyond_all_measure_are_refused():
    for large in (3.4e38, -3.4e38, 1e300):
        image = np.array([[0, large], [1, 2]])
        with pytest.raises(DataError) as error: to_unit(image, file="a.tif")
        told(error, "beyond all measure", "a.tif", "missing pixels")
    assert (to_unit(np.array([[0.0, 1e29]])) == [[[0, 1]]]).all()
