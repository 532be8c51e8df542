"Cells: each recipe's bodies have the shape, the size and the contrast that tell it from the others."
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from taco.data.phantoms import cells  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import make_subject

SIZE = 96
SHINING, DARK = ("dynamicnuclear", "nuset"), ("deepbacs",)
COUNTED = (*SHINING, "cellnuclei", "bbbc010", "deepbacs", "brifiseg", "yeaz")


@pytest.fixture(scope="module")
def subjects():
    "Subjects 0 … 7 of a recipe at 96 pixels, made once."
    made = {}
    def of(recipe):
        if recipe not in made: made[recipe] = [make_subject(recipe, i, SIZE)[0] for i in range(8)]
        return made[recipe]
    return of


def shapes(records, least: int = 25):
    "Properties of all bodies that are large enough to have a shape and do not touch the border."
    found = [p for r in records for p in regionprops(r.instances)]
    inside = [p for p in found if min(p.bbox[:2]) > 0 and max(p.bbox[2:]) < SIZE]
    return [p for p in inside if p.area >= least]


@pytest.mark.parametrize("recipe", COUNTED)
def test_there_are_several_bodies_and_each_is_labelled(recipe, subjects):
    for record in subjects(recipe):
        assert len(np.unique(record.instances)) > 3
        assert np.array_equal(record.instances > 0, record.semantic > 0)


@pytest.mark.parametrize("recipe", [*SHINING, *DARK])
def test_light_is_emitted_or_lost(recipe, subjects):
    for record in subjects(recipe):
        bodies = record.semantic > 0
        contrast = record.image[:, bodies].mean() - record.image[:, ~bodies].mean()
        assert contrast > .03 if recipe in SHINING else contrast < -.1


def test_crowded_nuclei_cover_more_than_sparse_ones(subjects):
    recipes = ("nuset", "dynamicnuclear", "cellnuclei")
    crowded, usual, sparse = (np.mean([s.semantic.mean() for s in subjects(r)]) for r in recipes)
    assert crowded > 1.5 * usual and usual > sparse


def test_bacteria_are_rods_and_yeast_is_round(subjects):
    rods, yeast = (np.median([p.eccentricity for p in shapes(subjects(r))]) for r in ("deepbacs", "yeaz"))
    assert rods > .85 > .6 > yeast


def test_worms_are_long_and_only_in_the_well(subjects):
    y, x = (np.indices((SIZE, SIZE)) + .5) / SIZE
    for record in subjects("bbbc010"):
        assert not record.instances[np.hypot(y - .5, x - .5) > .48].any()
    assert np.median([p.eccentricity for p in shapes(subjects("bbbc010"))]) > .95


def test_a_white_cell_has_its_nucleus_inside_and_darkest(subjects):
    for record in subjects("wbc"):
        nucleus, plasm = record.semantic == 2, record.semantic == 1
        rim = ndimage.binary_dilation(nucleus) & ~nucleus
        assert plasm[rim].mean() > .95, "plasm all around"
        assert record.image[:, nucleus].mean() < record.image[:, plasm].mean() < record.image.max()
        assert record.image[1][nucleus].mean() < record.image[2][nucleus].mean(), "violet"


def test_the_bowl_has_dark_bright_and_coloured_pictures():
    records = [make_subject("cellnuclei", i, 48)[0] for i in range(60)]
    bright = np.mean([r.image.mean() > .5 for r in records])
    coloured = np.mean([np.abs(r.image - r.image.mean(0)).mean() > .02 for r in records])
    assert .15 < bright < .45 and .08 < coloured < bright
