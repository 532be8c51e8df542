"Physics: the distributions that the literature gives, and probes that shadow."
import numpy as np
import pytest

from taco.data.phantoms.physics import (
    Fan,
    bias_field,
    camera,
    colour_near,
    ct_noise,
    curved_probe,
    envelope,
    fine_size,
    linear_probe,
    log_compress,
    photons,
    rician,
    sensor_noise,
    shrink,
    shrink_labels,
    shrink_mask,
    stain,
    streaks,
    tint,
    transmission,
    vignette,
)
from taco.data.phantoms.shapes import grid


@pytest.fixture
def rng(): return np.random.default_rng(0)


def test_magnitudes_are_rayleigh_in_air_and_nearly_normal_in_tissue(rng):
    air, tissue = (rician(rng, np.full((300, 300), v, np.float32), .1) for v in (0, 1))
    assert air.mean() == pytest.approx(.1 * np.sqrt(np.pi / 2), rel=.01)
    assert air.std() == pytest.approx(.1 * np.sqrt(2 - np.pi / 2), rel=.02)
    assert tissue.std() == pytest.approx(.1, rel=.02)


def test_coils_are_positive_and_smooth(rng):
    field = bias_field(rng, (64, 64), .3)
    assert field.min() > 0 and np.abs(np.diff(field)).max() < .1


def test_noise_of_a_ct_grows_with_frequency_until_the_kernel_cuts_it(rng):
    power = np.mean([np.abs(np.fft.rfft(ct_noise(rng, (64, 64)), axis=-1))**2 for _ in range(50)], (0, 1))
    assert power[1] < power[6] > power[30]


def test_streaks_fade_with_distance(rng):
    rays = np.abs(np.mean([np.abs(streaks(rng, *grid(64), (.5, .5))) for _ in range(20)], 0))
    assert rays[28:36, 28:36].mean() > 2 * rays[:8, :8].mean()


def test_speckle_is_rayleigh_with_the_mean_of_its_strength(rng):
    echo = envelope(rng, np.full((300, 300), .4, np.float32), (1., 2.))
    assert echo.mean() == pytest.approx(.4, rel=.05)
    assert echo.std() / echo.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), rel=.05)


def test_decibels_are_logarithmic():
    assert log_compress(np.array([1., .1, .01, 0]), 40).tolist() == pytest.approx([1, .5, 0, 0])


def test_half_way_down_half_of_the_absorption_has_acted():
    through = transmission(np.full((100, 3), 2.))
    assert through[49:51].mean() == pytest.approx(np.exp(-1), rel=.01) and (np.diff(through, axis=0) < 0).all()


def test_a_fan_is_black_outside_and_finds_its_beams():
    fan = Fan((-.1, .5), .5, .15, 1.)
    row, column = fan.where(*fan.beams(20, 10))
    assert np.allclose(row, np.linspace(0, 1, 20)[:, None], atol=1e-5)
    assert np.allclose(column, np.linspace(0, 1, 10), atol=1e-5)
    screen, seen = fan.convert(np.ones((20, 10), np.float32), 64)
    assert np.array_equal(screen > 0, seen) and np.allclose(screen[seen], 1) and .2 < seen.mean() < .8


@pytest.mark.parametrize("probe", [linear_probe, lambda rng, s, a: curved_probe(rng, s, a, 64)[0]])
def test_bone_casts_a_shadow(rng, probe):
    n, bone = fine_size(64), np.zeros((128, 128), np.float32)
    bone[40:46, 56:72] = 1
    pictures = [probe(np.random.default_rng(1), np.full((n, n), .2, np.float32), 1 + a * bone) for a in (0, 60)]
    clear, dark = (shrink(p, 64)[40:48, 30:34].mean() for p in pictures)
    assert dark < clear - .1


def test_small_pictures_are_simulated_twice_as_fine():
    assert [fine_size(n) for n in (48, 64, 127, 128, 256)] == [96, 128, 254, 128, 256]
    fine = np.arange(16.).reshape(4, 4)
    assert shrink(fine, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]] and shrink(fine, 4) is fine
    assert shrink_mask(fine > 4, 2).tolist() == [[False, True], [True, True]], "half is inside"
    assert shrink_labels(fine, 2).tolist() == [[5, 7], [13, 15]]


def test_photons_are_counted(rng):
    for full in (50, 500):
        noisy = photons(rng, np.full((300, 300), .5, np.float32), full, read=0)
        assert noisy.mean() == pytest.approx(.5, rel=.01) and noisy.var() == pytest.approx(.5 / full, rel=.05)


def test_haematoxylin_is_bluer_than_eosin(rng):
    dye, none = np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)
    blue, pink = stain(rng, dye, none, 0), stain(rng, none, dye, 0)
    assert blue[2].mean() > blue[0].mean() and pink[0].mean() > pink[1].mean()


def test_shrinking_averages_the_noise_of_a_sensor_away(rng):
    deviations = [sensor_noise(rng, (n, n), .03).std() for n in (32, 128, 256, 512)]
    assert deviations == pytest.approx([.01, .015, .03, .03], rel=.1)


def test_a_photograph_stays_within_black_and_white_and_differs_each_time(rng):
    scene = np.full((3, 32, 32), .7, np.float32)
    many = [camera(rng, scene, .1, .3, .02) for _ in range(20)]
    assert all(p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in many)
    assert np.std([p.mean() for p in many]) > .03


def test_corners_are_darker_by_the_strength():
    light = vignette(*grid(200), .4)
    assert light.max() == pytest.approx(1, abs=1e-3) and light[0, 0] == pytest.approx(.6, abs=.01)


def test_colours_stay_near_and_a_tint_is_a_copy(rng):
    colours = np.stack([colour_near(rng, (.8, .5, .3))[:, 0, 0] for _ in range(200)])
    assert np.allclose(colours.mean(0), (.8, .5, .3), atol=.02) and colours.min() >= 0 and colours.max() <= 1
    image = np.zeros((3, 4, 4), np.float32)
    assert np.allclose(tint(image, np.full((4, 4), .5), 1.), .5) and not image.any()
