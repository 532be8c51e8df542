"Lesions of the skin are darker than it, one piece, and within the dermatoscope's field."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import skin  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import make_subject

RECIPES = ("isic2018", "isic2016", "uwaterlooskincancer")


def subjects(recipe: str, count: int = 12, size: int = 96):
    return [make_subject(recipe, i, size)[0] for i in range(count)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_lesion_is_one_large_piece_and_darker_than_the_skin_around(recipe):
    for record in subjects(recipe):
        lesion = record.semantic > 0
        parts, count = ndimage.label(lesion)
        assert count and np.bincount(parts.ravel())[1:].max() > .9 * lesion.sum()
        around = ndimage.binary_dilation(lesion, iterations=10) & ~ndimage.binary_dilation(lesion, iterations=3)
        assert record.image[:, lesion].mean() < record.image[:, around & (record.image.sum(0) > .3)].mean()


def test_the_frame_of_2016_is_black_and_unlabelled():
    for record in subjects("isic2016"):
        corner = np.s_[:8, :8]
        assert record.image[:, *corner].mean() < .1 and not record.semantic[corner].any()


def test_lesions_of_2016_reach_further_than_those_of_a_plain_camera():
    share = {recipe: np.mean([(r.semantic > 0).mean() for r in subjects(recipe, 30, 48)]) for recipe in RECIPES}
    assert share["isic2016"] > 1.5 * share["uwaterlooskincancer"]


def test_the_light_of_a_plain_camera_comes_from_one_side():
    "Halves of a picture differ more than under the dermatoscope."
    def slope(record):
        skin_only = np.where(record.semantic > 0, np.nan, record.image.mean(0))
        means = [np.nanmean(half) for half in (skin_only[:48], skin_only[48:], skin_only[:, :48], skin_only[:, 48:])]
        return np.hypot(means[0] - means[1], means[2] - means[3])
    plain, scope = (np.mean([slope(r) for r in subjects(recipe)]) for recipe in ("uwaterlooskincancer", "isic2018"))
    assert plain > 2 * scope
