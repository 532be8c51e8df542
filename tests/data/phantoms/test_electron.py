"Neurites fill the section; membranes are dark lines, mitochondria tubes through the slices."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import electron  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import make_subject

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
