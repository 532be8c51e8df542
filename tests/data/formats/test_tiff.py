"What TIFF files say of their pixels, with values."

import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import DataError
from taco.data.formats.raster import read_mask, read_pixels

DRAWN = np.zeros((32, 40), np.uint8)
DRAWN[8:14, 5:25] = 1
PAINT = DRAWN * np.uint8(255)
RGB = np.zeros((16, 24, 3), np.uint8)
RGB[:8], RGB[8:] = (200, 30, 30), (30, 30, 200)


def refused(call, *words):
    with pytest.raises(DataError) as error: call()
    for word in words: assert word in str(error.value), (word, str(error.value))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16])
def test_where_0_is_white_values_are_counted_from_the_other_end(tmp_path, kind):
    file, top = tmp_path / "a.tif", 1 if kind is bool else np.iinfo(kind).max
    tifffile.imwrite(file, (top - DRAWN.astype(np.uint16) * top).astype(kind), photometric="miniswhite")
    for mask in (True, False):
        pixels = read_pixels(file, mask=mask)
        assert pixels.dtype == kind and (pixels == DRAWN * np.uint16(top)).all()


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_types_without_a_white_are_refused_where_0_is_white(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", DRAWN.astype(kind), photometric="miniswhite")
    refused(lambda: read_pixels(tmp_path / "a.tif", mask=True), "0 is white", "MinIsBlack")


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_every_type_are_kept(tmp_path, kind, order):
    values = np.array([[0, 1, 100, 3]] * 4).astype(kind)
    if kind in (np.int16, np.int32, np.float32): values[0, 0] = -7
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", byteorder=order)
    assert read_pixels(tmp_path / "a.tif").tolist() == values.tolist() == read_pixels(
        tmp_path / "a.tif", mask=True).tolist()


def test_complex_numbers_are_no_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DRAWN.astype(np.complex64), photometric="minisblack")
    refused(lambda: read_pixels(tmp_path / "a.tif"), "does not hold a picture", "complex64")


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate", "group4", "raw"])
def test_every_usual_packing(tmp_path, compression):
    picture = Image.fromarray(PAINT).convert("1" if compression == "group4" else "L")
    picture.save(tmp_path / "a.tif", compression=compression)
    assert ((read_pixels(tmp_path / "a.tif", mask=True) > (127 if compression == "jpeg" else 0)) == (DRAWN > 0)).all()


def test_palettes_show_colours_in_images_and_indices_in_masks(tmp_path):
    file = tmp_path / "a.tif"
    Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(file)
    assert abs(read_pixels(file).astype(int) - RGB).max() < 3
    table = np.zeros((3, 256), np.uint16)
    table[:, 1] = 200 * 257, 30 * 257, 30 * 257
    tifffile.imwrite(file, DRAWN, photometric="palette", colormap=table)
    assert (read_pixels(file, mask=True) == DRAWN).all()
    assert read_mask(file, colours=True)[10, 10].tolist() == [200, 30, 30]
    tifffile.imwrite(file, DRAWN, photometric="palette", colormap=65535 - table)
    refused(lambda: read_pixels(file, mask=True), "contradicts", '"#ffffff" = …')


def test_inks(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.tif")
    assert abs(read_pixels(tmp_path / "a.tif").astype(int) - RGB).max() < 2
    deep = np.zeros((4, 4, 4), np.uint16) + np.array([0, 65535, 65535, 0], np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="separated")
    assert read_pixels(tmp_path / "b.tif")[0, 0].tolist() == [65535, 0, 0]
    tifffile.imwrite(tmp_path / "c.tif", deep, photometric="separated", extratags=[(332, 3, 1, 2, True)])
    refused(lambda: read_pixels(tmp_path / "c.tif"), "SEPARATED", "Convert it to RGB")


def test_luma_and_chroma_and_lab(tmp_path):
    ycc = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "a.tif", ycc, photometric="ycbcr", subsampling=(1, 1))
    assert abs(read_pixels(tmp_path / "a.tif").astype(int) - RGB).max() < 3
    lab = np.zeros((4, 4, 3), np.uint8) + np.array([138, 80, 67], np.uint8)  # sRGB red about (255, 0, 0)
    tifffile.imwrite(tmp_path / "b.tif", lab, photometric="cielab")
    red = read_pixels(tmp_path / "b.tif")[0, 0]
    assert red[0] > 240 and red[1:].max() < 40
    for kind in ("cfa", "logl"):
        tifffile.imwrite(tmp_path / "c.tif", DRAWN, photometric=kind)
        refused(lambda: read_pixels(tmp_path / "c.tif"), kind.upper(), "Convert it to RGB")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_may_lie_in_planes(tmp_path, planar):
    pixels = RGB if planar == "contig" else np.moveaxis(RGB, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar)
    assert (read_pixels(tmp_path / "a.tif") == RGB).all()


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (3, 3), (1, 7), (7, 1)])
def test_small_pictures_are_not_taken_for_channels(tmp_path, shape):
    values = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert read_pixels(tmp_path / "a.tif").tolist() == values.tolist()
    planes = np.stack([values, values + 1, values + 2])
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate")
    assert read_pixels(tmp_path / "b.tif").tolist() == np.moveaxis(planes, 0, 2).tolist()


def test_opacity_and_samples_of_which_nothing_is_said(tmp_path):
    file = tmp_path / "a.tif"
    layer = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    layer[0, :, 3] = 128
    tifffile.imwrite(file, layer, photometric="rgb", extrasamples=["unassalpha"])
    assert read_pixels(file)[0, 0].tolist() == [100, 15, 15] and (read_pixels(file)[1:] == RGB[1:]).all()
    tifffile.imwrite(file, layer, photometric="rgb", extrasamples=["assocalpha"])  # multiplied already
    assert (read_pixels(file) == RGB).all()
    tifffile.imwrite(file, layer, photometric="rgb", extrasamples=["unspecified"])
    assert (read_pixels(file) == RGB).all()
    white = np.dstack([PAINT * 0 + 255, PAINT])
    tifffile.imwrite(file, white, photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig")
    assert (read_pixels(file, mask=True) == PAINT).all()
    tifffile.imwrite(file, white, photometric="minisblack", extrasamples=["unspecified"], planarconfig="contig")
    refused(lambda: read_pixels(file), "channels of this image", "2 grey channels")


@pytest.mark.parametrize("turn, stored", [(2, RGB[:, ::-1]), (3, RGB[::-1, ::-1]), (6, np.rot90(RGB)),
                                          (8, np.rot90(RGB, -1))])
def test_orientation(tmp_path, turn, stored):
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    assert (read_pixels(tmp_path / "a.tif") == RGB).all()
    Image.fromarray(stored).save(tmp_path / "b.tif", compression="tiff_lzw", tiffinfo={274: turn})
    assert (read_pixels(tmp_path / "b.tif") == RGB).all()


def test_several_pages_are_several_pictures(tmp_path):
    file, stack = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (7, 20, 24)).astype(np.uint8)
    for write in ("at once", "one by one", "imagej", "ome", "bare"):
        file.unlink(missing_ok=True)
        if write == "one by one":
            for k, plane in enumerate(stack): tifffile.imwrite(file, plane, append=k > 0)
        elif write == "bare": tifffile.imwrite(file, stack, photometric="minisblack", metadata=None)
        else:
            options = {write: True} if write in ("imagej", "ome") else {}
            tifffile.imwrite(file, stack, photometric="minisblack", **options)
        refused(lambda: read_pixels(file), "several pictures", "7 × (20 × 24)", "page = 0 … 6")
        for k in (0, 6): assert (read_pixels(file, page=k) == stack[k]).all(), (write, k)
    small = stack[0, ::2, ::2]
    with tifffile.TiffWriter(file) as writer:  # a preview that is not marked
        writer.write(small, metadata=None)
        writer.write(stack[0], metadata=None)
    refused(lambda: read_pixels(file), "1 × (10 × 12), 1 × (20 × 24)")
    assert (read_pixels(file, page=1) == stack[0]).all()
    with tifffile.TiffWriter(file) as writer:  # one that is
        writer.write(small, metadata=None, subfiletype=1)
        writer.write(stack[0], metadata=None)
    assert (read_pixels(file) == stack[0]).all()
    with tifffile.TiffWriter(file) as writer:  # a pyramid
        writer.write(stack[0], subifds=1)
        writer.write(small, subfiletype=1)
    assert (read_pixels(file) == stack[0]).all()


def test_planes_that_imagej_keeps_behind_one_directory(tmp_path):
    file, stack = tmp_path / "a.tif", np.arange(3 * 20 * 24, dtype=np.uint16).reshape(3, 20, 24)
    tifffile.imwrite(file, stack[0], photometric="minisblack", metadata=None,
                     description="ImageJ=1.53t\nimages=3\nslices=3\n")
    with open(file, "ab") as end: end.write(stack[1:].tobytes())
    with tifffile.TiffFile(file) as tif: seen = tif.series[0].shape
    if seen == (3, 20, 24):
        refused(lambda: read_pixels(file), "several pictures")
        assert (read_pixels(file, page=2) == stack[2]).all()


def test_pixels_that_are_not_square(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", resolution=(200, 100), resolutionunit="inch")
    refused(lambda: read_pixels(tmp_path / "a.tif"), "not square", "spacing = [2, 1]")
    assert (read_pixels(tmp_path / "a.tif", any_aspect=True) == RGB).all()


def test_few_bits(tmp_path):
    Image.fromarray(DRAWN > 0).save(tmp_path / "a.tif")
    assert (read_pixels(tmp_path / "a.tif", mask=True) == (DRAWN > 0)).all()
    pytest.importorskip("imagecodecs")
    for bits in (2, 4, 12):
        values = (DRAWN.astype(int) * (2 ** bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
        tifffile.imwrite(tmp_path / "b.tif", values, photometric="minisblack", bitspersample=bits)
        assert (read_pixels(tmp_path / "b.tif", mask=True) == values).all()
        assert read_pixels(tmp_path / "b.tif").max() == (4095 if bits == 12 else 255)
        tifffile.imwrite(tmp_path / "b.tif", values, photometric="miniswhite", bitspersample=bits)
        assert (read_pixels(tmp_path / "b.tif", mask=True) == 2 ** bits - 1 - values.astype(int)).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpeg"])
def test_packings_that_need_imagecodecs(tmp_path, compression, kind):
    pytest.importorskip("imagecodecs")
    if compression == "jpeg" and kind is np.uint16: return
    values = np.add.outer(np.arange(32), np.arange(40)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, photometric="minisblack")
    assert abs(read_pixels(tmp_path / "a.tif").astype(int) - values).max() < 4
    tifffile.imwrite(tmp_path / "b.tif", np.dstack([values] * 3), compression=compression, photometric="rgb")
    assert read_pixels(tmp_path / "b.tif").shape == (32, 40, 3)
