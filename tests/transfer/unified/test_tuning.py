"UMS-Rep: what a strategy may move, what is handed on, what it costs, and that a killed run goes on."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import EncoderError, ParameterError
from taco.learning.loop import FitConfig, count_flops
from taco.learning.until import Patience
from taco.transfer.unified import targets as targets_chapter, tuning
from taco.transfer.unified.net import UnifiedNet
from taco.transfer.unified.scores import held_out_loss
from taco.transfer.unified.targets import Target, UnifiedBatch, batches
from taco.transfer.unified.tuning import (
    Denoising,
    Representation,
    Strategy,
    Tuning,
    conv_norms,
    fine_tune,
    learn_representation,
    rescale,
)
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN, brief, equal, examples, moved, relabelled, tune

ALL_STRATEGIES = [("frozen", 0), ("last1", 1), ("last2", 2), ("last3", 3), ("full", 4), ("last4", 4)]


def nothing_fitted(module, *a, **k) -> pd.DataFrame: return pd.DataFrame(dict(loss=[0.]))


def of_kind(name: str, weight: float) -> Target:
    target = next(t for t in TARGETS if t.name == name)
    return Target(target.name, target.kind, target.outputs, weight)


# ---------------------------------------------------------------- strategies

@pytest.mark.parametrize("strategy, learn", ALL_STRATEGIES)
def test_exactly_the_stages_of_the_strategy_move(representation, images, strategy, learn):
    net, cost = tune(representation, images, strategy)
    assert moved(representation.net.encoder, net.encoder) == [False] * (4 - learn) + [True] * learn
    parts = [*net.heads.values(), *net.encoder.stages[4 - learn:]]
    assert cost["weights"] == sum(p.numel() for part in parts for p in part.parameters())


def test_what_is_frozen_stays_in_evaluation_mode_while_lightning_trains(representation, images, monkeypatch):
    seen, loss = [], Tuning.loss
    def watched(self, batch, step):
        found = loss(self, batch, step)
        seen.append([stage.training for stage in self.net.encoder.stages])
        return found
    monkeypatch.setattr(Tuning, "loss", watched)
    tune(representation, images, "last2")
    assert seen and all(s == [False, False, True, True] for s in seen)


def test_gradual_unfreezing_wakes_one_stage_after_another(representation, images):
    module = Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS, "gradual")
    module.config = FitConfig(steps=10)
    counts = [module.hold(step) for step in range(10)]
    assert counts == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    encoder = representation.net.encoder
    start = {k: t.clone() for k, t in encoder.state_dict().items()}
    tuned, _ = tune(representation, images, "gradual", steps=5)
    assert all(moved(encoder, tuned.encoder)[1:]) and start.keys() == tuned.encoder.state_dict().keys()
    same = [torch.equal(start[k], t) for k, t in encoder.state_dict().items()]
    assert all(same), "the representation is left alone"


def test_a_gradual_strategy_leaves_sleeping_stages_alone_weight_decay_included(representation, images):
    "Two of four stages have been woken, the others are as they were, though the optimiser holds them."
    net = UnifiedNet(1, TARGETS, WIDTHS)
    net.encoder.load_state_dict(representation.net.encoder.state_dict())
    module, draw = Tuning(net, TARGETS, "gradual"), batches(images, images, 8)
    module.config = FitConfig(steps=10, weight_decay=.1)
    (optimiser,), _ = module.configure_optimizers()
    assert {p for g in optimiser.param_groups for p in g["params"]} == set(net.parameters())
    for step in range(6):
        optimiser.zero_grad(set_to_none=True)
        module.loss(draw(step), step).backward()
        optimiser.step()
    assert moved(representation.net.encoder, net.encoder) == [False, False, True, True]


def test_a_stage_that_is_frozen_stays_so_under_a_class_within_structures(representation, images):
    net, cost = tune(representation, images, "last1", targets=WITHIN)
    assert moved(representation.net.encoder, net.encoder) == [False, False, False, True]
    assert np.isfinite(cost["loss"])


@pytest.mark.parametrize("name", ["half", "last0", "last", "Full"])
def test_unknown_strategies_are_refused(name):
    with pytest.raises(ParameterError, match="strategy"): Strategy(name)


def test_more_stages_than_there_are_are_refused():
    with pytest.raises(ParameterError, match="not as many stages"):
        Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS, "last5")


# ---------------------------------------------------------------- losses and targets

def test_a_weight_of_zero_switches_a_target_off(images):
    off = of_kind("organs", 0.)
    targets = [TARGETS[0], off, TARGETS[2]]
    fresh = UnifiedNet(1, targets, WIDTHS)
    net, cost = tune(None, images, targets=targets)
    assert equal(fresh.heads["organs"], net.heads["organs"])
    both = zip(fresh.heads["finding"].parameters(), net.heads["finding"].parameters())
    assert any(not torch.equal(a, b) for a, b in both)
    without, less = tune(None, images, targets=[TARGETS[0], TARGETS[2]])
    assert less["flops"] == cost["flops"]
    both = zip(without.encoder.parameters(), net.encoder.parameters())
    assert all(torch.equal(a, b) for a, b in both), "as if it were not there"
    with pytest.raises(ParameterError, match="every target's weight is 0"):
        tune(None, images, targets=[off])


def test_the_loss_is_the_weighted_sum(images):
    weights = dict(denoising=.5, organs=2., finding=3.)
    draw = batches(images, images, 8)(0)
    def loss(chosen):
        module = Tuning(UnifiedNet(1, chosen, WIDTHS), chosen, "frozen")  # evaluation: nobody sees another's statistics
        module.config = FitConfig(steps=1)
        module.net.heads.eval()
        return module.loss(draw, 0).item()
    each = {name: loss([of_kind(name, 1.)]) for name in weights}
    together = loss([of_kind(name, weight) for name, weight in weights.items()])
    assert together == pytest.approx(sum(weights[n] * each[n] for n in each), rel=1e-5)


def test_a_new_target_is_attached_to_a_trained_representation(representation, images):
    either = relabelled(images, either=(images.labels["organs"] > 0).to(torch.uint8))
    target = Target("either", "segmentation", 2)
    net, _ = tune(representation, either, "frozen", targets=[target])
    assert list(net.heads) == ["either"] and not any(moved(representation.net.encoder, net.encoder))
    with pytest.raises(ParameterError, match="a target of this name"): net.attach(target)


def test_heads_start_from_the_denoisers_decoder(representation, images, monkeypatch):
    "Denoising as it was, segmentations without the finest stage; classes and networks from scratch know nothing."
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    (net, _), (scratch, _) = tune(representation, images), tune(None, images)
    trained = representation.net.heads["denoising"]
    assert equal(net.heads["denoising"], trained) and not equal(scratch.heads["denoising"], trained)
    assert all(equal(a, b) for a, b in zip(net.heads["organs"].ups[:-1], trained.ups[:-1]))
    assert not any(equal(a, b) for a, b in zip(scratch.heads["organs"].ups, trained.ups))
    assert equal(net.heads["organs"].ups[-1], scratch.heads["organs"].ups[-1])
    assert equal(net.heads["organs"].final, scratch.heads["organs"].final)
    assert equal(net.heads["finding"], scratch.heads["finding"])


def test_what_comes_from_a_representation_learns_at_its_own_rate(representation, images, monkeypatch):
    made = {}
    monkeypatch.setattr(tuning, "fit", lambda module, *a, **k: made.update(module=module) or nothing_fitted(module))
    net, _ = fine_tune(representation, images, images, TARGETS, brief(1), "full", rate=.25)
    slow = {id(p) for p in made["module"].rates()}
    heads = {t.kind: net.heads[t.name] for t in TARGETS}
    ids = lambda *parts: {id(p) for part in parts for p in part.parameters()}
    assert slow == ids(net.encoder, heads["denoising"], *list(heads["segmentation"].ups)[:-1])
    assert set(made["module"].rates().values()) == {.25}


def test_labels_of_unlabelled_images_are_never_read(representation, images):
    "Few labelled images and many others: whatever labels the others carry, the result is the same."
    few = images.take(np.arange(4))
    blind = relabelled(images, **{name: torch.zeros_like(found) for name, found in images.labels.items()})
    tuned = [fine_tune(representation, few, rest, TARGETS, brief(3), "full", WIDTHS, 8)[0] for rest in (images, blind)]
    assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in tuned)))
    again = learn_representation(blind, "toy", brief(5), WIDTHS, 8)
    assert all(torch.equal(a, b) for a, b in zip(again.net.parameters(), representation.net.parameters()))


# ---------------------------------------------------------------- the representation

def test_the_representation_of_one_modality_refuses_other_channels(representation):
    colour = examples(channels=3)
    with pytest.raises(EncoderError, match="representation of toy has another number of channels") as error:
        tune(representation, colour)
    assert "3" in str(error.value) and "Use the representation of this modality" in str(error.value)
    with pytest.raises(EncoderError, match="another number of channels"):
        representation.net(colour.clean([0]))


def test_a_representation_comes_back_from_its_files(representation, tmp_path):
    saved = Representation.load(representation.save(tmp_path / "r"))
    assert saved.modality == "toy" and saved.flops == representation.flops > 0
    assert equal(saved.net, representation.net)
    with pytest.raises(EncoderError, match="not a representation"): Representation.load(tmp_path)
    (tmp_path / "r/weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(EncoderError, match="cannot be read"): Representation.load(tmp_path / "r")


def test_a_representation_computes_what_it_learnt_with_the_norms_it_began_with(images, monkeypatch):
    kept, look = {}, lambda net: net(images.clean([0, 1, 2]))["denoising"].detach()
    def keep(net, norms):
        net.eval()
        kept.update(before=look(net), grown=conv_norms(net), first=norms)
        rescale(net, norms)
    monkeypatch.setattr(tuning, "rescale", keep)
    found = learn_representation(images, "toy", brief(40, learning_rate=2e-2), WIDTHS, 8)
    assert (look(found.net) - kept["before"]).abs().max() < 2e-3
    growth = [kept["grown"][n] / kept["first"][n] for n in kept["first"]]
    assert max(growth) > 1.1, "nothing grew, so nothing was tested"
    fresh = conv_norms(UnifiedNet(1, TARGETS[:1], WIDTHS))
    assert fresh.keys() == kept["first"].keys() and len(fresh) == 2 * (2 * len(WIDTHS) - 1)
    for name, norm in conv_norms(found.net).items():
        assert norm.item() == pytest.approx(fresh[name].item(), rel=1e-4)


def test_skips_are_cut_whatever_the_noise_is(images, monkeypatch):
    "Drawn from the noise's generator, they had followed it: weak noise was always cut at the finest skip."
    drawn, kept, noisy = [], [], targets_chapter.add_noise
    def watched(clean, *a, **k):
        drawn.append((noisy(clean, *a, **k) - clean).flatten(1).std(1))
        return clean
    def answer(features):
        kept.append(torch.stack([f.flatten(1).abs().amax(1) > 0 for f in features[:-1]]))
        return features[0][:, :1] * 0
    monkeypatch.setattr(targets_chapter, "add_noise", watched)
    module = Denoising(UnifiedNet(1, [TARGETS[0]], WIDTHS), cut=.5, seed=3)
    module.config = FitConfig(steps=60)
    monkeypatch.setattr(module.net.heads["denoising"], "forward", answer)
    draw = batches(images, images, 8, seed=3)
    for step in range(60): module.loss(draw(step), step)
    strength, keep = torch.cat(drawn), torch.cat(kept, 1).float()
    assert .4 < keep.mean() < .6
    for row in keep: assert abs(np.corrcoef(row, strength > strength.median())[0, 1]) < .2


# ---------------------------------------------------------------- resuming and cost

@pytest.mark.parametrize("strategy", ["last2", "gradual"])
def test_a_run_killed_in_stage_2_goes_on_as_if_nothing_had_happened(
        representation, images, tmp_path, monkeypatch, strategy):
    whole, _ = tune(representation, images, strategy, steps=7)
    draw = tuning.batches
    def dying(*arguments, **more):
        inner = draw(*arguments, **more)
        def at(step):
            if step == 5: raise KeyboardInterrupt
            return inner(step)
        return at
    monkeypatch.setattr(tuning, "batches", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tune(representation, images, strategy, steps=7, folder=tmp_path)
    assert torch.load(tmp_path / "training.ckpt", weights_only=True)["global_step"] == 4
    monkeypatch.setattr(tuning, "batches", draw)
    resumed, _ = tune(representation, images, strategy, steps=7, folder=tmp_path)
    assert equal(whole, resumed)
    assert not (tmp_path / "training.ckpt").exists()


def test_flops_are_those_of_the_convolutions():
    """One stage on an 8 × 8 image: 3 × 3 filters 1 → 4 and 4 → 4.

    Backward costs the same again for weights, and for inputs that need it.
    """
    encoder_only = [Target("finding", "classification", 2)]
    net = UnifiedNet(1, encoder_only, (4,))
    module = Tuning(net, encoder_only, "frozen")
    module.config = FitConfig(steps=1)
    image, clean, noisy = torch.rand(3, 2, 1, 8, 8)
    draw = UnifiedBatch(image, dict(finding=torch.tensor([0, 1])), clean, noisy)
    convolutions = 2 * 2 * 64 * 9 * (1 * 4 + 4 * 4)  # images × (a product and a sum) × pixels × filter × channels
    hidden = net.heads["finding"].layers[1].out_features
    # Forward, the weights' gradients, and those of the inputs, which a norm and a layer before them need.
    head = 2 * 2 * (8 * hidden * 3 + hidden * 2 * 3)
    assert count_flops(module, draw) == convolutions + head


def test_costs_are_ordered_and_the_model_is_not_touched_by_counting(representation, images):
    cost = {s: tune(representation, images, s)[1]["flops"] for s in ("frozen", "last1", "last2", "gradual", "full")}
    assert cost["frozen"] < cost["last1"] < cost["last2"] < cost["full"]
    assert cost["frozen"] < cost["gradual"] < cost["full"]
    module = Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS)
    module.config = FitConfig(steps=4)
    before = {k: t.clone() for k, t in module.state_dict().items()}
    count_flops(module, batches(images, images, 8)(0))
    assert all(torch.equal(before[k], t) for k, t in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_fewer_images_to_denoise_cost_less(representation, images):
    part = tune(representation, images, noisy=2)[1]["flops"] / tune(representation, images)[1]["flops"]
    assert .4 < part < .8


def test_several_devices_are_refused():
    with pytest.raises(ParameterError, match="one device"): FitConfig(devices=2)


# ---------------------------------------------------------------- until it gets no better

PATIENCE = Patience(every=4, looks=2, falls=1, warmup=2)


def patient(start, images, folder=None, steps=400, **more):
    return fine_tune(start, images, images, WITHIN, brief(steps, checkpoint_every=3, learning_rate=.05), "full", WIDTHS,
                     8, folder=folder, val=examples(16, seed=5), patience=PATIENCE, **more)


def test_a_fine_tuning_ends_when_val_gets_no_better(representation, images, tmp_path):
    net, cost = patient(representation, images, tmp_path)
    looks = pd.DataFrame(cost["looks"])
    assert cost["best"] < cost["steps"] == looks["step"].iloc[-1] < 400
    assert {"value", "accuracy", "auroc", "dice", "psnr", "ssim"} <= set(looks)
    assert -held_out_loss(net, examples(16, seed=5), WITHIN) == pytest.approx(looks["value"].max(), abs=1e-4)
    fixed = tune(representation, images, steps=cost["steps"], targets=WITHIN)[1]
    assert cost["flops"] == fixed["flops"] and fixed["looks"] is None and fixed["best"] == fixed["steps"]


def test_a_killed_one_ends_as_it_would_have(representation, images, tmp_path, monkeypatch):
    net, cost = patient(representation, images, tmp_path / "whole")
    loss = Tuning.loss
    def broken(self, batch, step):
        if step == cost["steps"] - 3: raise KeyboardInterrupt
        return loss(self, batch, step)
    monkeypatch.setattr(Tuning, "loss", broken)
    with pytest.raises((KeyboardInterrupt, SystemExit)): patient(representation, images, tmp_path / "killed")
    monkeypatch.setattr(Tuning, "loss", loss)
    again, other = patient(representation, images, tmp_path / "killed")
    assert equal(net, again) and other["looks"] == cost["looks"] and other["flops"] == cost["flops"]


def test_the_loss_on_val_is_that_of_the_images_with_labels(images):
    net = UnifiedNet(1, TARGETS, WIDTHS).eval()
    whole = held_out_loss(net, images, TARGETS)
    assert whole == held_out_loss(net, images, TARGETS), "the noise is the same at every look"
    one = [dataclasses.replace(t, weight=2.) for t in TARGETS if t.kind == "classification"]
    finding = images.labels["finding"].clone()
    finding[5:] = -1
    part = relabelled(images, **dict(images.labels, finding=finding))
    known = held_out_loss(net, images.take(range(5)), one)
    assert held_out_loss(net, part, one, batch_size=3) == pytest.approx(known, rel=1e-5)
    assert held_out_loss(net, part, TARGETS[:2]) == pytest.approx(held_out_loss(net, images, TARGETS[:2]))
