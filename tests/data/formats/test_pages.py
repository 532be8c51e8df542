"TIFF stacks: every series and page is counted, and what the pages say of their values is applied."

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import DataError
from taco.data.formats.scans import read_scan
from tests.data.readers.bodies import refused

V = np.random.default_rng(0).integers(0, 255, (7, 20, 24)).astype(np.uint8)


def pages(path: Path, **how) -> np.ndarray:
    "The voxels as pages (Z, H, W) or (T, Z, H, W), as they lie in the file."
    voxels = read_scan(path, **how).voxels[::-1, ::-1]
    return voxels.transpose(2, 1, 0) if voxels.ndim == 3 else voxels.transpose(3, 2, 1, 0)


def spoken(path: Path, *words: str, **how) -> None:
    with pytest.raises(DataError) as error:
        read_scan(path, **how)
    refused(error, path.name, *words)


def test_pages_written_one_by_one_in_one_go_and_behind_a_preview(tmp_path):
    path = tmp_path / "append.tif"
    for page in V:
        tifffile.imwrite(path, page, append=True)
    np.testing.assert_array_equal(pages(path), V)
    path = tmp_path / "preview.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(V[0, ::2, ::2], metadata=None)
        file.write(V, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(pages(path), V)
    path = tmp_path / "behind.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(V, photometric="minisblack", metadata=None)
        file.write(V[0, ::4, ::4], metadata=None)
    np.testing.assert_array_equal(pages(path), V)
    path = tmp_path / "marked.tif"  # by NewSubfileType, of another shape
    with tifffile.TiffWriter(path) as file:
        file.write(V, photometric="minisblack", metadata=None)
        file.write(V[:3, :7, :20], photometric="minisblack", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(pages(path), V)
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(V, photometric="minisblack", subifds=1)
        file.write(V[:, ::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(pages(path), V)


@pytest.mark.parametrize(
    "how",
    [
        dict(byteorder=">"),
        dict(bigtiff=True, byteorder=">"),
        dict(compression="zlib"),
        dict(rowsperstrip=3),
        dict(compression="packbits"),
        dict(tile=(16, 16)),
        dict(compression="zlib", predictor=True),
        dict(volumetric=True, tile=(16, 16, 16)),
    ],
)
@pytest.mark.parametrize("kind", ["u1", ">u2", "i2", "f4"])
def test_layouts_and_types(tmp_path, how, kind):
    if "predictor" in how or how.get("compression") == "packbits":
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", V.astype(kind), photometric="minisblack", **how)
    np.testing.assert_array_equal(pages(tmp_path / "a.tif"), V)


@pytest.mark.parametrize("compression", ["tiff_lzw", "group4", "tiff_adobe_deflate", "packbits"])
def test_packed_pages_are_read_or_the_codec_is_named(tmp_path, compression):
    stack = (V > 100) * np.uint8(255)
    images = [Image.fromarray(p).convert("1" if compression == "group4" else "L") for p in stack]
    images[0].save(
        tmp_path / "a.tif", save_all=True, append_images=images[1:], compression=compression
    )
    try:
        found = pages(tmp_path / "a.tif")
    except DataError as error:
        assert "pip install imagecodecs" in str(error) and "Compression" in str(error)
        with pytest.raises(ImportError):
            import imagecodecs  # noqa: F401
    else:
        np.testing.assert_array_equal(found > 0, stack > 0)


def test_several_stacks_are_refused_and_one_is_read_by_its_number(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for stack in (V, 255 - V):
            file.write(stack, photometric="minisblack")
    spoken(path, "series", "0: QYX (7, 20, 24); 1: QYX (7, 20, 24)", "series = 0")
    np.testing.assert_array_equal(pages(path, series=1), 255 - V)
    spoken(path, "0 … 1", series=2)
    with tifffile.TiffWriter(path) as file:  # pages of two sizes in turn
        for page in V:
            file.write(page, metadata=None, photometric="minisblack")
            file.write(page[:15, :12], metadata=None, photometric="minisblack")
    spoken(path, "series")
    with tifffile.TiffWriter(
        path
    ) as file:  # a label on a slide has other proportions than its stack
        file.write(V, photometric="minisblack", metadata=None)
        file.write(V[0, :19, :5], photometric="minisblack", metadata=None)
    spoken(path, "series")
    tifffile.imwrite(path, np.stack([V, V]), photometric="minisblack")
    spoken(path, "axes")


def test_ome_axes_sizes_and_series(tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = dict(PhysicalSizeX=0.5, PhysicalSizeY=250, PhysicalSizeYUnit="nm", PhysicalSizeZ=2.0)
    tifffile.imwrite(path, V, photometric="minisblack", metadata=sizes | {"axes": "ZYX"})
    np.testing.assert_array_equal(pages(path), V)
    np.testing.assert_allclose(read_scan(path).spacing, [5e-4, 2.5e-4, 2e-3])
    both = np.stack([V, 255 - V])
    for axes, array in (("CZYX", both), ("ZCYX", both.swapaxes(0, 1))):
        tifffile.imwrite(path, array, photometric="minisblack", metadata=sizes | {"axes": axes})
        np.testing.assert_array_equal(pages(path, channel=1), 255 - V)
        spoken(path, "channel = 0 … 1")
        spoken(path, "0 … 1", channel=2)
    for axes, array in (("TZYX", both), ("ZTYX", both.swapaxes(0, 1))):
        tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": axes})
        np.testing.assert_array_equal(pages(path), both)
    tifffile.imwrite(
        path, np.stack([both, both // 2]), photometric="minisblack", metadata={"axes": "TCZYX"}
    )
    np.testing.assert_array_equal(pages(path, channel=1), np.stack([255 - V, (255 - V) // 2]))
    with tifffile.TiffWriter(path, ome=True) as file:
        for n, stack in enumerate(both):
            file.write(
                stack, photometric="minisblack", metadata={"axes": "ZYX", "PhysicalSizeX": n + 1.0}
            )
    spoken(path, "series")
    np.testing.assert_array_equal(pages(path, series=1), 255 - V)
    assert read_scan(path, series=1).spacing[0] == 0.002
    with tifffile.TiffWriter(path, ome=True) as file:  # positions, a page each, are no stack
        for page in V[:2]:
            file.write(page, photometric="minisblack", metadata={"axes": "YX"})
    spoken(path, "series")


def test_a_set_of_ome_files_and_missing_planes_are_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, V, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "b.ome.tif", V, photometric="minisblack", metadata={"axes": "ZYX"})
    whole = tifffile.TiffFile(path).ome_metadata
    other = tifffile.TiffFile(tmp_path / "b.ome.tif").ome_metadata.split('UUID="')[1].split('"')[0]
    plane = '<TiffData IFD="0" PlaneCount="7"/>'
    assert plane in whole

    def described(data: str) -> None:
        tifffile.imwrite(
            path,
            V,
            photometric="minisblack",
            metadata=None,
            description=whole.replace(plane, data).encode(),
        )

    away = (
        f'<TiffData IFD="0" FirstZ="6"><UUID FileName="../../b.ome.tif">{other}</UUID></TiffData>'
    )
    described('<TiffData IFD="0" PlaneCount="6"/>' + away)
    spoken(path, "one of a set", "../../b.ome.tif")
    start = whole.index("<Image")
    only = whole[:start] + '<BinaryOnly MetadataFile="../set.companion.ome"/></OME>'
    tifffile.imwrite(path, V, photometric="minisblack", metadata=None, description=only.encode())
    spoken(path, "one of a set", "set.companion.ome")
    described('<TiffData IFD="0" PlaneCount="4"/>')
    spoken(path, "pages")


def test_imagej_axes_and_sizes(tmp_path):
    path = tmp_path / "a.tif"
    told = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(path, V, imagej=True, metadata=told, resolution=(4, 2))
    np.testing.assert_array_equal(pages(path), V)
    np.testing.assert_allclose(read_scan(path).spacing, [2.5e-4, 5e-4, 2e-3])
    both = np.stack([V, 255 - V])
    tifffile.imwrite(path, both, imagej=True, metadata=told | {"axes": "TZYX"})
    np.testing.assert_array_equal(pages(path), both)
    tifffile.imwrite(path, both.swapaxes(0, 1), imagej=True, metadata=told | {"axes": "ZCYX"})
    np.testing.assert_array_equal(pages(path, channel=0), V)
    spoken(path, "channel")
    tifffile.imwrite(path, V, imagej=True, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(pages(path)[:, 0], V)  # times, one slice
    tifffile.imwrite(path, V, imagej=True, metadata=told | {"unit": "pixel"})
    assert np.isnan(read_scan(path).spacing).all()


def test_a_printers_resolution_is_no_size_but_pixels_may_not_be_square(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, V, photometric="minisblack", resolution=(72, 72), resolutionunit=2)
    scan = read_scan(path)
    assert np.isnan(scan.spacing).all() and scan.aspect == 1
    tifffile.imwrite(path, V, photometric="minisblack", resolution=(72, 36), resolutionunit=2)
    assert read_scan(path).aspect == 2  # half as many dots an inch down the page


def test_white_as_zero(tmp_path):
    path = tmp_path / "a.tif"
    for kind, top in (("u1", 255), ("u2", 65535)):
        tifffile.imwrite(path, V.astype(kind), photometric="miniswhite")
        np.testing.assert_array_equal(pages(path), top - V.astype(kind))
        np.testing.assert_array_equal(pages(path, mask=True), top - V.astype(kind))
    tifffile.imwrite(path, V > 100, photometric="miniswhite")
    np.testing.assert_array_equal(pages(path), V <= 100)
    tifffile.imwrite(path, V.astype("f4"), photometric="miniswhite")
    spoken(path, "PhotometricInterpretation", "MinIsWhite")
    for page in V:
        tifffile.imwrite(tmp_path / "b.tif", page, photometric="miniswhite", append=True)
    np.testing.assert_array_equal(pages(tmp_path / "b.tif"), 255 - V)


def test_palettes(tmp_path):
    path, ramp = tmp_path / "a.tif", np.arange(256, dtype=np.uint16) * 257
    tifffile.imwrite(path, V, photometric="palette", colormap=np.stack([ramp] * 3))
    np.testing.assert_array_equal(pages(path), V)
    tifffile.imwrite(path, V, photometric="palette", colormap=np.stack([ramp[::-1]] * 3))
    np.testing.assert_array_equal(pages(path), (255 - V.astype(np.uint16)) * 257)
    np.testing.assert_array_equal(pages(path, mask=True), V)
    tifffile.imwrite(path, V, photometric="palette", colormap=np.stack([ramp, ramp // 2, ramp]))
    spoken(path, "palette", "Grays")
    np.testing.assert_array_equal(pages(path, mask=True), V)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_refused_or_one_is_chosen(tmp_path, planar):
    path, axis = tmp_path / "a.tif", -1 if planar == "contig" else 1
    rgb = np.stack([V, 255 - V, V // 2], axis)
    tifffile.imwrite(path, rgb, photometric="rgb", planarconfig=planar)
    spoken(path, "axes", "channel = 0 … 2")
    np.testing.assert_array_equal(pages(path, channel=2), V // 2)


@pytest.mark.parametrize("number", range(1, 9))
def test_pages_stored_from_another_corner(tmp_path, number):
    "As Pillow shows a picture of that orientation."
    tifffile.imwrite(
        tmp_path / "a.tif", V, photometric="minisblack", extratags=[(274, 3, 1, number, True)]
    )
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    wanted = [np.array(Image.fromarray(p).transpose(turn[number]) if number > 1 else p) for p in V]
    np.testing.assert_array_equal(pages(tmp_path / "a.tif"), np.stack(wanted))


def test_choices_that_a_format_does_not_offer(tmp_path):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(V, np.eye(4)), tmp_path / "a.nii")
    spoken(tmp_path / "a.nii", "series", series=0)
    spoken(tmp_path / "a.nii", "frame", channel=1)
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "0").write_bytes(b"")
    spoken(tmp_path / "b.zarr" / "0", "OME-Zarr is not read")


def test_numbers_that_imagej_calibrates(tmp_path):
    path = tmp_path / "a.tif"
    told = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"}
    tifffile.imwrite(path, V.astype(np.uint16) + 32768, imagej=True, metadata=told)
    np.testing.assert_array_equal(pages(path), V)
    tifffile.imwrite(path, V, imagej=True, metadata=told | {"cf": 3})
    spoken(path, "calibrated", "cf")
    tifffile.imwrite(path, V, imagej=True, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(pages(path), V)


def test_a_preview_before_pages_written_one_by_one(tmp_path):
    for name, metadata in (("a.tif", None), ("b.tif", {})):
        with tifffile.TiffWriter(tmp_path / name) as file:
            file.write(V[0, ::2, ::2], metadata=metadata)
            for page in V:
                file.write(page, metadata=metadata)
        np.testing.assert_array_equal(pages(tmp_path / name), V)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:  # a coloured preview
        file.write(np.stack([V[0, ::4, ::4]] * 3, -1), photometric="rgb")
        file.write(V, photometric="minisblack")
    np.testing.assert_array_equal(pages(tmp_path / "c.tif"), V)


def test_a_mask_of_one_series_beside_an_image_of_several(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", V, photometric="minisblack")
    np.testing.assert_array_equal(pages(tmp_path / "a.tif", series=1, mask=True), V)
    spoken(tmp_path / "a.tif", "series", series=1)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([V] * 3, -1), photometric="rgb")
    spoken(tmp_path / "b.tif", "Save the mask as one channel", mask=True)
