"What files state beside their numbers: lines from stored numbers to values, holes, depths, and one order of bytes."

import numpy as np
import pytest
import tifffile

from taco.base import DataError
from taco.data.formats.raster import read_mask, read_pixels
from taco.data.formats.scans import read_scan
from tests.data.formats.test_metaimage import mha
from tests.data.formats.test_nifti import nifti
from tests.data.formats.test_nrrd import write
from tests.data.formats.test_raster import chunk, png
from tests.data.readers.bodies import META, SPACE, body, refused

TRUE = np.arange(-300, 180).reshape(20, 24).astype(np.int16)
IMAGEJ = {"cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"}


def gdal(**roles) -> str:
    items = "".join(f'<Item name="x" sample="0" role="{role}">{number}</Item>' for role, number in roles.items())
    return f"<GDALMetadata>{items}</GDALMetadata>"


def geotiff(path, pixels, text="", nothing="", **more):
    tags = [(code, 2, len(value) + 1, value, True) for code, value in ((42112, text), (42113, nothing)) if value]
    tifffile.imwrite(path, pixels, extratags=tags, metadata=None, photometric="minisblack", **more)
    return path


def test_a_picture_is_calibrated_as_a_stack_is(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (TRUE.astype(int) + 32768).astype(np.uint16), imagej=True, metadata=IMAGEJ)
    np.testing.assert_array_equal(read_pixels(path), TRUE)
    np.testing.assert_array_equal(read_mask(path, False), TRUE)
    np.testing.assert_array_equal(read_scan(path).voxels[::-1, ::-1, 0].T, TRUE)
    tifffile.imwrite(path, TRUE.astype(np.uint16), imagej=True, metadata=IMAGEJ | {"cf": 3})
    for read in (read_pixels, read_scan):
        with pytest.raises(DataError) as error: read(path)
        refused(error, "a.tif", "straight line", "choose None")


def test_scale_and_offset_of_gdal(tmp_path):
    path, stored = tmp_path / "a.tif", (TRUE.astype(np.int16) + 400).astype(np.uint16)
    geotiff(path, stored, gdal(scale=2, offset=-1024))
    np.testing.assert_array_equal(read_pixels(path), stored * 2.0 - 1024)
    np.testing.assert_array_equal(read_scan(path).voxels[::-1, ::-1, 0].T, stored * 2.0 - 1024)
    for text in (gdal(description="liver"), "no XML <"):
        assert read_pixels(geotiff(path, stored, text)).dtype == np.uint16
        np.testing.assert_array_equal(read_pixels(path), stored)
    with pytest.raises(DataError) as error: read_pixels(geotiff(path, stored, gdal(scale=0)))
    refused(error, "scale", "values themselves")


@pytest.mark.parametrize("kind, nothing", [(np.uint16, "7"), (np.float32, "-9999")])
def test_holes_are_refused_in_images_and_are_numbers_in_masks(tmp_path, kind, nothing):
    pixels = TRUE.clip(0).astype(kind)
    pixels[3:5, 4:8] = float(nothing)
    geotiff(tmp_path / "a.tif", pixels, nothing=nothing)
    count = int((pixels == float(nothing)).sum())
    for read in (read_pixels, read_scan):
        with pytest.raises(DataError) as error: read(tmp_path / "a.tif")
        refused(error, "a.tif", "GDAL_NODATA", f"{count} pixels", "skip_bad")
    assert (read_mask(tmp_path / "a.tif", False) == pixels).all()
    assert (read_pixels(geotiff(tmp_path / "b.tif", TRUE.clip(0).astype(np.uint8), nothing="0"))[:12] == 0).all()


@pytest.mark.parametrize("one", [0, 1])
def test_a_colour_that_counts_as_invisible_in_one_bit(tmp_path, one):
    drawn = np.eye(8, dtype=np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in drawn)
    png(tmp_path / "a.png", 8, 8, 1, 0, rows, chunk(b"tRNS", bytes([0, one])))
    seen = read_pixels(tmp_path / "a.png")
    np.testing.assert_array_equal(seen, np.zeros_like(drawn) if one else drawn)


@pytest.mark.parametrize("kind, bits", [(np.uint16, 12), (np.uint16, 16), (np.int16, 16), (np.uint8, 8)])
@pytest.mark.parametrize("colours", [False, True])
def test_jpeg_2000_keeps_its_numbers(tmp_path, kind, bits, colours):
    codecs = pytest.importorskip("imagecodecs")
    values = (TRUE.astype(int) * (2 ** bits // 1024) + (0 if kind == np.int16 else 2 ** bits // 2)).astype(kind)
    if colours: values = np.dstack([values, values[::-1], values[:, ::-1]])
    data = codecs.jpeg2k_encode(values, reversible=True, bitspersample=bits, codecformat="jp2", mct=False)
    (tmp_path / "a.jp2").write_bytes(data)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.jp2"), values)


def test_numbers_of_an_nrrd_that_are_steps(tmp_path):
    path = write(tmp_path / "a.nrrd", body(), SPACE)
    path.write_bytes(path.read_bytes().replace(b"space:", b"old min: -1000\nold max: 1000\nspace:", 1))
    with pytest.raises(DataError) as error: read_scan(path)
    refused(error, "old min", "-1000", "unquantize")
    path.write_bytes(path.read_bytes().replace(b"old min: -1000\nold max: 1000\n", b""))  # the second advice
    np.testing.assert_array_equal(read_scan(path).voxels, body())


def test_two_orders_of_bytes_in_one_header(tmp_path):
    big, said = body().astype(">i2").tobytes("F"), ("BinaryDataByteOrderMSB = {}\n", "ElementByteOrderMSB = {}\n")
    for line in (*said, said[0] + said[1].replace("{}", "True")):
        scan = read_scan(mha(tmp_path / "a.mha", META + line.format("True"), big))
        np.testing.assert_array_equal(scan.voxels, body())
    with pytest.raises(DataError) as error:
        read_scan(mha(tmp_path / "a.mha", META + said[0].format("False") + said[1].format("True"), big))
    refused(error, "ElementByteOrderMSB", "two things")


def test_the_advice_for_an_offset_that_is_no_number_keeps_the_slope(tmp_path):
    path = nifti(tmp_path / "a.nii", body(), np.eye(4), scale=(112, "2f", 2, np.nan))
    with pytest.raises(DataError) as error: read_scan(path)
    refused(error, "Set scl_inter to 0")
    path = nifti(tmp_path / "a.nii", body(), np.eye(4), scale=(112, "2f", 2, 0))
    np.testing.assert_array_equal(read_scan(path).voxels, body() * 2.0)
