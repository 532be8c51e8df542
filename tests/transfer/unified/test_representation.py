"UMS-Rep: what stage 1 learns, that it ends when val gets no better, goes on when it was killed, and comes back whole."
import math

import numpy as np
import pytest
import torch

from taco.base import EncoderError, ParameterError
from taco.learning.loop import FitConfig, fit, step_generator
from taco.learning.until import Patience
from taco.transfer.unet import conv_norms, rescale
from taco.transfer.unified import batches as batches_chapter, representation as chapter
from taco.transfer.unified.batches import Augment, batches
from taco.transfer.unified.net import UnifiedNet
from taco.transfer.unified.representation import (
    PRETEXTS,
    RESTORABLE,
    TELLABLE,
    Pretexts,
    Representation,
    hide,
    learn_representation,
    look_at_pretexts,
    of_tasks,
    pretext_losses,
    pretext_net,
)
from taco.transfer.unified.targets import STANDARD_NOISE, worth
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN, brief, equal, examples, relabelled, tune

CHOICES = [*((name,) for name in PRETEXTS), PRETEXTS]
DRAWN = WITHIN[1:]


def pretexts_of(names, seed: int = 0) -> Pretexts:
    module = Pretexts(pretext_net(1, WIDTHS, seed, names, DRAWN), names, seed=seed, drawn=DRAWN)
    module.config = FitConfig(steps=10)
    return module


# ---------------------------------------------------------------- pretexts

@pytest.mark.parametrize("names", CHOICES)
def test_what_a_pretext_loses_is_a_function_of_the_step_and_falls(names, images):
    module, draw = pretexts_of(names), batches(images, images, 8)
    batch, loss = draw(0), lambda step: module.loss(batch, step).item()
    assert math.isfinite(loss(0)) and loss(3) == loss(3)
    assert names == ("drawn",) or loss(3) != loss(4), "what phantoms show is decided with the batch"
    if names == ("told",): return  # which is slower, see below
    many = lambda: np.mean([module.train().loss(draw(step), step).item() for step in range(500, 504)])
    before = many()
    fit(module, draw, brief(25, learning_rate=1e-2))
    assert many() < .6 * before


def test_the_sum_of_the_pretexts_is_lost(images):
    "In evaluation, where images do not share statistics."
    batch, weights = batches(images, images, 8)(0), pretexts_of(PRETEXTS).eval()
    def loss(names):
        module = Pretexts(weights.net, names, drawn=DRAWN).eval()
        module.telling = weights.telling
        return module.loss(batch, 2).item()
    assert loss(PRETEXTS) == pytest.approx(sum(loss((name,)) for name in PRETEXTS), rel=1e-5)


def test_each_pretext_teaches_its_own_decoder(images):
    for names, heads in [(("told",), []), (("denoising",), ["denoising"]), (("masked",), ["restoring"]),
                         (("restored", "masked"), ["restoring"]), (("drawn",), ["organs", "finding"]),
                         (PRETEXTS, ["denoising", "restoring", "organs", "finding"])]:
        module = pretexts_of(names)
        assert list(module.net.heads) == heads
        module.loss(batches(images, images, 8)(0), 0).backward()
        learnt = [p.grad is not None and p.grad.abs().sum() > 0 for p in module.telling.parameters()]
        assert all(learnt) if "told" in names else not any(learnt)
        held = {id(p) for p in module.learns()}
        assert ({id(p) for p in module.telling.parameters()} <= held) == ("told" in names)
        assert {id(p) for p in module.net.parameters()} <= held
        for head in heads:
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.net.heads[head].parameters())


def test_unknown_pretexts_are_refused(images):
    with pytest.raises(ParameterError, match="Did you mean 'masked'"): pretext_net(1, WIDTHS, 0, ("denoising", "maske"))
    with pytest.raises(ParameterError, match="Unknown pretext"):
        learn_representation(images, "toy", brief(1), WIDTHS, 8, pretexts=("colour",))
    with pytest.raises(ParameterError, match="pretexts"): pretext_net(1, WIDTHS, 0, ())
    with pytest.raises(ParameterError, match="phantoms with labels"):
        learn_representation(images, "toy", brief(1), WIDTHS, 8, pretexts=("drawn",), targets=WITHIN)


@pytest.mark.parametrize("size", [32, 50])
def test_two_thirds_of_the_patches_are_hidden(size):
    clean = torch.rand(6, 1, size, size, generator=torch.Generator().manual_seed(0))
    shown, where = hide(clean, torch.Generator().manual_seed(1))
    assert where.shape == (6, 1, size, size) and set(where.unique().tolist()) == {0, 1}
    for image, there, kept in zip(shown, where, clean):
        assert .6 < there.mean() < .7 and torch.equal(image[there == 0], kept[there == 0])
        assert torch.allclose(image[there > 0], kept.mean(), atol=1e-6)
    if size == 32:
        assert (where.view(6, 8, 4, 8, 4).sum((1, 3)) == 42).all(), "42 of 64 patches, each of them whole"
    assert not torch.equal(where[0], where[1])
    assert torch.equal(hide(clean, torch.Generator().manual_seed(1))[0], shown)


@pytest.mark.parametrize("names", [RESTORABLE, TELLABLE])
def test_few_tasks_are_made_of_neighbours(names, images):
    clean, whiches = images.clean(range(12)), set()
    for step in range(6):
        given, wanted, which = of_tasks(clean, names, step_generator(step))
        again = of_tasks(clean, names, step_generator(step))
        assert torch.equal(given, again[0]) and torch.equal(wanted, again[1]) and torch.equal(which, again[2])
        assert given.shape == wanted.shape == clean.shape and 0 <= given.min() <= wanted.max() <= 1
        assert (which.view(3, 4) == which[::4, None]).all() and len(which.unique()) == 3
        assert ((given - wanted).flatten(1).abs().amax(1) > 0).float().mean() > .8
        if names == RESTORABLE: assert torch.allclose(wanted, clean, atol=1 / 255), "the clean image is restored"
        whiches |= set(which.tolist())
    assert len(whiches) > 5 and len(of_tasks(clean[:2], names, step_generator(0))[2].unique()) == 2
    assert not any(name in RESTORABLE for name in ("colorization", *TELLABLE))


def test_transformations_are_told_apart_above_chance(images):
    "On other images: chance loses log 10, and is right in one of ten."
    module, others = pretexts_of(("told",)), examples(24, seed=7)
    fit(module, batches(images, images, 12), brief(80, learning_rate=1e-2))
    seen = batches(others, others, 12)
    with torch.no_grad(): losses = [module.loss(seen(step), 1000 + step).item() for step in range(20)]
    assert np.mean(losses) < .85 * math.log(len(TELLABLE))


def test_skips_are_cut_whatever_the_noise_is(images, monkeypatch):
    "Drawn from the noise's generator, they had followed it: weak noise was always cut at the finest skip."
    drawn, kept, noisy = [], [], batches_chapter.add_noise
    def watched(clean, *a, **k):
        drawn.append((noisy(clean, *a, **k) - clean).flatten(1).std(1))
        return clean
    def answer(features):
        kept.append(torch.stack([f.flatten(1).abs().amax(1) > 0 for f in features[:-1]]))
        return features[0][:, :1] * 0
    monkeypatch.setattr(batches_chapter, "add_noise", watched)
    module = pretexts_of(("denoising",), seed=3)
    monkeypatch.setattr(module.net.heads["denoising"], "forward", answer)
    draw = batches(images, images, 8, seed=3)
    for step in range(60): module.loss(draw(step), step)
    strength, keep = torch.cat(drawn), torch.cat(kept, 1).float()
    whole = keep.all(0).float().mean()
    assert .7 < keep.mean() < .8 and .5 < whole < .6, "half of the images lose each connection with probability a half"
    for row in keep: assert abs(np.corrcoef(row, strength > strength.median())[0, 1]) < .2


# ---------------------------------------------------------------- what is kept

def test_the_representation_of_one_modality_refuses_other_channels(representation):
    colour = examples(channels=3)
    with pytest.raises(EncoderError, match="representation of toy has another number of channels") as error:
        tune(representation, colour)
    assert "3" in str(error.value) and "Use the representation of this modality" in str(error.value)
    with pytest.raises(EncoderError, match="another number of channels"):
        representation.net(colour.clean([0]))


@pytest.mark.parametrize("names, channels", [*((names, 1) for names in CHOICES), (("told", "restored"), 3)])
def test_a_representation_comes_back_from_its_files(names, channels, tmp_path):
    images = examples(8, channels=channels)
    learnt = learn_representation(images, "toy", brief(2), WIDTHS, 4, pretexts=names, phantoms=images, targets=WITHIN)
    saved = Representation.load(learnt.save(tmp_path / "r"))
    assert saved.modality == "toy" and saved.flops == learnt.flops > 0 and saved.pretexts == names
    assert saved.net.heads.keys() == learnt.net.heads.keys() and equal(saved.net, learnt.net)
    assert saved.net.encoder.channels == channels and saved.looks == learnt.looks == {}


def test_what_is_no_representation_is_refused(representation, tmp_path):
    with pytest.raises(EncoderError, match="not a representation"): Representation.load(tmp_path)
    place = representation.save(tmp_path / "r")
    about = (place / "representation.json").read_text()
    (place / "representation.json").write_text(about.replace('"toy"', '"boy"'))
    with pytest.raises(EncoderError, match="not as it was written"): Representation.load(place)
    (place / "representation.json").write_text(about)
    (place / "weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(EncoderError, match="cannot be read"): Representation.load(place)


def test_a_representation_computes_what_it_learnt_with_the_norms_it_began_with(images, monkeypatch):
    kept, look = {}, lambda net: net(images.clean([0, 1, 2]))["denoising"].detach()
    def keep(net, norms):
        net.eval()
        kept.update(before=look(net), grown=conv_norms(net), first=norms)
        rescale(net, norms)
    monkeypatch.setattr(chapter, "rescale", keep)
    found = learn_representation(images, "toy", brief(40, learning_rate=2e-2), WIDTHS, 8)
    assert (look(found.net) - kept["before"]).abs().max() < 2e-3
    growth = [kept["grown"][n] / kept["first"][n] for n in kept["first"]]
    assert max(growth) > 1.1, "nothing grew, so nothing was tested"
    fresh = conv_norms(UnifiedNet(1, TARGETS[:1], WIDTHS))
    assert fresh.keys() == kept["first"].keys() and len(fresh) == 2 * (2 * len(WIDTHS) - 1)
    for name, norm in conv_norms(found.net).items():
        assert norm.item() == pytest.approx(fresh[name].item(), rel=1e-4)


def test_labels_are_never_read_and_augmentation_is_used(representation, images):
    blind = relabelled(images)
    learn = lambda **how: learn_representation(blind, "toy", brief(5), WIDTHS, 8, **how)
    assert equal(learn().net, representation.net)
    assert not equal(learn(augment=Augment()).net, representation.net)
    assert not equal(learn(seed=1).net, representation.net)


# ---------------------------------------------------------------- until it gets no better

TWO = ("denoising", "told")
PATIENCE = Patience(every=3, looks=1, falls=1, warmup=2)


def patient(images, folder=None, pretexts=TWO):
    config = brief(300, checkpoint_every=2, learning_rate=.02)
    return learn_representation(images, "toy", config, WIDTHS, 8, folder=folder, pretexts=pretexts,
                                val=examples(8, seed=5), patience=PATIENCE)


@pytest.mark.long
def test_stage_1_ends_when_val_gets_no_better_with_the_weights_that_were_best(images):
    found, val = patient(images, pretexts=("denoising", "masked")), examples(8, seed=5)
    steps, values = found.looks["step"], found.looks["value"]
    assert steps == list(range(3, steps[-1] + 1, 3)) and steps[-1] < 300
    apart = [found.looks[f"value {name}"] for name in found.pretexts]
    assert all(steps[v.index(max(v))] < steps[-1] for v in apart), "each was waited for"
    with torch.no_grad(): lost = pretext_losses(Pretexts(found.net, found.pretexts).eval(), val, STANDARD_NOISE)
    assert sum(map(worth, lost.values())) == pytest.approx(max(values), rel=1e-2)
    assert found.looks["value masked"][values.index(max(values))] == pytest.approx(worth(lost["masked"]), rel=1e-2)
    short = lambda steps: learn_representation(images, "toy", brief(steps), WIDTHS, 8, pretexts=found.pretexts).flops
    assert found.flops == short(steps[-1]) == steps[-1] * short(1)


def test_what_is_learnt_on_phantoms_is_judged_on_others_of_them_and_reads_no_other_label(images, tmp_path):
    phantoms = examples(30, seed=9)
    hidden = relabelled(images, **{name: torch.full_like(found, 7) for name, found in images.labels.items()})
    learnt = lambda images: learn_representation(
        images, "toy", brief(20, learning_rate=1e-2), WIDTHS, 8, pretexts=("denoising", "drawn"), val=images,
        patience=Patience(5, 9, 0), phantoms=phantoms, targets=WITHIN)
    one, other = learnt(images), learnt(hidden)
    assert equal(one.net, other.net) and one.looks == other.looks, "labels of the images decide nothing"
    assert list(one.net.heads) == ["denoising", "organs", "finding"] and one.drawn == WITHIN[1:]
    assert one.looks["value drawn"][-1] > one.looks["value drawn"][0]
    again = Representation.load(one.save(tmp_path / "x"))
    assert equal(one.net, again.net) and again.drawn == one.drawn
    module, seen = Pretexts(one.net, one.pretexts, drawn=one.drawn).eval(), []
    module.losses = lambda batch, step: seen.append(batch.image) or dict.fromkeys(one.pretexts, torch.ones(()))
    look_at_pretexts(module, images, STANDARD_NOISE, phantoms.take([9, 19, 29]))()
    assert len(torch.cat(seen).unique(dim=0)) == 3, "phantoms that were kept for it"


def test_what_is_learnt_later_goes_on_from_what_was_learnt_and_leaves_it_alone(images, monkeypatch):
    first = learn_representation(images, "toy", brief(3), WIDTHS, 8, cut=0)
    kept = {name: t.clone() for name, t in first.net.state_dict().items()}
    learn = lambda steps: learn_representation(images, "toy", brief(steps), WIDTHS, 8, pretexts=("drawn",), start=first,
                                               phantoms=images, targets=WITHIN)
    some, cost = learn(2), learn(1).flops
    monkeypatch.setattr(chapter, "fit", lambda *a, **k: None)
    nothing = learn(1)
    assert all(torch.equal(kept[name], t) for name, t in first.net.state_dict().items())
    assert equal(nothing.net.encoder, first.net.encoder) and not equal(some.net.encoder, first.net.encoder)
    pairs = zip(some.net.heads["denoising"].parameters(), first.net.heads["denoising"].parameters())
    assert all(torch.allclose(a, b, rtol=1e-4) for a, b in pairs), "nobody asked for it, but its norms are given back"
    assert some.pretexts == ("denoising", "drawn") and some.flops - first.flops == 2 * (cost - first.flops)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory): return patient(images, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("part", [.3, pytest.param(.9, marks=pytest.mark.long)])
def test_a_killed_stage_1_ends_as_it_would_have(images, whole, tmp_path, monkeypatch, part):
    loss = Pretexts.loss
    stop = int(part * whole.looks["step"][-1])
    def broken(self, batch, step):
        if step == stop: raise KeyboardInterrupt
        return loss(self, batch, step)
    monkeypatch.setattr(Pretexts, "loss", broken)
    with pytest.raises((KeyboardInterrupt, SystemExit)): patient(images, tmp_path / "killed")
    reached = torch.load(tmp_path / "killed/training.ckpt", weights_only=True)["global_step"]
    assert stop - 2 <= reached <= stop
    seen = []
    monkeypatch.setattr(Pretexts, "loss", lambda self, batch, step: seen.append(step) or loss(self, batch, step))
    again = patient(images, tmp_path / "killed")
    assert equal(whole.net, again.net) and whole.looks == again.looks and whole.flops == again.flops
    assert reached in seen and not any(0 < step < reached for step in seen), "no step of before is taken again"
    assert not (tmp_path / "killed/training.ckpt").exists()
