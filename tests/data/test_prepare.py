"Preparation: the table of what a record carries, and rules that numpy and torch answer alike."

from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import ndimage

import taco.tasks.catalogue  # noqa: F401  enters the tasks
from taco.base import DataError
from taco.data.prepare import (
    COLUMNS,
    MAPS,
    NEEDS,
    TABLES,
    Batch,
    Prepared,
    allows,
    collate,
    colourful,
    fit_square,
    prepare,
)
from taco.data.record import Record
from taco.tasks.task import get_task


def random_map(rng: np.random.Generator, side: int) -> np.ndarray:
    "A label map (S, S) of blobs or threads, from none to nearly all of the image, in up to five classes."
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), rng.uniform(0.5, side / 8))
    blobs = noise > np.quantile(noise, rng.choice([0, 0.02, 0.3, 0.6, 0.9, 0.97, 0.998, 1]))
    if rng.random() < 0.2:
        blobs &= ~ndimage.binary_erosion(blobs)
    if rng.random() < 0.2:
        y, x = np.mgrid[:side, :side] - rng.uniform(0.3, 0.7, 2)[:, None, None] * side
        blobs = np.hypot(x, y) < rng.uniform(1, side / 2)  # convex, and from tiny to large
    classes = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 6)
    return blobs * (
        1 + np.digitize(classes, np.quantile(classes, sorted(rng.random(rng.integers(0, 5)))))
    )


def random_record(seed: int) -> Record:
    "A record with a random label map; sometimes with objects, boxes or points of its own, or without labels."
    rng = np.random.default_rng(seed)
    side, labels = rng.choice([40, 64, 90]), {}
    semantic = random_map(rng, side)
    if rng.random() < 0.95:
        labels["semantic"] = semantic
    if rng.random() < 0.3:
        labels["instances"] = ndimage.label(semantic)[0]
    if rng.random() < 0.2:
        labels["boxes"] = np.sort(rng.random((rng.integers(0, 3), 4)).astype(np.float32))[
            :, [0, 1, 2, 3]
        ]
    if rng.random() < 0.2:
        labels["points"] = rng.random((rng.integers(0, 3), 2)).astype(np.float32)
    grey = ndimage.gaussian_filter(rng.random((3, side, side)), (0, 2, 2))
    image = grey.mean(0) + rng.choice([0, 0.1, 0.5, 1]) * (grey - grey.mean(0))
    return Record(image.clip(0, 1).astype(np.float32), modality="CT", **labels)


@pytest.fixture(scope="module")
def prepared() -> list[Prepared]:
    return [prepare(random_record(seed), 64) for seed in range(200)]


def test_numpy_and_torch_agree_on_what_a_record_allows(prepared):
    batch = collate(prepared)
    found = allows(vars(batch))
    for column, need in enumerate(NEEDS):
        told = batch.can[:, column]
        if need == "image":
            assert told.all() and found[:, column].all()
        elif need == "colour":
            assert (colourful(batch.image) == told).all() and found[:, column].all()
        else:
            assert (found[:, column] == told).all(), need
        assert need == "image" or 0.02 < told.float().mean() < 0.98, (
            f"{need} is hardly ever in doubt here"
        )


def test_they_agree_one_by_one(prepared):
    alone = torch.cat([allows(vars(collate([p]))) for p in prepared[:30]])
    assert (alone == allows(vars(collate(prepared[:30])))).all()


@pytest.mark.parametrize("radius, thick", [(2.9, False), (3.4, True)])
def test_thick_is_more_than_three_pixels_to_the_edge(radius, thick):
    y, x = np.mgrid[:64, :64] - 32.0
    p = prepare(
        Record(
            np.zeros((1, 64, 64), np.float32), semantic=(np.hypot(x, y) < radius).astype(np.uint8)
        ),
        64,
    )
    assert (
        ("thick" in p.can)
        == thick
        == allows(vars(collate([p])))[0, list(NEEDS).index("thick")].item()
    )


def test_a_column_is_what_is_prepared_and_what_is_batched(prepared):
    assert set(COLUMNS) == {f.name for f in fields(Prepared)} - {"can", "record"}
    assert set(COLUMNS) == {f.name for f in fields(Batch)} - {"can", "modality"} == {*MAPS, *TABLES}
    batch = collate(prepared[:4])
    for name, column in COLUMNS.items():
        assert (
            getattr(prepared[0], name).dtype == column.stored
            and getattr(batch, name).dtype == column.batched
        )
        if column.width:
            assert getattr(batch, name).shape[2] == column.width
    nothing = prepare(Record(np.zeros((1, 64, 64), np.float32)), 64)
    for name in set(MAPS) - {"image"}:
        assert (getattr(nothing, name) == COLUMNS[name].empty).all()
    assert nothing.can == {"image"}


def test_nothing_is_drawn_where_nothing_is_known():
    "A disc with an open ring around it: no task draws on the ring, and none that would show where the disc ends."
    y, x = np.mgrid[:64, :64]
    far = np.hypot(y - 32, x - 32)
    disc, ring = (far < 12).astype(np.uint8), (far >= 12) & (far < 16)
    image = (far < 14).astype(np.float32)[None]
    known, open_to = (prepare(Record(image, semantic=disc, ignore=i), 64) for i in (None, ring))
    assert known.can - open_to.can == {"borders"} and open_to.can <= known.can
    for name in ("semantic", "instances", "distance", "hull"): assert not getattr(open_to, name)[ring].any()
    assert (open_to.centreline[ring] == 1).all() and (open_to.image == known.image).all()
    batch = collate([open_to])
    for name in ("binary_segmentation", "centreline"):
        output = get_task(name)(batch, seeds=torch.arange(1))[1][0].numpy()
        assert len(np.unique(output[:, ring].T, axis=0)) == 1 < len(np.unique(output.reshape(3, -1).T, axis=0)), name
    for name in ("boundary_detection", "convex_hull", "distance_map"): assert not get_task(name).allows(batch).any()


def test_an_open_map_follows_its_image():
    half = np.zeros((40, 80), bool)
    half[:, 30:] = True
    square = fit_square(Record(np.zeros((1, 40, 80), np.float32), ignore=half), 40)
    assert square.ignore.dtype == bool and (square.ignore == half[:, 20:60]).all()
    for bad in (half[:20], half.astype(np.uint8)):
        with pytest.raises(DataError, match="not known"): Record(np.zeros((1, 40, 80), np.float32), ignore=bad)
