"What a NIfTI says of its place, its units and its values."

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.scans import read_scan
from tests.data.readers.bodies import body, refused


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, **patches: tuple) -> Path:
    "A NIfTI whose header bytes are patched after it was written: name → (offset, format, values)."
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    content = bytearray(path.read_bytes())
    for offset, form, *values in patches.values():
        data = struct.pack("<" + form, *values)
        content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


NO_QFORM = (252, "h", 0)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (0, 0, 0), (-1, 3, 5), (np.nan, 3, 5), (1, 3, 0.5)])
def test_the_place_wins_over_sizes_beside_it(tmp_path, sizes):
    affine = np.diag([1.0, 3.0, 5.0, 1.0])
    path = nifti(tmp_path / "a.nii", body(), affine, sizes=(80, "3f", *sizes), q=NO_QFORM)
    scan = read_scan(path)
    assert scan.spacing.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(scan.voxels, body())


def test_sizes_that_agree_stay_as_they_are_written(tmp_path):
    affine = np.diag([0.7, 0.7, 2.2, 1.0])
    assert read_scan(nifti(tmp_path / "a.nii", body(), affine)).spacing.tolist() == [
        float(np.float32(v)) for v in (0.7, 0.7, 2.2)
    ]
    path = nifti(tmp_path / "a.nii", body(), affine, sizes=(80, "3f", 0.7003, 0.7, 2.2), q=NO_QFORM)
    assert read_scan(path).spacing[0] == np.float32(0.7003)


def test_the_sform_wins_over_the_qform(tmp_path):
    image = nibabel.Nifti1Image(body(), np.diag([-0.8, 0.9, 3, 1]))
    image.set_sform(np.diag([-0.8, 0.9, 3, 1]), 1)
    image.set_qform(np.diag([0.8, 0.9, 3, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii").voxels, body()[::-1])
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii").voxels, body())


def test_a_place_that_is_none_is_refused(tmp_path):
    for patch in ((280, "4f", 0, 0, 0, 0), (280, "4f", np.nan, 0, 0, 0)):
        path = nifti(tmp_path / "a.nii", body(), np.diag([1.0, 3, 5, 1]), rows=patch)
        with pytest.raises(DataError) as error:
            read_scan(path)
        refused(error, "a.nii", "affine")


@pytest.mark.parametrize(
    "code, scale", [(0, 1), (2, 1), (1, 1000), (3, 0.001), (8 + 3, 0.001), (16 + 1, 1000)]
)
def test_units_of_length(tmp_path, code, scale):
    path = nifti(tmp_path / "a.nii", body(), np.diag([1.0, 3, 5, 1]), units=(123, "B", code))
    scan = read_scan(path)
    np.testing.assert_allclose(scan.spacing, np.array([1, 3, 5]) * scale)
    np.testing.assert_allclose(np.diag(scan.affine)[:3], np.array([1, 3, 5]) * scale)


def test_an_unknown_unit_is_refused_and_the_fix_works(tmp_path):
    path = nifti(tmp_path / "a.nii", body(), np.eye(4), units=(123, "B", 5))
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.nii", "xyzt_units", "5", "set_xyzt_units('mm')")
    image = nibabel.load(path)
    image.header.set_xyzt_units("mm")
    nibabel.save(nibabel.Nifti1Image(body(), np.eye(4), image.header), path)
    assert read_scan(path).spacing.tolist() == [1, 1, 1]


def test_slope_and_offset(tmp_path):
    def scaled(slope, offset):
        return nifti(tmp_path / "a.nii", body(), np.eye(4), scale=(112, "2f", slope, offset))

    np.testing.assert_array_equal(read_scan(scaled(2, -1024)).voxels, body() * 2.0 - 1024)
    for slope in (0, np.nan):
        np.testing.assert_array_equal(read_scan(scaled(slope, 7)).voxels, body())
    for slope, offset in ((2, np.nan), (1, np.inf)):
        with pytest.raises(DataError) as error:
            read_scan(scaled(slope, offset))
        refused(error, "a.nii", "scl_slope")


def test_byte_orders_and_types(tmp_path):
    for kind in ("u1", "i1", "i2", "u2", "i4", "f4", "f8"):
        voxels = (body() % 100).astype(kind)
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(kind)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4), header), tmp_path / "a.nii")
        assert (tmp_path / "a.nii").read_bytes()[:4] == struct.pack(">i", 348)
        np.testing.assert_array_equal(read_scan(tmp_path / "a.nii").voxels, voxels)
    nibabel.save(nibabel.Nifti2Image(body(), np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii").voxels, body())


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 1), (20, 24, 1, 1), (20, 24, 1, 1, 1)])
def test_a_plane_is_a_volume_of_one_slice(tmp_path, shape):
    plane = np.arange(480, dtype=np.int16).reshape(20, 24)
    image = nibabel.Nifti1Image(plane.reshape(shape), np.diag([0.5, 0.75, 1, 1]))
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    np.testing.assert_array_equal(scan.voxels, plane[..., None])
    assert scan.spacing[:2].tolist() == [0.5, 0.75] and scan.flat == 2
    assert np.isnan(scan.spacing[2]) == (len(shape) == 2)


def test_a_plane_without_a_third_direction_and_one_that_stands(tmp_path):
    plane = np.arange(480, dtype=np.int16).reshape(20, 24)
    path = nifti(
        tmp_path / "a.nii",
        plane,
        np.diag([0.5, 0.75, 1, 1]),
        z=(280, "12f", *(0.5, 0, 0, 0), *(0, 0.75, 0, 0), *(0, 0, 0, 0)),
        q=NO_QFORM,
        s=(254, "h", 1),
    )
    np.testing.assert_array_equal(read_scan(path).voxels, plane[..., None])
    standing = np.array([[0.5, 0, 0, 0], [0, 0, 3.0, 0], [0, 0.75, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(plane[..., None], standing), tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    assert scan.voxels.shape == (20, 1, 24) and scan.flat == 1
    assert scan.spacing.tolist() == [0.5, 3, 0.75]


def test_frames_and_vectors(tmp_path):
    both = np.stack([body(), body() + 1], -1)
    for voxels in (both, both[:, :, :, None], both[..., None]):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
        np.testing.assert_array_equal(read_scan(tmp_path / "a.nii").voxels, both)
    nibabel.save(nibabel.Nifti1Image(np.stack([both, both], -1), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="not a volume"):
        read_scan(tmp_path / "a.nii")


def test_colours_and_complex_numbers_are_refused(tmp_path):
    rgb = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for voxels, word in ((rgb, "colours"), (np.zeros((4, 5, 6), np.complex64), "complex64")):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
        with pytest.raises(DataError) as error:
            read_scan(tmp_path / "a.nii")
        refused(error, "a.nii", "datatype", word)


def test_analyze_and_mgh(tmp_path):
    nibabel.save(
        nibabel.MGHImage(body().astype(np.float32), np.diag([0.5, 2, 3, 1])), tmp_path / "a.mgz"
    )
    scan = read_scan(tmp_path / "a.mgz")
    np.testing.assert_array_equal(scan.voxels, body())
    np.testing.assert_allclose(scan.spacing, [0.5, 2, 3])
    nibabel.save(nibabel.Spm2AnalyzeImage(body(), np.diag([-2.0, 2, 3, 1])), tmp_path / "b.img")
    for name in ("b.img", "b.hdr"):
        assert read_scan(tmp_path / name).spacing.tolist() == [2, 2, 3]


def test_a_type_that_nibabel_does_not_know(tmp_path):
    path = nifti(tmp_path / "a.nii", body(), np.eye(4), kind=(70, "h", 1), bits=(72, "h", 1))
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.nii", "header", "int16")


def test_sizes_of_zero_print_nothing(tmp_path, capfd):
    path = nifti(
        tmp_path / "a.nii", body(), np.diag([1.0, 3, 5, 1]), z=(80, "3f", 0, 0, 0), q=NO_QFORM
    )
    read_scan(path)
    assert capfd.readouterr() == ("", "")
