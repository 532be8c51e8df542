"The thirty tasks without traces: what they promise, and that they are still the tasks that they were."
import pytest
import torch
import torch.nn.functional as F

from taco.base import TaskError
from taco.data.prepare import collate, prepare
from taco.tasks.catalogue import ALL_TASKS, GENERATIVE
from taco.tasks.failure import FAILURE_KINDS, FAILURES, solve_wrongly
from taco.tasks.hidden import super_resolution
from taco.tasks.random import Draw
from taco.tasks.task import HIDDEN, TASKS, get_task
from tests.tasks.test_tasks import random_record

MOVING = ("horizontal_flip", "vertical_flip", "quarter_turn", "free_rotation", "translation", "scaling", "shear",
          "elastic_deformation")


@pytest.fixture(scope="module")
def batch():
    return collate([prepare(random_record(seed), 64) for seed in range(9)])


def run(name, batch, seed=0, **parameters):
    task = get_task(name, "hidden")
    able = batch[task.allows(batch)]
    assert len(able) >= 2, f"the test batch holds too few records for {name}"
    return able, *task(able, seeds=torch.arange(len(able)) + 1000 * seed, **parameters)


def same(a, b, share=5e-3):
    "Equal but for a few values that fell on the other side of a rounding."
    return ((a - b).abs() > 1e-5).float().mean() < share


@pytest.mark.parametrize("size", [33, 64, 100])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_pairs_are_pictures(name, size):
    some = collate([prepare(random_record(seed), size) for seed in range(6)])
    able, input, output = run(name, some)
    for picture in (input, output):
        assert picture.shape == able.image.shape and picture.dtype == torch.float32
        assert picture.isfinite().all() and picture.min() >= 0 and picture.max() <= 1


@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_pair_is_a_function_of_its_seed_and_differs_from_side_to_side(name, batch):
    able, input, output = run(name, batch)
    before = able.image.clone()
    _, *again = run(name, batch)
    assert torch.equal(input, again[0]) and torch.equal(output, again[1]) and torch.equal(able.image, before)
    _, *other = run(name, batch, seed=1)
    assert not torch.equal(input, other[0]) and not torch.equal(output, other[1])
    assert ((input - output).abs().mean((1, 2, 3)) > .004).all()
    for i in (0, len(able) - 1):
        alone = get_task(name, "hidden")(able[i], seeds=torch.tensor([i]))
        assert same(alone[0][0], input[i]) and same(alone[1][0], output[i])


def test_name_family_and_parameters_are_those_of_the_plain_task():
    assert set(MOVING) < set(HIDDEN) < set(ALL_TASKS)
    for name in ALL_TASKS:
        plain, hidden = get_task(name), get_task(name, "hidden")
        assert plain is TASKS[name] and (plain.traces, hidden.traces) == ("plain", "hidden")
        assert all(getattr(plain, f) == getattr(hidden, f) for f in ("name", "family", "parameters", "title"))
        assert hidden.needs - plain.needs == ({"kinds"} if name == "multi_class_segmentation" else set())
    with pytest.raises(TaskError, match="hidden"): get_task("shear", "hiden")


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_pixels_shows_the_places_of_the_plain_task(name, batch):
    seeds = torch.arange(len(batch))
    image, picture, places = get_task(name, "hidden").raw(batch, Draw(seeds))
    shown = F.grid_sample(picture, places, align_corners=False)
    inside = (places.abs() < .95).all(3)[:, None]
    plain = get_task(name)(batch, seeds=seeds)[1]
    assert image is batch.image and ((shown - plain).abs() * inside).max() < 1e-3


@pytest.mark.parametrize("name", [t for t in ALL_TASKS if t not in MOVING])
def test_at_no_strength_nothing_is_done(name, batch):
    task = get_task(name, "hidden")
    nothing = dict(size=0., margin=0., amount=0., reduction=0., strength=0., sigma=0., width=0., missing=0., shift=0.)
    given = {n: v for n, v in nothing.items() if n in task.parameters}
    if task.family == "semantic" or not given: return
    if name == "centre_point_detection": return
    able = batch[task.allows(batch)]
    input, output, places = task.raw(able, Draw(torch.arange(len(able))), **given)
    assert places is None and torch.allclose(input, output, atol=1e-4)


def test_the_clean_side_of_a_restoration_is_the_image(batch):
    for name in GENERATIVE:
        task = get_task(name, "hidden")
        able = batch[task.allows(batch)]
        assert task.raw(able, Draw(torch.arange(len(able))))[1] is able.image


def test_holes_are_filled_in_several_ways(batch):
    many = batch[[i % len(batch) for i in range(60)]]
    input, output, _ = get_task("inpainting", "hidden").raw(many, Draw(torch.arange(60)), size=.24, ellipse=0)
    hole = (input != output).any(1)
    spread = torch.stack([picture[:, h].std(1).mean() for picture, h in zip(input, hole)])
    assert .15 < (spread < 1e-4).float().mean() < .65 and (spread > .05).float().mean() > .25
    assert .01 < hole.float().mean() < .4


def test_lost_pixels_have_any_grey(batch):
    input, output, _ = get_task("salt_and_pepper_denoising", "hidden").raw(batch, Draw(torch.arange(9)), amount=.25)
    lost = (input != output).any(1)
    assert abs(lost.float().mean() - .25) < .02
    values = input[:, 0][lost]
    assert values.unique().numel() > .9 * values.numel() and ((values > .2) & (values < .8)).float().mean() > .2


@pytest.mark.parametrize("reduction", [0., .5, .7, .85, .97])
def test_enlarged_pictures_keep_constants_and_ways_differ(reduction, batch):
    flat = batch.map(torch.clone)
    flat.image[:] = .3
    kept = super_resolution.raw(flat, Draw(torch.arange(9)), reduction=reduction)[0]
    assert torch.allclose(kept, flat.image, atol=1e-5)
    one = batch[[0] * 40]
    made = super_resolution.raw(one, Draw(torch.arange(40)), reduction=reduction)[0]
    assert made.isfinite().all()
    if 0 < reduction < .9: assert len({round(float(m.std()), 4) for m in made}) >= 6


def test_grey_images_are_tinted(batch):
    able, *_ = run("colorization", batch)
    input, output, _ = get_task("colorization", "hidden").raw(able, Draw(torch.arange(len(able))))
    assert (input.amax(1) - input.amin(1)).flatten(1).mean(1).gt(.01).all()
    for picture in input:  # a line in the cube of colours
        centred = picture.flatten(1) - picture.flatten(1).mean(1, keepdim=True)
        values = torch.linalg.svdvals(centred)
        assert values[1] < 1e-3 * values[0]


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_a_failure_changes_the_output_and_never_the_input(kind, batch):
    partners = batch[[(i + 3) % len(batch) for i in range(len(batch))]]
    for name in ALL_TASKS:
        task = get_task(name, "hidden")
        if not FAILURES[kind].suits(task): continue
        able = (task.allows(batch) & task.allows(partners)).nonzero()[:, 0]
        assert len(able), name
        seeds = torch.arange(len(able))
        try: input, wrong = solve_wrongly(task, kind, batch[able], seeds, partners[able])
        except TaskError: continue  # a record does not allow the failure
        right = task(batch[able], seeds=seeds)
        assert torch.equal(input, right[0]) and wrong.min() >= 0 and wrong.max() <= 1
        assert ((wrong - right[1]).abs().mean((1, 2, 3)) > 2e-3).all(), name
