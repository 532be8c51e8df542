"CT and MR: windows, missing slices, an infection in the lungs, a prostate below its bladder."
import numpy as np
import pytest

from taco.data.phantoms.ct_mr import as_acquired, hounsfield_window, mr_window
from taco.data.phantoms.phantom import make_subject, stack


def test_a_window_is_linear_between_black_and_white():
    shown = hounsfield_window(np.array([-2000., -1000, -500, 0, 3000]), -500, 1000)
    assert shown.tolist() == [0, 0, .5, 1, 1]


def test_the_brightest_voxels_are_white():
    signal = np.random.default_rng(0).random((4, 50, 50))
    assert (mr_window(signal, .9) > 1).mean() == pytest.approx(.1, abs=.01)


@pytest.mark.parametrize("gaps", [0, .4])
def test_only_last_slices_are_missing_unless_there_are_gaps(gaps):
    whole = stack(np.zeros((16, 8, 8)), np.zeros((16, 8, 8), int))
    lost = []
    for seed in range(60):
        kept = as_acquired(np.random.default_rng(seed), list(whole), 2.5, gaps)
        numbers = [r.slice for r in kept]
        assert numbers == sorted(set(numbers)) and numbers[0] == 0 and 12 <= numbers[-1] <= 15
        assert all(r.attributes == {"slice_mm": 2.5} for r in kept)
        lost.append(1 - (len(numbers) - 2) / (numbers[-1] - 1))  # of those between the first and the last
    assert np.mean(lost) == pytest.approx(gaps, abs=.05) and (gaps or not any(lost))


def test_an_infection_is_denser_than_lung_and_lies_within_the_chest():
    for i in range(8):
        record, = make_subject("mosmedplus", i, 96)
        infected, image = record.semantic > 0, record.image[0]
        assert not infected[:6].any() and not infected[-6:].any()
        if infected.sum() > 20: assert image[infected].mean() > np.median(image[(image > .02) & (image < .4)])


def test_the_air_around_the_patient_is_black():
    for i in range(4):
        image = make_subject("mosmedplus", i, 96)[0].image[0]
        assert image[:5, :5].mean() < .2 and image[-5:, -5:].mean() < .2 < image.mean()


def test_the_prostate_is_in_the_middle_slices_and_not_in_the_outermost():
    for i in range(3):
        areas = [(r.semantic > 0).mean() for r in make_subject("promise12", i, 64)]
        assert areas[0] == areas[-1] == 0 and 2 <= int(np.argmax(areas)) <= 9 and max(areas) > .02


def test_the_bladder_is_bright_in_the_top_slices():
    for i in range(3):
        slices = make_subject("promise12", i, 64)
        front = [r.image[0][16:26, 28:36].mean() for r in slices]
        assert max(front[-3:]) > .85 and front[-1] > front[0]
