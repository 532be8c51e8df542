"taco.learning.sampler: which pairs a training sees."
from dataclasses import fields

import numpy as np
import pytest
import torch

from taco.base import StoreError, TaskError
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.pairs import Pairs
from taco.learning.sampler import PairSampler
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.failure import FAILURE_KINDS

SIZE = 32


def test_batches_are_balanced(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=2, seed=4)
    plan = sampler.plan(0)
    assert plan.task.bincount().tolist() == [2] * len(sampler.tasks)
    few = PairSampler(store, ALL_TASKS, tasks_per_batch=5, pairs_per_task=3)
    seen = np.zeros(len(few.tasks))
    for step in range(600):
        counts = few.plan(step).task.bincount(minlength=len(few.tasks)).numpy()
        assert sorted(set(counts)) == [0, 3] and (counts > 0).sum() == 5
        seen += counts > 0
    expected = 600 * 5 / len(few.tasks)
    assert abs(seen - expected).max() < 5 * expected**.5


def test_what_a_process_makes_ahead_is_what_the_training_would_make(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=2, seed=4, failed_per_task=1)
    for rank, world in ((0, 1), (1, 2)):
        ready, step = sampler.ready(3, rank, world)
        pairs = sampler.pairs(sampler.raw(3, rank, world))
        assert step == 3 and not ready.input.requires_grad
        assert all(torch.equal(getattr(ready, f.name), getattr(pairs, f.name)) for f in fields(Pairs))


def test_datasets_and_subjects_are_drawn_alike(store):
    sampler = PairSampler(store, ["gaussian_denoising"], pairs_per_task=4000)
    plan = sampler.plan(0)
    table = store.table.iloc[plan.record.numpy()]
    assert (table["split"] == "train").all()
    assert abs(plan.dataset.bincount() / 4000 - 1 / 3).max() < .04          # acdc has many more images than busi
    subjects = table[table["dataset"] == "acdc"]["subject"].value_counts(normalize=True)
    assert len(subjects) > 2 and abs(subjects - 1 / len(subjects)).max() < .06


def test_every_pair_allows_its_task(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=6)
    batch, plan = sampler.raw(3)
    needs = sampler.needs[plan.task]
    assert (batch.can | ~needs).all()


def test_batches_are_functions_of_seed_and_step(store):
    make = lambda seed: PairSampler(store, ALL_TASKS, pairs_per_task=2, seed=seed)
    one, two = make(1), make(1)
    one.raw(0)
    one.raw(1)  # what was drawn before does not matter
    a, b = one.pairs(one.raw(5)), two.pairs(two.raw(5))
    for f in fields(Pairs): assert torch.equal(getattr(a, f.name), getattr(b, f.name)), f.name
    assert not torch.equal(a.output, make(2).pairs(make(2).raw(5)).output)
    assert not torch.equal(one.plan(6).record, one.plan(5).record)


def test_processes_share_a_batch(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=4, randomise=False)
    whole = sampler.pairs(sampler.raw(2))
    for rank in range(2):
        part = sampler.pairs(sampler.raw(2, rank, 2))
        assert torch.equal(part.seed, whole.seed[rank::2])
        assert torch.allclose(part.output, whole.output[rank::2], atol=1e-5)


def test_pairs_are_in_range(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=2)
    pairs = sampler.pairs(sampler.raw(0))
    for image in (pairs.input, pairs.output):
        assert image.shape == (2 * len(sampler.tasks), 3, SIZE, SIZE) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1


def test_impossible_samplers(store, tmp_path):
    with pytest.raises(TaskError, match="'inpainting'"): PairSampler(store, ["inpaintng"])
    with pytest.raises(TaskError): PairSampler(store, [])
    with pytest.raises(StoreError, match="split"): PairSampler(store, ALL_TASKS, split="nothing")
    grey = Store.open(pack("acdc", out=tmp_path, size=SIZE, source="phantom", subjects=4))
    with pytest.raises(TaskError, match="colorization"): PairSampler(grey, ["colorization"])
    with pytest.warns(UserWarning, match="colorization"):
        left = PairSampler(grey, ["colorization", "deblurring"])
    assert left.tasks == ("deblurring",)


def test_only_the_chosen_ways_of_failing(store):
    pick = lambda *kinds: PairSampler(store, pairs_per_task=4, failed_per_task=2, failed_kinds=kinds).plan(0).failure
    number = {kind: 1 + i for i, kind in enumerate(FAILURE_KINDS)}
    assert pick("other_image").view(-1, 4).tolist() == [[0, 0, number["other_image"], number["other_image"]]] * 30
    rare = pick("eroded")  # where nothing can be eroded, the pair is right
    assert set(rare.tolist()) == {0, number["eroded"]} and 0 < (rare > 0).sum() < 60
    with pytest.raises(TaskError, match="other_image"): pick("other_imag")
