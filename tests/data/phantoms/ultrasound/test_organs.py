"Ultrasound: fans, shadows, dark fluid, and the signs of a malignant tumour."
import numpy as np
import pytest

from taco.data.phantoms.phantom import PHANTOMS, make_subject
from taco.data.phantoms.ultrasound import organs  # noqa: F401  its recipes enter the register

FANS, LINEAR = ("usforkidney", "abdomenus", "fhpsaop"), ("busi", "ultrasoundnerve")


def subjects(recipe: str, count: int = 8, size: int = 96, **options):
    return [make_subject(recipe, i, size, **options)[0] for i in range(count)]


@pytest.mark.parametrize("recipe", FANS + LINEAR)
def test_a_curved_probe_leaves_the_upper_corners_black_and_a_linear_one_does_not(recipe):
    corners = np.array([[r.image[0][:6, :6].mean(), r.image[0][:6, -6:].mean()] for r in subjects(recipe)])
    assert (corners < .02).all() if recipe in FANS else (corners > .1).all()


@pytest.mark.parametrize("recipe", FANS)
def test_nothing_is_labelled_outside_the_fan(recipe):
    for record in subjects(recipe):
        assert not record.semantic[:6, :6].any() and not record.semantic[:6, -6:].any()
        assert record.image[0][record.semantic > 0].min() >= 0


def test_tumours_are_darker_than_the_breast_above():
    for record in subjects("busi", 12):
        inside = record.semantic > 0
        rows = np.flatnonzero(inside.any(1))
        above = record.image[0][5:rows[0] - 3]
        assert record.image[0][inside].mean() < above.mean()


def test_the_kind_of_tumour_is_as_the_option_says_and_else_by_chance():
    for kind in (True, False): assert {r.attributes["malignant"] for r in subjects("busi", malignant=kind)} == {kind}
    assert .25 < np.mean([r.attributes["malignant"] for r in subjects("busi", 80, 32)]) < .65


def test_a_kidney_is_longer_than_wide_and_its_sinus_brighter_than_its_cortex():
    brighter = []
    for record in subjects("usforkidney", 12):
        points = np.argwhere(record.semantic > 0)
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
        assert spread[1] > 1.2 * spread[0]
        to_middle = np.linalg.norm(points - points.mean(0), axis=1)
        values = record.image[0][tuple(points.T)]
        near, far = to_middle < np.quantile(to_middle, .15), to_middle > np.quantile(to_middle, .6)
        brighter.append(values[near].mean() > values[far].mean())
    assert np.mean(brighter) > .8


def test_an_abdomen_shows_liver_or_spleen_and_a_gallbladder_only_with_a_liver():
    number = {name: k for k, name in PHANTOMS["abdomenus"].classes.items()}
    for record in subjects("abdomenus", 60, 48):
        there = set(np.unique(record.semantic))
        assert not {number["liver"], number["spleen"]} <= there
        if number["gallbladder"] in there: assert number["spleen"] not in there


def test_vessels_and_gallbladder_are_black():
    dark, liver = [], []
    for record in subjects("abdomenus", 20):
        fluid = np.isin(record.semantic, (4, 6))
        if fluid.sum() > 40 and (record.semantic == 1).sum() > 40:
            dark.append(record.image[0][fluid].mean())
            liver.append(record.image[0][record.semantic == 1].mean())
    assert len(dark) > 4 and np.mean(np.array(dark) < np.array(liver)) > .9


def test_the_nerve_is_one_oval_in_the_middle_with_dark_bundles():
    for record in subjects("ultrasoundnerve"):
        inside = record.semantic > 0
        row, column = np.argwhere(inside).mean(0) / 96
        assert .3 < row < .7 and .2 < column < .8 and .01 < inside.mean() < .12
        assert record.image[0][inside].std() > .08


def test_the_symphysis_is_smaller_and_nearer_to_the_probe_than_the_head():
    for record in subjects("fhpsaop", 12):
        bone, head = (np.argwhere(record.semantic == k) for k in (1, 2))
        assert len(bone) < .5 * len(head) and bone[:, 0].mean() < head[:, 0].mean()
        assert record.image[0][record.semantic == 2].mean() < record.image[0][record.image[0] > 0].mean()
