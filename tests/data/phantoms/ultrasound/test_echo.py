"Echocardiography: two frames of one heart, what a beat changes, and that no single number gives the phase away."
import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from taco.data.phantoms.phantom import make_subject
from taco.data.phantoms.ultrasound.echo import ATRIUM, CAVITY, MYOCARDIUM


@pytest.fixture(scope="module")
def beats():
    "End-diastole and end-systole of sixty patients."
    return [make_subject("camus", i, 64, seed=3) for i in range(60)]


def areas(record) -> np.ndarray:
    return np.bincount(record.semantic.ravel(), minlength=4)[1:]


def test_a_patient_has_both_frames_and_the_option_chooses_one(beats):
    for pair in beats: assert [r.attributes for r in pair] == [{"systole": 0}, {"systole": 1}]
    assert [r.key for r in beats[7]] == ["camus-0007-ED", "camus-0007-ES"]
    for systole in (False, True):
        alone, = make_subject("camus", 7, 64, seed=3, systole=systole)
        assert np.array_equal(alone.image, beats[7][systole].image) and alone.key == beats[7][systole].key
        assert type(alone.attributes["systole"]) is int


def test_a_beat_empties_the_ventricle_thickens_its_wall_and_fills_the_atrium(beats):
    for full, empty in beats:
        before, after = areas(full), areas(empty)
        assert after[0] < before[0] and after[1] / after[0] > before[1] / before[0]
        rows = [np.flatnonzero((r.semantic == CAVITY).any(1)) for r in (full, empty)]
        assert abs(rows[0][0] - rows[1][0]) <= 4 and rows[1][-1] <= rows[0][-1], "the valve moves, not the apex"
    grown = [areas(empty)[2] > areas(full)[2] for full, empty in beats]
    assert np.mean(grown) > .95


def test_the_probe_stays_where_it_is(beats):
    for full, empty in beats:
        outside = [ndimage.binary_opening(r.image[0] == 0, iterations=2) for r in (full, empty)]
        assert (outside[0] == outside[1]).mean() > .9 and full.spacing == empty.spacing
        for r in (full, empty): assert not r.semantic[:6, :6].any() and not r.semantic[:6, -6:].any()
    millimetres = [pair[0].spacing[0] * 64 for pair in beats]
    assert 120 < min(millimetres) < max(millimetres) < 350 and np.ptp(millimetres) > 30


def test_chambers_lie_as_they_do_in_a_chest(beats):
    for record in (r for pair in beats for r in pair):
        rows = {k: np.argwhere(record.semantic == k)[:, 0].mean() for k in (CAVITY, ATRIUM)}
        assert rows[CAVITY] < rows[ATRIUM], "the apex is next to the probe"
        cavity = record.semantic == CAVITY
        assert ndimage.label(cavity)[1] == 1 and .015 < cavity.mean() < .25
        beside = ndimage.binary_dilation(cavity) & ~cavity
        assert (record.semantic[beside] == MYOCARDIUM).mean() > .35, "a horseshoe of muscle around it"
        assert (record.semantic[beside] == ATRIUM).any()


def test_blood_is_darker_than_muscle_and_not_always_by_much(beats):
    contrast = []
    for record in (r for pair in beats for r in pair):
        cavity, muscle = (record.image[0][record.semantic == k].mean() for k in (CAVITY, MYOCARDIUM))
        contrast.append(muscle - cavity)
    assert np.mean(np.array(contrast) > 0) > .9 and np.quantile(contrast, .2) < .14 < np.median(contrast)


def test_the_area_of_the_cavity_tells_the_phase_often_and_not_always():
    frames = [make_subject("camus", i, 32, seed=5)[i % 2] for i in range(200)]
    late = np.array([r.attributes["systole"] for r in frames])
    found = np.log(1. + np.array([areas(r) for r in frames]))
    right = [cross_val_score(LogisticRegression(C=100), x, late, cv=10).mean() for x in (found[:, :1], found)]
    print(f"cavity {right[0]:.3f}, all three parts {right[1]:.3f}")
    assert .7 < right[0] < .9 and right[0] < right[1] < .96
