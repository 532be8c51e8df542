"Planes, frames, the choice of slices, and whether two volumes lie alike."

from dataclasses import replace

import numpy as np
import pytest

from taco.base import DataError
from taco.data.formats.grid import Scan
from taco.data.formats.slices import choose_frames, choose_slices, plane_axis, same_grid, view_slice
from tests.data.readers.bodies import refused

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
