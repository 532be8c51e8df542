"Chest films: dark lungs, the heart between them, disease where it belongs."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import chest_film  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import make_subject

LUNGS = ("covid19radio", "montgomery", "shenzhen")


def subjects(recipe: str, count: int = 8, size: int = 96, **options):
    return [make_subject(recipe, i, size, **options)[0] for i in range(count)]


@pytest.mark.parametrize("recipe", LUNGS)
def test_there_are_two_lungs_and_both_are_darker_than_what_surrounds_them(recipe):
    for record in subjects(recipe):
        lungs = record.semantic > 0
        pieces, count = ndimage.label(lungs)
        areas = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
        assert count >= 2 and areas[1] > .4 * areas[0] and areas[:2].sum() > .98 * lungs.sum()
        around = ndimage.binary_dilation(lungs, iterations=6) & ~ndimage.binary_dilation(lungs, iterations=2)
        assert record.image[0][lungs].mean() < record.image[0][around].mean()


def test_the_left_lung_is_on_the_right_of_the_film_and_smaller_because_of_the_heart():
    areas = []
    for record in subjects("montgomery", 12):
        left, right = (np.argwhere(record.semantic == k) for k in (1, 2))
        assert left[:, 1].mean() > 48 > right[:, 1].mean()
        areas.append(len(left) / len(right))
    assert np.mean(areas) < .98


def test_montgomery_has_black_margins_and_shenzhen_fills_the_frame():
    edges = {r: np.mean([s.image[0][20:60, :2].mean() for s in subjects(r)]) for r in ("montgomery", "shenzhen")}
    assert edges["montgomery"] < .15 < edges["shenzhen"] - .1


def test_an_infection_is_brighter_than_the_lung_beside_it():
    for record in subjects("covidquex", 12):
        infected = record.semantic > 0
        near = ndimage.binary_dilation(infected, iterations=5) & ~ndimage.binary_dilation(infected)
        assert infected.any()
        if infected.sum() > 100: assert record.image[0][infected].mean() > record.image[0][near].mean() - .05


@pytest.mark.parametrize("recipe", ["montgomery", "shenzhen"])
def test_the_same_patient_sick_and_well_differs_in_the_lungs_only(recipe):
    for sick, well in zip(subjects(recipe, sick=True), subjects(recipe, sick=False)):
        assert (sick.attributes, well.attributes) == ({"tuberculosis": 1}, {"tuberculosis": 0})
        assert np.array_equal(sick.semantic, well.semantic)
        changed = np.abs(sick.image - well.image)[0] > .02
        near_lungs = ndimage.binary_dilation(sick.semantic > 0, iterations=4)
        assert changed.any() and near_lungs[changed].mean() > .97
