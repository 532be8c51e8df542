"Further tasks: at rest they do nothing, they do what they say, and nobody trains on them."
import pytest
import torch

from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.sampler import PairSampler
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.further import FURTHER, RELATIVES
from taco.tasks.task import get_task

AT_REST = dict(gibbs_ringing=dict(kept=1.), motion_ghosts=dict(shift=0.), gamma=dict(power=0.),
               low_dose=dict(photons=20.),
               histogram_equalisation=dict(strength=0.), sharpening=dict(amount=0.), stain_shift=dict(strength=0.),
               nothing_done={})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store.open([pack("monusac", out=tmp_path_factory.mktemp("packed"), size=64, source="phantom", subjects=12)])


@pytest.fixture(scope="module")
def batch(store): return store.batch(range(8))


@pytest.fixture
def grey(batch):
    made = batch[:]
    made.image[:] = made.image.mean(1, keepdim=True)
    return made


def made(name, batch, **fixed):
    able = batch[get_task(name).allows(batch)]
    return get_task(name)(able, seeds=torch.arange(len(able)), **fixed)


@pytest.mark.parametrize("name", AT_REST)
def test_at_rest_nothing_happens(name, batch):
    input, output = made(name, batch, **AT_REST[name])
    assert len(input) and torch.allclose(input, output, atol=2e-3)


@pytest.mark.parametrize("name", sorted(set(FURTHER) - {"nothing_done"}))
def test_otherwise_something_does_and_each_row_follows_its_own_seed(name, batch):
    input, output = made(name, batch)
    assert ((input - output).abs().mean((1, 2, 3)) > 2e-3).all()
    able = batch[get_task(name).allows(batch)]
    one = get_task(name)(able[-1], seeds=torch.tensor([len(able) - 1]))
    assert all(torch.allclose(side[0], whole[-1], atol=1e-5) for side, whole in zip(one, (input, output)))


def test_generative_tasks_answer_with_the_image_and_others_begin_with_it(batch):
    for name in set(FURTHER) - {"registration_field"}:
        sides = made(name, batch)
        able = batch[get_task(name).allows(batch)]
        assert torch.equal(sides[get_task(name).family == "generative"], able.image), name


def test_values_of_those_that_can_be_worked_out(batch):
    image = batch.image
    assert torch.allclose(made("gamma", batch, power=1.)[1], image.clamp(min=1e-4) ** 2, atol=1e-5)
    assert torch.equal(made("transposition", batch)[1], image.transpose(2, 3))
    half = made("thresholding", batch, share=.5, palette=0.)[1].mean((1, 2, 3))
    assert (half - .5).abs().max() < .05  # black and white; more where grey values are equal
    for row in made("histogram_equalisation", batch, strength=1.)[1].flatten(1, 2).flatten(1): assert row.std() > .25
    wide = made("windowing", batch, width=.05)[1]
    assert ((wide == 0) | (wide == 1)).float().mean() > .6


def test_ringing_keeps_low_frequencies_and_nothing_else(batch):
    input = made("gibbs_ringing", batch, kept=.25)[0]
    wave = torch.cos(2 * torch.pi * torch.arange(64) / 64 * 20).expand(64, 64)  # 20 periods: beyond a quarter of 64 / 2
    high = batch[:]
    high.image[:] = .5 + .4 * wave
    assert made("gibbs_ringing", high, kept=.25)[0].std() < 1e-3 and input.std() > .05


def test_low_dose_is_noisier_where_it_is_brighter(batch):
    flat = batch[[0] * 64]
    for level, wanted in ((.1, .1), (.5, .5)):
        flat.image[:] = level
        noise = made("low_dose", flat, photons=5.)[0] - level
        assert noise.var().item() == pytest.approx(wanted / 148.4, rel=.1)


def test_landmarks_are_where_the_foreground_ends(batch):
    output = made("landmark_naming", batch, sigma=.03)[1]
    able = batch[get_task("landmark_naming").allows(batch)]
    left = (able.semantic > 0).any(1).float().argmax(1)  # first column
    orange = torch.tensor([.902, .624, 0.]).view(3, 1, 1)
    far = (output - orange).abs().sum(1).flatten(1).argmin(1) % 64
    assert ((far - left).abs() <= 2).float().mean() > .7  # others may lie over it


def test_the_registration_field_brings_one_picture_onto_the_other(grey):
    input, output = made("registration_field", grey, strength=.1)
    assert not torch.allclose(input[:, 0], input[:, 1], atol=.02)
    still, none = made("registration_field", grey, strength=0.)
    assert torch.allclose(still[:, 0], still[:, 1], atol=1e-4) and output.std() > .05 and none.isfinite().all()


def test_nobody_trains_on_them_and_relatives_are_among_the_thirty(store):
    assert not set(PairSampler(store).tasks) & set(FURTHER)
    assert len(FURTHER) >= 12 and {r for names in RELATIVES.values() for r in names} <= set(ALL_TASKS)
    assert all(RELATIVES[name] for name in FURTHER if name != "nothing_done")
