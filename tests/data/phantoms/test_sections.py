"Neurites fill the section, membranes are dark lines; nuclei on slides are blue-violet, kinds differ in size."
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from taco.data.phantoms import sections  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import PHANTOMS, make_subject

SIZE = 96


@pytest.fixture(scope="module")
def stacks():
    return {recipe: [make_subject(recipe, i, SIZE) for i in range(2)] for recipe in ("isbi2012", "epfl")}


def test_membranes_are_darker_than_what_they_enclose(stacks):
    for record in (r for s in stacks["isbi2012"] for r in s):
        membrane = record.semantic > 0
        assert record.image[0][membrane].mean() < record.image[0][~membrane].mean() - .1
        assert .1 < membrane.mean() < .6


def test_membranes_part_the_section_into_many_neurites(stacks):
    for record in (r for s in stacks["isbi2012"] for r in s):
        parts, _ = ndimage.label(record.semantic == 0)
        areas = np.bincount(parts.ravel())[1:]
        assert (areas > 30).sum() > 10 and areas.max() < .25 * SIZE**2


@pytest.mark.parametrize("recipe, apart", [("isbi2012", 4), ("epfl", 4)])
def test_labels_go_on_from_slice_to_slice(recipe, apart, stacks):
    def dice(labels, k):
        return np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in zip(labels, labels[k:])])
    for records in stacks[recipe]:
        labels = [r.semantic > 0 for r in records]
        assert dice(labels, 1) > .45 and dice(labels, 1) > 1.3 * dice(labels, apart)


def test_the_number_of_slices_is_an_option_and_spacing_is_in_nanometres():
    records = make_subject("epfl", 0, 48, slices=3)
    assert [r.slice for r in records] == [0, 1, 2]
    assert records[0].spacing[0] == pytest.approx(5e-3 / 48)


SLIDE = 128


@pytest.fixture(scope="module")
def slides():
    "Subjects 0 … 11 of the three recipes, made once."
    recipes = ("monusac", "nuclei", "tnbcnuclei")
    return {recipe: [make_subject(recipe, i, SLIDE)[0] for i in range(12)] for recipe in recipes}


@pytest.mark.parametrize("recipe", ["monusac", "nuclei", "tnbcnuclei"])
def test_nuclei_take_red_away_and_the_ground_is_pink(recipe, slides):
    for record in slides[recipe]:
        nucleus = record.semantic > 0
        red, green, blue = (band[~nucleus].mean() for band in record.image)
        assert green < min(red, blue), "pink takes green away"
        assert record.image[0][nucleus].mean() < red - .1


def test_kinds_differ_in_size_as_they_should(slides):
    kinds = PHANTOMS["monusac"].classes
    assert kinds == {1: "epithelial", 2: "lymphocyte", 3: "macrophage", 4: "neutrophil"}
    areas = {k: [] for k in kinds}
    for record in slides["monusac"]:
        typical = np.sqrt(np.bincount(record.instances.ravel())[1:].mean())
        for p in regionprops(record.instances):
            kind = int(record.semantic[tuple(p.coords[0])])
            areas[kind].append(p.area / typical**2)
    size = {kinds[k]: np.median(v) for k, v in areas.items()}
    assert size["macrophage"] > size["epithelial"] > size["neutrophil"]
    assert size["epithelial"] > 1.5 * size["lymphocyte"]


def test_each_nucleus_is_of_one_kind(slides):
    for record in slides["monusac"]:
        pairs = np.unique(np.stack([record.instances.ravel(), record.semantic.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_a_wide_field_has_smaller_nuclei_than_a_magnified_one(slides):
    from scipy import ndimage
    wide = np.mean([r.semantic.sum() / max(1, ndimage.label(r.semantic)[1]) for r in slides["nuclei"]])
    near = np.mean([np.bincount(r.instances.ravel())[1:].mean() for r in slides["tnbcnuclei"]])
    assert near > 3 * wide


def test_clefts_are_white_and_hold_no_wide_field_nuclei(slides):
    for record in slides["nuclei"]:
        white = record.image.min(0) > .93
        if white.mean() < .02: continue
        assert (record.semantic[white] > 0).mean() < .01
