"taco.atlas.datasets on pairs whose datasets lie where we put them."
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from taco.atlas.datasets import (
    WithinTasks,
    dataset_hits,
    dataset_similarity,
    draw_datasets,
    modality_gap,
    modality_of,
    order_of_datasets,
    score_datasets,
    seed_similarity,
)
from taco.atlas.embedding import Embeddings
from taco.base import TacoError

MODALITY = dict(p="CT", q="CT", r="MR", s="MR")


@pytest.fixture(scope="module")
def within():
    "Two tasks of four datasets, one of a single one; CT lies on one side of a task's centre, MR on the other."
    rng, rows = np.random.default_rng(0), []
    for split in ("train", "test"):
        for task, names in (("shear", "pqrs"), ("deblurring", "pqrs"), ("inpainting", "p")):
            rows += [(split, task, d, MODALITY[d], i) for d in names for i in range(12)]
    table = pd.DataFrame(rows, columns=["split", "task", "dataset", "modality", "record"])
    table = table.assign(subject=table["record"] // 2, source="phantom", family="generative")
    spots = dict(shear=[4, 0, 0, 0, 0], deblurring=[0, 4, 0, 0, 0], inpainting=[0, 0, 4, 0, 0])
    side = table["modality"].map(dict(CT=1., MR=-1.)).to_numpy()
    own = table["dataset"].map(dict(p=.4, q=-.4, r=.4, s=-.4)).to_numpy()
    x = np.array([spots[t] for t in table["task"]]) + np.outer(side, [0, 0, 0, 1, 0]) + np.outer(own, [0, 0, 0, 0, 1])
    x = x + .1 * rng.standard_normal(x.shape)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    both = Embeddings(table, {"taco@0": x, "taco@1": x[:, ::-1].copy(), "noise": np.roll(x, 31, 0)})
    return WithinTasks.of(both.where(split="train"), both.where(split="test"))


def test_only_tasks_of_several_datasets_are_asked(within):
    assert list(within.rows) == ["deblurring", "shear"] and within.chance == dict(deblurring=.25, shear=.25)
    assert len(set(within.units)) == 4 * 6
    lone = Embeddings(within.queries.table.query("dataset == 'p'").reset_index(drop=True), {})
    with pytest.raises(TacoError, match="two datasets"): WithinTasks.of(within.bank, lone)


def test_datasets_that_lie_apart_are_told(within):
    hits = dataset_hits(within, "taco@0")
    single = (within.queries.table["task"] == "inpainting").to_numpy()
    assert np.isnan(hits[single]).all() and hits[~single].mean() > .95
    found = score_datasets(within, ["taco@0", "taco@1"], folds=5, draws=100)
    assert found.knn["value"] == pytest.approx(hits[~single].mean()) and found.silhouette["value"] > .5
    assert set(found.knn_by_task) == set(found.silhouette_by_task) == {"shear", "deblurring"}
    assert found.knn_by_modality["CT"]["source"] == "phantom" and found.knn_by_modality["MR"]["n"] == 48
    assert score_datasets(within, ["noise"], draws=50).silhouette["value"] < .3


def test_the_own_subject_does_not_vote(within):
    "Where the bank has the people who are asked, by their very vectors, they count for nothing."
    table = within.queries.table
    apart = np.random.default_rng(1).standard_normal((len(table), 64))
    vectors = (apart / np.linalg.norm(apart, axis=1, keepdims=True)).astype(np.float32)
    asked = Embeddings(table, {"taco": vectors})
    both = WithinTasks.of(asked, asked)
    hits = dataset_hits(both, "taco", k=1)
    assert np.nanmean(hits) < .5  # a quarter by chance; all of them if a pair might name itself
    others = Embeddings(table.assign(subject=table["subject"] + 1000), {"taco": vectors})
    assert np.nanmean(dataset_hits(WithinTasks.of(others, asked), "taco", k=1)) == 1


def test_centroids_of_one_modality_point_the_same_way(within):
    modality = modality_of(within.queries.table)
    assert modality == MODALITY and list(modality) == list("pqrs")
    matrix = seed_similarity(within, ["taco@0", "taco@1"], list("pqrs"))
    assert matrix[0, 1] > .5 > matrix[0, 2] and matrix[2, 3] > .5 and np.allclose(np.diag(matrix), 1)
    gap, p = modality_gap(matrix, list(modality.values()), 200)
    assert gap > .5 and .2 < p < .5  # of six ways to pair four datasets, two are this one
    assert modality_gap(matrix, ["CT"] * 4) is None and modality_gap(matrix, list("abcd")) is None
    apart = dataset_similarity(within.queries["taco@0"], within.queries.table, ["p", "t"], ["shear"])
    assert np.isnan(apart[0, 1])  # no common task
    assert order_of_datasets(matrix[::-1, ::-1], ["MR", "MR", "CT", "CT"])[:2] in ([2, 3], [3, 2])


def test_the_figure_has_a_colour_for_each_encoder(within):
    members = dict(taco=["taco@0"], taco_dataset=["noise"])
    scores = {n: score_datasets(within, m, draws=50) for n, m in members.items()}
    similarity = {n: seed_similarity(within, m, list("pqrs")) for n, m in members.items()}
    figure = draw_datasets(scores, list(within.rows), within.chance, similarity, list(MODALITY.items()))
    left = figure.subfigs[0].axes[0]
    colours = {line.get_color() for line in left.lines if line.get_marker() == "o"}
    assert len(colours) == 2 and len(figure.subfigs[1].axes) == 3
    plt.close(figure)
