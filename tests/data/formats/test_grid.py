"The place of a volume, and data beside a header."

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.grid import Scan, beside, canonical, possible_spacing, settled_spacing
from tests.data.readers.bodies import refused


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_any_order_and_direction_is_turned_back(order, flip):
    body = np.arange(24.0).reshape(2, 3, 4)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for axis, sign in enumerate(flip):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (body.shape[axis] - 1)
            affine[:3, axis] *= -1
    stored = body[tuple(slice(None, None, s) for s in flip)].transpose(order)
    scan = Scan(
        stored, affine[:, [*order, 3]], np.array([1.0, 2, 3])[list(order)], flat=order.index(1)
    )
    turned = canonical(scan)
    np.testing.assert_array_equal(turned.voxels, body)
    np.testing.assert_allclose(turned.affine, np.diag([1.0, 2, 3, 1]))
    assert turned.spacing.tolist() == [1, 2, 3] and turned.flat == 1


def test_impossible_places():
    for affine in (np.diag([1, 0, 1, 1.0]), np.diag([1, np.nan, 1, 1.0])):
        with pytest.raises(DataError) as error:
            canonical(Scan(np.zeros((2, 3, 4)), affine, np.ones(3), "a.nii"))
        refused(error, "a.nii", "affine")


def test_sizes(tmp_path):
    affine = np.diag([1.0, 2, 3, 1])
    assert settled_spacing(affine, np.array([1.0009, 2.1, -3])).tolist() == [1.0009, 2, 3]
    assert np.isnan(possible_spacing(np.array([1, np.nan, 2]), tmp_path, "f")).tolist() == [
        False,
        True,
        False,
    ]
    for wrong in ([0, 1, 1], [1, -1, 1], [1, 1, np.inf]):
        with pytest.raises(DataError, match="cannot be of this size"):
            possible_spacing(np.array(wrong), tmp_path, "f")


def test_a_header_that_is_a_link_has_its_data_where_it_points(tmp_path):
    "As data managers store files: both are links into one store."
    (tmp_path / "store").mkdir()
    (tmp_path / "set").mkdir()
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "store" / name).write_bytes(b"x")
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    header = tmp_path / "set" / "a.mhd"
    assert beside(header, "a.raw", "ElementDataFile") == tmp_path / "set" / "a.raw"
    with pytest.raises(DataError, match="outside"):
        beside(header, "../store/a.raw", "ElementDataFile")
