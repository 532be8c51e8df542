"The place of a volume, data beside a header; planes, frames, slices, and whether two volumes lie alike."

from dataclasses import replace

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.grid import (
    Scan,
    beside,
    canonical,
    choose_frames,
    choose_slices,
    plane_axis,
    possible_spacing,
    same_grid,
    settled_spacing,
    view_slice,
)
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


EMPTY = np.zeros((4, 4, 10), np.uint8)


def half() -> np.ndarray:
    labels = EMPTY.copy()
    labels[:2, :, 3:] = 1
    return labels


def test_a_volume_without_foreground_is_kept_by_the_usual_choice():
    chosen = lambda labels, **how: choose_slices(labels, 10, 2, **how).tolist()
    assert chosen(EMPTY) == list(range(10))
    assert chosen(EMPTY, every=4) == [0, 4, 8] and chosen(EMPTY, number=2) == [0, 9]
    assert chosen(EMPTY, healthy="skip") == [] and chosen(EMPTY, slices=[3]) == [3]
    assert chosen(half()) == chosen(half(), healthy="skip") == [3, 4, 5, 6, 7, 8, 9]
    with pytest.raises(DataError) as error:
        choose_slices(EMPTY, 10, 2, healthy="kep", file="a.nii")
    refused(error, "healthy", "Did you mean 'keep'")


def test_frames():
    assert (
        choose_frames(1, None) == [0]
        and choose_frames(1, 0) == [0]
        and choose_frames(1, "all") == [0]
    )
    for frames, wanted in (
        (1, 1),
        (1, [0, 1]),
        (3, None),
        (3, True),
        (3, -1),
        (3, 1.0),
        (3, "some"),
    ):
        with pytest.raises(DataError) as error:
            choose_frames(frames, wanted, "a.nii")
        refused(error, "a.nii", "frame")


def test_planes_and_views():
    body = np.arange(24).reshape(2, 3, 4)
    assert view_slice(body, 1, 2).tolist() == body[:, :, 1].T[::-1, ::-1].tolist()
    assert plane_axis("acquired", np.array([1, 5, 1.0])) == 1
    for wrong in ("axiall", 3, True):
        with pytest.raises(DataError, match="Unknown plane"):
            plane_axis(wrong, np.ones(3), "a.nii")


def test_the_same_grid():
    scan = Scan(np.zeros((5, 6, 4)), np.diag([0.5, 0.5, 3, 1]), np.array([0.5, 0.5, 3]), "a.nii")
    same_grid(replace(scan, file="b.nii"), scan)
    unknown = replace(scan, spacing=np.full(3, np.nan))
    same_grid(unknown, scan)
    same_grid(scan, unknown)
    for spacing in ([0.5, 0.5, 3.2], [0.6, 0.5, np.nan]):
        with pytest.raises(DataError) as error:
            same_grid(replace(scan, spacing=np.array(spacing), file="b.nii"), scan)
        refused(error, "b.nii", "other voxels")
