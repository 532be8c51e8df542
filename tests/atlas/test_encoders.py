"taco.atlas.encoders: all metrics of an encoder, and the figure."
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.metrics import silhouette_score

from taco.atlas.embedding import Embeddings
from taco.atlas.encoders import (
    ENCODER_METRICS,
    arrangement,
    counts_of,
    draw_encoders,
    measure,
    neighbour_scores,
    of_one_subject,
    score_encoders,
    seen_and_unseen,
    summarise,
)
from taco.atlas.figures import encoder_title
from taco.atlas.intervals import resampling_units
from taco.atlas.neighbours import weighted_knn

SIX = np.array(["binary_segmentation", "boundary_detection", "deblurring", "inpainting", "shear", "scaling"])


@pytest.fixture(scope="module")
def cloud():
    """300 unit rows in 12 dimensions, 6 overlapping classes of unequal size, 100 images of 3 rows, as a table.

    Two images are of one subject; rows of an image may be of two datasets, and a subject is one dataset's.
    """
    rng = np.random.default_rng(4)
    codes = rng.choice(6, 300, p=[.3, .25, .2, .15, .05, .05])
    x = rng.standard_normal((6, 12))[codes] + 1.5 * rng.standard_normal((300, 12))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    table = dict(task=SIX[codes], family=np.where(codes < 2, "x", "y"), record=np.arange(300) // 3)
    return x, pd.DataFrame(table | dict(subject=np.arange(300) // 6))


def test_measure_and_summarise(cloud):
    x, table = cloud
    table = table.assign(dataset=np.resize(["p", "q"], 300))
    half = table["subject"] % 2 == 0
    bank, queries = (table[m].reset_index(drop=True) for m in (half, ~half))
    measured = measure(x[half], bank, x[~half], queries, folds=5)
    assert list(measured) == list(ENCODER_METRICS)
    for count in (1, 3):
        scores = summarise([measured] * count, queries["record"], 200, 5)
        assert list(scores) == list(ENCODER_METRICS)
        for s in scores.values(): assert s["ci"][0] <= s["value"] <= s["ci"][1] and s["n"] == len(queries)
    by_distances = silhouette_score(x[~half], queries["task"], metric="cosine")
    assert scores["silhouette_task"]["value"] == pytest.approx(by_distances, abs=1e-5)
    right = weighted_knn(x[half], bank["task"], x[~half]) == queries["task"]
    assert scores["task_knn"]["value"] == right.mean()


def test_unseen_datasets_ask_their_own_other_subjects(cloud):
    x, table = cloud
    table = table.assign(dataset=np.resize(["p", "q"], 300))
    bank = table.assign(dataset="elsewhere")
    y = x.copy()
    y[table["dataset"] == "q"] *= -1
    scores = neighbour_scores(x, bank, y, table, "dataset")
    assert .4 < np.nanmean(scores) <= 1 and np.isfinite(scores).all()
    alone = table["subject"] == 7
    lonely = table.assign(dataset=np.where(alone, "only one subject", table["dataset"]))
    assert lonely["record"][alone].nunique() == 2 and of_one_subject(lonely) == ["only one subject"]
    scores = neighbour_scores(x, bank, x, lonely, "dataset")
    assert np.isnan(scores[alone]).all() and np.isfinite(scores[~alone]).all()
    found = summarise([measure(x, bank, x, lonely, folds=5)], lonely["record"], 50, 5)["dataset_knn"]
    assert found["n"] == (~alone).sum() and found["value"] == np.nanmean(scores)  # left out of the mean, and said
    images = int((~alone).sum()) // 3
    told = counts_of(lonely, "unseen_datasets", "dataset_knn")
    assert told == dict(images=images, datasets=2, left_out="only one subject")
    assert counts_of(lonely, "unseen_datasets", "task_knn") == dict(images=images + 2, datasets=3)
    only = measure(x, bank, x, table.assign(dataset="r"), folds=5)
    assert {"dataset_knn", "silhouette_dataset"}.isdisjoint(only) and "task_knn" in only
    single = measure(x[:150], bank[:150], x[150:], table[150:].assign(record=0, dataset="r"), folds=5)
    assert "silhouette_task" not in single and "task_knn" in single


@pytest.fixture(scope="module")
def twins():
    "Two datasets of 300 subjects each, strewn alike; the two images of a subject are nearly the same."
    rng = np.random.default_rng(7)
    x = np.repeat(rng.standard_normal((600, 64)), 2, 0) + .01 * rng.standard_normal((1200, 64))
    table = dict(dataset=np.repeat(["p", "q"], 600), subject=np.arange(1200) // 2, record=np.arange(1200))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), pd.DataFrame(table)


def test_to_know_the_subject_is_not_to_know_the_dataset(twins):
    "By the subject's other image every dataset is told; without it, half of them, as by chance."
    x, table = twins
    images = (table["record"].to_numpy(),) * 2
    assert (weighted_knn(x, table["dataset"], x, groups=images) == table["dataset"]).all()
    asked_each_other = neighbour_scores(x, table.assign(dataset="elsewhere"), x, table, "dataset")
    asked_the_bank = neighbour_scores(x, table, x, table, "dataset")
    for scores in (asked_each_other, asked_the_bank):
        assert scores.mean() == pytest.approx(.5, abs=.1)  # 600 subjects: twice the deviation is 0.04
    # the same number of a subject in two datasets is two people
    same = table.assign(subject=table["subject"] % 300)
    assert (neighbour_scores(x, same, x, same, "dataset") == asked_the_bank).all()


def test_one_that_nobody_else_can_tell_has_no_value(twins):
    x, table = twins
    own = np.concatenate([[True, True], table["dataset"][2:] == "q"])  # one subject of p, all of q
    x, table = x[own], table[own].reset_index(drop=True)
    alone = (table["dataset"] == "p").to_numpy()
    assert np.array_equal(np.isnan(neighbour_scores(x, table, x, table, "dataset")), alone)
    # another subject of p, whom the bank knows by that one
    stranger = table.assign(subject=table["subject"] + 10_000)
    assert np.isfinite(neighbour_scores(x, table, x, stranger, "dataset")).all()


def test_intervals_over_subjects_are_wider(cloud):
    x, table = cloud
    table = table.assign(dataset="p", subject=(table["record"] // 10).astype(str))
    people = table.assign(subject="t" + table["subject"])  # those who are known are others
    def interval(unit):
        return summarise([measure(x, people, x, table, unit=unit)], resampling_units(table, unit))["task_knn"]["ci"]
    assert interval("record") != interval("subject") and len(set(resampling_units(table, "subject"))) == 10


def test_every_encoder_and_group_has_scores(cloud):
    x, table = cloud
    table = table.assign(dataset=np.where(table["record"] % 4 < 2, "p", "q"))
    half = (table["subject"] // 2 % 2 == 0).to_numpy()
    part = half & (table["dataset"] == "p").to_numpy()
    vectors = {"a@0": x, "a@1": x[:, ::-1], "b": x}
    bank, queries = (Embeddings(table[rows].reset_index(drop=True), {n: v[rows] for n, v in vectors.items()})
                     for rows in (part, ~half))
    groups, seeds, told = seen_and_unseen(bank, queries), dict(a=["a@0", "a@1"], b=["b"]), []
    scores = score_encoders(bank, queries, seeds, groups, 5, .07, 64, 5, 50, tick=lambda name, _: told.append(name))
    assert list(scores) == told == ["a", "b"] and list(scores["b"]) == ["seen_datasets", "unseen_datasets"]
    assert scores["b"]["seen_datasets"]["task_knn"]["value"] == scores["a"]["seen_datasets"]["task_knn"]["value"]
    rows = arrangement(queries, seeds, list(SIX), "a", 20, 50)
    assert "mantel" not in rows["a"] and rows["b"]["cka"] == pytest.approx(1, abs=1e-4)


def test_the_encoder_figure_bears_what_is_missing():
    "A group or metric without a number leaves a gap; absent encoders are listed; unknown ones go by name."
    number = dict(value=.5, ci=(.4, .6))
    scores = dict(taco=dict(a=dict(task_knn=number)), brand_new=dict(a={}, b=dict(nmi=number)), random=dict(a={}))
    figure = draw_encoders(scores, dict(a="one", b="two"), absent=dict(clip="no weights."))
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert names == ["random weights", "brand new", "TaCo"] and encoder_title("brand_new") == "brand new"
    assert "not available here: CLIP (how to get them" in figure.get_supxlabel()
    marks = {ax.get_title(loc="left"): sum(line.get_marker() in "os" for line in ax.lines) for ax in figure.axes}
    assert marks["task kNN ↑"] == 1 and marks["k-means NMI ↑"] == 1 and sum(marks.values()) == 2
    plt.close(figure)
