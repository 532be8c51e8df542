"Jaws and coronary arteries: one mandible, open upwards; vessels that are darker than the ground."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import xray  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import make_subject


def subjects(recipe: str, count: int = 8, size: int = 96):
    return [make_subject(recipe, i, size)[0] for i in range(count)]


def test_a_mandible_is_one_bow_that_opens_upwards():
    for record in subjects("pandental"):
        jaw = record.semantic > 0
        pieces, _ = ndimage.label(jaw)
        assert np.bincount(pieces.ravel())[1:].max() > .99 * jaw.sum()
        middle, sides = jaw[:, 44:52], np.concatenate([jaw[:, 8:20], jaw[:, 76:88]], 1)
        assert np.argwhere(middle)[:, 0].min() > np.argwhere(sides)[:, 0].min() + 20, "condyles above, chin below"


def test_teeth_are_the_brightest_and_lie_between_the_jaws():
    for record in subjects("pandental"):
        rows = np.argwhere(record.image[0] > np.quantile(record.image[0], .98))[:, 0]
        assert .3 < np.median(rows) / 96 < .75


@pytest.mark.parametrize("recipe", ["dca1", "chuac"])
def test_filled_vessels_are_darker_than_the_ground_beside_them(recipe):
    for record in subjects(recipe):
        vessel = record.semantic > 0
        near = ndimage.binary_dilation(vessel, iterations=5) & ~ndimage.binary_dilation(vessel, iterations=2)
        assert record.image[0][vessel].mean() < record.image[0][near].mean() - .05


def test_cut_outs_are_brighter_and_smoother_and_their_vessels_wider_than_whole_frames():
    whole, cut = (subjects(r, 12) for r in ("dca1", "chuac"))
    bright = [np.mean([np.quantile(r.image, .8) for r in s]) for s in (whole, cut)]
    wide = [np.mean([ndimage.distance_transform_edt(r.semantic).max() for r in s]) for s in (whole, cut)]
    assert bright[1] > bright[0] + .15 and wide[1] > 1.3 * wide[0]
