"taco.atlas.alterations: what is swept, from where to where, and what is refused."
import numpy as np
import pytest
import torch
from scipy import ndimage

from taco.atlas.alterations import (
    ALTERATIONS,
    Alteration,
    Features,
    choose,
    get_alteration,
    resized_mask,
    sweep,
)
from taco.atlas.rivals.baselines import RandomEncoder
from taco.base import TacoError, TaskError
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "busi", subjects=10)


@pytest.fixture(scope="module")
def encoder():
    return RandomEncoder(EncoderConfig(backbone="resnet10", width=.25, size=32), seed=0)


# ---------------------------------------------------------------- the register


def test_the_register_covers_what_the_study_asks_for():
    assert {
        "brightness_up",
        "brightness_down",
        "noise",
        "rotation",
        "blur",
        "zoom_in",
        "zoom_out",
        "translation",
        "mask_erosion",
        "mask_dilation",
        "elastic",
    } <= set(ALTERATIONS)
    rotation = ALTERATIONS["rotation"]
    assert (
        rotation.loop
        and rotation.values(25)[0] == 0
        and rotation.values(25)[-1] == 360
        and [a.name for a in ALTERATIONS.values() if a.loop] == ["rotation"]
    )
    for a in ALTERATIONS.values():
        assert a.name in ALTERATIONS and get_task(a.task)
        if a.make is None:
            low, high = get_task(a.task).parameters[a.parameter].bounds()
            assert low <= min(a.start, a.stop) and max(a.start, a.stop) <= high, a.name


@pytest.mark.parametrize("name", ALTERATIONS)
def test_nothing_happens_at_the_start_and_something_later(store, name):
    a = ALTERATIONS[name]
    plan = choose(store, a, per_dataset=2)
    batch, seeds = store.batch(plan["record"]), torch.tensor(plan["seed"].tolist())
    input, output = a.pairs(batch, seeds, a.start)
    still = get_task(a.task)(batch, seeds=seeds)[1] if a.make else input
    assert torch.allclose(output, still, atol=1e-4)
    mid = a.pairs(batch, seeds, (a.start + a.stop) / 2)
    assert ((mid[0] - input).abs() + (mid[1] - output).abs()).flatten(1).mean(1).min() > 1e-4
    again = a.pairs(batch, seeds, (a.start + a.stop) / 2)
    assert torch.equal(mid[0], again[0]) and torch.equal(mid[1], again[1])


def test_masks_shrink_and_grow_by_what_is_asked_for(store):
    batch = store.batch(choose(store, ALTERATIONS["mask_erosion"], per_dataset=4)["record"])
    seeds = torch.arange(len(batch))
    plain = resized_mask(batch, seeds, 0.)[1]
    assert torch.equal(plain, get_task("binary_segmentation")(batch, seeds=seeds)[1])
    for growth in (-2, -1, 2, 3):
        output = resized_mask(batch, seeds, growth / batch.size)[1]
        for i, mask in enumerate(batch.semantic > 0):
            low, high = plain[i][:, ~mask][:, 0], plain[i][:, mask][:, 0]
            weight = (
                ((output[i] - low[:, None, None]) * (high - low)[:, None, None]).sum(0)
                / (high - low).square().sum()
            ).numpy()
            expected = (
                ndimage.distance_transform_edt(mask) > 0.5 - growth
                if growth < 0
                else ndimage.distance_transform_edt(~mask) < 0.5 + growth
            )
            assert np.allclose(weight, expected, atol=1e-3) and (weight.sum() < mask.sum()) == (
                growth < 0
            )


# ---------------------------------------------------------------- sweeping


def test_a_sweep_is_deterministic_and_does_not_depend_on_blocks(store, encoder):
    plan = choose(store, ALTERATIONS["noise"], per_dataset=4, seed=3)
    assert (
        set(store.table["split"].iloc[plan["record"]]) == {"test"}
        and not plan["record"].duplicated().any()
    )
    first, second, small = (
        sweep(encoder, store, ALTERATIONS["noise"], plan["record"], plan["seed"], 5, block)
        for block in (128, 128, 3)
    )
    assert np.array_equal(first.vectors, second.vectors) and np.allclose(
        first.vectors, small.vectors, atol=1e-5
    )
    assert first.vectors.shape[:2] == (len(plan), 5) and np.allclose(
        np.linalg.norm(first.vectors, axis=2), 1, atol=1e-5
    )
    assert choose(store, ALTERATIONS["noise"], 4, seed=3).equals(plan)


def test_features_are_what_lies_before_the_projection(store):
    torch.manual_seed(0)
    plain, plan = (
        PairEncoder(EncoderConfig(backbone="resnet10", width=0.25, size=32)).eval(),
        choose(store, ALTERATIONS["noise"], per_dataset=2),
    )
    moved = sweep(Features(plain), store, ALTERATIONS["noise"], plan["record"], plan["seed"], 3)
    assert moved.vectors.shape == (len(plan), 3, plain.features) and np.allclose(
        np.linalg.norm(moved.vectors, axis=2), 1, atol=1e-5
    )


def test_points_lie_at_their_record_and_step(store, encoder):
    "Whatever the blocks: the same as one record and one step at a time."
    a = ALTERATIONS["blur"]
    plan = choose(store, a, per_dataset=2)
    moved = sweep(encoder, store, a, plan["record"], plan["seed"], 4, block=3)
    for r, (record, seed) in enumerate(zip(plan["record"], plan["seed"])):
        for t, value in enumerate(moved.values):
            pair = a.pairs(store.batch([record]), torch.tensor([seed]), value)
            with torch.inference_mode(): alone = encoder(*pair)[1][0].numpy()
            assert np.allclose(moved.vectors[r, t], alone, atol=1e-5)


# ---------------------------------------------------------------- what is refused


def test_errors_name_what_is_wrong(store, encoder):
    with pytest.raises(TacoError, match="Did you mean 'rotation'"): get_alteration("rotaton")
    with pytest.raises(TacoError, match="at least three"): ALTERATIONS["noise"].values(2)
    with pytest.raises(TacoError, match="one seed"):
        sweep(encoder, store, ALTERATIONS["noise"], [0, 1], [0])
    with pytest.raises(TacoError, match="one seed"):
        sweep(encoder, store, ALTERATIONS["noise"], [], [])
    with pytest.raises(TaskError, match="out of range"):
        sweep(encoder, store, Alteration("far", "gaussian_denoising", "sigma", 0, 5), [0], [0])
    grey = Alteration("grey", "colorization", "strength", 0, 1)
    with pytest.raises(TaskError, match="do not allow"): sweep(encoder, store, grey, [0], [0])

    class Broken(torch.nn.Module):
        def forward(self, input, output): return input, torch.full((len(input), 4), torch.nan)

    with pytest.raises(TacoError, match="not numbers"):
        sweep(Broken(), store, ALTERATIONS["noise"], [0], [0])
