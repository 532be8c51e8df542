"taco.atlas.neighbours against a full sort and scikit-learn, and at its edges."
import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from taco.atlas.neighbours import (
    nearest,
    nearest_others,
    project,
    query_groups,
    trust_in,
    tsne_of,
    typicality,
    umap_of,
    weighted_knn,
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


@pytest.mark.parametrize(("k", "temperature"), [(1, .07), (7, .07), (20, .5)])
def test_knn_is_scikit_learns(cloud, k, temperature):
    x, labels, _ = cloud
    def weights(distance): return np.exp((1 - distance) / temperature)
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights).fit(x[:200], labels[:200])
    ours = weighted_knn(x[:200], labels[:200], x[200:], k, temperature, block=13)
    assert (ours == reference.predict(x[200:])).all()


def test_nearest_is_a_full_sort_whatever_the_blocks(cloud):
    x, _, images = cloud
    cosine = x @ x.T
    cosine[images[:, None] == images] = -np.inf
    want = -np.sort(-cosine, 1)[:, :9]
    for block, chunk in ((1024, 32768), (17, 5), (300, 299)):
        value, row = nearest(x, x, 9, (images, images), block, chunk)
        assert np.allclose(value, want, atol=1e-6)
        assert np.allclose(np.take_along_axis(cosine, row, 1), want, atol=1e-6)
        assert not (images[row] == images[:, None]).any()


def test_too_few_others_are_minus_infinity(cloud):
    x = cloud[0][:4]
    value, row = nearest(x, x, 4, (np.zeros(4), np.zeros(4)))
    assert np.isneginf(value).all() and row.shape == (4, 4)


def test_a_set_about_itself_leaves_out_each_row_alone(cloud):
    x = cloud[0]
    value, row = nearest_others(x, 5, block=37)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -np.inf)
    assert np.allclose(value, -np.sort(-cosine, 1)[:, :5], atol=1e-6) and (row != np.arange(300)[:, None]).all()
    twins = np.repeat(x[:1], 4, 0)  # equal rows are neighbours of each other, and not of themselves
    assert all(i not in others for i, others in enumerate(nearest_others(twins, 8)[1]))


def test_unchecked_rows_may_have_any_length(cloud):
    x = cloud[0]
    with pytest.raises(TacoError, match="unit length"): nearest(3 * x, x, 2)
    assert np.allclose(nearest(3 * x, x, 2, check=False)[0], 3 * nearest(x, x, 2)[0], atol=1e-5)


def test_project_is_a_weighted_mean_of_places(cloud):
    x, _, _ = cloud
    xy = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    found = project(x[:200], xy, x[200:], k=5, block=7)
    value, row = nearest(x[:200], x[200:], 5)
    weight = np.exp((value.astype(float) - value[:, :1]) / .07)
    want = (weight[..., None] * xy[row]).sum(1) / weight.sum(1, keepdims=True)
    assert found.dtype == np.float32 and np.allclose(found, want, atol=1e-5)
    for bank, places, k in ((x[:200], xy[:50], 5), (x[:3], xy[:3], 5)):
        with pytest.raises(TacoError, match="does not fit"): project(bank, places, x, k)


def test_one_class_and_few_rows(cloud):
    x, labels, _ = cloud
    assert (weighted_knn(x, np.zeros(300), x, 5) == 0).all()
    with pytest.raises(TacoError, match="too few"): weighted_knn(x[:4], labels[:4], x, 5)


def test_rows_that_are_no_embeddings_are_refused(cloud):
    x, labels, _ = cloud
    def call(x, y): return weighted_knn(x, y, x, 3)
    call(x, labels)
    holed = x.copy()
    holed[123, 4] = np.nan
    with pytest.raises(TacoError, match="row 123"): call(holed, labels)
    with pytest.raises(TacoError, match="unit length"): call(3 * x, labels)
    with pytest.raises(TacoError): call(x[:0], labels[:0])


def test_groups_of_queries_cover_them_by_kind_and_by_what_the_bank_has():
    table = pd.DataFrame(dict(
        record=[0, 0, 1, 2, 3], dataset=list("aabcd"), source=["real", "real", "phantom", "phantom", "phantom"]))
    groups = query_groups(table.iloc[:3], table)
    assert list(groups) == ["phantom_images", "real_images", "unseen_datasets", "unseen_phantom_datasets"]
    kinds = groups["real_images"].astype(int) + groups["phantom_images"]
    assert (kinds == 1).all() and groups["unseen_datasets"].tolist() == [False] * 3 + [True] * 2
    assert "unseen_datasets" not in query_groups(table, table)


def test_maps_keep_apart_what_is_apart_and_come_out_the_same_again():
    rng = np.random.default_rng(0)
    spots = unit(np.repeat(np.eye(3, 12), 15, 0) + .05 * rng.standard_normal((45, 12)))
    of = np.repeat(range(3), 15)
    for make in (umap_of, tsne_of):
        xy = make(spots, 8)
        assert xy.shape == (45, 2) and np.array_equal(xy, make(spots, 8))
        distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + 1e9 * np.eye(45)
        assert (of[distance.argmin(1)] == of).all()
        assert trust_in(xy, spots) > trust_in(rng.permutation(xy), spots) + .2


def test_few_points_still_have_a_map(cloud):
    few = cloud[0][:8]
    for xy in (umap_of(few), tsne_of(few)): assert xy.shape == (8, 2) and 0 <= trust_in(xy, few) <= 1


def test_typicality_is_the_mean_of_the_nearest_of_its_own_task():
    bank = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 3]]
    tasks = np.array(["a", "a", "a", "b", "b"])
    score = typicality(
        bank,
        tasks,
        np.array([[0.6, 0.8, 0, 0], [0.6, 0.8, 0, 0]], np.float32),
        np.array(["a", "b"]),
        k=2,
    )
    assert np.allclose(score, [.8, 0])
    with pytest.raises(TacoError, match="no pair of this task"):
        typicality(bank, tasks, bank[:1], np.array(["c"]))
