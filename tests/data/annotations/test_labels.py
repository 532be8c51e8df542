"Label maps of a batch: counted, compared, and their hulls against scikit-image."
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import morphology

from taco.data.annotations.labels import convex_hulls, count_labels, paired


def blobs(seed, count=20, side=48):
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(count, side, side)), (0, 3, 3))
    return fields > np.quantile(fields, .9)


def test_labels_are_counted_from_a_size_on():
    maps = np.stack([ndimage.label(b)[0] for b in blobs(0)])
    for least in (1, 4, 30):
        slow = [sum(n >= least for n in np.bincount(m.ravel())[1:]) for m in maps]
        assert count_labels(torch.from_numpy(maps), least).tolist() == slow


def test_classes_and_objects_are_compared():
    objects = np.stack([ndimage.label(b)[0] for b in blobs(1)])
    rng = np.random.default_rng(2)
    classes = np.stack([np.append(0, rng.integers(1, 4, m.max()))[m] for m in objects])
    found = paired(torch.from_numpy(classes), torch.from_numpy(objects))
    for value, c, o in zip(found, classes, objects):
        table = np.zeros((c.max() + 1, o.max() + 1))
        np.add.at(table, (c[o > 0], o[o > 0]), 1)
        assert value == min(table.max(0).sum(), table.max(1).sum()) / table.sum()
    same = torch.from_numpy(objects)
    assert (paired(same, same) == 1).all() and (paired(same * 0, same) == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_hulls_agree_with_scikit_image(seed):
    masks = blobs(seed)
    found = convex_hulls(torch.from_numpy(masks)).numpy()
    right = np.stack([morphology.convex_hull_image(m) for m in masks])
    assert not (masks & ~found).any() and (found != right).mean() < .005
    assert np.array_equal(convex_hulls(torch.from_numpy(masks[3:4])).numpy()[0], found[3])


def test_hulls_of_very_little():
    masks = torch.zeros(4, 9, 9, dtype=torch.bool)
    masks[1, 4, 4] = masks[2, 2, 1] = masks[2, 2, 7] = True
    masks[3] = True
    found = convex_hulls(masks)
    assert not found[0].any() and torch.equal(found[1], masks[1]) and found[3].all()
    assert found[2].sum() == 7 and found[2, 2, 1:8].all()
