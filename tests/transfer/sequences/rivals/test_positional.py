"Positional contrast: where slices lie, and who is a positive."
from dataclasses import asdict

import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.learning.loop import step_generator
from taco.transfer.moco import MoCoConfig
from taco.transfer.sequences.batches import SliceBatches
from taco.transfer.sequences.rivals.positional import (
    PlacedBatches,
    Positional,
    PositionalConfig,
    near_heights,
)
from taco.transfer.sequences.rivals.simclr import two_views
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, fall, halves
from tests.transfer.sequences.toys import made

BATCHES = PlacedBatches(bodies(), "abc", 8)


def make(seed): return Positional(halves()[0], PositionalConfig(), seed)


def test_the_defaults_are_those_of_the_chapter():
    expected = dict(threshold=.1, temperature=.1, dimension=512, views=asdict(MoCoConfig()))
    assert asdict(PositionalConfig()) == expected


@pytest.mark.parametrize("wrong", [dict(threshold=0.), dict(threshold=1.5), dict(temperature=0.), dict(dimension=0)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): PositionalConfig(**wrong)


def test_slices_know_their_height_whatever_the_order_of_rows_and_the_step():
    "Two volumes, one with every second number, one of a single slice; rows in no order."
    v = made({"a": [10, 12, 14, 18], "b": [1, 2, 3], "c": [7]}, shuffle=1)
    known = {("a", 10): 0, ("a", 12): .25, ("a", 14): .5, ("a", 18): 1, ("b", 1): 0, ("b", 2): .5, ("b", 3): 1,
             ("c", 7): 0}
    batches = PlacedBatches(v, "abc", 4)
    for step in range(4):
        batch, lines = batches(step), v.table.iloc[batches.drawn(step)]
        assert batch.height.tolist() == [known[n, s] for n, s in zip(lines["volume"], lines["slice"])]
        same = lines["volume"].to_numpy()[:, None] == lines["volume"].to_numpy()
        assert np.array_equal((batch.volume[:, None] == batch.volume).numpy(), same)
        assert torch.equal((batch.images[:, 0] * 255).round().byte(), v.images[batches.drawn(step)])


def test_the_slices_are_those_that_other_rivals_see():
    plain = SliceBatches(bodies(), "abc", 8, seed=4)
    placed = PlacedBatches(bodies(), "abc", 8, seed=4)
    assert all(torch.equal(placed(step).images, plain(step)) for step in range(7))
    with pytest.raises(ParameterError): PlacedBatches(bodies(), "abc", 80)


def test_positives_by_hand():
    mask, height = near_heights(torch.tensor([0., .2, .25]), .1), [0., .2, .25] * 2
    for i in range(6):
        for j in range(6): assert mask[i, j] == (i != j and abs(height[i] - height[j]) < .1)


def test_the_loss_by_hand():
    "As in the official code, but for the factor of temperatures."
    model, batch = make(2).eval(), BATCHES(1)
    with torch.no_grad():
        z = model.tower(two_views(batch.images, MoCoConfig(), step_generator(2, 5, 22)))
        found = model.loss(batch, 5).item()
    s, positive, lost = np.exp((z @ z.T).numpy() / .1), near_heights(batch.height, .1).numpy(), []
    for i in range(16):
        others = s[i].sum() - s[i, i]
        lost.append(np.mean([-np.log(s[i, j] / others) for j in range(16) if positive[i, j]]))
    assert found == pytest.approx(np.mean(lost), abs=1e-4)


def test_it_is_pure_and_goes_on_where_it_was_killed(tmp_path):
    check_pure(make, BATCHES(0))
    check_resumes(make, BATCHES, tmp_path)


def test_the_loss_falls():
    assert fall(make, BATCHES) < .95
