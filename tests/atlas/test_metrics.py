"taco.atlas.metrics against independent references, at their edges, and in memory."
import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples, silhouette_score

from taco.atlas.metrics import (
    alignment,
    cka,
    clusters,
    linear_probe,
    mantel,
    row_blocks,
    rsa,
    silhouette,
    uniformity,
)
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


def test_silhouette_is_scikit_learns(cloud, monkeypatch):
    x, labels, _ = cloud
    want = silhouette_samples(x.astype(float), labels, metric="cosine")
    assert np.allclose(silhouette(x, labels), want, atol=1e-5)
    assert np.isclose(silhouette(x, labels).mean(), silhouette_score(x, labels, metric="cosine"), atol=1e-5)
    lone = labels.copy()
    lone[5] = "z"
    by_distances = silhouette_samples(x.astype(float), lone, metric="cosine")
    assert silhouette(x, lone)[5] == 0 and np.allclose(silhouette(x, lone), by_distances, atol=1e-5)
    monkeypatch.setattr(row_blocks, "__defaults__", (11,))
    assert np.allclose(silhouette(x, labels), want, atol=1e-5)


def test_alignment_and_uniformity_are_their_definitions(cloud):
    x, labels, _ = cloud
    square = squareform(pdist(x.astype(float))) ** 2
    for i in (0, 17, 299):
        others = [square[i, j] for j in range(300) if j != i and labels[j] == labels[i]]
        assert np.isclose(alignment(x, labels)[i], np.mean(others), atol=1e-5)
    for t in (1., 2., 3.):  # pdist: Wang and Isola's own code
        assert np.isclose(uniformity(x, t), np.log(np.mean(np.exp(-t * pdist(x.astype(float)) ** 2))), atol=1e-5)
    assert abs(uniformity(x, limit=150) - uniformity(x)) < .15
    assert uniformity(x, limit=150, seed=1) == uniformity(x, limit=150, seed=1)
    same = np.tile(x[:1], (5, 1))
    assert np.isclose(uniformity(same), 0, atol=1e-5) and np.allclose(alignment(same, np.zeros(5)), 0, atol=1e-5)


def test_mantel_by_brute_force():
    "All 120 relabellings of five tasks give the exact p-value; a sampled one must come near, and r must be scipy's."
    rng = np.random.default_rng(2)
    a, b = (m + m.T for m in rng.random((2, 5, 5)))
    a = a + b
    upper = np.triu_indices(5, 1)
    for method, r in (("pearson", pearsonr), ("spearman", spearmanr)):
        value, p = mantel(a, b, method, 4999)
        orders = map(list, itertools.permutations(range(5)))
        every = np.array([r(a[upper], b[np.ix_(o, o)][upper])[0] for o in orders])
        assert np.isclose(value, r(a[upper], b[upper])[0]) and np.isclose(value, every[0])
        assert abs(p - np.mean(np.abs(every) >= abs(every[0]) - 1e-9)) < .025
    # A hand calculation: distances 1 2 3 against 2 4 6.
    three = squareform([1., 2., 3.])
    assert np.isclose(mantel(three, 2 * three)[0], 1) and mantel(three, 2 * three) == mantel(three, 2 * three)


def test_mantel_is_fair_by_chance():
    rng = np.random.default_rng(0)
    def chance(): return mantel(squareform(rng.random(45)), squareform(rng.random(45)), draws=99)[1]
    assert .01 <= np.mean(np.array([chance() for _ in range(200)]) <= .1) <= .2


def test_cka_and_rsa_are_their_definitions(cloud, monkeypatch):
    x = cloud[0]
    y = unit(x[:, :5] + .5 * np.random.default_rng(1).standard_normal((300, 5)))
    gram = [(m - m.mean(0)).astype(float) @ (m - m.mean(0)).astype(float).T for m in (x, y)]
    want = (gram[0] * gram[1]).sum() / np.linalg.norm(gram[0]) / np.linalg.norm(gram[1])
    assert np.isclose(cka(x, y), want, atol=1e-5)
    monkeypatch.setattr(row_blocks, "__defaults__", (64,))
    assert np.isclose(cka(x, y), want, atol=1e-5)
    upper = np.triu_indices(300, 1)
    assert np.isclose(rsa(x, y), spearmanr((x @ x.T)[upper], (y @ y.T)[upper])[0], atol=1e-6)


def test_clusters_agree_as_well_as_full_k_means(cloud):
    x, labels, _ = cloud
    full, ours = KMeans(6, n_init=5, random_state=0).fit_predict(x), clusters(x, 6)
    for agree in (normalized_mutual_info_score, adjusted_rand_score):
        assert abs(agree(labels, ours) - agree(labels, full)) < .15
    assert (ours == clusters(x, 6)).all() and len(np.unique(ours)) == 6


def test_probe_learns_what_is_linear_and_repeats():
    rng = np.random.default_rng(0)
    x = unit(rng.standard_normal((600, 10)))
    y = np.where(x[:, 0] + x[:, 1] > 0, "up", "down")
    guess = linear_probe(x[:400], y[:400], x[400:])
    assert (guess == y[400:]).mean() > .95 and (guess == linear_probe(x[:400], y[:400], x[400:])).all()
    assert (linear_probe(x[:400], rng.permutation(y[:400]), x[400:]) == y[400:]).mean() < .7
    assert (linear_probe(x[:400], y[:400], x[400:], limit=60) == y[400:]).mean() > .75


def calls(x, y):
    "Every function that reads embeddings, on (x, y)."
    return [lambda: linear_probe(x, y, x), lambda: silhouette(x, y), lambda: alignment(x, y), lambda: uniformity(x),
            lambda: clusters(x, 2), lambda: cka(x, x), lambda: rsa(x, x)]


@pytest.mark.parametrize("i", range(7))
def test_rows_that_are_no_embeddings_are_refused(cloud, i):
    x, labels, _ = cloud
    calls(x, labels)[i]()
    holed = x.copy()
    holed[123, 4] = np.nan
    with pytest.raises(TacoError, match="row 123"): calls(holed, labels)[i]()
    with pytest.raises(TacoError, match="unit length"): calls(3 * x, labels)[i]()
    with pytest.raises(TacoError): calls(x[:0], labels[:0])[i]()


def test_one_class_few_rows_lone_members(cloud):
    x, labels, _ = cloud
    one = np.zeros(300)
    for call in (lambda: silhouette(x, one), lambda: linear_probe(x, one, x)):
        with pytest.raises(TacoError, match="there must be two"): call()
    for call in (lambda: clusters(x[:4], 5), lambda: uniformity(x[:1])):
        with pytest.raises(TacoError, match="too few"): call()
    with pytest.raises(TacoError, match="3 labels for 300 rows"): silhouette(x, labels[:3])
    lone = labels.copy()
    lone[0] = "z"
    assert np.isnan(alignment(x, lone)[0]) and np.isfinite(alignment(x, lone)[1:]).all()
    with pytest.raises(TacoError, match="constant"): mantel(np.ones((4, 4)), np.eye(4))
    with pytest.raises(TacoError, match="square"): mantel(np.eye(4), np.eye(5))


MEMORY = """
import resource, numpy as np
from taco.atlas.metrics import alignment, cka, clusters, silhouette, uniformity
from taco.atlas.neighbours import weighted_knn
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
rng = np.random.default_rng(0)
x, y = np.empty((200_000, 64), np.float32), rng.integers(0, 30, 200_000)
for s in range(0, len(x), 10_000):
    b = rng.standard_normal((10_000, 64), dtype=np.float32)
    x[s:s + 10_000] = b / np.linalg.norm(b, axis=1, keepdims=True)
print(peak())
for n in (50_000, 200_000):
    a, b = x[:n], y[:n]
    weighted_knn(a, b, a[:64])
    silhouette(a, b)
    alignment(a, b)
    uniformity(a, limit=500)
    clusters(a, 30, limit=3000)
    cka(a, a)
    print(peak())
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_square():
    """Peak memory, MiB: four times the rows cost a few vectors of N numbers more.

    Never a matrix of N x N (150 GiB here) or N x classes.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    base, small, large = map(float, done.stdout.split())
    assert small - base < 300 and large - small < 40, (base, small, large)
