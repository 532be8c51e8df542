"What every task promises of any image with any labels, whatever hypothesis thinks of."

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from taco.data.prepare import collate, prepare
from taco.data.record import Record
from taco.tasks.catalogue import ALL_TASKS, SEMANTIC
from taco.tasks.task import TASKS, get_task

SIZE = 24
some = settings(max_examples=8, deadline=None, derandomize=True, database=None)


@st.composite
def records(draw) -> Record:
    "Flat, noisy or painted; grey or in colour; without objects, with some, or full of them, of any class and shape."
    height, width = draw(st.integers(5, 60)), draw(st.integers(5, 60))
    rng, channels = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from([1, 3]))
    image = {
        "flat": np.full((channels, height, width), draw(st.floats(0, 1, width=32)), np.float32),
        "noise": rng.random((channels, height, width), np.float32),
        "two values": rng.integers(0, 2, (channels, height, width)).astype(np.float32),
    }[draw(st.sampled_from(["flat", "noise", "two values"]))]
    labels = np.zeros((height, width), np.int64)
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
        labels[y:y + h, x:x + w] = draw(st.integers(0, 255))
    count = draw(st.integers(0, 3))
    ends = np.sort(rng.random((count, 2, 2), np.float32), 1)
    more = dict(boxes=ends.reshape(count, 4), points=rng.random((count, 2), np.float32)) if count else {}
    modality = draw(st.sampled_from(["histology", "CT", "MR", "ultrasound"]))
    return Record(image, semantic=labels, instances=labels, modality=modality, **more)


batches = st.lists(records(), min_size=2, max_size=3).map(lambda r: collate([prepare(one, SIZE) for one in r]))
seeds = st.integers(0, 2**62)


@some
@given(batches, seeds)
def test_a_pair_is_two_pictures_and_depends_on_its_image_and_seed_alone(batch, seed):
    for name in ALL_TASKS:
        able = batch[(task := get_task(name)).allows(batch)]
        if not len(able): continue
        numbers = torch.arange(len(able)) + seed
        before = able.map(torch.clone)
        pair, again = task(able, seeds=numbers), task(able, seeds=numbers)
        for side, same in zip(pair, again):
            assert side.shape == able.image.shape and side.dtype == torch.float32, name
            assert side.isfinite().all() and side.min() >= 0 and side.max() <= 1, name
            assert torch.equal(side, same), name
        for a, b in zip(vars(able).values(), vars(before).values()): assert torch.equal(a.nan_to_num(), b.nan_to_num())
        backwards = task(able[list(range(len(able)))[::-1]], seeds=numbers.flip(0))
        alone = [task(able[i], seeds=numbers[i:i + 1]) for i in range(len(able))]
        for k, side in enumerate(pair):
            assert torch.allclose(side, backwards[k].flip(0), atol=1e-5), f"{name} depends on the order"
            assert torch.allclose(side, torch.cat([one[k] for one in alone]), atol=1e-5), f"{name} depends on others"


@some
@given(batches)
def test_what_is_done_twice_is_undone(batch):
    for name in ("horizontal_flip", "vertical_flip", "intensity_inversion"):
        once = get_task(name)(batch)[1]
        batch_of = lambda image: batch.map(lambda t: image if t is batch.image else t)
        twice = get_task(name)(batch_of(once))[1]
        assert torch.allclose(twice, batch.image, atol=1e-6), name
    both = lambda one, other: get_task(other)(batch_of(get_task(one)(batch)[1]))[1]
    flips = "horizontal_flip", "vertical_flip"
    assert torch.equal(both(*flips), both(*flips[::-1]))
    assert torch.equal(both(*flips), batch.image.flip(2, 3))


@some
@given(batches, seeds)
def test_what_is_drawn_of_labels_looks_at_no_pixel(batch, seed):
    other = batch.map(lambda t: 1 - t if t is batch.image else t)
    for name in SEMANTIC:
        rows = TASKS[name].allows(batch)
        if not rows.any() or name == "foreground_extraction": continue
        numbers = torch.arange(int(rows.sum())) + seed
        one, two = (TASKS[name](b[rows], seeds=numbers)[1] for b in (batch, other))
        assert torch.equal(one, two), name
