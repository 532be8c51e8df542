"H&E sections: nuclei are blue-violet, kinds differ in size and darkness, clefts are empty."
import numpy as np
import pytest
from skimage.measure import regionprops

from taco.data.phantoms import histology  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import PHANTOMS, make_subject

SIZE = 128


@pytest.fixture(scope="module")
def sections():
    "Subjects 0 … 11 of the three recipes, made once."
    recipes = ("monusac", "nuclei", "tnbcnuclei")
    return {recipe: [make_subject(recipe, i, SIZE)[0] for i in range(12)] for recipe in recipes}


@pytest.mark.parametrize("recipe", ["monusac", "nuclei", "tnbcnuclei"])
def test_nuclei_take_red_away_and_the_ground_is_pink(recipe, sections):
    for record in sections[recipe]:
        nucleus = record.semantic > 0
        red, green, blue = (band[~nucleus].mean() for band in record.image)
        assert green < min(red, blue), "pink takes green away"
        assert record.image[0][nucleus].mean() < red - .1


def test_kinds_differ_in_size_as_they_should(sections):
    kinds = PHANTOMS["monusac"].classes
    assert kinds == {1: "epithelial", 2: "lymphocyte", 3: "macrophage", 4: "neutrophil"}
    areas = {k: [] for k in kinds}
    for record in sections["monusac"]:
        typical = np.sqrt(np.bincount(record.instances.ravel())[1:].mean())
        for p in regionprops(record.instances):
            kind = int(record.semantic[tuple(p.coords[0])])
            areas[kind].append(p.area / typical**2)
    size = {kinds[k]: np.median(v) for k, v in areas.items()}
    assert size["macrophage"] > size["epithelial"] > size["neutrophil"]
    assert size["epithelial"] > 1.5 * size["lymphocyte"]


def test_each_nucleus_is_of_one_kind(sections):
    for record in sections["monusac"]:
        pairs = np.unique(np.stack([record.instances.ravel(), record.semantic.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_a_wide_field_has_smaller_nuclei_than_a_magnified_one(sections):
    from scipy import ndimage
    wide = np.mean([r.semantic.sum() / max(1, ndimage.label(r.semantic)[1]) for r in sections["nuclei"]])
    near = np.mean([np.bincount(r.instances.ravel())[1:].mean() for r in sections["tnbcnuclei"]])
    assert near > 3 * wide


def test_clefts_are_white_and_hold_no_wide_field_nuclei(sections):
    for record in sections["nuclei"]:
        white = record.image.min(0) > .93
        if white.mean() < .02: continue
        assert (record.semantic[white] > 0).mean() < .01
