"taco.atlas.task_similarity against scipy and by hand."
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from scipy.stats import mannwhitneyu

from taco.atlas.task_similarity import (
    centroids,
    cophenetic,
    draw_similarity,
    family_auc,
    family_gap,
    family_structure,
    linkage,
    task_similarity,
    tree_fidelity,
)
from taco.base import TacoError
from taco.tasks.task import get_task

SIX = ["binary_segmentation", "boundary_detection", "deblurring", "inpainting", "shear", "scaling"]


@pytest.fixture(scope="module")
def cloud():
    "300 unit rows of six tasks; tasks of one family share a direction."
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 6, 300)
    spots = np.repeat(2 * rng.standard_normal((3, 12)), 2, 0) + .3 * rng.standard_normal((6, 12))
    x = spots[codes] + rng.standard_normal((300, 12))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), np.array(SIX)[codes], np.arange(300) // 3


def test_tree_numbers_against_scipy(cloud):
    x, labels, _ = cloud
    cosine = task_similarity(x, labels, SIX)
    tree, distance = linkage(cosine), squareform(1 - cosine, checks=False)
    assert np.isclose(tree_fidelity(tree, cosine), hierarchy.cophenet(tree, distance)[0])
    assert np.allclose(1 - cophenetic(tree), squareform(hierarchy.cophenet(tree)))
    families = list("xxyyzz")
    within = np.mean([cosine[i, i + 1] for i in (0, 2, 4)])
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6) if families[i] != families[j]]
    assert np.isclose(family_gap(cosine, families), within - np.mean([cosine[p] for p in pairs]))
    told = mannwhitneyu([cosine[i, i + 1] for i in (0, 2, 4)], [cosine[p] for p in pairs])
    assert np.isclose(family_auc(cosine, families), told.statistic / 3 / len(pairs))


def test_holes_of_a_directed_matrix_are_left_out():
    rng, families = np.random.default_rng(2), list("xxyyzz")
    matrix = rng.normal(size=(6, 6))
    matrix[[0, 1, 4], [3, 0, 4]] = np.nan
    there = np.isfinite(matrix) & ~np.eye(6, dtype=bool)
    same = np.equal.outer(families, families)
    within, between = matrix[there & same], matrix[there & ~same]
    assert np.isclose(family_auc(matrix, families), (within[:, None] > between).mean())
    assert np.isclose(family_gap(matrix, families), within.mean() - between.mean())
    matrix[same] = np.nan
    for measure in (family_gap, family_auc):
        with pytest.raises(TacoError, match="families"): measure(matrix, families)


def test_the_auc_does_not_mind_how_cosines_spread(cloud):
    cosine = task_similarity(cloud[0], cloud[1], SIX)
    assert family_auc(cosine, list("xxyyzz")) == family_auc(np.exp(5 * cosine), list("xxyyzz"))
    assert family_auc(cosine, list("xyxyxy")) == pytest.approx(1 - family_auc(-cosine, list("xyxyxy")))


def test_what_has_no_answer_is_refused(cloud):
    x, labels, _ = cloud
    for families in ("abc", "aaa"):
        with pytest.raises(TacoError, match="families"): family_gap(np.eye(3), list(families))
    with pytest.raises(TacoError, match="no centroid"): centroids(x, labels, [SIX[0], "zebra"])
    with pytest.raises(TacoError, match="unit length"): centroids(3 * x, labels, SIX)
    holed = x.copy()
    holed[123, 4] = np.nan
    with pytest.raises(TacoError, match="row 123"): centroids(holed, labels, SIX)
    with pytest.raises(TacoError): centroids(x[:0], labels[:0], SIX)


def test_families_that_are_there_are_found(cloud):
    x, labels, images = cloud
    found = family_structure(x, labels, SIX, images, 199, 10)
    assert found.gap_ci[0] > 0 and found.gap_ci[0] < found.gap < found.gap_ci[1]
    assert found.gap_p < .1 and found.auc == 1 and found.auc_ci[1] == 1
    assert found.auc == family_auc(found.similarity, [get_task(t).family for t in SIX])
    mixed = family_structure(x, np.random.default_rng(0).permutation(labels), SIX, images, 199, 10)
    assert mixed.gap_p > .05 and mixed.auc < .9 and mixed.auc_ci[0] < mixed.auc < mixed.auc_ci[1]


def test_the_figure_names_tasks_in_the_order_of_the_tree(cloud):
    x, labels, _ = cloud
    cosine = task_similarity(x, labels, SIX)
    tree = linkage(cosine)
    for tasks in (SIX, [get_task(t) for t in SIX]):
        figure = draw_similarity(cosine, tree, tasks, "a note")
        names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
        assert names == [get_task(SIX[i]).title for i in hierarchy.leaves_list(tree)]
        assert figure.axes[0].get_title(loc="left") == "a note"
        plt.close(figure)
