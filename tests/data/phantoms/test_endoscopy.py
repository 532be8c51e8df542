"The light of an endoscope, and polyps under several of them."
import numpy as np
import pytest

from taco.data.phantoms.endoscopy import lit, surface_vessels
from taco.data.phantoms.phantom import PHANTOMS, make_subject
from taco.data.phantoms.shapes import blob, grid

SIZE = 64


def surface(grey: float = .5) -> np.ndarray:
    return np.full((3, SIZE, SIZE), grey, np.float32)


def test_light_is_proportional_to_what_arrives_but_for_glints():
    flat, even = np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)
    full, half = (lit(np.random.default_rng(0), surface(), flat, away) for away in (even, even * np.float32(.5)))
    dull = full < .502                                            # the rest are glints, bright whatever the light
    assert dull.mean() > .8 and np.allclose(half[dull], full[dull] / 2, atol=.01)


def test_a_polyp_is_shaded_where_it_meets_the_wall_and_nowhere_else():
    y, x = grid(SIZE)
    polyp = blob(y, x, (.5, .5), (.2, .2))
    flat, even = np.zeros((SIZE, SIZE), np.float32), np.ones((SIZE, SIZE), np.float32)
    plain = lit(np.random.default_rng(0), surface(), flat, even)
    shaded = lit(np.random.default_rng(0), surface(), flat, even, polyp)
    far, rim = np.abs(polyp) > .15, (polyp > 0) & (polyp < .02)
    assert np.allclose(plain[:, far], shaded[:, far], atol=1e-6)
    assert shaded[:, rim].mean() < plain[:, rim].mean()


def test_surface_vessels_are_the_same_at_every_size():
    small, large = (surface_vessels(np.random.default_rng(3), n, .01, .02) for n in (64, 128))
    shrunk = large.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > .9 and 0 <= small.min() <= small.max() <= 1


@pytest.mark.parametrize("recipe", ["kvasir", "polypgen", "bkai_igh"])
def test_corners_are_cut_and_unlabelled(recipe):
    for i in range(8):
        record = make_subject(recipe, i, SIZE)[0]
        for corner in (np.s_[0, 0], np.s_[0, -1], np.s_[-1, -1]):  # the fourth may show a green inset
            assert record.semantic[corner] == 0 and record.image[:, *corner].mean() < .35


def test_unselected_frames_are_darker_than_bright_ones():
    def brightness(recipe):
        return np.mean([make_subject(recipe, i, SIZE)[0].image.mean() for i in range(10)])
    dim, bright = map(brightness, ("polypgen", "bkai_igh"))
    assert dim < .6 * bright


def test_neoplastic_polyps_are_redder_than_others():
    assert PHANTOMS["bkai_igh"].classes == {1: "neoplastic polyp", 2: "non-neoplastic polyp"}
    redder = []
    for i in range(40):
        record = make_subject("bkai_igh", i, SIZE)[0]
        if not {1, 2} <= set(np.unique(record.semantic)): continue
        colours = (record.image[:, record.semantic == k].mean(1) for k in (1, 2))
        neoplastic, other = (green / red for red, green, _ in colours)
        redder.append(neoplastic < other)
    assert len(redder) > 8 and np.mean(redder) > .9
