"The heart: one anatomy in two appearances, muscle around the left ventricle, slices as they were acquired."
import numpy as np
import pytest
from scipy import ndimage

from taco.data.phantoms import heart  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import PHANTOMS, make_subject


def volume(recipe: str, subject: int, size: int = 64, **options):
    records = make_subject(recipe, subject, size, **options)
    return np.stack([r.image[0] for r in records]), np.stack([r.semantic for r in records])


def test_appearance_option_sets_the_modality():
    ct, mr = (make_subject("mmwhs", 0, 64, appearance=a)[8] for a in ("CT", "MR"))
    assert (ct.modality, mr.modality) == ("CT", "MR")
    assert (ct.semantic == mr.semantic).mean() > .999, "one anatomy, two appearances"


def test_each_structure_is_one_piece_but_for_the_aorta_and_thin_ends():
    label = volume("mmwhs", 1)[1]
    for k in (1, 2, 3, 4, 5):
        pieces, count = ndimage.label(label == k)
        largest = np.bincount(pieces.ravel())[1:].max()
        assert count and largest > .95 * (label == k).sum(), PHANTOMS["mmwhs"].classes[k]


def test_the_left_ventricle_lies_in_its_muscle():
    label = volume("mmwhs", 0)[1]
    for plane in label[4:8]:
        cavity = plane == 1
        if cavity.sum() < 20: continue
        rim = ndimage.binary_dilation(cavity, iterations=2) & ~cavity
        assert np.isin(plane[rim], (2, 3, 4, 5, 6)).mean() > .8


def test_contrast_agent_makes_the_left_heart_brighter_than_muscle():
    for i in range(3):
        image, label = volume("mmwhs", i)
        assert image[label == 1].mean() > image[label == 5].mean()


@pytest.mark.parametrize("recipe", ["mmwhs", "hvsmr"])
def test_the_top_is_missing_in_some_and_slices_inside_only_with_gaps(recipe):
    counts = [len(make_subject(recipe, i, 32)) for i in range(12)]
    assert max(counts) == 16 > min(counts) >= 13
    numbers = [[r.slice for r in make_subject(recipe, i, 32, gaps=.5)] for i in range(4)]
    assert all(len(n) < 14 and n[-1] > len(n) - 1 for n in numbers)


def test_the_distance_of_slices_is_known():
    for recipe in ("mmwhs", "hvsmr"):
        distances = {r.attributes["slice_mm"] for r in make_subject(recipe, 0, 32)}
        assert len(distances) == 1 and 5 < distances.pop() < 11


def test_about_every_sixth_congenital_heart_points_to_the_right():
    right = []
    for i in range(40):
        label = volume("hvsmr", i, 24, slices=6)[1]
        x = [np.argwhere(label == k)[:, 2].mean() if (label == k).any() else np.nan for k in (1, 4)]
        if not np.isnan(x).any(): right.append(x[0] < x[1])  # left ventricle, right atrium
    assert len(right) > 30 and .03 < np.mean(right) < .4


def test_the_upper_vena_cava_is_above_the_lower_one():
    for i in range(3):
        label = volume("hvsmr", i, slices=24)[1]
        upper, lower = (np.flatnonzero((label == k).any((1, 2))) for k in (7, 8))
        assert upper.size and lower.size and upper.min() > lower.max() - 1


def test_short_axis_rings_shrink_towards_the_apex_and_the_right_ventricle_ends_first():
    for i in range(4):
        label = volume("acdc", i)[1]
        areas = [(label == 3).sum((1, 2)), (label == 1).sum((1, 2))]
        assert areas[0][0] > areas[0][-1] > 0 and areas[1][0] > 0 == areas[1][-1]


def test_blood_is_bright_and_muscle_dark_in_a_balanced_image():
    for i in range(4):
        image, label = volume("acdc", i)
        assert image[label == 3].mean() > 1.8 * image[label == 2].mean()
