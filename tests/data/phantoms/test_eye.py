"Fundus and retina in section: vessels are dark, the disc is one round spot, fluid lies in the retina."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import eye  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import PHANTOMS, make_subject


def subjects(recipe: str, count: int = 8, size: int = 96):
    return [make_subject(recipe, i, size)[0] for i in range(count)]


def test_recipes_say_what_they_show():
    assert {PHANTOMS[r].modality for r in ("drive", "chasedb1", "idrib")} == {"fundus photography"}
    assert PHANTOMS["cystoidfluid"].modality == "OCT"
    assert PHANTOMS["idrib"].classes == {1: "microaneurysm", 2: "haemorrhage", 3: "hard exudate", 4: "optic disc"}


@pytest.mark.parametrize("recipe", ["drive", "chasedb1"])
def test_vessels_are_darker_in_green_and_within_the_round_field(recipe):
    for record in subjects(recipe):
        vessel, lit = record.semantic > 0, record.image.sum(0) > .1
        near = ndimage.binary_dilation(vessel, iterations=3) & ~ndimage.binary_dilation(vessel) & lit
        assert record.image[1][vessel].mean() < record.image[1][near].mean()
        assert .03 < vessel.mean() < .3
        corners = [vessel[:8, :8], vessel[:8, -8:], vessel[-8:, :8], vessel[-8:, -8:]]
        assert not np.any(corners) and record.image[:, :6, :6].mean() < .1


def test_the_disc_of_a_diabetic_eye_is_one_bright_spot_at_one_side():
    sides = set()
    for record in subjects("idrib", 12):
        disc = record.semantic == 4
        assert ndimage.label(disc)[1] == 1
        row, column = ndimage.center_of_mass(disc)
        assert .35 < row / 96 < .65 and abs(column / 96 - .5) > .1
        sides.add(column > 48)
        retina = record.image.sum(0) > .15
        assert record.image[1][disc].mean() > record.image[1][retina & ~disc].mean()
    assert sides == {True, False}, "left and right eyes"


def test_exudates_are_brighter_than_bleedings():
    bright, dark = [], []
    for record in subjects("idrib", 12, 128):
        green = record.image[1] / record.image[1].max()
        bright.append(green[record.semantic == 3].mean())
        dark.append(green[record.semantic == 2].mean())
    assert np.mean(np.array(bright) > dark) > .9


def test_fluid_is_dark_and_lies_between_vitreous_and_choroid():
    for record in subjects("cystoidfluid", 12):
        fluid = record.semantic > 0
        rows = np.flatnonzero(fluid.any(1))
        assert record.image[0][fluid].mean() < record.image[0].mean()
        assert rows[0] > 10 and rows[-1] < 90
        above = record.image[0][:6].mean()
        assert above < record.image[0][fluid.any(1)].mean(), "the vitreous is darker than the retina"
