"What all pairs without traces share: grain, fills, places, compression, wear and finish."
import math

import pytest
import torch

from taco.data.prepare import collate, prepare
from taco.tasks import traces
from taco.tasks.random import Draw
from taco.tasks.traces import FILLS, TRACES, Unfinished, compress, finished, grain, worn
from tests.tasks.test_tasks import random_record


@pytest.fixture(scope="module")
def batch():
    return collate([prepare(random_record(seed), 64) for seed in range(40)])


def test_plain_is_what_is_made_where_nobody_says():
    assert TRACES == ("plain", "hidden")


def test_grain_is_normal_of_its_own_seed_and_grey_as_often_as_asked():
    noise = grain(Draw(torch.arange(300)), "a", 32, grey=.8)
    assert abs(noise.mean()) < .01 and abs(noise.std() - 1) < .01
    grey = (noise[:, 0] == noise[:, 1]).all((1, 2))
    assert abs(grey.float().mean() - .8) < .08
    assert torch.equal(grain(Draw(torch.tensor([17])), "a", 32, grey=.8)[0], noise[17])
    colour = noise[~grey]
    assert abs((colour[:, 0] * colour[:, 1]).mean()) < .02
    assert not torch.equal(grain(Draw(torch.tensor([17])), "b", 32)[0], noise[17])


def test_a_picture_is_kept_up_to_the_step_of_its_compression(batch):
    image = batch.image[:4]
    assert torch.allclose(compress(image, torch.full((4,), 1e-6)), image, atol=1e-5)
    errors = [(compress(image, torch.full((4,), step)) - image).square().mean().sqrt() for step in (.02, .05, .2)]
    assert errors[0] < .05 and errors[0] < errors[1] < errors[2]
    flat = torch.full((1, 3, 20, 20), .37)  # not a multiple of 8
    steps = torch.tensor([.1])
    assert torch.allclose(compress(flat, steps), torch.full_like(flat, round(.37 * 8 / .1) * .1 / 8), atol=1e-5)


@pytest.mark.parametrize("fill", FILLS)
def test_outside_of_the_image_shows_what_the_fill_says(fill):
    side, count = 32, 8
    place = (2 * torch.arange(side) + 1.) / side - 1
    image = (.5 + .4 * place).expand(count, 3, side, side).contiguous()  # brighter to the right
    grid = torch.stack(torch.broadcast_tensors(place + 1, place[:, None]), 2).expand(count, -1, -1, -1).contiguous()
    kind = torch.full((count,), FILLS.index(fill))
    inside = traces._bring_inside(grid, kind)
    shown = torch.nn.functional.grid_sample(image, inside, padding_mode="border", align_corners=False)
    if fill in ("zeros", "colour", "noise"):
        shown = traces._fill(shown, grid, kind, Draw(torch.arange(count)))
    outside = shown[..., side // 2 + 1:]
    assert torch.allclose(shown[..., :side // 2 - 1], image[..., side // 2:-1], atol=1e-5)
    spread = outside.flatten(2).std(2).amax(1)
    if fill == "zeros": assert (outside == 0).all()
    if fill == "colour": assert (spread < 1e-5).all() and outside.mean((1, 2, 3)).std() > .05
    if fill == "noise": assert ((spread > .03) & (spread < .35)).all()
    if fill == "border": assert torch.allclose(outside, image[..., -1:].expand_as(outside), atol=1e-5)
    if fill == "reflection": assert torch.allclose(outside, image[..., side // 2:-1].flip(-1), atol=1e-5)


def test_small_maps_are_small_and_one_for_both_pictures(batch):
    draw = Draw(torch.arange(len(batch)))
    place = traces._Place.draw(draw)
    grid, still = place.grid(64), traces._Place(torch.ones(40) + 0j, torch.zeros(40) + 0j, place.kind).grid(64)
    assert torch.allclose(place.move(still, slice(None)), grid, atol=1e-6)
    pixels = (grid - still).norm(dim=-1) * 32
    assert .3 < pixels.mean() < 3 and pixels.max() < 8
    input, output = finished(batch.image, batch.image, draw)
    difference = (input - output).abs().mean((1, 2, 3))
    assert (difference > 0).all() and difference.max() < .08


def test_neither_side_is_softer_than_the_other(batch):
    "Turned by a map of the finish: as many interpolations as the side that was not."
    draw, side = Draw(torch.arange(len(batch))), batch.size
    angle = torch.full((40,), math.radians(30))
    grid = traces._Place(torch.polar(torch.ones(40), angle), torch.zeros(40) + 0j, angle).grid(side)
    input, output = finished(batch.image, batch.image, draw, grid)
    rough = lambda x: x[..., 20:44, 20:44].diff(dim=3).abs().mean((1, 2, 3))
    share = rough(output) / rough(input)
    assert abs(share.log().mean()) < .1, "the same roughness on average, where both sides show the image"


def test_the_finish_leaves_no_exact_colours(batch):
    two = torch.zeros_like(batch.image)
    two[:, 0, :32], two[:, 1, 32:] = 1, 1
    _, output = finished(batch.image, two, Draw(torch.arange(40)))
    assert output.min() >= 0 and output.max() <= 1
    colours = torch.tensor([len(picture.flatten(1).T.unique(dim=0)) for picture in output])
    assert (colours > 20).float().mean() > .8


def test_wear_comes_as_often_as_it_says_and_leaves_labels_alone(batch, monkeypatch):
    draw = Draw(torch.arange(len(batch)))
    none = dict.fromkeys(traces.WEAR, 0.)
    monkeypatch.setattr(traces, "WEAR", none)
    assert torch.equal(worn(batch, draw).image, batch.image)
    for name in none:
        monkeypatch.setattr(traces, "WEAR", none | {name: .5})
        made = worn(batch, draw)
        assert made.image.min() >= 0 and made.image.max() <= 1 and torch.equal(made.semantic, batch.semantic)
        changed = (made.image != batch.image).flatten(1).any(1).float().mean()
        assert .25 < changed < .75, name
        alone = worn(batch[3], draw[[3]])
        assert torch.allclose(alone.image[0], made.image[3], atol=1e-5), name


def test_pairs_of_several_tasks_are_finished_as_alone(batch):
    some, draw = batch[:6], Draw(torch.arange(6))
    grid = traces._Place(torch.polar(torch.ones(3), torch.ones(3)), torch.zeros(3) + 0j, torch.ones(3)).grid(64)
    made = Unfinished.like(some.image, "hidden")
    made[:3] = some.image[:3], some.image[:3], grid
    made[3:] = some.image[3:], 1 - some.image[3:], None
    assert made.moved.tolist() == [True] * 3 + [False] * 3
    input, output = made.finished(draw)
    for rows, places in ((slice(0, 3), grid), (slice(3, 6), None)):
        alone = finished(made.input[rows], made.output[rows], draw[rows], places)
        assert ((alone[0] - input[rows]).abs() > 1e-5).float().mean() < 2e-3
        assert ((alone[1] - output[rows]).abs() > 1e-5).float().mean() < 2e-3
    plain = Unfinished.like(some.image, "plain")
    plain[:] = some.image, 1 - some.image, None
    assert all(torch.equal(a, b) for a, b in zip(plain.finished(draw), (some.image, 1 - some.image)))
