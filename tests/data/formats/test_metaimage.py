"What a MetaImage says of its place, its values and its data file."

from pathlib import Path

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.scans import read_scan
from tests.data.readers.bodies import META, body, refused


def mha(path: Path, header: str, data: bytes | None = None) -> Path:
    data = body().tobytes("F") if data is None else data
    path.write_bytes((header + "ElementDataFile = LOCAL\n").encode() + data)
    return path


def without(*keys: str) -> str:
    return "".join(f + "\n" for f in META.splitlines() if f.split(" = ")[0] not in keys)


def test_sizes(tmp_path):
    header = without("ElementSpacing")
    both = header + "ElementSize = 1 1 1\nElementSpacing = 0.5 0.75 3\n"
    assert read_scan(mha(tmp_path / "a.mha", both)).spacing.tolist() == [0.5, 0.75, 3]
    assert read_scan(
        mha(tmp_path / "a.mha", header + "ElementSize = 1 2 3\n")
    ).spacing.tolist() == [1, 2, 3]
    assert np.isnan(read_scan(mha(tmp_path / "a.mha", header)).spacing).all()
    micron = META + "DistanceUnits = um\n"
    np.testing.assert_allclose(
        read_scan(mha(tmp_path / "a.mha", micron)).spacing, [5e-4, 7.5e-4, 3e-3]
    )
    for line in (
        "ElementSpacing = 0.5 0 3",
        "ElementSpacing = -1 1 3",
        "ElementSpacing = nan 1 3",
        "DistanceUnits = furlong",
        "Offset = inf 0 0",
        "ObjectType = Tube",
    ):
        key = line.split(" = ")[0]
        with pytest.raises(DataError) as error:
            read_scan(mha(tmp_path / "a.mha", without(key) + line + "\n"))
        refused(error, "a.mha", key)


def test_orientation_in_letters_where_there_is_no_matrix(tmp_path):
    bare = without("TransformMatrix")
    for letters, voxels in (
        ("RAI", body()[::-1, ::-1]),  # from right, front and below: as counted
        ("LPI", body()),
        ("LPS", body()[:, :, ::-1]),
        ("???", body()[::-1, ::-1]),
        ("PLI", body().transpose(1, 0, 2)),
    ):
        scan = read_scan(mha(tmp_path / "a.mha", bare + f"AnatomicalOrientation = {letters}\n"))
        np.testing.assert_array_equal(scan.voxels, voxels)
    # beside a matrix, as ITK does: the matrix
    scan = read_scan(mha(tmp_path / "a.mha", META + "AnatomicalOrientation = RAI\n"))
    np.testing.assert_array_equal(scan.voxels, body())
    with pytest.raises(DataError) as error:
        read_scan(mha(tmp_path / "a.mha", bare + "AnatomicalOrientation = XYZ\n"))
    refused(error, "AnatomicalOrientation", "XYZ")


def test_values_by_slope_and_offset(tmp_path):
    lines = "ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -1024\n"
    scan = read_scan(mha(tmp_path / "a.mha", META + lines))
    np.testing.assert_array_equal(scan.voxels, body() * 2.0 - 1024)
    with pytest.raises(DataError) as error:
        read_scan(mha(tmp_path / "a.mha", META + "ElementToIntensityFunctionSlope = 0\n"))
    refused(error, "ElementToIntensityFunctionSlope")


def test_a_field_that_is_there_twice(tmp_path):
    with pytest.raises(DataError) as error:
        read_scan(mha(tmp_path / "a.mha", META + "ElementSpacing = 1 1 1\n"))
    refused(error, "ElementSpacing", "0.5 0.75 3 and 1 1 1")
    assert (
        read_scan(mha(tmp_path / "a.mha", META + "ElementSpacing = 0.5 0.75 3\n")).spacing[0] == 0.5
    )


def test_a_plane_and_channels(tmp_path):
    plane = body()[..., 0]
    header = "NDims = 2\nDimSize = 6 8\nElementType = MET_SHORT\nElementSpacing = 0.5 0.75\n"
    scan = read_scan(mha(tmp_path / "a.mha", header, plane.tobytes("F")))
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1, 0], plane)
    assert scan.spacing[:2].tolist() == [0.5, 0.75] and scan.flat == 2
    both = np.stack([plane, plane + 1])
    header += "ElementNumberOfChannels = 2\n"
    scan = read_scan(mha(tmp_path / "a.mha", header, both.tobytes("F")))
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1, 0, 1], plane + 1)


def test_data_outside_the_folder_are_not_read(tmp_path):
    folder = tmp_path / "set"
    (folder / "parts").mkdir(parents=True)
    for place in (tmp_path / "secret.raw", folder / "parts" / "a.raw"):
        place.write_bytes(body().tobytes("F"))
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    path = folder / "a.mhd"
    path.write_text(META + "ElementDataFile = parts/a.raw\n")
    np.testing.assert_array_equal(read_scan(path).voxels, body())
    for name in ("../secret.raw", str(tmp_path / "secret.raw"), "link.raw"):
        path.write_text(META + f"ElementDataFile = {name}\n")
        with pytest.raises(DataError) as error:
            read_scan(path)
        refused(error, "a.mhd", "ElementDataFile", name, "beside its header")
    # the fix: the file beside its header, under its bare name
    (folder / "secret.raw").write_bytes((tmp_path / "secret.raw").read_bytes())
    path.write_text(META + "ElementDataFile = secret.raw\n")
    np.testing.assert_array_equal(read_scan(path).voxels, body())
    for name in ("LIST", "a%03d.raw 1 5 1"):
        path.write_text(META + f"ElementDataFile = {name}\n")
        with pytest.raises(DataError, match="One file a slice"):
            read_scan(path)
