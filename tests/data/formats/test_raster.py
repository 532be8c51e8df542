"What PNG, JPEG, GIF, WebP and BMP files say of their pixels, with values."

import struct
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.formats.raster import read_mask, read_pixels
from taco.data.formats.statements import Raster, check_packing, on_black

SEEN = np.zeros((20, 30), np.uint8)
SEEN[2:6, 20:28] = 255
STORED = {2: SEEN[:, ::-1], 3: SEEN[::-1, ::-1], 4: SEEN[::-1], 5: SEEN.T,
          6: np.rot90(SEEN), 7: SEEN[::-1, ::-1].T, 8: np.rot90(SEEN, -1)}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, width, height, bits, colour, rows: bytes, *chunks: bytes):
    "A PNG of unfiltered rows."
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))
    return path


def refused(call, *words):
    with pytest.raises(DataError) as error: call()
    for word in words: assert word in str(error.value), (word, str(error.value))
    return str(error.value)


@pytest.mark.parametrize("turn", STORED)
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_every_orientation_is_applied_to_images_and_masks(tmp_path, turn, ending):
    exif = Image.Exif()
    exif[0x0112] = turn
    file = tmp_path / f"a.{ending}"
    Image.fromarray(STORED[turn]).save(file, exif=exif, quality=98)
    for mask in (False, True):
        pixels = read_pixels(file, mask=mask)
        pixels = pixels if pixels.ndim == 2 else pixels[..., 0]
        assert pixels.shape == SEEN.shape and ((pixels > 127) == (SEEN > 127)).mean() > .99
        assert read_pixels(file, mask=mask, stored=True).shape[:2] == STORED[turn].shape


@pytest.mark.parametrize("turn", [0, 9, 300])
def test_an_orientation_that_is_none_says_nothing(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(SEEN).save(tmp_path / "a.png", exif=exif)
    assert (read_pixels(tmp_path / "a.png") == SEEN).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_keep_their_numbers_in_masks_and_their_white_in_images(tmp_path, bits):
    top = 2 ** bits - 1
    row = np.array([0, 1, top, top - 1] * 2, np.uint8)
    packed = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:])
    file = png(tmp_path / "a.png", 8, 1, bits, 0, b"\0" + packed.tobytes())
    assert read_pixels(file, mask=True).astype(int)[0].tolist() == row.tolist()
    image = read_pixels(file)
    if bits > 1: assert image[0].tolist() == (row * (255 // top)).tolist()
    else: assert image.dtype == bool


def test_sixteen_bits_of_grey_keep_their_numbers(tmp_path):
    deep = np.array([[0, 1, 300, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png").tolist() == deep.tolist()


@pytest.mark.parametrize("colour, channels", [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_or_opacity_are_not_halved(tmp_path, colour, channels):
    deep = np.arange(8 * channels, dtype=np.uint16).reshape(1, 8, channels) * 257 + 3
    if channels in (2, 4): deep[..., -1] = 65535
    file = png(tmp_path / "a.png", 8, 1, 16, colour, b"\0" + deep.astype(">u2").tobytes())
    if find_spec("imagecodecs") is None:
        refused(lambda: read_pixels(file), "pip install imagecodecs")
        return
    shown = deep[..., 0] if channels == 2 else deep[..., :3]
    assert read_pixels(file).dtype == np.uint16 and read_pixels(file).tolist() == shown.tolist()


def test_what_is_transparent_lies_on_black(tmp_path):
    file, red = tmp_path / "a.png", np.zeros((1, 3, 4), np.uint8) + np.array([200, 30, 30, 255], np.uint8)
    red[0, 1, 3], red[0, 2, 3] = 0, 128
    Image.fromarray(red).save(file)
    assert read_pixels(file)[0].tolist() == [[200, 30, 30], [0, 0, 0], [100, 15, 15]]
    red[..., 3] = 7  # the same everywhere says nothing
    Image.fromarray(red).save(file)
    assert read_pixels(file)[0].tolist() == [[200, 30, 30]] * 3
    Image.fromarray(np.array([[9, 200, 9]], np.uint8)).save(file, transparency=200)
    assert read_pixels(file).tolist() == [[9, 0, 9]]


DRAWN = np.zeros((6, 8), np.uint8)
DRAWN[1:4, 2:6] = 1
PAINT = DRAWN * np.uint8(255)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
@pytest.mark.parametrize("below", ["the same", "black", "other"])
def test_a_mask_on_a_transparent_layer_is_what_can_be_seen(tmp_path, colour, below):
    layer = np.zeros((*DRAWN.shape, 4), np.uint8)
    layer[..., :3] = colour if below == "the same" else (0, 0, 0) if below == "black" else (5, 99, 7)
    layer[DRAWN > 0, :3] = colour
    layer[..., 3] = PAINT
    Image.fromarray(layer).save(tmp_path / "a.png")
    mask = read_pixels(tmp_path / "a.png", mask=True)
    assert ((mask if mask.ndim == 2 else mask[..., 0]) == PAINT).all()
    if colour == (200, 30, 30):
        assert (read_mask(tmp_path / "a.png", colours=True)[..., 0] == DRAWN * 200).all()


def test_grey_layers_soft_layers_empty_layers_and_ambiguous_ones(tmp_path):
    file, full = tmp_path / "a.png", np.full_like(PAINT, 255)
    save = lambda *planes: Image.fromarray(np.dstack(planes)).save(file)
    save(full, PAINT)
    assert (read_pixels(file, mask=True) == PAINT).all()
    save(DRAWN * np.uint8(3), PAINT)  # a label of 3, with opacity
    assert (read_pixels(file, mask=True) == DRAWN * 3).all()
    soft = (PAINT * .5 + DRAWN * np.arange(8)).astype(np.uint8)
    save(full, soft)
    assert (read_pixels(file, mask=True) == soft).all()
    save(full, PAINT * 0)
    assert not read_pixels(file, mask=True).any()
    save(PAINT, PAINT * 0)
    refused(lambda: read_pixels(file, mask=True), "transparent", "without transparency")
    two = full.copy()
    two[:3] = 0
    save(two, PAINT)
    refused(lambda: read_pixels(file, mask=True), "transparent layer", "black among them")


def test_palettes(tmp_path):
    file = tmp_path / "a.png"

    def save(indices, colours, **options):
        picture = Image.fromarray(indices, "P")
        picture.putpalette([c for colour in colours for c in colour])
        picture.save(file, **options)
    black, white, red = (0, 0, 0), (255, 255, 255), (200, 30, 30)
    save(DRAWN, [black, red])
    assert (read_pixels(file, mask=True) == DRAWN).all() and read_pixels(file)[2, 3].tolist() == list(red)
    save(1 - DRAWN, [white, black])
    assert '"#ffffff" = …, "#000000" = …' in refused(lambda: read_pixels(file, mask=True), "contradicts", "colours")
    assert (read_mask(file, colours=True)[..., 0] == PAINT).all()
    save(1 - DRAWN, [red, black])
    refused(lambda: read_pixels(file, mask=True), "contradicts")
    save(DRAWN, [white, red], transparency=0)  # an index 0 that cannot be seen is the background
    assert (read_pixels(file, mask=True) == DRAWN).all()
    save(DRAWN, [black, red], transparency=1)
    refused(lambda: read_pixels(file, mask=True), "transparent")
    save(DRAWN, [(68, 1, 84), (253, 231, 37)])  # a colour map: nothing black in it
    assert (read_pixels(file, mask=True) == DRAWN).all()


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animations_are_several_pictures(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    frames = [Image.fromarray(np.full((6, 8), 60 * k, np.uint8)).convert("RGB") for k in range(3)]
    frames[0].save(file, save_all=True, append_images=frames[1:], lossless=True)
    assert "page = 0 … 2" in refused(lambda: read_pixels(file), "several pictures", "3 of 3 × (6 × 8)")
    assert read_pixels(file, page=2)[0, 0].tolist() == [120, 120, 120]
    refused(lambda: read_pixels(file, page=3), "page = 3")


@pytest.mark.parametrize("ending", ["gif", "bmp", "webp"])
def test_single_pictures_of_other_formats(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    Image.fromarray(np.dstack([PAINT, PAINT * 0, 255 - PAINT])).save(file, lossless=True)
    assert read_pixels(file)[2, 3].tolist() == [255, 0, 0] and read_pixels(file)[0, 0].tolist() == [0, 0, 255]
    Image.fromarray(PAINT > 0).save(tmp_path / "b.bmp")
    assert (read_pixels(tmp_path / "b.bmp", mask=True) == (PAINT > 0)).all()


def test_inks_become_colours(tmp_path):
    rgb = np.zeros((16, 16, 3), np.uint8) + np.array([200, 30, 30], np.uint8)
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert abs(read_pixels(tmp_path / "a.jpg").astype(int) - rgb).max() < 6


def test_pixels_that_are_not_square(tmp_path):
    for name, options in (("a.jpg", dict(dpi=(200, 100))), ("a.png", dict(dpi=(200, 100))),
                          ("a.bmp", dict(dpi=(200, 100)))):
        file = tmp_path / name
        Image.fromarray(SEEN).save(file, **options)
        refused(lambda: read_pixels(file), "not square", "2 times as high", "spacing = [2, 1]")  # noqa: B023
        assert read_pixels(file, any_aspect=True).shape == SEEN.shape == read_pixels(file, mask=True).shape
        Image.fromarray(SEEN).save(file, dpi=(300, 300))
        assert read_pixels(file).shape == SEEN.shape
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SEEN).save(tmp_path / "a.jpg", dpi=(200, 100), exif=exif)
    refused(lambda: read_pixels(tmp_path / "a.jpg"), "0.5 times as high")


def bomb(path, side):
    row = b"\0" + bytes((side + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_large_pictures(tmp_path):
    assert read_pixels(bomb(tmp_path / "a.png", 14000)).shape == (14000, 14000)
    refused(lambda: read_pixels(bomb(tmp_path / "b.png", 17000)), "too large", "tiles")
    assert Image.MAX_IMAGE_PIXELS  # as Pillow had it


def test_what_is_far_too_tightly_packed(tmp_path):
    "A file of 17 kB, which as colours of sixteen bits would be 460 MB; as colours of eight, floats of 970 MB."
    wide = endless(tmp_path / "a.png", 8760, 6, 16)
    refused(lambda: read_pixels(wide), "far more than it can", "8760 × 8760", "a.png", "nearly empty")
    check_packing(2**26, wide, "numbers")
    refused(lambda: check_packing(2**26 + 1, wide, "numbers"), "100 times", "a.png")
    check_packing(wide.stat().st_size * 100, wide, "numbers", sure=0)


def endless(path, side, bytes_each, bits):
    "A PNG of black, whose rows are made of one packed block."
    packer = zlib.compressobj(9)
    row = bytes(1 + side * bytes_each)
    data = b"".join(packer.compress(row) for _ in range(8)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, 2, 0, 0, 0))
                     + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_a_png_is_as_its_checksums_say(tmp_path):
    rows = b"".join(b"\0" + bytes(range(n, n + 30)) for n in range(20))
    file = png(tmp_path / "a.png", 30, 20, 8, 0, rows, chunk(b"tEXt", b"Comment\0hello"))
    whole, good = file.read_bytes(), read_pixels(file)
    for at in range(8, len(whole) - 12):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        refused(lambda: read_pixels(file), "a.png")
    file.write_bytes(whole + b"more")  # what some programs leave behind the end
    assert (read_pixels(file) == good).all()


def test_opacity_in_parts_is_opacity_at_once():
    rng = np.random.default_rng(0)
    for shape in ((1500, 900), (1500, 900, 3)):
        pixels, alpha = rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 256, shape[:2]).astype(np.uint8)
        opacity = alpha / 255 if len(shape) == 2 else (alpha / 255)[..., None]
        assert (on_black(Raster(pixels, "a.png", alpha=alpha)) == np.rint(pixels * opacity).astype(np.uint8)).all()


def test_the_content_decides_not_the_ending(tmp_path):
    Image.fromarray(SEEN).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    Image.fromarray(SEEN).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.tif")
    for name in ("a.png", "b.tif"): assert (read_pixels(tmp_path / name) == SEEN).all()


def test_files_that_cannot_be_read(tmp_path):
    refused(lambda: read_pixels(tmp_path / "a.png"), "missing")
    (tmp_path / "a.png").write_bytes(b"")
    refused(lambda: read_pixels(tmp_path / "a.png"), "cannot be read", "Fetch it again")
    (tmp_path / "a.png").write_text("<html>")
    refused(lambda: read_pixels(tmp_path / "a.png"), "cannot be read", "if it opens elsewhere, save it as PNG")


def test_pixels_of_a_gif_need_not_be_square(tmp_path):
    file = tmp_path / "a.gif"
    Image.fromarray(SEEN).save(file)
    data = bytearray(file.read_bytes())
    data[12] = 113  # (113 + 15) / 64: twice as wide as high
    file.write_bytes(data)
    refused(lambda: read_pixels(file), "0.5 times as high")
    data[12] = 49
    file.write_bytes(data)
    assert read_pixels(file).shape == (20, 30, 3)


def test_values_of_a_ppm_are_not_stretched(tmp_path):
    file = tmp_path / "a.pgm"
    for head, body, kept in ((b"P5\n4 1\n3\n", bytes([0, 1, 2, 3]), None), (b"P5\n2 1\n255\n", b"\1\2", [[1, 2]]),
                             (b"P5\n2 1\n65535\n", b"\0\1\2\3", [[1, 515]]), (b"P6\n1 1\n65535\n", bytes(6), None)):
        file.write_bytes(head + body)
        if kept: assert read_pixels(file).tolist() == kept
        else: refused(lambda: read_pixels(file), "values up to", "Save it as PNG")


def test_files_that_other_programs_would_have_to_draw_are_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    refused(lambda: read_pixels(tmp_path / "a.png"), "cannot be read")


def partial_gif(path, indices, colours, canvas=(30, 20), place=(20, 2)):
    "A GIF whose only picture lies at (left, top) of a larger canvas; its palette is a local one."
    image = Image.fromarray(indices, "P")
    image.putpalette(np.ravel(colours).tolist())
    image.save(path, optimize=False)
    whole = Image.open(path)
    data, flags = path.read_bytes(), path.read_bytes()[10]
    table = data[13:13 + 3 * 2 ** ((flags & 7) + 1)]
    start = whole.tile[0][2] - 10 if data[whole.tile[0][2] - 10] == 0x2C else data.index(b"\x2c", 13 + len(table))
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0, 0, 0)
    frame = struct.pack("<BHHHHB", 0x2C, *place, *indices.shape[::-1], 0x80 | flags & 7)
    path.write_bytes(head + frame + table + data[start + 10:])
    return path


def test_beside_the_picture_of_a_gif_nothing_was_drawn(tmp_path):
    part = np.zeros((4, 8), np.uint8)
    part[1:3, 2:6] = 1
    path = partial_gif(tmp_path / "a.gif", part, [[0, 200, 0], [200, 0, 0]])
    seen = np.zeros((20, 30, 3), np.uint8)
    seen[2:6, 20:28] = [0, 200, 0]
    seen[3:5, 22:26] = [200, 0, 0]
    np.testing.assert_array_equal(read_pixels(path), seen)
    mask = partial_gif(tmp_path / "m.gif", part, [[0, 0, 0], [200, 0, 0]])
    wanted = np.zeros((20, 30), np.uint8)
    wanted[3:5, 22:26] = 1
    np.testing.assert_array_equal(read_mask(mask, False), wanted)
