"taco.atlas.geometry and taco.atlas.comparison against independent references, at their edges, and in memory."
import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from taco.atlas import comparison as C
from taco.atlas import geometry as G
from taco.base import TacoError


def unit(x) -> np.ndarray:
    x = np.asarray(x, float)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def cloud():
    "300 unit rows in 12 dimensions, 6 overlapping classes of unequal size, 100 images of 3 rows."
    rng = np.random.default_rng(4)
    labels = np.array(list("abcdef"))[rng.choice(6, 300, p=[.3, .25, .2, .15, .05, .05])]
    spots = rng.standard_normal((6, 12))
    x = unit(spots[[ord(c) - 97 for c in labels]] + 1.5 * rng.standard_normal((300, 12)))
    return x, labels, np.arange(300) // 3


# ---------------------------------------------------------------- against references

@pytest.mark.parametrize("k,temperature", [(1, .07), (7, .07), (20, .5)])
def test_knn_is_scikit_learns(cloud, k, temperature):
    x, labels, _ = cloud
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)).fit(x[:200], labels[:200])
    assert (G.weighted_knn(x[:200], labels[:200], x[200:], k, temperature, block=13) == reference.predict(x[200:])).all()


def test_nearest_is_a_full_sort_whatever_the_blocks(cloud):
    x, _, images = cloud
    cosine = x @ x.T
    cosine[images[:, None] == images] = -np.inf
    want = -np.sort(-cosine, 1)[:, :9]
    for block, chunk in ((1024, 32768), (17, 5), (300, 299)):
        value, row = G.nearest(x, x, 9, (images, images), block, chunk)
        assert np.allclose(value, want, atol=1e-6) and np.allclose(np.take_along_axis(cosine, row, 1), want, atol=1e-6)
        assert not (images[row] == images[:, None]).any()


def test_silhouette_is_scikit_learns(cloud, monkeypatch):
    x, labels, _ = cloud
    want = silhouette_samples(x.astype(float), labels, metric="cosine")
    assert np.allclose(C.silhouette(x, labels), want, atol=1e-5)
    assert np.isclose(C.silhouette(x, labels).mean(), silhouette_score(x, labels, metric="cosine"), atol=1e-5)
    lone = labels.copy(); lone[5] = "z"
    assert C.silhouette(x, lone)[5] == 0 and np.allclose(C.silhouette(x, lone), silhouette_samples(x.astype(float), lone, metric="cosine"), atol=1e-5)
    monkeypatch.setattr(C._blocks, "__defaults__", (11,))
    assert np.allclose(C.silhouette(x, labels), want, atol=1e-5)


def test_alignment_and_uniformity_are_their_definitions(cloud):
    x, labels, _ = cloud
    square = squareform(pdist(x.astype(float))) ** 2
    for i in (0, 17, 299):
        others = [square[i, j] for j in range(300) if j != i and labels[j] == labels[i]]
        assert np.isclose(C.alignment(x, labels)[i], np.mean(others), atol=1e-5)
    for t in (1., 2., 3.):
        assert np.isclose(C.uniformity(x, t), np.log(np.mean(np.exp(-t * pdist(x.astype(float)) ** 2))), atol=1e-5)  # pdist: Wang and Isola's own code
    assert abs(C.uniformity(x, limit=150) - C.uniformity(x)) < .15 and C.uniformity(x, limit=150, seed=1) == C.uniformity(x, limit=150, seed=1)
    assert np.isclose(C.uniformity(np.tile(x[:1], (5, 1))), 0, atol=1e-5) and np.allclose(C.alignment(np.tile(x[:1], (5, 1)), np.zeros(5)), 0, atol=1e-5)


def test_mantel_by_brute_force():
    "All 120 relabellings of five tasks give the exact p-value; a sampled one must come near, and r must be scipy's."
    rng = np.random.default_rng(2)
    a, b = (m + m.T for m in rng.random((2, 5, 5)))
    a = a + b
    upper = np.triu_indices(5, 1)
    for method, r in (("pearson", pearsonr), ("spearman", spearmanr)):
        value, p = C.mantel(a, b, method, 4999)
        every = np.array([r(a[upper], b[np.ix_(o, o)][upper])[0] for o in map(list, itertools.permutations(range(5)))])
        assert np.isclose(value, r(a[upper], b[upper])[0]) and np.isclose(value, every[0])
        assert abs(p - np.mean(np.abs(every) >= abs(every[0]) - 1e-9)) < .025
    # A hand calculation: distances 1 2 3 against 2 4 6.
    three = squareform([1., 2., 3.])
    assert np.isclose(C.mantel(three, 2 * three)[0], 1) and C.mantel(three, 2 * three) == C.mantel(three, 2 * three)


def test_mantel_is_fair_by_chance():
    rng = np.random.default_rng(0)
    ps = [C.mantel(squareform(rng.random(45)), squareform(rng.random(45)), draws=99)[1] for _ in range(200)]
    assert .01 <= np.mean(np.array(ps) <= .1) <= .2


def test_cka_and_rsa_are_their_definitions(cloud, monkeypatch):
    x = cloud[0]
    y = unit(x[:, :5] + .5 * np.random.default_rng(1).standard_normal((300, 5)))
    gram = [(m - m.mean(0)).astype(float) @ (m - m.mean(0)).astype(float).T for m in (x, y)]
    want = (gram[0] * gram[1]).sum() / np.linalg.norm(gram[0]) / np.linalg.norm(gram[1])
    assert np.isclose(C.cka(x, y), want, atol=1e-5)
    monkeypatch.setattr(C._blocks, "__defaults__", (64,))
    assert np.isclose(C.cka(x, y), want, atol=1e-5)
    upper = np.triu_indices(300, 1)
    assert np.isclose(C.rsa(x, y), spearmanr((x @ x.T)[upper], (y @ y.T)[upper])[0], atol=1e-6)


def test_clusters_agree_as_well_as_full_k_means(cloud):
    x, labels, _ = cloud
    full, ours = KMeans(6, n_init=5, random_state=0).fit_predict(x), C.clusters(x, 6)
    for score in (normalized_mutual_info_score, adjusted_rand_score): assert abs(score(labels, ours) - score(labels, full)) < .15
    assert (ours == C.clusters(x, 6)).all() and len(np.unique(ours)) == 6


def test_tree_numbers_against_scipy(cloud):
    x, labels, _ = cloud
    middle = G.centroids(x, labels, list("abcdef"))
    cosine, tree = middle @ middle.T, G.linkage(middle @ middle.T)
    distance = squareform(1 - cosine, checks=False)
    assert np.isclose(G.tree_fidelity(tree, cosine), hierarchy.cophenet(tree, distance)[0])
    assert np.allclose(1 - G.cophenetic(tree), squareform(hierarchy.cophenet(tree)))
    families = list("xxyyzz")
    within = np.mean([cosine[i, i + 1] for i in (0, 2, 4)])
    between = np.mean([cosine[i, j] for i in range(6) for j in range(i + 1, 6) if families[i] != families[j]])
    assert np.isclose(G.family_gap(cosine, families), within - between)


def test_probe_learns_what_is_linear_and_repeats():
    rng = np.random.default_rng(0)
    x = unit(rng.standard_normal((600, 10))); y = np.where(x[:, 0] + x[:, 1] > 0, "up", "down")
    guess = C.linear_probe(x[:400], y[:400], x[400:])
    assert (guess == y[400:]).mean() > .95 and (guess == C.linear_probe(x[:400], y[:400], x[400:])).all()
    assert (C.linear_probe(x[:400], rng.permutation(y[:400]), x[400:]) == y[400:]).mean() < .7
    assert (C.linear_probe(x[:400], y[:400], x[400:], limit=60) == y[400:]).mean() > .75


# ---------------------------------------------------------------- intervals

def test_bootstrap_in_few_draws_at_a_time_is_the_plain_one():
    rng = np.random.default_rng(0)
    values, groups = rng.random(900), np.arange(900) // 3
    weight = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 200)
    means = weight @ values.reshape(300, 3).sum(1) / (weight @ np.full(300, 3.))
    assert np.allclose(G.bootstrap_mean(values, groups, 200)[1], np.quantile(means, [.025, .975]))


def test_combine_of_one_seed_is_the_bootstrap():
    values, groups = np.random.default_rng(0).random(500), np.arange(500) // 2
    one, plain = C.combine([values], groups), G.bootstrap_mean(values, groups)
    assert one[0] == plain[0] and np.allclose(one[1], plain[1], atol=.006)


def test_combine_covers_seeds_and_images():
    "Both sources of spread widen the interval; images are shared by the seeds, so more seeds do not shrink their part."
    rng = np.random.default_rng(0)
    image, groups = rng.standard_normal(400), np.arange(400)
    def width(seeds): _, (low, high) = C.combine(seeds, groups, draws=4000); return high - low
    assert np.isclose(width([image] * 3), width([image]), rtol=.1) and np.isclose(width([image]), 3.92 * image.std() / 20, rtol=.1)
    # Seeds alone: Student's t with S − 1 degrees of freedom, the textbook's interval of a mean.
    apart = np.array([0., 1., 2., 3., 4., 5.])
    by_book = stats.t.interval(.95, 5, apart.mean(), apart.std(ddof=1) / np.sqrt(6))
    assert np.allclose(C.combine(list(apart), errors=[0.] * 6)[1], by_book) and np.allclose(C.combine([np.full(50, a) for a in apart], np.arange(50))[1], by_book)
    assert width([image, image + 1, image + 2]) > 3 * width([image])
    value, (low, high) = C.combine([.4, .5, .6], errors=[.01, .01, .01])
    assert np.isclose(value, .5) and low < .42 and high > .58
    assert np.isclose(np.diff(C.combine([.5], errors=[.1], draws=20_000)[1])[0], 3.92 * .1, rtol=.05)


def test_combine_leaves_out_what_is_not_defined():
    values = np.array([1., 0, np.nan, 1])
    assert C.combine([values], np.arange(4))[0] == pytest.approx(2 / 3)
    for wrong in ([np.full(4, np.nan)], [values, values[:3]], []):
        with pytest.raises(TacoError): C.combine(wrong, np.arange(4))
    with pytest.raises(TacoError, match="needs its image"): C.combine([values])
    with pytest.raises(TacoError, match="no interval"): C.combine([.5])


def test_jackknife_matches_the_spread_between_worlds():
    "The standard error of a silhouette from one sample against its true spread over many."
    rng = np.random.default_rng(0)
    spots = unit(rng.standard_normal((4, 8)))
    def world(seed):
        r = np.random.default_rng(seed); y = np.repeat(np.arange(4), 50)
        shift = np.repeat(r.standard_normal((100, 8)), 2, 0)            # two rows an image move together
        return unit(spots[y] + .4 * shift + .2 * r.standard_normal((200, 8))), y
    truth = np.std([C.silhouette(*world(s)).mean() for s in range(300)])
    images = np.arange(200) // 2
    found = np.mean([C.jackknife(lambda rows, x=x, y=y: C.silhouette(x[rows], y[rows]).mean(), images)[1] for x, y in map(world, range(20))])
    assert .75 < found / truth < 1.35
    with pytest.raises(TacoError, match="One image"): C.jackknife(lambda rows: 0., np.zeros(5))


# ---------------------------------------------------------------- edges

def calls(x, y):
    "Every function that reads embeddings, on (x, y)."
    return [lambda: G.weighted_knn(x, y, x, 3), lambda: G.centroids(x, y, sorted(set(y))), lambda: C.linear_probe(x, y, x), lambda: C.silhouette(x, y),
            lambda: C.alignment(x, y), lambda: C.uniformity(x), lambda: C.clusters(x, 2), lambda: C.cka(x, x), lambda: C.rsa(x, x)]


@pytest.mark.parametrize("i", range(9))
def test_rows_that_are_no_embeddings_are_refused(cloud, i):
    x, labels, _ = cloud
    calls(x, labels)[i]()
    holed = x.copy(); holed[123, 4] = np.nan
    with pytest.raises(TacoError, match="row 123"): calls(holed, labels)[i]()
    with pytest.raises(TacoError, match="unit length"): calls(3 * x, labels)[i]()
    with pytest.raises(TacoError): calls(x[:0], labels[:0])[i]()


def test_one_class_few_rows_lone_members(cloud):
    x, labels, _ = cloud
    one = np.zeros(300)
    for call in (lambda: C.silhouette(x, one), lambda: C.linear_probe(x, one, x)):
        with pytest.raises(TacoError, match="there must be two"): call()
    assert (G.weighted_knn(x, one, x, 5) == 0).all()
    for call in (lambda: G.weighted_knn(x[:4], labels[:4], x, 5), lambda: C.clusters(x[:4], 5), lambda: C.uniformity(x[:1])):
        with pytest.raises(TacoError, match="too few"): call()
    with pytest.raises(TacoError, match="3 labels for 300 rows"): C.silhouette(x, labels[:3])
    with pytest.raises(TacoError, match="no centroid"): G.centroids(x, labels, ["a", "zebra"])
    lone = labels.copy(); lone[0] = "z"
    assert np.isnan(C.alignment(x, lone)[0]) and np.isfinite(C.alignment(x, lone)[1:]).all()
    with pytest.raises(TacoError, match="families"): G.family_gap(np.eye(3), list("abc"))
    with pytest.raises(TacoError, match="families"): G.family_gap(np.eye(3), list("aaa"))
    with pytest.raises(TacoError, match="constant"): C.mantel(np.ones((4, 4)), np.eye(4))
    with pytest.raises(TacoError, match="square"): C.mantel(np.eye(4), np.eye(5))
    with pytest.raises(TacoError, match="nothing to average"): G.bootstrap_mean(np.array([]), np.array([]))


# ---------------------------------------------------------------- all of it

def tables(cloud, datasets):
    x, labels, images = cloud
    table = pd.DataFrame(dict(task=labels, family=np.where(labels < "c", "x", "y"), dataset=np.resize(datasets, 300), record=images))
    return x, table


def test_measure_and_summarise(cloud):
    x, table = tables(cloud, ["p", "q"])
    half = table["record"] % 2 == 0
    bank, queries = (table[m].reset_index(drop=True) for m in (half, ~half))
    measured = C.measure(x[half], bank, x[~half], queries, folds=5)
    assert list(measured) == list(C.METRICS)
    for count in (1, 3):
        scores = C.summarise([measured] * count, queries["record"], 200, 5)
        assert list(scores) == list(C.METRICS) and all(s["ci"][0] <= s["value"] <= s["ci"][1] and s["n"] == len(queries) for s in scores.values())
    assert scores["silhouette_task"]["value"] == pytest.approx(silhouette_score(x[~half], queries["task"], metric="cosine"), abs=1e-5)
    assert scores["task_knn"]["value"] == (G.weighted_knn(x[half], bank["task"], x[~half]) == queries["task"]).mean()


def test_unseen_datasets_ask_their_own_other_images(cloud):
    x, table = tables(cloud, ["p", "q"])
    bank = table.assign(dataset="elsewhere")
    y = x.copy(); y[table["dataset"] == "q"] *= -1
    scores = C.neighbour_scores(x, bank, y, table, "dataset")
    assert .4 < np.nanmean(scores) <= 1 and np.isfinite(scores).all()
    lonely = table.assign(dataset=np.where(table["record"] == 7, "only one image", table["dataset"]))
    assert np.isnan(C.neighbour_scores(x, bank, x, lonely, "dataset")[lonely["record"] == 7]).all()
    only = C.measure(x, bank, x, table.assign(dataset="r"), folds=5)
    assert {"dataset_knn", "silhouette_dataset"}.isdisjoint(only) and "task_knn" in only
    single = C.measure(x, bank, x, table.assign(record=0, dataset="r"), folds=5)
    assert "silhouette_task" not in single and "task_knn" in single


def test_intervals_over_subjects_are_wider(cloud):
    x, table = tables(cloud, ["p"])
    table = table.assign(subject=(table["record"] // 10).astype(str))
    image, subject = (C.summarise([C.measure(x, table, x, table, unit=u)], C.resampling_units(table, u))["task_knn"]["ci"] for u in ("record", "subject"))
    assert image != subject and len(set(C.resampling_units(table, "subject"))) == 10
    with pytest.raises(TacoError, match="unit"): C.resampling_units(table, "colour")


def test_seeds_are_found_by_name(cloud):
    x = cloud[0]
    assert C.by_seed({"taco@2": x, "taco@0": x[::-1], "pca": x}) == dict(pca=["pca"], taco=["taco@0", "taco@2"])
    assert C.by_seed({"taco": x, "taco@1": x[::-1]}) == dict(taco=["taco", "taco@1"])


def test_extreme_shares_and_ranges_are_honest():
    from scipy.stats import binomtest
    for n in (1, 5, 8, 40):
        exact = binomtest(n, n).proportion_ci(.95)
        assert np.allclose(C.share_interval(1., (1., 1.), n), (exact.low, 1)) and np.allclose(C.share_interval(0., (0., 0.), n), (0, 1 - exact.low))
    assert C.share_interval(.5, (.4, .6), 8) == (.4, .6) and C.t_interval(.9, .1, 20, -1, 1)[1] == 1


# ---------------------------------------------------------------- figures

def test_the_encoder_figure_bears_what_is_missing():
    "A group or metric without a number leaves a gap; absent encoders are listed; unknown ones go by name."
    from matplotlib import pyplot as plt
    from taco.atlas.figures_compare import draw_encoders, encoder_title
    number = dict(value=.5, ci=(.4, .6))
    figure = draw_encoders(dict(taco=dict(a=dict(task_knn=number)), brand_new=dict(a={}, b=dict(nmi=number))), dict(a="one", b="two"), absent=dict(clip="no weights."))
    text = " ".join(t.get_text() for ax in figure.axes for t in ax.get_yticklabels()) + figure.get_supxlabel()
    assert "TaCo brand new" in text and "not available here: CLIP (how to get them" in text and encoder_title("brand_new") == "brand new"
    marks = {ax.get_title(loc="left"): sum(line.get_marker() in "os" for line in ax.lines) for ax in figure.axes}
    assert marks["task kNN ↑"] == 1 and marks["k-means NMI ↑"] == 1 and sum(marks.values()) == 2
    plt.close(figure)


# ---------------------------------------------------------------- memory

MEMORY = """
import resource, numpy as np
from taco.atlas import comparison as C, geometry as G
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
rng = np.random.default_rng(0)
x, y = np.empty((200_000, 64), np.float32), rng.integers(0, 30, 200_000)
for s in range(0, len(x), 10_000):
    b = rng.standard_normal((10_000, 64), dtype=np.float32); x[s:s + 10_000] = b / np.linalg.norm(b, axis=1, keepdims=True)
print(peak())
for n in (50_000, 200_000):
    a, b = x[:n], y[:n]
    G.weighted_knn(a, b, a[:64]); C.silhouette(a, b); C.alignment(a, b); C.uniformity(a, limit=500); C.clusters(a, 30, limit=3000); C.cka(a, a)
    print(peak())
"""


def test_memory_does_not_grow_with_the_square():
    "Peak memory, MiB: four times the rows cost a few vectors of N numbers more, and never a matrix of N x N (150 GiB here) or N x classes."
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    base, small, large = map(float, done.stdout.split())
    assert small - base < 300 and large - small < 40, (base, small, large)
