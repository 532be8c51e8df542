"UMS-Rep: what a strategy may move, what a loss of zero weight does, what is shared and what is refused, and that a killed run goes on."
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from taco.base import EncoderError, ParameterError, StoreError
from taco.data.store import Store, pack
from taco.transfer import unified, unified_study
from taco.transfer.fit import FitConfig, count_flops
from taco.transfer.network import UNetEncoder, load_weights, save_weights
from taco.transfer.unified import Draw, Examples, Noise, Representation, Strategy, Target, Tuning, UnifiedNet, add_noise, batches, choose_labelled, fine_tune, learn_representation, read_examples, target_loss
from taco.transfer.unified_study import Arm, Results, Setting, gains, image_dice, no_loss, psnr, score, study, summary, table_of

WIDTHS = (4, 8, 8, 8)
TARGETS = (Target("denoising", "denoising"), Target("organs", "segmentation", 3), Target("finding", "classification", 2))


def examples(count: int = 24, size: int = 32, seed: int = 0, channels: int = 1) -> Examples:
    "Squares of two kinds on noise; the finding is whether the second is there."
    rng = np.random.default_rng(seed)
    image, organs = rng.integers(0, 60, (count, channels, size, size), dtype=np.uint8), np.zeros((count, size, size), np.uint8)
    finding = np.arange(count) % 2
    for i in range(count):
        y, x = rng.integers(2, size // 2 - 6, 2)
        image[i, :, y:y + 8, x:x + 8] += 120; organs[i, y:y + 8, x:x + 8] = 1
        if finding[i]: image[i, :, -10:-4, -10:-4] += 190; organs[i, -10:-4, -10:-4] = 2
    return Examples(torch.from_numpy(image), dict(organs=torch.from_numpy(organs), finding=torch.from_numpy(finding)), np.array([f"s{i}" for i in range(count)]), np.array(["phantom"] * count))


@pytest.fixture(scope="module")
def images(): return examples()


@pytest.fixture(scope="module")
def representation(images): return learn_representation(images, "toy", FitConfig(steps=5, precision="32", device="cpu"), WIDTHS, 8)


def tune(start, images, strategy="full", steps=4, targets=TARGETS, **more):
    return fine_tune(start, images, images, targets, FitConfig(steps=steps, precision="32", device="cpu", checkpoint_every=2), strategy, WIDTHS, 8, **more)


def moved(before: torch.nn.Module, after: torch.nn.Module) -> list[bool]:
    "For each stage whether any weight or statistic changed; a stage changes as a whole or not at all."
    found = []
    for a, b in zip(before.stages, after.stages):
        weights = [not torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())]
        statistics = [not torch.equal(x, y) for x, y in zip(a.buffers(), b.buffers())]
        assert all(statistics) or not any(statistics)
        assert any(weights) == any(statistics)
        found.append(any(weights))
    return found


# ---------------------------------------------------------------- strategies

@pytest.mark.parametrize("strategy, learn", [("frozen", 0), ("last1", 1), ("last2", 2), ("last3", 3), ("full", 4), ("last4", 4)])
def test_exactly_the_stages_of_the_strategy_move(representation, images, strategy, learn):
    net, cost = tune(representation, images, strategy)
    assert moved(representation.net.encoder, net.encoder) == [False] * (4 - learn) + [True] * learn
    heads = sum(p.numel() for p in net.heads.parameters())
    assert cost["weights"] == heads + sum(p.numel() for stage in net.encoder.stages[4 - learn:] for p in stage.parameters())


def test_what_is_frozen_stays_in_evaluation_mode_while_lightning_trains(representation, images, monkeypatch):
    seen = []
    loss = Tuning.loss
    def watched(self, batch, step):
        found = loss(self, batch, step)
        seen.append([stage.training for stage in self.net.encoder.stages])
        return found
    monkeypatch.setattr(Tuning, "loss", watched)
    tune(representation, images, "last2")
    assert seen and all(s == [False, False, True, True] for s in seen)


def test_gradual_unfreezing_wakes_one_stage_after_another(representation, images):
    net = UnifiedNet(1, TARGETS, WIDTHS)
    module, draw = Tuning(net, TARGETS, "gradual"), batches(images, images, 8)
    module.config = FitConfig(steps=10)
    counts = [module.hold(step) for step in range(10)]
    assert counts == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    start = {k: t.clone() for k, t in representation.net.encoder.state_dict().items()}
    tuned, _ = tune(representation, images, "gradual", steps=5)
    assert all(moved(representation.net.encoder, tuned.encoder)[1:]) and start.keys() == tuned.encoder.state_dict().keys()
    assert all(torch.equal(start[k], t) for k, t in representation.net.encoder.state_dict().items())  # the representation is left alone


def test_a_gradual_strategy_leaves_sleeping_stages_alone_weight_decay_included(representation, images):
    "Four steps of eight: two of four stages have been woken, the others are as they were, though the optimiser holds them."
    net = UnifiedNet(1, TARGETS, WIDTHS)
    net.encoder.load_state_dict(representation.net.encoder.state_dict())
    module, draw = Tuning(net, TARGETS, "gradual"), batches(images, images, 8)
    module.config = FitConfig(steps=10, weight_decay=.1)
    (optimiser,), _ = module.configure_optimizers()
    assert {p for g in optimiser.param_groups for p in g["params"]} == set(net.parameters())
    for step in range(6):
        optimiser.zero_grad(set_to_none=True); module.loss(draw(step), step).backward(); optimiser.step()
    assert moved(representation.net.encoder, net.encoder) == [False, False, True, True]


@pytest.mark.parametrize("name", ["half", "last0", "last", "Full"])
def test_unknown_strategies_are_refused(name):
    with pytest.raises(ParameterError, match="strategy"): Strategy(name)


def test_more_stages_than_there_are_are_refused(images):
    with pytest.raises(ParameterError, match="not as many stages"): Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS, "last5")


# ---------------------------------------------------------------- losses and targets

def test_a_weight_of_zero_switches_a_target_off(images, monkeypatch):
    targets = [TARGETS[0], Target("organs", "segmentation", 3, 0.), TARGETS[2]]
    fresh = UnifiedNet(1, targets, WIDTHS)
    net, cost = tune(None, images, targets=targets)
    assert all(torch.equal(a, b) for a, b in zip(fresh.heads["organs"].state_dict().values(), net.heads["organs"].state_dict().values()))
    assert any(not torch.equal(a, b) for a, b in zip(fresh.heads["finding"].parameters(), net.heads["finding"].parameters()))
    without, less = tune(None, images, targets=[TARGETS[0], TARGETS[2]])
    assert less["flops"] == cost["flops"]
    assert all(torch.equal(a, b) for a, b in zip(without.encoder.parameters(), net.encoder.parameters()))  # as if it were not there
    with pytest.raises(ParameterError, match="every target's weight is 0"): tune(None, images, targets=[Target("organs", "segmentation", 3, 0.)])


def test_the_loss_is_the_weighted_sum(images):
    weights = dict(denoising=.5, organs=2., finding=3.)
    targets = [Target(t.name, t.kind, t.outputs, weights[t.name]) for t in TARGETS]
    draw = batches(images, images, 8)(0)
    def loss(chosen):
        module = Tuning(UnifiedNet(1, chosen, WIDTHS), chosen, "frozen")  # evaluation mode: no target sees another's statistics
        module.config = FitConfig(steps=1)
        module.net.heads.eval()
        return module.loss(draw, 0).item()
    each = {t.name: loss([Target(t.name, t.kind, t.outputs)]) for t in TARGETS}
    assert loss(targets) == pytest.approx(sum(weights[n] * each[n] for n in each), rel=1e-5)


def test_any_number_of_targets_and_classes(images):
    more = Examples(images.image, images.labels | dict(either=(images.labels["organs"] > 0).to(torch.uint8), turn=torch.arange(len(images)) % 5), images.subject, images.source)
    targets = [Target("organs", "segmentation", 7), Target("either", "segmentation", 2), Target("turn", "classification", 5), Target("finding", "classification", 2)]
    net, _ = tune(None, more, targets=targets)
    shapes = {n: tuple(a.shape) for n, a in net(more.clean([0, 1])).items()}
    assert shapes == dict(organs=(2, 7, 32, 32), either=(2, 2, 32, 32), turn=(2, 5), finding=(2, 2))


def test_a_new_target_is_attached_to_a_trained_representation(representation, images):
    either = Examples(images.image, dict(either=(images.labels["organs"] > 0).to(torch.uint8)), images.subject, images.source)
    net, _ = tune(representation, either, "frozen", targets=[Target("either", "segmentation", 2)])
    assert list(net.heads) == ["either"] and not any(moved(representation.net.encoder, net.encoder))
    with pytest.raises(ParameterError, match="a target of this name"): net.attach(Target("either", "segmentation", 2))


def test_heads_start_from_the_denoisers_decoder(representation, images, monkeypatch):
    "The denoising head as it was, segmentations without the finest stage; the classifier and networks from scratch know nothing of it."
    monkeypatch.setattr(unified, "fit", lambda module, *a, **k: pd.DataFrame(dict(loss=[0.])))
    equal = lambda a, b: all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    (net, _), (scratch, _) = tune(representation, images), tune(None, images)
    trained = representation.net.heads["denoising"]
    assert equal(net.heads["denoising"], trained) and not equal(scratch.heads["denoising"], trained)
    assert all(equal(a, b) for a, b in zip(net.heads["organs"].ups[:-1], trained.ups[:-1])) and not any(equal(a, b) for a, b in zip(scratch.heads["organs"].ups, trained.ups))
    for part in (lambda h: h["organs"].ups[-1], lambda h: h["organs"].final, lambda h: h["finding"]): assert equal(part(net.heads), part(scratch.heads))


def test_unknown_classes_do_not_count():
    answer = torch.tensor([[2., 0.], [0., 5.]], requires_grad=True)
    assert target_loss("classification", answer, torch.tensor([0, -1])).item() == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    nothing = target_loss("classification", answer, torch.tensor([-1, -1])); nothing.backward()
    assert nothing == 0 and (answer.grad == 0).all()


@pytest.mark.parametrize("target", [dict(name="a b", kind="denoising"), dict(name="a", kind="detection"), dict(name="a", kind="segmentation", outputs=1), dict(name="a", kind="denoising", weight=-1.),
                                    dict(name="a", kind="denoising", weight=float("nan"))])
def test_impossible_targets_are_refused(target):
    with pytest.raises(ParameterError): Target(**target)


# ---------------------------------------------------------------- images, labels, noise

def test_labels_of_unlabelled_images_are_never_read(representation, images):
    "Few labelled images and many others: whatever labels the others carry, the result is the same."
    few = images.take(np.arange(4))
    blind = Examples(images.image, {n: torch.zeros_like(l) for n, l in images.labels.items()}, images.subject, images.source)
    one, other = (fine_tune(representation, few, rest, TARGETS, FitConfig(steps=3, precision="32", device="cpu"), "full", WIDTHS, 8)[0] for rest in (images, blind))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    again = learn_representation(blind, "toy", FitConfig(steps=5, precision="32", device="cpu"), WIDTHS, 8)
    assert all(torch.equal(a, b) for a, b in zip(again.net.parameters(), representation.net.parameters()))


def test_noise_is_of_the_strength_and_kind_that_is_said():
    flat = torch.full((500, 1, 16, 16), .25)
    gaussian = add_noise(flat, Noise((.05, .05), (.4, .4)), torch.Generator().manual_seed(0), torch.zeros(500, dtype=torch.bool))
    speckle = add_noise(flat, Noise((.05, .05), (.4, .4)), torch.Generator().manual_seed(0), torch.ones(500, dtype=torch.bool))
    assert gaussian.std().item() == pytest.approx(.05, rel=.02) and speckle.std().item() == pytest.approx(.1, rel=.03)
    assert (add_noise(torch.zeros(4, 1, 8, 8), Noise(), torch.Generator(), torch.ones(4, dtype=torch.bool)) == 0).all()  # speckle multiplies


def test_batches_are_a_function_of_the_step_and_show_every_image_equally_often(images):
    draw = batches(images, images, 8, seed=3)
    for step in (0, 5): assert torch.equal(draw(step).noisy, draw(step).noisy)
    assert not torch.equal(draw(0).noisy, draw(3).noisy)
    seen = torch.cat([draw(step).image for step in range(3)])  # 24 images, once each
    assert len(torch.unique((seen * 255).round(), dim=0)) == len(images)


def test_labelled_images_are_nested_balanced_and_of_distinct_subjects():
    labels = torch.tensor([0] * 30 + [1] * 10)
    several = Examples(torch.zeros(40, 1, 4, 4, dtype=torch.uint8), dict(finding=labels), np.array([f"s{i // 2}" for i in range(40)]), np.array(["phantom"] * 40))
    chosen = {n: choose_labelled(several, n, "finding", seed=1) for n in (4, 8, 10)}
    assert set(chosen[4]) < set(chosen[8]) < set(chosen[10])
    for n, index in chosen.items():
        assert len(set(several.subject[index])) == n and abs(labels[index].float().mean() - .5) < .11
    with pytest.raises(ParameterError, match="not as many"): choose_labelled(several, 41)


def test_labels_and_channels_that_do_not_fit_are_named(tmp_path):
    store = Store.open([pack("montgomery", out=tmp_path, size=32, subjects=6, source="phantom"), pack("kvasir", out=tmp_path, size=32, subjects=4, source="phantom")])
    with pytest.raises(StoreError, match="colour images"): read_examples(store, "train", TARGETS[:1])
    grey = Store.open([tmp_path / "montgomery-phantom-32"])
    with pytest.raises(StoreError, match="beyond the target"): read_examples(grey, "train", [Target("lungs", "segmentation", 2)])
    with pytest.raises(StoreError, match="attribute"): read_examples(grey, "train", [Target("malignant", "classification", 2)])
    found = read_examples(grey, "train", [Target("tuberculosis", "classification", 2)])
    assert found.image.shape[1:] == (1, 32, 32) and set(found.labels["tuberculosis"].tolist()) <= {0, 1}


def test_the_original_montgomery_files_are_read_when_present(tmp_path):
    "The published layout, made here: films of two subjects a class, one mask a lung, the finding in the file's name."
    for folder in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"): (tmp_path / "root/montgomery" / folder).mkdir(parents=True)
    for i in range(12):
        name, film = f"MCUCXR_{i:04d}_{i % 2}.png", np.random.default_rng(i).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(film).save(tmp_path / "root/montgomery/CXR_png" / name)
        for side, columns in (("left", slice(22, 36)), ("right", slice(4, 18))):
            mask = np.zeros((40, 40), np.uint8); mask[8:30, columns] = 255
            Image.fromarray(mask).save(tmp_path / f"root/montgomery/ManualMask/{side}Mask" / name)
    packed = pack("montgomery", root=tmp_path / "root", out=tmp_path / "packed", size=32)
    targets = (Target("denoising", "denoising"), Target("lungs", "segmentation", 3), Target("finding", "classification", 2))
    folder = study([str(packed)], "chest X-ray", "tuberculosis", [Arm("separate"), Arm("full")], Setting(targets, 2, 2, 4, widths=WIDTHS, device="cpu"), 0, tmp_path / "study")
    assert set(read_examples(Store.open([packed]), "train", targets, dict(finding="tuberculosis")).source) == {"real"}
    assert 0 <= summary(pd.read_csv(folder / "full-all-1.csv"), targets)["accuracy"] <= 1


# ---------------------------------------------------------------- refusals, files, resuming

def test_the_representation_of_one_modality_refuses_other_channels(representation):
    colour = examples(channels=3)
    with pytest.raises(EncoderError, match="representation of toy has another number of channels") as error: tune(representation, colour)
    assert "3" in str(error.value) and "Use the representation of this modality" in str(error.value)
    with pytest.raises(EncoderError, match="another number of channels"): representation.net(colour.clean([0]))


def test_a_representation_comes_back_from_its_files(representation, tmp_path):
    saved = Representation.load(representation.save(tmp_path / "r"))
    assert saved.modality == "toy" and saved.flops == representation.flops > 0
    assert all(torch.equal(a, b) for a, b in zip(saved.net.state_dict().values(), representation.net.state_dict().values()))
    with pytest.raises(EncoderError, match="not a representation"): Representation.load(tmp_path)
    (tmp_path / "r/weights.safetensors").write_bytes(b"cut off")
    with pytest.raises(EncoderError, match="cannot be read"): Representation.load(tmp_path / "r")


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    file = save_weights(tmp_path / "w.safetensors", encoder=UNetEncoder(1, (4, 8)))
    with pytest.raises(EncoderError, match=r"encoder\.stages"): load_weights(file, encoder=UNetEncoder(1, (4, 8, 8)))
    with pytest.raises(EncoderError, match=r"encoder\.stages"): load_weights(file, encoder=UNetEncoder(1, (4, 16)))
    with pytest.raises(EncoderError, match="do not fit"): load_weights(file, decoder=UNetEncoder(1, (4, 8)))


@pytest.mark.parametrize("strategy", ["last2", "gradual"])
def test_a_run_killed_in_stage_2_goes_on_as_if_nothing_had_happened(representation, images, tmp_path, monkeypatch, strategy):
    whole, _ = tune(representation, images, strategy, steps=7)
    draw = unified.batches
    def dying(*arguments, **more):
        inner = draw(*arguments, **more)
        def at(step):
            if step == 5: raise KeyboardInterrupt
            return inner(step)
        return at
    monkeypatch.setattr(unified, "batches", dying)
    with pytest.raises((KeyboardInterrupt, SystemExit)): tune(representation, images, strategy, steps=7, folder=tmp_path)
    assert torch.load(tmp_path / "training.ckpt", weights_only=True)["global_step"] == 4
    monkeypatch.setattr(unified, "batches", draw)
    resumed, _ = tune(representation, images, strategy, steps=7, folder=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()))
    assert not (tmp_path / "training.ckpt").exists()


# ---------------------------------------------------------------- cost

def test_flops_are_those_of_the_convolutions():
    "One stage on an 8 × 8 image: 3 × 3 filters 1 → 4 and 4 → 4; backward costs the same again for weights, and for inputs that need it."
    encoder_only = [Target("finding", "classification", 2)]
    net = UnifiedNet(1, encoder_only, (4,))
    module = Tuning(net, encoder_only, "frozen"); module.config = FitConfig(steps=1)
    draw = Draw(torch.rand(2, 1, 8, 8), dict(finding=torch.tensor([0, 1])), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8))
    convolutions = 2 * 2 * 64 * 9 * (1 * 4 + 4 * 4)  # images × (a product and a sum) × pixels × filter × channels
    hidden = net.heads["finding"].layers[1].out_features
    head = 2 * 2 * (8 * hidden * 3 + hidden * 2 * 3)  # forward, the weights' gradients, and those of the inputs, which a norm and a layer before them need
    assert count_flops(module, draw) == convolutions + head


def test_costs_are_ordered_and_the_model_is_not_touched_by_counting(representation, images):
    cost = {s: tune(representation, images, s)[1]["flops"] for s in ("frozen", "last1", "last2", "gradual", "full")}
    assert cost["frozen"] < cost["last1"] < cost["last2"] < cost["full"] and cost["frozen"] < cost["gradual"] < cost["full"]
    module = Tuning(UnifiedNet(1, TARGETS, WIDTHS), TARGETS); module.config = FitConfig(steps=4)
    before = {k: t.clone() for k, t in module.state_dict().items()}
    count_flops(module, batches(images, images, 8)(0))
    assert all(torch.equal(before[k], t) for k, t in module.state_dict().items()) and all(p.grad is None for p in module.parameters())


# ---------------------------------------------------------------- scores and the study

def test_scores_are_what_they_are_called(images):
    class Perfect(torch.nn.Module):
        def __init__(self): super().__init__(); self.start = 0
        def forward(self, image, names):
            rows = slice(self.start, self.start + len(image))
            if names == ["denoising"]: return dict(denoising=image)
            if names == ["organs"]: return dict(organs=torch.nn.functional.one_hot(images.labels["organs"][rows].long(), 3).movedim(-1, 1).float())
            return dict(finding=torch.nn.functional.one_hot(images.labels["finding"][rows], 2).float())
    scores = score(Perfect(), images, TARGETS)
    found = summary(scores, TARGETS)
    assert found["dice"] == found["accuracy"] == found["auroc"] == 1
    assert scores["psnr Gaussian"].mean() == pytest.approx(16, abs=1.5)  # nothing was removed: 0.2, clipped where it is dark
    flipped = scores.assign(**{"margin finding": -scores["margin finding"]})
    assert summary(flipped, TARGETS)["auroc"] == 0


def test_psnr_and_dice_by_hand():
    assert psnr(torch.full((2, 1, 4, 4), .5), torch.full((2, 1, 4, 4), .4)).tolist() == pytest.approx([20, 20], abs=1e-3)
    truth = torch.zeros(1, 4, 4, dtype=torch.uint8); truth[0, 0] = 1; truth[0, 1] = 2
    logits = torch.zeros(1, 3, 4, 4); logits[0, 0] = .5; logits[0, 1, 0] = 1; logits[0, 2, 1, :2] = 1  # all of 1, half of 2
    assert image_dice(logits, truth).item() == pytest.approx((1 + 2 * 2 / (2 + 4)) / 2)


def test_a_study_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    packed = [str(pack("montgomery", out=tmp_path, size=32, subjects=24, source="phantom"))]
    setting = Setting((Target("denoising", "denoising"), Target("lungs", "segmentation", 3), Target("finding", "classification", 2)), 3, 3, 4, widths=WIDTHS, device="cpu")
    arms, made, train_arm = [Arm("separate"), Arm("full"), Arm("frozen")], [], unified_study.train_arm
    def dying(arm, *rest):
        if arm.strategy == "frozen" and "full" in made and len(made) == 2: made.append("killed"); raise KeyboardInterrupt
        made.append(arm.strategy); return train_arm(arm, *rest)
    monkeypatch.setattr(unified_study, "train_arm", dying)
    go = lambda: study(packed, "chest", "tuberculosis", arms, setting, 0, tmp_path / "s", equal_to=Arm("full"))
    with pytest.raises(KeyboardInterrupt): go()
    go()
    assert made == ["separate", "full", "killed", "frozen", "separate"]  # the last: equal compute
    about = json.loads((tmp_path / "s/separate-all-equal compute.json").read_text())
    assert about["note"] == "equal compute" and about["flops"] == pytest.approx(json.loads((tmp_path / "s/full-all-1.json").read_text())["flops"] + json.loads((tmp_path / "s/first.json").read_text())["flops"], rel=.35)
    table = table_of(Results.read("chest", setting.targets, {0: tmp_path / "s"})).set_index("arm")
    base = table.loc["separate-all-1"]
    assert base["saved"] == 0 and base["accuracy gain"] == base["dice gain"] == 0
    for arm in table.index: assert table.loc[arm, "saved"] == pytest.approx(1 - table.loc[arm, "gflops"] / base["gflops"])
    assert table.loc["full-all-1", "gflops_with_first"] > table.loc["full-all-1", "gflops"] and table.loc["separate-all-1", "gflops_with_first"] == base["gflops"]


def test_the_denoiser_alone_is_the_same_for_any_number_of_labels(images):
    "The baseline's denoiser reads no label; for fewer labels it is remembered, and that changes nothing."
    setting, known = Setting(TARGETS, 3, 3, 8, widths=WIDTHS, device="cpu", precision="32"), {}
    train_arm = unified_study.train_arm
    train_arm(Arm("separate"), setting, None, images, images, 0, known)
    (few, cost), (again, other) = (train_arm(Arm("separate", 6), setting, None, images, images, 0, memory) for memory in (known, {}))
    pd.testing.assert_frame_equal(few, again)
    assert cost["flops"] == other["flops"] and len(known) == 1


def test_no_loss_and_gain_are_read_from_intervals():
    row = pd.Series({"accuracy change": -.01, "accuracy change high": .01, "dice change": -.001, "dice change high": .01, "psnr change": -1.5, "psnr change high": -1.,
                     "accuracy gain low": -.02, "dice gain low": .001})
    assert not no_loss(row) and no_loss(row, ("accuracy", "dice")) and gains(row) == ["dice"]
    assert not no_loss(pd.Series({"accuracy change": -.17, "accuracy change high": .3}), ("accuracy",)), "a wide interval is not the same as no loss"
    assert not no_loss(pd.Series({"accuracy change": -.01, "accuracy change high": -.001}), ("accuracy",))


def test_what_chance_is():
    scores = lambda right: pd.DataFrame({"correct finding": right, "class finding": [0., 1.] * 20, "margin finding": 0.})
    results = lambda *each: Results("toy", TARGETS, [0, 1], {"separate-all-1": [scores(e) for e in each]}, {}, [])
    good, coin = [1.] * 38 + [0.] * 2, [1., 0.] * 20
    assert unified_study.beats_chance(results(good, good)) and not unified_study.beats_chance(results(coin, coin)) and not unified_study.beats_chance(results(good, coin)), "seeds that disagree"


def test_no_subject_of_the_test_split_is_trained_on(tmp_path, monkeypatch):
    packed = [str(pack("busi", out=tmp_path, size=32, subjects=24, source="phantom"))]
    seen, take, draw = [], unified.Examples.clean, unified.batches
    monkeypatch.setattr(unified, "batches", lambda labelled, unlabelled, *a, **k: (seen.append(set(labelled.subject) | set(unlabelled.subject)), draw(labelled, unlabelled, *a, **k))[1])
    setting = Setting((Target("denoising", "denoising"), Target("tumour", "segmentation", 2), Target("finding", "classification", 2)), 2, 2, 4, widths=WIDTHS, device="cpu")
    study(packed, "breast", "malignant", [Arm("separate"), Arm("full", 6)], setting, 0, tmp_path / "s")
    table = Store.open(packed).table
    test = set(table[table["split"] == "test"]["subject"])
    assert test and len(seen) == 5 and not any(test & s for s in seen)


def test_skips_are_cut_whatever_the_noise_is(images, monkeypatch):
    "The cuts had followed the noise: drawn from a generator of the same seed, weak noise was always cut at the finest skip."
    drawn, kept, truly = [], [], unified.target_loss
    noisy = unified.add_noise
    monkeypatch.setattr(unified, "add_noise", lambda clean, *a, **k: drawn.append((noisy(clean, *a, **k) - clean).flatten(1).std(1)) or clean)
    module = unified.Denoising(UnifiedNet(1, [TARGETS[0]], WIDTHS), TARGETS[0], cut=.5, seed=3)
    module.config = FitConfig(steps=60)
    monkeypatch.setattr(module.net.heads[TARGETS[0].name], "forward", lambda features: kept.append(torch.stack([f.flatten(1).abs().amax(1) > 0 for f in features[:-1]])) or features[0][:, :1] * 0)
    draw = batches(images, images, 8, seed=3)
    for step in range(60): module.loss(draw(step), step)
    strength, keep = torch.cat(drawn), torch.cat(kept, 1).float()
    assert .4 < keep.mean() < .6
    for row in keep: assert abs(np.corrcoef(row, strength > strength.median())[0, 1]) < .2


def test_what_comes_from_a_representation_learns_at_its_own_rate(representation, images, monkeypatch):
    made = {}
    monkeypatch.setattr(unified, "fit", lambda module, *a, **k: made.update(module=module) or pd.DataFrame(dict(loss=[0.])))
    net, _ = unified.fine_tune(representation, images, images, TARGETS, FitConfig(steps=1, device="cpu", precision="32"), "full", rate=.25)
    slow = {id(p) for p in made["module"].rates()}
    heads = {t.kind: net.heads[t.name] for t in TARGETS}
    ids = lambda *parts: {id(p) for part in parts for p in part.parameters()}
    assert slow == ids(net.encoder, heads["denoising"], *list(heads["segmentation"].ups)[:-1]) and set(made["module"].rates().values()) == {.25}


def test_first_weights_differ_between_heads_and_seeds():
    "torch reads 32 bits of a seed; names had been cut to four letters."
    nets = [UnifiedNet(1, [Target("lungs", "segmentation", 3), Target("lungs_too", "segmentation", 3)], WIDTHS, seed) for seed in (100, 1001)]
    weights = [n.heads[name].final.weight for n in nets for name in n.heads] 
    assert not any(torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_several_devices_are_refused():
    with pytest.raises(ParameterError, match="one device"): FitConfig(devices=2)


# ---------------------------------------------------------------- a class within structures, cheaper batches, sets of labels

WITHIN = (TARGETS[0], TARGETS[1], Target("finding", "classification", 2, within="organs"))


def test_a_class_within_structures_depends_on_nothing_beyond_their_rim():
    head, g = unified.RegionClassifier(2, (4, 4)).eval(), torch.Generator().manual_seed(0)
    maps, logits = [torch.rand(2, 4, s, s, generator=g) for s in (40, 20)], torch.zeros(2, 3, 40, 40)
    logits[:, 0] = 60; logits[:, 0, 10:20, 10:20] = -60; logits[:, 2, 10:20, 10:20] = 60
    far, near = [m.clone() for m in maps], [m.clone() for m in maps]
    for m, s in zip(far, (40, 20)): m[..., s * 30 // 40:, :] += 5
    for m, s in zip(near, (40, 20)): m[..., s * 22 // 40:s * 24 // 40, s * 12 // 40:s * 16 // 40] += 5  # two pixels below: the rim is four wide
    assert torch.equal(head(maps, logits), head(far, logits)) and not torch.allclose(head(maps, logits), head(near, logits))


def test_the_mask_is_used_and_not_taught(images):
    draw = batches(images, images, 8)(0)
    def gradient(weight):
        targets = [Target("organs", "segmentation", 3), Target("finding", "classification", 2, weight, within="organs")]
        module = Tuning(UnifiedNet(1, targets, WIDTHS), targets)
        module.config = FitConfig(steps=1)
        module.loss(draw, 0).backward()
        part = lambda m: torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None])
        return part(module.net.heads["organs"]), part(module.net.encoder)
    (head, encoder), (same, other) = gradient(.1), gradient(3.)
    assert torch.equal(head, same) and not torch.allclose(encoder, other)


def test_within_needs_a_segmentation_that_learns(images):
    with pytest.raises(ParameterError, match="no such segmentation"): UnifiedNet(1, [WITHIN[2]], WIDTHS)
    with pytest.raises(ParameterError, match="no such segmentation"): UnifiedNet(1, [WITHIN[0], Target("finding", "classification", 2, within="denoising")], WIDTHS)
    with pytest.raises(ParameterError, match="Only a classification"): Target("organs", "segmentation", 3, within="lungs")
    with pytest.raises(ParameterError, match="are not learnt"): tune(None, images, targets=[WITHIN[0], Target("organs", "segmentation", 3, 0.), WITHIN[2]])
    with pytest.raises(ParameterError, match="are not learnt"): Tuning(UnifiedNet(1, WITHIN, WIDTHS), [WITHIN[2]])


def test_heads_may_be_attached_in_any_order_and_asked_one_by_one(images):
    net = UnifiedNet(1, WITHIN[::-1], WIDTHS).eval()
    twin = UnifiedNet(1, WITHIN, WIDTHS).eval()
    image = images.clean([0, 1, 2])
    with torch.inference_mode():
        assert torch.equal(net(image)["finding"], twin(image, ["finding"])["finding"]) and list(twin(image, ["finding"])) == ["finding"]
        assert torch.equal(net(image)["organs"], twin(image)["organs"])


def test_a_stage_that_is_frozen_stays_so_under_a_class_within_structures(representation, images):
    net, cost = tune(representation, images, "last1", targets=WITHIN)
    assert moved(representation.net.encoder, net.encoder) == [False, False, False, True]
    assert np.isfinite(cost["loss"])


def test_a_representation_computes_what_it_learnt_with_the_norms_it_began_with(images, monkeypatch):
    kept, rescale = {}, unified._rescale
    def keep(net, norms):
        net.eval(); kept["before"] = net(images.clean([0, 1, 2]))["denoising"].detach(); kept["grown"] = unified._norms(net); kept["first"] = norms
        rescale(net, norms)
    monkeypatch.setattr(unified, "_rescale", keep)
    found = learn_representation(images, "toy", FitConfig(steps=40, learning_rate=2e-2, precision="32", device="cpu"), WIDTHS, 8)
    with torch.inference_mode(): after = found.net(images.clean([0, 1, 2]))["denoising"]
    assert (after - kept["before"]).abs().max() < 2e-3
    assert max(kept["grown"][n] / kept["first"][n] for n in kept["first"]) > 1.1, "nothing grew, so nothing was tested"
    fresh = unified._norms(UnifiedNet(1, TARGETS[:1], WIDTHS))
    assert fresh.keys() == kept["first"].keys() and len(fresh) == 2 * (2 * len(WIDTHS) - 1)
    for name, norm in unified._norms(found.net).items(): assert norm.item() == pytest.approx(fresh[name].item(), rel=1e-4)


def test_fewer_images_to_denoise_cost_less_and_leave_the_labelled_ones_as_they_are(representation, images):
    many, few = batches(images, images, 8, seed=3), batches(images, images, 8, seed=3, noisy=2)
    assert torch.equal(many(5).image, few(5).image) and few(5).noisy.shape[0] == few(5).clean.shape[0] == 2
    seen = torch.cat([few(step).clean for step in range(len(images) // 2)])
    assert sorted(seen.flatten(1).sum(1).tolist()) == pytest.approx(sorted(images.clean(np.arange(len(images))).flatten(1).sum(1).tolist()))
    assert .4 < tune(representation, images, noisy=2)[1]["flops"] / tune(representation, images)[1]["flops"] < .8
    with pytest.raises(ParameterError, match="at least one image"): batches(images, images, 8, noisy=0)


def test_sets_of_labels_are_averaged(images):
    setting = Setting(WITHIN, 3, 3, 8, widths=WIDTHS, device="cpu", precision="32", noisy=2)
    arms = {sets: unified_study.train_arm(Arm("separate", 6, sets=sets), setting, None, images, images, 0) for sets in (1, 2)}
    (one, _), (two, cost) = arms[1], arms[2]
    assert len(two) == 2 * len(one) and set(two["set"]) == {0, 1}
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two[two["set"] == 0].reset_index(drop=True))
    second = two[two["set"] == 1]
    assert not np.allclose(one["margin finding"], second["margin finding"]) and np.allclose(one["psnr Gaussian"], second["psnr Gaussian"])
    results = Results("toy", WITHIN, [0], {"a": [two]}, {}, [])
    for metric in ("accuracy", "dice"):
        assert unified_study.value(results, "a", metric)[0] == pytest.approx(np.mean([unified_study._samples(part, WITHIN, metric).mean() for part in (one, second)]))
    assert unified_study.value(results, "a", "auroc")[0] == pytest.approx(np.mean([summary(part, WITHIN)["auroc"] for part in (one, second)])) == pytest.approx(summary(two, WITHIN)["auroc"])
    assert cost["flops"] == arms[1][1]["flops"]


def test_another_take_is_another_choice_and_as_balanced(images):
    takes = [choose_labelled(images, 6, "finding", 0, take) for take in (0, 1, 2)]
    assert len({tuple(sorted(t)) for t in takes}) == 3
    for t in takes: assert images.labels["finding"][t].sum() == 3
    assert set(choose_labelled(images, 4, "finding", 0, 1)) < set(takes[1])


def test_the_separate_class_looks_everywhere(images, monkeypatch):
    seen, tune_ = [], unified_study.fine_tune
    monkeypatch.setattr(unified_study, "fine_tune", lambda start, labelled, unlabelled, targets, *a, **k: (seen.append((tuple(t.within for t in targets), k["noisy"])), tune_(start, labelled, unlabelled, targets, *a, **k))[1])
    setting = Setting(WITHIN, 2, 2, 8, widths=WIDTHS, device="cpu", precision="32", noisy=3)
    for strategy in ("separate", "joint"): unified_study.train_arm(Arm(strategy), setting, None, images, images, 0)
    assert seen == [((None,), None), ((None,), 3), ((None,), 3), ((None, None, "organs"), 3)]
