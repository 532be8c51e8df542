"taco.atlas.alterations: loops that are closed, trajectories with known measures, and what is refused."
import numpy as np
import pytest
import torch
from scipy import ndimage

from taco.atlas.alterations import (ALTERATIONS, Alteration, Features, Trajectories, choose, crossing, distance_band, get_alteration, measures, project, resized_mask,
                                    step_labels, summary, sweep)
from taco.atlas.baselines import PixelEncoder, RandomEncoder
from taco.base import ParameterError, TacoError, TaskError
from taco.data.store import Store, pack
from taco.learning.encoder import EncoderConfig
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("packed")
    return Store.open([pack(name, out=out, size=32, source="phantom", subjects=10) for name in ("acdc", "busi")])


@pytest.fixture(scope="module")
def encoder():
    return RandomEncoder(EncoderConfig(backbone="resnet10", width=.25, size=32), seed=0)


class Level(torch.nn.Module):
    "A known encoder: the angle on the unit circle is the mean brightness gained, in radians."
    def forward(self, input, output):
        angle = (output - input).mean((1, 2, 3))
        return angle[:, None], torch.stack([angle.cos(), angle.sin()], 1)


class Half(torch.nn.Module):
    "Towards which side the picture's disc is brighter, as an angle: turning the picture once turns the embedding once."
    def forward(self, input, output):
        x = torch.linspace(-1, 1, output.shape[-1])
        disc = output.mean(1) * (x ** 2 + x[:, None] ** 2 < .9)
        right, down = (disc * x).sum((1, 2)), (disc * x[:, None]).sum((1, 2))
        vector = torch.nn.functional.normalize(torch.stack([right, down], 1), dim=1)
        return vector, vector


def along(points, alteration="noise", records=1) -> Trajectories:
    points = np.asarray(points, float)
    return Trajectories(ALTERATIONS[alteration], ALTERATIONS[alteration].values(len(points)), np.arange(records), np.repeat(points[None], records, 0))


# ---------------------------------------------------------------- the register

def test_the_register_covers_what_the_study_asks_for():
    assert {"brightness_up", "brightness_down", "noise", "rotation", "blur", "zoom_in", "zoom_out", "translation", "mask_erosion", "mask_dilation", "elastic"} <= set(ALTERATIONS)
    rotation = ALTERATIONS["rotation"]
    assert rotation.loop and rotation.values(25)[0] == 0 and rotation.values(25)[-1] == 360 and [a.name for a in ALTERATIONS.values() if a.loop] == ["rotation"]
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
            weight = (((output[i] - low[:, None, None]) * (high - low)[:, None, None]).sum(0) / (high - low).square().sum()).numpy()
            expected = ndimage.distance_transform_edt(mask) > .5 - growth if growth < 0 else ndimage.distance_transform_edt(~mask) < .5 + growth
            assert np.allclose(weight, expected, atol=1e-3) and (weight.sum() < mask.sum()) == (growth < 0)


# ---------------------------------------------------------------- sweeping

def test_a_sweep_is_deterministic_and_does_not_depend_on_blocks(store, encoder):
    plan = choose(store, ALTERATIONS["noise"], per_dataset=4, seed=3)
    assert set(store.table["split"].iloc[plan["record"]]) == {"test"} and not plan["record"].duplicated().any()
    first, second, small = (sweep(encoder, store, ALTERATIONS["noise"], plan["record"], plan["seed"], 5, block) for block in (128, 128, 3))
    assert np.array_equal(first.vectors, second.vectors) and np.allclose(first.vectors, small.vectors, atol=1e-5)
    assert first.vectors.shape[:2] == (len(plan), 5) and np.allclose(np.linalg.norm(first.vectors, axis=2), 1, atol=1e-5)
    assert choose(store, ALTERATIONS["noise"], 4, seed=3).equals(plan)


@pytest.mark.parametrize("kind", ["random", "pixels"])
def test_a_whole_turn_leads_back_because_it_is_rendered(store, encoder, kind):
    plan = choose(store, ALTERATIONS["rotation"], per_dataset=3)
    moved = sweep(encoder if kind == "random" else PixelEncoder(), store, ALTERATIONS["rotation"], plan["record"], plan["seed"], 13)
    table = measures(moved)
    assert (table["closure"] < .01).all() and (table["diameter"] > .01).all()


def test_an_open_loop_is_found_out(store):
    a = ALTERATIONS["rotation"]
    open_loop = Alteration("three_quarters", a.task, a.parameter, 0, 270, loop=True)
    plan = choose(store, a, per_dataset=3)
    assert measures(sweep(Half(), store, open_loop, plan["record"], plan["seed"], 13))["closure"].min() > .3
    ring = measures(sweep(Half(), store, a, plan["record"], plan["seed"], 25)).mean()
    assert ring["closure"] < .01 and abs(ring["smoothness"] - 1) < .1 and abs(ring["turning"] - 15) < 5 and ring["spearman"] > .95


def test_features_are_what_lies_before_the_projection(store):
    from taco.learning.encoder import PairEncoder
    torch.manual_seed(0)
    plain, plan = PairEncoder(EncoderConfig(backbone="resnet10", width=.25, size=32)).eval(), choose(store, ALTERATIONS["noise"], per_dataset=2)
    moved = sweep(Features(plain), store, ALTERATIONS["noise"], plan["record"], plan["seed"], 3)
    assert moved.vectors.shape == (len(plan), 3, plain.features) and np.allclose(np.linalg.norm(moved.vectors, axis=2), 1, atol=1e-5)


def test_a_known_encoder_gives_a_perfect_order(store):
    for name in ("brightness_up", "brightness_down"):
        plan = choose(store, ALTERATIONS[name], per_dataset=3)
        found = summary(sweep(Level(), store, ALTERATIONS[name], plan["record"], plan["seed"], 9))
        assert found["spearman"][0] > .999 and found["spearman_mean_path"][0] > .999 and found["smoothness"][0] < 1.02


# ---------------------------------------------------------------- measures

def test_measures_of_known_paths():
    t = np.linspace(0, np.pi / 2, 10)
    arc = measures(along(np.stack([np.cos(t), np.sin(t)], 1))).iloc[0]
    assert arc.spearman == pytest.approx(1) and arc.turning == pytest.approx(10, rel=1e-3) and arc.smoothness == pytest.approx(9 * 2 * np.sin(np.pi / 36) / np.sqrt(2))
    out_and_back = np.concatenate([t, t[-2::-1]])
    back = measures(along(np.stack([np.cos(out_and_back), np.sin(out_and_back)], 1))).iloc[0]
    assert abs(back.spearman) < .2 and back.turning == pytest.approx((16 * 10 + 180) / 17) and back.smoothness > 1e3
    still = measures(along(np.tile([1., 0.], (6, 1)))).iloc[0]
    assert (still.spearman, still.smoothness, still.turning) == (0, 1, 0)
    falling = np.concatenate([[0], t[:0:-1]])  # jumps away, then comes nearer with every step
    assert measures(along(np.stack([np.cos(falling), np.sin(falling)], 1))).iloc[0].spearman == pytest.approx(-1)


def test_the_start_does_not_help_the_order():
    "Two points beyond the start in the wrong order are -1, whatever the start."
    t = np.array([0, .9, .5])
    assert measures(along(np.stack([np.cos(t), np.sin(t)], 1))).iloc[0].spearman == pytest.approx(-1)


def test_summary_is_the_mean_over_images_with_an_interval():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, 9, 16)); points /= np.linalg.norm(points, axis=2, keepdims=True)
    moved = Trajectories(ALTERATIONS["noise"], ALTERATIONS["noise"].values(9), np.arange(30), points)
    value, (low, high) = summary(moved)["spearman"]
    assert value == pytest.approx(measures(moved)["spearman"].mean()) and low < value < high and low < 0 < high
    assert "closure" not in summary(moved) and summary(moved)["spearman_mean_path"][1] is None
    band = distance_band(moved)
    assert band.shape == (9, 3) and (band[0] == 0).all() and (band[1:, 1] < band[1:, 0]).all() and (band[1:, 0] < band[1:, 2]).all()


def test_a_known_crossing_is_found():
    bank, labels = np.repeat(np.eye(2, dtype=np.float32), 30, 0), np.repeat(["plain", "noisy"], 30)
    t = np.linspace(0, np.pi / 2, 13)  # half way, at 45°, the nearest neighbours change
    moved = along(np.stack([np.cos(t), np.sin(t)], 1).astype(np.float32), records=5)
    said = step_labels(moved, bank, labels, k=10)
    found = crossing(said, "noisy", moved.values)
    step = moved.values[1] - moved.values[0]
    assert abs(found.value - moved.values[6]) <= step and (found.before, found.after, found.crossed) == ("plain", "noisy", 1.)
    assert found.interval == pytest.approx((found.value, found.value)) and found.share[0] == 0 and found.share[-1] == 1
    none = crossing(said[:, :3], "noisy", moved.values[:3])
    assert np.isnan(none.value) and none.interval is None and none.crossed == 0
    with pytest.raises(TacoError, match="too few embeddings"):
        step_labels(moved, bank[:5], labels[:5], k=10)


def test_points_of_the_map_are_placed_where_they_are():
    rng = np.random.default_rng(0)
    centres = np.eye(8, dtype=np.float32)
    bank = np.repeat(centres, 15, 0)
    xy = np.repeat(rng.standard_normal((8, 2)) * 5, 15, 0)
    assert np.allclose(project(bank, xy, centres), xy[::15], atol=1e-3)
    middle = (centres[:1] + centres[1:2]) / np.sqrt(2)
    assert np.allclose(project(bank, xy, middle, k=30), (xy[0] + xy[15]) / 2, atol=1e-3)
    for wrong in (lambda: project(bank, xy[:-1], centres), lambda: project(bank[:5], xy[:5], centres)):
        with pytest.raises(TacoError, match="map does not fit"): wrong()


# ---------------------------------------------------------------- what is refused

def test_errors_name_what_is_wrong(store, encoder):
    with pytest.raises(TacoError, match="Did you mean 'rotation'"): get_alteration("rotaton")
    with pytest.raises(TacoError, match="at least three"): ALTERATIONS["noise"].values(2)
    with pytest.raises(TacoError, match="one seed"): sweep(encoder, store, ALTERATIONS["noise"], [0, 1], [0])
    with pytest.raises(TacoError, match="one seed"): sweep(encoder, store, ALTERATIONS["noise"], [], [])
    with pytest.raises(TaskError, match="out of range"):
        sweep(encoder, store, Alteration("far", "gaussian_denoising", "sigma", 0, 5), [0], [0])
    grey = Alteration("grey", "colorization", "strength", 0, 1)
    with pytest.raises(TaskError, match="do not allow"): sweep(encoder, store, grey, [0], [0])

    class Broken(torch.nn.Module):
        def forward(self, input, output): return input, torch.full((len(input), 4), torch.nan)
    with pytest.raises(TacoError, match="not numbers"): sweep(Broken(), store, ALTERATIONS["noise"], [0], [0])
