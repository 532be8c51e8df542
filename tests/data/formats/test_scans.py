"Volumes of every format, and everything that can be wrong with their files."

import zlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.scans import read_scan
from tests.data.readers.bodies import (
    AFFINE,
    META,
    SPACE,
    body,
    refused,
)


def write(kind: str, path: Path, voxels: np.ndarray) -> Path:
    "The same volume in a format; voxels are in canonical order, on the grid AFFINE."
    if kind.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path / f"a.{kind}")
    elif kind in ("nrrd", "nhdr"):
        nrrd.write(str(path / f"a.{kind}"), voxels, SPACE, detached_header=kind == "nhdr")
    elif kind == "nrrd raw":
        nrrd.write(str(path / "a.nrrd"), voxels, SPACE | {"encoding": "raw"})
        kind = "nrrd"
    elif kind == "nrrd sideways":  # axes in another order, counted in another space
        turn = {
            "space": "right-anterior-superior",
            "space directions": np.diag([0.5, 0.75, 3.0])[[2, 0, 1]],
            "space origin": [0, 0, 0],
        }
        nrrd.write(str(path / "a.nrrd"), voxels.transpose(2, 0, 1), turn)
        kind = "nrrd"
    elif kind == "mha big-endian":
        (path / "a.mha").write_bytes(
            (META + "BinaryDataByteOrderMSB = True\nElementDataFile = LOCAL\n").encode()
            + voxels.astype(">i2").tobytes("F")
        )
        kind = "mha"
    elif kind == "mha":
        (path / "a.mha").write_bytes(
            (META + "CompressedData = True\nElementDataFile = LOCAL\n").encode()
            + zlib.compress(voxels.tobytes("F"))
        )
    elif kind == "mhd":
        (path / "a.mhd").write_text(META + "ElementDataFile = a.raw\n")
        (path / "a.raw").write_bytes(voxels.tobytes("F"))
    return path / f"a.{kind}"


KINDS = (
    "nii",
    "nii.gz",
    "nrrd",
    "nrrd raw",
    "nrrd sideways",
    "nhdr",
    "mha",
    "mha big-endian",
    "mhd",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_the_same_in_every_format(tmp_path, kind):
    scan = read_scan(write(kind, tmp_path, body()))
    np.testing.assert_array_equal(scan.voxels, body())
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(scan.spacing, [0.5, 0.75, 3.0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_broke_off_is_refused(tmp_path, kind):
    path = write(kind, tmp_path, body())
    data = next((p for p in tmp_path.iterdir() if p != path), path)
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.")


@pytest.mark.parametrize(
    "line, words",
    [
        ("ElementType = MET_STRING", ("ElementType", "MET_STRING", "MET_SHORT")),
        ("DimSize = 6 8", ("DimSize", "3 numbers")),
        ("DimSize = 6 8 50", ("480 bytes", "4800 bytes")),
        ("NDims = 7", ("NDims", "2, 3 or 4")),
        ("ElementSpacing = wide", ("ElementSpacing", "wide")),
        ("BinaryData = False", ("BinaryData", "text")),
    ],
)
def test_wrong_lines_of_a_metaimage_are_named(tmp_path, line, words):
    key = line.split(" = ")[0]
    kept = [f for f in META.splitlines() if not f.startswith(key)]
    path = tmp_path / "a.mha"
    path.write_bytes(
        "\n".join([*kept, line, "ElementDataFile = LOCAL\n"]).encode() + body().tobytes("F")
    )
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "a.mha", *words)


def test_data_that_lie_elsewhere(tmp_path):
    for kind, data in (("mhd", "a.raw"), ("nhdr", "a.raw.gz")):
        path = write(kind, tmp_path, body())
        (tmp_path / data).unlink()
        with pytest.raises(DataError) as error:
            read_scan(path)
        refused(error, path.name, data)
    (tmp_path / "b.mha").write_bytes(b"no header at all\n")
    with pytest.raises(DataError, match="no complete header"):
        read_scan(tmp_path / "b.mha")
    with pytest.raises(DataError, match="No format of volumes"):
        read_scan(tmp_path / "a.mnc")


def test_an_nrrd_without_a_body_lies_as_in_the_file(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), body(), {"spacings": [0.5, 0.75, 3.0]})
    scan = read_scan(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1], body())
    assert scan.spacing.tolist() == [0.5, 0.75, 3.0]
    nrrd.write(str(tmp_path / "b.nrrd"), body(), SPACE | {"space": "scanner-xyz"})
    with pytest.raises(DataError) as error:
        read_scan(tmp_path / "b.nrrd")
    refused(error, "b.nrrd", "scanner-xyz")


def test_channels_become_frames(tmp_path):
    both = np.stack([body(), body() + 1])
    nrrd.write(
        str(tmp_path / "a.nrrd"),
        both,
        SPACE
        | {
            "space directions": np.vstack([np.full(3, np.nan), np.diag([-0.5, -0.75, 3.0])]),
            "kinds": ["vector", "domain", "domain", "domain"],
        },
    )
    (tmp_path / "a.mha").write_bytes(
        (META + "ElementNumberOfChannels = 2\nElementDataFile = LOCAL\n").encode()
        + both.tobytes("F")
    )
    for name in ("a.nrrd", "a.mha"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, np.moveaxis(both, 0, -1))


def test_files_of_another_name_than_they_deserve(tmp_path):
    nibabel.save(nibabel.Nifti1Image(body(), AFFINE), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(body(), AFFINE), tmp_path / "b.nii.gz")
    (tmp_path / "b.nii.gz").rename(tmp_path / "b.nii")
    for name, right in (("a.nii.gz", "a.nii"), ("b.nii", "b.nii.gz")):
        with pytest.raises(DataError) as error:
            read_scan(tmp_path / name)
        refused(error, name, f"name it {right}.")
        (tmp_path / name).rename(tmp_path / right)  # the fix
        np.testing.assert_array_equal(read_scan(tmp_path / right).voxels, body())
    with pytest.raises(DataError, match="stack = true"):
        read_scan(tmp_path / "slice_1.png")
