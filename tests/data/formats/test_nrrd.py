"What an NRRD says of its axes, its space, its data and its segments."

from pathlib import Path

import nrrd
import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.scans import read_scan
from tests.data.readers.bodies import AFFINE, SPACE, body, refused


def write(path: Path, voxels: np.ndarray, header: dict, **more) -> Path:
    nrrd.write(str(path), voxels, header, **more)
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "u1", ">f4"])
def test_encodings_and_types(tmp_path, encoding, kind):
    voxels = (body() % 200).astype(kind)
    scan = read_scan(write(tmp_path / "a.nrrd", voxels, SPACE | {"encoding": encoding}))
    np.testing.assert_array_equal(scan.voxels, voxels)


@pytest.mark.parametrize(
    "space, signs",
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("left-posterior-superior-time", (1, 1, 1)),
    ],
)
def test_spaces(tmp_path, space, signs):
    steps = np.diag([-0.5, -0.75, 3.0]) * np.array(signs)[:, None]
    if space.endswith("time"):
        path = write(tmp_path / "a.nrrd", body(), SPACE)
        path.write_bytes(path.read_bytes().replace(b"superior\n", b"superior-time\n"))
    else:
        path = write(
            tmp_path / "a.nrrd", body(), SPACE | {"space": space, "space directions": steps}
        )
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.voxels, body())
    np.testing.assert_allclose(scan.affine, AFFINE)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", None])
def test_a_space_of_no_body_is_refused(tmp_path, space):
    header = {k: v for k, v in SPACE.items() if k != "space"}
    header |= {"space": space} if space else {"space dimension": 3}
    with pytest.raises(DataError) as error:
        read_scan(write(tmp_path / "a.nrrd", body(), header))
    refused(error, "a.nrrd", "space", space or "no space")


def test_channels_before_and_behind(tmp_path):
    both = np.stack([body(), body() + 1])
    steps = np.vstack([np.full(3, np.nan), SPACE["space directions"]])
    front = SPACE | {"space directions": steps, "kinds": ["list", "domain", "domain", "domain"]}
    np.testing.assert_array_equal(
        read_scan(write(tmp_path / "a.nrrd", both, front)).voxels, np.moveaxis(both, 0, -1)
    )
    back = SPACE | {"space directions": np.roll(steps, -1, 0), "kinds": ["domain"] * 3 + ["vector"]}
    np.testing.assert_array_equal(
        read_scan(write(tmp_path / "a.nrrd", np.moveaxis(both, 0, -1), back)).voxels,
        np.moveaxis(both, 0, -1),
    )
    lying = {"kinds": ["RGB-color", "domain", "domain"], "spacings": [np.nan, 0.02, 0.03]}
    rgb = np.stack([body()[..., 0]] * 3)
    scan = read_scan(write(tmp_path / "a.nrrd", rgb, lying))
    assert scan.voxels.shape == (6, 8, 1, 3) and scan.spacing[:2].tolist() == [0.02, 0.03]
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1, 0, 2], rgb[2])


def test_planes_with_and_without_a_place(tmp_path):
    plane = body()[..., 0]
    scan = read_scan(write(tmp_path / "a.nrrd", plane, {"spacings": [0.5, 0.75]}))
    np.testing.assert_array_equal(scan.voxels[::-1, ::-1, 0], plane)
    assert scan.spacing[:2].tolist() == [0.5, 0.75] and scan.flat == 2
    header = SPACE | {"space directions": SPACE["space directions"][:2]}
    scan = read_scan(write(tmp_path / "a.nrrd", plane, header))
    np.testing.assert_array_equal(scan.voxels[..., 0], plane)
    assert scan.spacing[:2].tolist() == [0.5, 0.75] and np.isnan(scan.spacing[2])


@pytest.mark.parametrize("units, scale", [("um", 1e-3), ("cm", 10), ("mm", 1), ("microns", 1e-3)])
def test_units(tmp_path, units, scale):
    scan = read_scan(write(tmp_path / "a.nrrd", body(), SPACE | {"space units": [units] * 3}))
    np.testing.assert_allclose(scan.spacing, np.array([0.5, 0.75, 3]) * scale)
    header = {"spacings": [0.5, 0.75, 3.0], "units": [units] * 3}
    scan = read_scan(write(tmp_path / "b.nrrd", body(), header))
    np.testing.assert_allclose(scan.spacing, np.array([0.5, 0.75, 3]) * scale)


def test_what_is_not_read_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        read_scan(write(tmp_path / "a.nrrd", body(), SPACE | {"space units": ["furlong"] * 3}))
    refused(error, "space units", "furlong")
    with pytest.raises(DataError) as error:
        read_scan(write(tmp_path / "a.nrrd", body(), {"spacings": [0.5, 0.0, 3.0]}))
    refused(error, "spacings", "positive")
    path = write(tmp_path / "a.nrrd", body(), SPACE | {"encoding": "raw"})
    path.write_bytes(path.read_bytes().replace(b"encoding: raw", b"encoding: hex"))
    with pytest.raises(DataError) as error:
        read_scan(path)
    refused(error, "encoding", "hex", "gzip")


def test_data_outside_the_folder_are_not_read(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(body().tobytes("F"))
    path = write(folder / "a.nhdr", body(), SPACE | {"encoding": "raw"}, detached_header=True)
    np.testing.assert_array_equal(read_scan(path).voxels, body())
    text = path.read_text()
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    for name in ("../secret.raw", str(tmp_path / "secret.raw"), "link.raw"):
        path.write_text(text.replace("data file: a.raw", f"data file: {name}"))
        with pytest.raises(DataError) as error:
            read_scan(path)
        refused(error, "a.nhdr", "data file", name, "beside its header")
    path.write_text(text.replace("data file: a.raw", "data file: a%d.raw 1 5 1"))
    with pytest.raises(DataError, match="spread over many files"):
        read_scan(path)


def test_segments_come_with_the_scan(tmp_path):
    names = {"Segment0_Name": "liver", "Segment0_LabelValue": "3", "Segment0_Layer": "0"}
    names |= {"Segment1_Name": "cyst", "Segment1_LabelValue": "1", "Segment1_Layer": "1"}
    scan = read_scan(write(tmp_path / "a.seg.nrrd", body(), SPACE | names))
    assert [(s.name, s.value, s.layer) for s in scan.segments] == [("liver", 3, 0), ("cyst", 1, 1)]
