"taco.atlas.intervals against textbooks and simulations."
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import binomtest

from taco.atlas.intervals import (
    bootstrap_mean,
    by_seed,
    combine,
    jackknife,
    jackknife_over_seeds,
    permutation_p,
    resampling_units,
    share_interval,
    share_over_seeds,
    t_interval,
)
from taco.atlas.metrics import silhouette
from taco.base import TacoError


def unit(x) -> np.ndarray:
    x = np.asarray(x, float)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_bootstrap_in_few_draws_at_a_time_is_the_plain_one():
    rng = np.random.default_rng(0)
    values, groups = rng.random(900), np.arange(900) // 3
    weight = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 200)
    means = weight @ values.reshape(300, 3).sum(1) / (weight @ np.full(300, 3.))
    assert np.allclose(bootstrap_mean(values, groups, 200)[1], np.quantile(means, [.025, .975]))
    with pytest.raises(TacoError, match="nothing to average"): bootstrap_mean(np.array([]), np.array([]))


def test_combine_of_one_seed_is_the_bootstrap():
    values, groups = np.random.default_rng(0).random(500), np.arange(500) // 2
    one, plain = combine([values], groups), bootstrap_mean(values, groups)
    assert one[0] == plain[0] and np.allclose(one[1], plain[1], atol=.006)


def test_combine_covers_seeds_and_images():
    "Both sources of spread widen the interval; images are shared by the seeds: more seeds do not shrink their part."
    rng = np.random.default_rng(0)
    image, groups = rng.standard_normal(400), np.arange(400)
    def width(seeds): return np.diff(combine(seeds, groups, draws=4000)[1])[0]
    assert np.isclose(width([image] * 3), width([image]), rtol=.1)
    assert np.isclose(width([image]), 3.92 * image.std() / 20, rtol=.1)
    # Seeds alone: Student's t with S − 1 degrees of freedom, the textbook's interval of a mean.
    apart = np.array([0., 1., 2., 3., 4., 5.])
    by_book = stats.t.interval(.95, 5, apart.mean(), apart.std(ddof=1) / np.sqrt(6))
    assert np.allclose(combine(list(apart), errors=[0.] * 6)[1], by_book)
    assert np.allclose(combine([np.full(50, a) for a in apart], np.arange(50))[1], by_book)
    assert width([image, image + 1, image + 2]) > 3 * width([image])
    value, (low, high) = combine([.4, .5, .6], errors=[.01, .01, .01])
    assert np.isclose(value, .5) and low < .42 and high > .58
    assert np.isclose(np.diff(combine([.5], errors=[.1], draws=20_000)[1])[0], 3.92 * .1, rtol=.05)


def test_combine_leaves_out_what_is_not_defined():
    values = np.array([1., 0, np.nan, 1])
    assert combine([values], np.arange(4))[0] == pytest.approx(2 / 3)
    for wrong in ([np.full(4, np.nan)], [values, values[:3]], []):
        with pytest.raises(TacoError): combine(wrong, np.arange(4))
    with pytest.raises(TacoError, match="needs its image"): combine([values])
    with pytest.raises(TacoError, match="no interval"): combine([.5])


def test_jackknife_matches_the_spread_between_worlds():
    "The standard error of a silhouette from one sample against its true spread over many."
    spots = unit(np.random.default_rng(0).standard_normal((4, 8)))
    def world(seed):
        r, y = np.random.default_rng(seed), np.repeat(np.arange(4), 50)
        shift = np.repeat(r.standard_normal((100, 8)), 2, 0)            # two rows an image move together
        return unit(spots[y] + .4 * shift + .2 * r.standard_normal((200, 8))), y
    def error(x, y): return jackknife(lambda rows: silhouette(x[rows], y[rows]).mean(), np.arange(200) // 2)[1]
    truth = np.std([silhouette(*world(s)).mean() for s in range(300)])
    found = np.mean([error(*world(s)) for s in range(20)])
    assert .75 < found / truth < 1.35
    with pytest.raises(TacoError, match="One image"): jackknife(lambda rows: 0., np.zeros(5))


def test_extreme_shares_and_ranges_are_honest():
    for n in (1, 5, 8, 40):
        exact = binomtest(n, n).proportion_ci(.95)
        assert np.allclose(share_interval(1., (1., 1.), n), (exact.low, 1))
        assert np.allclose(share_interval(0., (0., 0.), n), (0, 1 - exact.low))
    assert share_interval(.5, (.4, .6), 8) == (.4, .6) and t_interval(.9, .1, 20, -1, 1)[1] == 1


def test_one_seed_or_more():
    hits = np.random.default_rng(0).random((3, 90)) < .8
    units = np.arange(90) // 3
    value, ci = share_over_seeds([hits[0].astype(float)], units, 200)
    assert (value, ci) == (combine([hits[0]], units, draws=200))
    assert share_over_seeds([np.ones(90)], units)[1] == (1 - (1 - .025 ** (1 / 30)), 1)
    assert jackknife_over_seeds([(.5, .1)], 20) == (.5, t_interval(.5, .1, 20))
    assert jackknife_over_seeds([(.5, .1), (.6, .1)], 20) == combine([.5, .6], errors=[.1, .1])


def test_subjects_keep_their_images_together():
    table = pd.DataFrame(dict(dataset="p", record=range(30), subject=np.arange(30) // 10))
    assert len(set(resampling_units(table, "subject"))) == 3 and len(set(resampling_units(table))) == 30
    with pytest.raises(TacoError, match="unit"): resampling_units(table, "colour")


def test_seeds_are_found_by_name():
    x = np.random.default_rng(0).random((5, 3))
    assert by_seed({"taco@2": x, "taco@0": x[::-1], "pca": x}) == dict(pca=["pca"], taco=["taco@0", "taco@2"])
    assert by_seed({"taco": x, "taco@1": x[::-1]}) == dict(taco=["taco", "taco@1"])
    assert by_seed({"taco": x, "taco@1": x}) == dict(taco=["taco@1"])


def test_permutation_p_is_uniform_by_chance():
    rng = np.random.default_rng(0)
    def chance(i):
        values = rng.standard_normal(12)
        return permutation_p(lambda f: values[f == "x"].mean(), ["x", "y"] * 6, 99, seed=i)
    ps = np.array([chance(i) for i in range(200)])
    assert .04 <= np.mean(ps <= .1) <= .17 and abs(ps.mean() - .5) < .08
