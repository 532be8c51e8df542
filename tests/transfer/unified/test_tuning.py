"UMS-Rep: what a strategy may move, what is handed on, what it costs, when it ends, and that a killed run goes on."

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import ParameterError
from taco.learning.loop import FitConfig, count_flops
from taco.learning.until import Patience, waited_for
from taco.transfer.unified import tuning
from taco.transfer.unified.batches import Augment, UnifiedBatch, batches
from taco.transfer.unified.net import UnifiedNet
from taco.transfer.unified.representation import PRETEXTS, Representation, learn_representation, pretext_net
from taco.transfer.unified.scores import look_at
from taco.transfer.unified.targets import Target
from taco.transfer.unified.tuning import Strategy, Tuning, fine_tune, hand_on_decoder, step_flops
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN, brief, equal, examples, moved, relabelled, tune

ALL_STRATEGIES = [("frozen", 0), ("last1", 1), ("last2", 2), ("last3", 3), ("full", 4), ("last4", 4)]


def nothing_fitted(module, *a, **k) -> pd.DataFrame: return pd.DataFrame(dict(loss=[0.]))


def of_kind(name: str, weight: float) -> Target:
    target = next(t for t in TARGETS if t.name == name)
    return Target(target.name, target.kind, target.outputs, weight)


# ---------------------------------------------------------------- strategies

@pytest.mark.parametrize("strategy, learn", ALL_STRATEGIES)
def test_exactly_the_stages_of_the_strategy_move(representation, images, strategy, learn):
    net, cost = tune(representation, images, strategy, steps=2)
    assert moved(representation.net.encoder, net.encoder) == [False] * (4 - learn) + [True] * learn
    parts = [*net.heads.values(), *net.encoder.stages[4 - learn:]]
    assert cost["weights"] == sum(p.numel() for part in parts for p in part.parameters())


def test_what_is_frozen_stays_in_evaluation_mode_while_lightning_trains(representation, images, monkeypatch):
    seen, step = [], Tuning.training_step
    def watched(self, *given):
        found = step(self, *given)
        seen.append([stage.training for stage in self.net.encoder.stages])
        return found
    monkeypatch.setattr(Tuning, "training_step", watched)
    tune(representation, images, "last2")
    assert len(seen) == 4 and all(s == [False, False, True, True] for s in seen)


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


# ---------------------------------------------------------------- what is handed on from other pretexts

def decoders_of(*pretexts: str) -> dict:
    return dict(pretext_net(1, WIDTHS, 3, pretexts).heads.items())


def test_a_segmentation_goes_on_from_the_decoder_that_restores():
    trained, net, fresh = decoders_of(*PRETEXTS[:4]), UnifiedNet(1, TARGETS, WIDTHS), UnifiedNet(1, TARGETS, WIDTHS)
    parts = hand_on_decoder(trained, net)
    ups = list(net.heads["organs"].ups)
    assert {id(part) for part in parts} == {id(part) for part in (net.heads["denoising"], *ups[:-1])}
    assert equal(net.heads["denoising"], trained["denoising"])
    assert all(equal(a, b) for a, b in zip(ups[:-1], trained["restoring"].ups))
    assert not any(equal(a, b) for a, b in zip(ups, trained["denoising"].ups)) and equal(net.heads["finding"],
                                                                                        fresh.heads["finding"])


def test_what_was_not_learnt_is_not_handed_on():
    fresh = UnifiedNet(1, TARGETS, WIDTHS)
    told, masked = UnifiedNet(1, TARGETS, WIDTHS), UnifiedNet(1, TARGETS, WIDTHS)
    assert hand_on_decoder(decoders_of("told"), told) == [] and equal(told, fresh)
    assert len(hand_on_decoder(trained := decoders_of("masked"), masked)) == len(WIDTHS) - 2
    assert equal(masked.heads["denoising"], fresh.heads["denoising"])
    assert equal(masked.heads["organs"].ups[0], trained["restoring"].ups[0])


def test_any_choice_of_pretexts_can_be_fine_tuned(images):
    for pretexts in (("told",), ("masked", "told")):
        start = Representation(pretext_net(1, WIDTHS, 3, pretexts), "toy", pretexts=pretexts)
        net, cost = tune(start, images, "last1", steps=1, targets=WITHIN)
        assert moved(start.net.encoder, net.encoder) == [False] * 3 + [True] and np.isfinite(cost["loss"])


# ---------------------------------------------------------------- a guide

GUIDED = [Target("finding", "classification", 2, within="organs")]


@pytest.fixture
def guide() -> UnifiedNet: return UnifiedNet(1, [TARGETS[1]], WIDTHS, seed=5)


def test_a_guide_is_held_still_and_its_masks_are_used(guide, images):
    before = {name: t.clone() for name, t in guide.state_dict().items()}
    net, cost = tune(None, images, targets=GUIDED, guide=guide)
    assert all(torch.equal(before[name], t) for name, t in guide.state_dict().items()), "its statistics as well"
    assert list(net.heads) == ["finding"] and cost["all_weights"] == sum(p.numel() for p in net.parameters())
    other = UnifiedNet(1, [TARGETS[1]], WIDTHS, seed=6)
    image, found = images.clean(range(4)), net(images.clean(range(4)))["finding"]
    net.guides = [other]
    assert not torch.allclose(net(image)["finding"], found, atol=1e-4), "another mask, another answer"
    twin, _ = tune(None, images, targets=GUIDED, guide=other)
    assert not equal(twin.heads["finding"], net.heads["finding"]), "it learnt with them"


def test_the_masks_of_a_guide_are_paid_for(guide, images, monkeypatch):
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    alone = tune(None, images, targets=[TARGETS[2]], steps=2)[1]
    guided = tune(None, images, targets=GUIDED, guide=guide, steps=2)[1]
    draw = batches(images, images, 8)(0)
    module = Tuning(UnifiedNet(1, GUIDED, WIDTHS, guide=guide), GUIDED)
    module.config = FitConfig(steps=1)
    assert guided["flops"] == 2 * count_flops(module, draw) > 1.2 * alone["flops"]


def test_a_guided_class_needs_its_guide(images):
    with pytest.raises(ParameterError, match="no such segmentation"): tune(None, images, targets=GUIDED)
    with pytest.raises(ParameterError, match="no such segmentation"):
        tune(None, images, targets=GUIDED, guide=UnifiedNet(1, [TARGETS[0]], WIDTHS))


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


def test_costs_are_ordered_and_the_model_is_not_touched_by_counting(representation, images, monkeypatch):
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    cost = {s: tune(representation, images, s)[1]["flops"] for s in ("frozen", "last1", "last2", "gradual", "full")}
    assert cost["frozen"] < cost["last1"] < cost["last2"] < cost["full"]
    assert cost["frozen"] < cost["gradual"] < cost["full"]
    module = Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS)
    module.config = FitConfig(steps=4)
    before = {k: t.clone() for k, t in module.state_dict().items()}
    count_flops(module, batches(images, images, 8)(0))
    assert all(torch.equal(before[k], t) for k, t in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_fewer_images_to_denoise_cost_less(representation, images, monkeypatch):
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    part = tune(representation, images, noisy=2)[1]["flops"] / tune(representation, images)[1]["flops"]
    assert .4 < part < .8


def test_what_a_step_costs_is_told_apart(representation, images, monkeypatch):
    "Full: all stages learn; `as_many`: as if as many images were denoised as are labelled."
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    cost = lambda strategy, **more: tune(representation, images, strategy, steps=2, **more)[1]
    few, frozen, many = cost("full", noisy=2), cost("frozen", noisy=2), cost("full")
    assert few["flops"] == 2 * few["per_step"]["learning"] < 2 * few["per_step"]["as_many"]
    assert frozen["per_step"] == few["per_step"] and frozen["flops"] < frozen["steps"] * few["per_step"]["learning"]
    assert many["flops"] == 2 * many["per_step"]["learning"] == 2 * few["per_step"]["as_many"]
    assert many["per_step"]["as_many"] == many["per_step"]["learning"]


def test_what_is_ready_is_left_as_it_is_and_costs_nothing(representation, images):
    ready = dict(ready=representation.net)
    found, cost = tune(representation, images, val=images, patience=Patience(2, 1, 0), **ready)
    one, all_three = (tune(representation, images, steps=2, **more)[1] for more in (ready, {}))
    assert set(found.nets) == {t.name for t in TARGETS} and not any("denoising" in name for name in cost["looks"])
    assert found.nets["denoising"] is representation.net, "what stage 1 had learnt"
    assert one["flops"] == 2 * one["per_step"]["learning"] < all_three["flops"]
    assert one["per_step"]["as_many"] == all_three["per_step"]["as_many"]
    together, _ = tune(representation, images, steps=2, **ready)
    assert together.nets["organs"] is together.nets["finding"] is not together.nets["denoising"], "one state of both"


def test_a_network_that_was_trained_is_looked_at_before_its_first_step(representation, images):
    for start, first in ((representation, 0), (None, 2)):
        looks = tune(start, images, val=images, patience=Patience(2, 1, 0))[1]["looks"]
        assert looks["step"][0] == first and looks["flops"][0] == (0 if first == 0 else looks["flops"][0]) >= 0


def test_heads_that_were_learnt_on_phantoms_are_handed_on_whole(images):
    phantoms = examples(20, seed=3)
    learnt = learn_representation(images, "toy", brief(3), WIDTHS, 8, pretexts=("drawn",), phantoms=phantoms,
                                  targets=TARGETS)
    net, fresh = UnifiedNet(1, TARGETS, WIDTHS, seed=5), UnifiedNet(1, TARGETS, WIDTHS, seed=5)
    parts = hand_on_decoder(dict(learnt.net.heads.items()), net)
    assert parts == [net.heads["organs"], net.heads["finding"]]
    assert all(equal(net.heads[n], learnt.net.heads[n]) for n in ("organs", "finding"))
    assert equal(net.heads["denoising"], fresh.heads["denoising"])


def test_steps_cost_more_as_stages_wake(images):
    module = Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS, "gradual")
    module.config = FitConfig(steps=10)
    each = step_flops(module, batches(images, images, 8))
    assert each == sorted(each) and [each.count(flops) for flops in sorted(set(each))] == [2] * 5


def test_several_devices_are_refused():
    with pytest.raises(ParameterError, match="one device"): FitConfig(devices=2)


# ---------------------------------------------------------------- until it gets no better

PATIENCE = Patience(every=4, looks=2, falls=1, warmup=2, least=.1)


def patient(start, images, folder=None, steps=400, **more):
    return fine_tune(start, images, images, WITHIN, brief(steps, checkpoint_every=3, learning_rate=.02), "full", WIDTHS,
                     8, folder=folder, val=examples(8, seed=5), patience=PATIENCE, **more)


@pytest.fixture(scope="module")
def whole(representation, images, tmp_path_factory):
    return patient(representation, images, tmp_path_factory.mktemp("whole"))


def test_a_fine_tuning_ends_when_val_gets_no_better(representation, images, whole):
    net, cost = whole
    looks = pd.DataFrame(cost["looks"])
    assert cost["best"] <= cost["steps"] == looks["step"].iloc[-1] < 400
    known = {"value", "accuracy", "auroc", "dice", "psnr", "ssim", *(f"loss {t.name}" for t in WITHIN)}
    assert known <= set(looks)
    found, best = look_at(net, examples(8, seed=5), WITHIN)(), {}
    for name in waited_for(found):
        row = best[name] = looks.loc[looks[name].idxmax()]
        loss = name.replace("value", "loss")
        assert found[name] == pytest.approx(row[name], abs=1e-4) and found[loss] == pytest.approx(row[loss], abs=1e-4)
    assert len(best) == 3 and cost["best"] == max(row["step"] for row in best.values())


def test_computation_is_counted_until_each_look(representation, images, whole, monkeypatch):
    cost = whole[1]
    looks, each = pd.DataFrame(cost["looks"]), cost["flops"] / cost["steps"]
    assert looks["flops"].tolist() == (each * looks["step"]).tolist()
    assert cost["flops_best"] == each * cost["best"] <= cost["flops"]
    monkeypatch.setattr(tuning, "fit", nothing_fitted)
    fixed = tune(representation, images, steps=cost["steps"], targets=WITHIN)[1]
    assert cost["flops"] == fixed["flops"] == fixed["flops_best"]
    assert fixed["looks"] is None and fixed["best"] == fixed["steps"]


@pytest.mark.long
def test_a_killed_one_ends_as_it_would_have(representation, images, whole, tmp_path, monkeypatch):
    net, cost = whole
    loss, stop = Tuning.loss, cost["steps"] - 3
    def broken(self, batch, step):
        if step == stop: raise KeyboardInterrupt
        return loss(self, batch, step)
    monkeypatch.setattr(Tuning, "loss", broken)
    with pytest.raises((KeyboardInterrupt, SystemExit)): patient(representation, images, tmp_path / "killed")
    monkeypatch.setattr(Tuning, "loss", loss)
    again, other = patient(representation, images, tmp_path / "killed")
    assert equal(net, again)
    for name in ("looks", "flops", "flops_best", "steps", "best"): assert other[name] == cost[name]


def test_a_fine_tuning_may_end_within_ten_steps(images):
    val, soon = examples(8, seed=5), Patience(every=2, looks=1, falls=0, least=99.)
    _, cost = fine_tune(None, images, images, TARGETS, brief(50, learning_rate=0.), "full", WIDTHS, 8, val=val,
                        patience=soon)
    assert cost["steps"] == 4 and np.isfinite(cost["loss"])


def test_images_are_augmented_and_val_is_not(representation, images):
    val, how = examples(8, seed=5), Patience(every=1, looks=1, warmup=1)
    def tuned(augment):
        return fine_tune(representation, images, images, WITHIN, brief(2), "full", WIDTHS, 8, val=val, patience=how,
                         augment=augment)
    (net, cost), (other, _) = tuned(Augment()), tuned(tuning.NO_AUGMENT)
    assert not equal(net, other)
    found = look_at(net, val, WITHIN)()
    for name in waited_for(found): assert found[name] == pytest.approx(max(cost["looks"][name]), abs=1e-4)
