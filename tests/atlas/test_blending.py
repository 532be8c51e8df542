"taco.atlas.blending by hand."
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from taco.atlas.blending import (
    blend_by_centroids,
    blend_by_neighbours,
    blend_others,
    blending_metrics,
    blending_scores,
    confusion,
    draw_blending,
    verdicts,
)
from taco.atlas.embedding import Embeddings
from taco.atlas.task_similarity import task_similarity
from taco.base import TacoError

THREE = ["deblurring", "inpainting", "shear"]


def test_confusion_and_scores_by_hand():
    matrix = confusion(list("aabb"), list("abbb"), list("abc"))
    assert matrix.tolist() == [[.5, .5, 0], [0, 1, 0], [0, 0, 0]]
    assert blending_scores(matrix, list("abc"))[0] == ("a", .5, "b")
    with pytest.raises(TacoError, match="not among the classes"): confusion(["a"], ["z"], ["a"])


def test_seeds_are_joined():
    labels, units = np.repeat(THREE, 20), np.arange(60)
    blended = labels.copy()
    blended[:10] = "inpainting"
    matrix, scores = blend_by_neighbours([labels, blended], labels, units, THREE, 100)
    assert matrix[0].tolist() == [.75, .25, 0] and next(iter(scores)) == "deblurring"
    assert scores["deblurring"]["value"] == .25 and scores["deblurring"]["partner"] == "inpainting"
    assert scores["shear"]["value"] == 0 and verdicts(scores, .5)["shear"] == "distinct"


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    spots = np.array([[1, .1, 0, 0], [1, -.1, 0, 0], [0, 0, 1, 0]])
    x = np.repeat(spots, 20, 0) + .1 * rng.standard_normal((60, 4))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_centroids_name_the_nearest_task(vectors):
    labels = np.repeat(THREE, 20)
    similarity, found = blend_by_centroids([vectors], labels, np.arange(60), THREE, 5)
    assert np.array_equal(similarity, task_similarity(vectors, labels, THREE))
    assert found["deblurring"]["nearest"] == "inpainting" and found["inpainting"]["nearest"] == "deblurring"
    for s in found.values(): assert -1 <= s["cosine_ci"][0] <= s["cosine"] <= s["cosine_ci"][1] <= 1


def test_the_figure_names_partners_only_where_tasks_blend(vectors):
    labels = np.repeat(THREE, 20)
    blended = labels.copy()
    blended[:10] = "inpainting"
    matrix, scores = blend_by_neighbours([blended], labels, np.arange(60), THREE, 50)
    _, near = blend_by_centroids([vectors], labels, np.arange(60), THREE, 5)
    figure = draw_blending(matrix, [2, 0, 1], THREE, {t: scores[t] | near[t] for t in THREE}, .1)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["shear", "deblurring", "inpainting"]
    assert [t.get_text() for t in figure.axes[1].texts] == ["", "inpainting", ""]
    assert len([t for t in figure.axes[2].texts if t.get_text()]) == 3
    plt.close(figure)


def test_others_are_counted_and_the_least_blended_comes_first():
    rng = np.random.default_rng(3)
    tasks = ["deblurring", "inpainting", "horizontal_flip"]
    table = pd.DataFrame(dict(task=np.repeat(tasks, 40)))
    centres = np.eye(3)[np.repeat(np.arange(3), 40)]
    def vectors(spread):
        made = centres + spread * rng.normal(size=centres.shape)
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    bank, queries = (Embeddings(table, dict(random=vectors(9.), statistics=vectors(.1))) for _ in range(2))
    found = blend_others(["random", "absent", "statistics"], bank, queries, np.arange(120), tasks, 50)
    assert list(found) == ["statistics", "random"]
    good, bad = (blending_metrics(found[name], .1) for name in found)
    assert good == dict(tasks_distinct=3, tasks_blending=0, tasks_undecided=0, blending_mean=0)
    assert bad["tasks_blending"] == 3 and bad["blending_mean"] > .3
