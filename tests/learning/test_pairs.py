"taco.learning.pairs: pairs of one task, from chosen records, under chosen seeds."
import numpy as np
import torch

from taco.learning.pairs import make_pairs
from taco.tasks.task import get_task


def test_evaluation_is_stable(store):
    records = store.select(split="test")[:4]
    many = make_pairs(store, get_task("deblurring"), records, np.arange(4), number=7)
    one = make_pairs(store, "deblurring", records[2:3], torch.tensor([2]))
    assert torch.allclose(many.input[2], one.input[0], atol=1e-6) and many.task.tolist() == [7] * 4
    assert many.dataset.tolist() == [store.datasets.index(d) for d in store.table["dataset"].iloc[records]]


def test_parts_of_pairs_are_pairs(store):
    pairs = make_pairs(store, "deblurring", store.select(split="train")[:5], np.arange(5))
    assert len(pairs[2]) == 1 and torch.equal(pairs[2].output[0], pairs.output[2])
    assert torch.equal(pairs[[0, 3]].seed, torch.tensor([0, 3])) and not pairs.failure.any()
