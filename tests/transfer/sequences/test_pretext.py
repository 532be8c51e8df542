"The pretext losses: what is averaged, what is left out, what a weight switches off."
import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.transfer.sequences import pretext
from taco.transfer.sequences.batches import PretextBatches
from taco.transfer.sequences.pretext import BINS, Pretext, neighbour_contrast, no_negatives
from taco.transfer.unet import UNetDecoder, UNetEncoder
from tests.transfer.sequences.toys import made


def network(weights: dict[str, float], **more) -> Pretext:
    return Pretext(UNetEncoder(1, (4, 8)), UNetDecoder(BINS, (4, 8)), weights, **more)


def test_middle_averages_the_neighbours_features(monkeypatch):
    "With the same slice three times over and nothing moved or shaded, both reconstructions are one and the same."
    monkeypatch.setattr(pretext, "moves", lambda n, g: torch.eye(2, 3).repeat(n, 1, 1))
    monkeypatch.setattr(pretext, "holes", lambda images, g: images)
    monkeypatch.setattr(pretext, "patch_mask", lambda count, size, g: torch.ones(count, 1, size, size))
    monkeypatch.setattr(pretext, "masked", lambda images, where: images)
    v = made({"a": list(range(8))})
    torch.manual_seed(0)
    model = network(dict(slice=1., middle=1.), strength=0., cut=0.).eval()
    batch = PretextBatches(v, ["a"], 4, 0)(0)
    batch.images[0] = batch.images[2] = batch.images[1]
    losses = model.losses(batch)
    assert losses["slice"].item() == pytest.approx(losses["middle"].item(), abs=1e-5) and losses["slice"] > .1
    shown = []
    def watched(self, features):
        shown.append(features)
        return torch.zeros(4, BINS, 32, 32)
    monkeypatch.setattr(UNetDecoder, "forward", watched)
    batch = PretextBatches(v, ["a"], 4, 0)(0)
    low, high = (model.encoder((batch.images[i][:, None].float() / 255).clamp(min=1e-4)) for i in (0, 2))
    model.losses(batch)
    for mean, a, b in zip(shown[-1], low, high): assert torch.allclose(mean, (a + b) / 2, atol=1e-3)


@pytest.mark.parametrize("task, encoded", dict(contrast=2, local=2, order=2, slice=1, middle=2).items())
def test_a_weight_of_zero_switches_a_task_off_with_its_cost(task, encoded):
    v = made({"a": list(range(8))})
    batch = lambda: PretextBatches(v, ["a"], 4, 0)(0)
    model, counted = network({task: 1., "order" if task != "order" else "slice": 0.}), []
    model.encoder.register_forward_hook(lambda m, x, y: counted.append(len(x[0])))
    assert set(model.losses(batch())) == {task} and counted == [encoded * 4]
    model.loss(batch(), 0).backward()
    trained = any(p.grad is not None for p in model.decoder.parameters())
    assert trained == (task in ("local", "slice", "middle"))


def test_a_slice_is_drawn_where_it_was_hidden_and_nowhere_else(monkeypatch):
    v = made({"a": list(range(8))})
    model, kept = network(dict(slice=1.)).eval(), {}
    def watched(self, features):
        kept["scores"] = torch.zeros(4, BINS, 32, 32, requires_grad=True)
        return kept["scores"]
    monkeypatch.setattr(UNetDecoder, "forward", watched)
    seen = model.views(PretextBatches(v, ["a"], 4, 0)(0))
    monkeypatch.setattr(Pretext, "views", lambda self, batch: seen)
    model.loss(PretextBatches(v, ["a"], 4, 0)(0), 0).backward()
    asked = kept["scores"].grad.abs().sum(1) > 0
    assert torch.equal(asked, seen.where[:, 0] > 0) and .6 < asked.float().mean() < .7
    flat = seen.hidden[:, 0][asked].view(4, -1)
    assert torch.allclose(flat, flat[:, :1].expand_as(flat)), "one grey for all that is hidden in a slice"


def test_the_loss_is_the_weighted_sum_of_the_tasks():
    v = made({"a": list(range(8))})
    batch = lambda: PretextBatches(v, ["a"], 4, 0)(0)
    both = network(dict(slice=2., order=.5), cut=0.).eval()
    parts = both.losses(batch())
    together = 2 * parts["slice"].item() + .5 * parts["order"].item()
    assert both.loss(batch(), 0).item() == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize("wrong", [dict(slices=1.), dict(slice=0.), dict(slice=-1.)])
def test_unknown_tasks_and_impossible_weights_are_refused(wrong):
    with pytest.raises(ParameterError): network(wrong)


def test_what_shows_the_same_is_no_negative():
    unit = torch.eye(2)
    def mask(volume, place, height):
        volume, place, height = map(torch.tensor, (volume, place, height))
        return no_negatives(volume, place, place + 1, height, height)
    far, near = (neighbour_contrast(unit, unit, mask([0, 0], place, [0., 1.])) for place in ([0., 9.], [0., 1.]))
    assert near.item() == pytest.approx(0, abs=1e-6) and far.item() == pytest.approx(np.log(1 + np.exp(-5)), abs=1e-5)
    assert mask([0, 1], [0., 9.], [.5, .55]).tolist() == [[False, True], [True, False]], "two volumes, the same height"
    assert not mask([0, 1], [0., 0.], [.1, .9]).any(), "two volumes, other heights"
