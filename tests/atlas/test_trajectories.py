"taco.atlas.trajectories: loops that are closed, paths with known measures, crossings that are known."

import numpy as np
import pytest
import torch

from taco.atlas.alterations import ALTERATIONS, Alteration, Features, Trajectories, choose, sweep
from taco.atlas.embedding import Embeddings, embed, plan_pairs
from taco.atlas.neighbours import project
from taco.atlas.rivals.baselines import PixelEncoder, RandomEncoder
from taco.atlas.trajectories import (
    PATH_COLUMNS,
    crossing,
    distance_band,
    follow,
    followed_metrics,
    followed_row,
    measures,
    read_out,
    step_labels,
    summary,
)
from taco.base import TacoError
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "busi", subjects=10)


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
    return Trajectories(
        ALTERATIONS[alteration],
        ALTERATIONS[alteration].values(len(points)),
        np.arange(records),
        np.repeat(points[None], records, 0),
    )


# ---------------------------------------------------------------- sweeps


@pytest.mark.parametrize("kind", ["random", "pixels"])
def test_a_whole_turn_leads_back_because_it_is_rendered(store, encoder, kind):
    plan = choose(store, ALTERATIONS["rotation"], per_dataset=3)
    moved = sweep(
        encoder if kind == "random" else PixelEncoder(),
        store,
        ALTERATIONS["rotation"],
        plan["record"],
        plan["seed"],
        13,
    )
    table = measures(moved)
    assert (table["closure"] < .01).all() and (table["diameter"] > .01).all()


def test_an_open_loop_is_found_out(store):
    a = ALTERATIONS["rotation"]
    open_loop = Alteration("three_quarters", a.task, a.parameter, 0, 270, loop=True)
    plan = choose(store, a, per_dataset=3)
    assert (
        measures(sweep(Half(), store, open_loop, plan["record"], plan["seed"], 13))["closure"].min()
        > 0.3
    )
    ring = measures(sweep(Half(), store, a, plan["record"], plan["seed"], 25)).mean()
    assert (
        ring["closure"] < 0.01
        and abs(ring["smoothness"] - 1) < 0.1
        and abs(ring["turning"] - 15) < 5
        and ring["spearman"] > 0.95
    )


def test_a_known_encoder_gives_a_perfect_order(store):
    for name in ("brightness_up", "brightness_down"):
        plan = choose(store, ALTERATIONS[name], per_dataset=3)
        found = summary(sweep(Level(), store, ALTERATIONS[name], plan["record"], plan["seed"], 9))
        assert (
            found["spearman"][0] > 0.999
            and found["spearman_mean_path"][0] > 0.999
            and found["smoothness"][0] < 1.02
        )


# ---------------------------------------------------------------- measures


def test_measures_of_known_paths():
    t = np.linspace(0, np.pi / 2, 10)
    arc = measures(along(np.stack([np.cos(t), np.sin(t)], 1))).iloc[0]
    assert (
        arc.spearman == pytest.approx(1)
        and arc.turning == pytest.approx(10, rel=1e-3)
        and arc.smoothness == pytest.approx(9 * 2 * np.sin(np.pi / 36) / np.sqrt(2))
    )
    out_and_back = np.concatenate([t, t[-2::-1]])
    back = measures(along(np.stack([np.cos(out_and_back), np.sin(out_and_back)], 1))).iloc[0]
    assert (
        abs(back.spearman) < 0.2
        and back.turning == pytest.approx((16 * 10 + 180) / 17)
        and back.smoothness > 1e3
    )
    still = measures(along(np.tile([1., 0.], (6, 1)))).iloc[0]
    assert (still.spearman, still.smoothness, still.turning) == (0, 1, 0)
    falling = np.concatenate([[0], t[:0:-1]])  # jumps away, then comes nearer with every step
    assert measures(along(np.stack([np.cos(falling), np.sin(falling)], 1))).iloc[
        0
    ].spearman == pytest.approx(-1)


def test_the_start_does_not_help_the_order():
    "Two points beyond the start in the wrong order are -1, whatever the start."
    t = np.array([0, .9, .5])
    assert measures(along(np.stack([np.cos(t), np.sin(t)], 1))).iloc[0].spearman == pytest.approx(
        -1
    )


@pytest.mark.parametrize("loop", [False, True])
def test_a_strength_is_read_from_the_paths_of_others(loop):
    """On one arc in two of forty dimensions it is, however far apart the images lie in the others; along an arc in
    dimensions of its own, or at random places, it is not."""
    turn, rng = np.linspace(0, 2 * np.pi if loop else 1.5, 13), np.random.default_rng(0)
    place, name = np.stack([np.cos(turn), np.sin(turn), *np.zeros((38, 13))], 1), "rotation" if loop else "noise"

    def images(count, path=place, first=0):
        moved = along(path, name, count)
        moved.records = np.arange(first, first + count)
        moved.vectors = moved.vectors + rng.normal(0, .02, moved.vectors.shape)
        moved.vectors[..., 10:] += rng.normal(0, 3, (count, 1, 30))  # what the image shows, all along its path
        return moved

    known = images(60)
    assert (read_out(images(5, first=60), known) > .95).all()
    assert read_out(images(5, np.roll(place, 2, 1), 60), known).mean() < .2
    nowhere = images(60, place * 0)
    assert read_out(images(5, first=60), nowhere).mean() < .2
    with pytest.raises(TacoError, match="records"): read_out(images(5, first=58), known)
    with pytest.raises(TacoError, match="records"): read_out(images(5, first=60), images(2))
    assert (read_out(images(5, first=60), images(6)) > .7).all()  # each of the six has a step once: six vote
    still = images(6)
    still.vectors = np.ones_like(still.vectors)
    assert (read_out(images(5, first=60), still) == 0).all()
    other = images(5, first=60)
    other.values = other.values[:7]
    with pytest.raises(TacoError, match="two sweeps"): read_out(other, known)


def test_summary_is_the_mean_over_images_with_an_interval():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((30, 9, 16))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    moved = Trajectories(
        ALTERATIONS["noise"], ALTERATIONS["noise"].values(9), np.arange(30), points
    )
    value, (low, high) = summary(moved)["spearman"]
    assert (
        value == pytest.approx(measures(moved)["spearman"].mean())
        and low < value < high
        and low < 0 < high
    )
    assert "closure" not in summary(moved) and summary(moved)["spearman_mean_path"][1] is None
    band = distance_band(moved)
    assert (
        band.shape == (9, 3)
        and (band[0] == 0).all()
        and (band[1:, 1] < band[1:, 0]).all()
        and (band[1:, 0] < band[1:, 2]).all()
    )


def test_a_known_crossing_is_found():
    bank, labels = np.repeat(np.eye(2, dtype=np.float32), 30, 0), np.repeat(["plain", "noisy"], 30)
    t = np.linspace(0, np.pi / 2, 13)  # half way, at 45°, the nearest neighbours change
    moved = along(np.stack([np.cos(t), np.sin(t)], 1).astype(np.float32), records=5)
    said = step_labels(moved, bank, labels, k=10)
    found = crossing(said, "noisy", moved.values)
    step = moved.values[1] - moved.values[0]
    assert abs(found.value - moved.values[6]) <= step and (
        found.before,
        found.after,
        found.crossed,
    ) == ("plain", "noisy", 1.0)
    assert (
        found.interval == pytest.approx((found.value, found.value))
        and found.share[0] == 0
        and found.share[-1] == 1
    )
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
    for wrong in (
        lambda: project(bank, xy[:-1], centres),
        lambda: project(bank[:5], xy[:5], centres),
    ):
        with pytest.raises(TacoError, match="map does not fit"):
            wrong()


# ---------------------------------------------------------------- all of it


@pytest.fixture(scope="module")
def known(store) -> Embeddings:
    plan = plan_pairs(store, ["free_rotation", "brightness_change", "deblurring"], "train", 6)
    return Embeddings(plan, dict(taco=embed(PixelEncoder(), store, plan)))


@pytest.mark.parametrize("name", ["rotation", "brightness_up"])
def test_following_is_what_its_parts_say(store, known, name):
    "Numbers, names and order as the experiment wrote them down before they had a function."
    a, xy = (
        ALTERATIONS[name],
        np.random.default_rng(0).standard_normal((len(known), 2)).astype(np.float32),
    )
    found = follow(
        PixelEncoder(), store, a, known, known, xy, per_dataset=3, per_known=4, steps=5, k=4, draws=50, seed=7
    )
    plan = choose(store, a, 3, 7)
    moved = sweep(PixelEncoder(), store, a, plan["record"], plan["seed"], 5)
    assert np.array_equal(found.trajectories.vectors, moved.vectors) and found.plan.equals(plan)
    flat = moved.vectors.reshape(-1, moved.vectors.shape[2])
    assert np.array_equal(found.places, project(known["taco"], xy, flat).reshape(len(plan), 5, 2))
    cross = crossing(
        step_labels(moved, known["taco"], known.table["task"], 4), a.task, moved.values, 50
    )
    assert np.array_equal([found.crossing.value], [cross.value], equal_nan=True)
    numbers, metrics = summary(moved, draws=50), followed_metrics(found)
    kinds = [
        "spearman",
        "smoothness",
        "turning",
        "diameter",
        "spearman_mean_path",
        "spearman_features",
        "readable",
    ]
    kinds += ["crossing"] * bool(np.isfinite(cross.value))
    assert list(metrics) == [f"{kind}_{name}" for kind in kinds]
    for kind in kinds[:5]: assert metrics[f"{kind}_{name}"][:2] == numbers[kind]
    among = sweep(Features(PixelEncoder()), store, a, plan["record"], plan["seed"], 5)
    others = choose(store, a, 4, 8, "train")
    told = sweep(Features(PixelEncoder()), store, a, others["record"], others["seed"], 5)
    assert metrics[f"readable_{name}"][0] == pytest.approx(read_out(among, told).mean())
    assert metrics[f"turning_{name}"][2] == dict(
        n=len(plan), seeds=1, data="phantom", images=len(plan), steps=5
    )
    assert followed_row(found)["spearman"] == round(numbers["spearman"][0], 3)


def test_numbers_of_several_seeds_are_means_for_each_image(store, known):
    xy = np.random.default_rng(0).standard_normal((len(known), 2))
    how = dict(per_dataset=3, per_known=4, steps=5, k=4, draws=50, seed=7)
    seeds = PixelEncoder(), PixelEncoder(4)
    blur = ALTERATIONS["blur"]
    alone = [followed_metrics(follow(who, store, blur, known, known, xy, **how)) for who in seeds[:1]]
    both = followed_metrics(follow(seeds[0], store, blur, known, known, xy, **how, again=[seeds[1]]))
    plan = choose(store, blur, 3, 7)
    moved = [sweep(who, store, blur, plan["record"], plan["seed"], 5) for who in seeds]
    for kind in ("spearman", "smoothness", "spearman_mean_path"):
        told = [summary(one, draws=50)[kind][0] for one in moved]
        value, _, about = both[f"{kind}_blur"]
        assert value == pytest.approx(np.mean(told)) and about["seeds"] == 2
    assert both["readable_blur"][0] != alone[0]["readable_blur"][0]


def test_a_table_of_paths_has_a_row_for_each_step(store, known):
    xy = np.random.default_rng(0).standard_normal((len(known), 2))
    found = follow(
        PixelEncoder(),
        store,
        ALTERATIONS["blur"],
        known,
        known,
        xy,
        per_dataset=2,
        steps=4,
        k=4,
        draws=20,
    )
    table = found.paths()
    assert tuple(table.columns) == PATH_COLUMNS and len(table) == 4 * len(found.plan)
    last = table[table["step"] == 3]
    assert last["record"].tolist() == found.plan["record"].tolist() and set(last["parameter"]) == {
        0.06
    }
    assert np.array_equal(last[["x", "y"]].to_numpy(), found.places[:, 3])
