"UMS-Rep: which networks an arm consists of, what they share, and that a killed arm goes on within a network."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import ParameterError, StoreError
from taco.learning import checkpoint
from taco.learning.until import Patience
from taco.transfer.unet import conv_norms
from taco.transfer.unified import networks as chapter, tuning
from taco.transfer.unified.batches import Augment
from taco.transfer.unified.examples import choose_labelled
from taco.transfer.unified.imagenet import ImageNetEncoder
from taco.transfer.unified.networks import Arm, Kind, Workshop, study_arms
from taco.transfer.unified.representation import Representation
from taco.transfer.unified.results import Results, stage_one, value
from taco.transfer.unified.scores import Scored, image_values, keep, kept, look_at, mean_scores, score_images
from tests.transfer.unified.toys import WITHIN, equal, setting

FEW, ALL = Arm("separate", 6, sets=2), Arm("separate")


def kind_of(text: str) -> Kind:
    "From how it is written: `full.masked+told`, `separate-organs`."
    start, _, target = text.partition("-")
    strategy, _, pretexts = start.partition(".")
    return Kind(strategy, tuple(filter(None, pretexts.split("+"))), target)


def shop_of(folder, images, **more) -> Workshop:
    how = more.pop("setting", setting())
    return Workshop("toy", how, images, images.take(range(8)), images, images, 0, folder, **more)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    "A workshop in which two arms were trained without a break, and what they came to."
    shop = shop_of(tmp_path_factory.mktemp("whole"), images)
    return shop, [shop.arm(arm) for arm in (FEW, ALL)]


@pytest.fixture
def asked(monkeypatch):
    "What `fine_tune` is asked for, once it is asked: it trains nothing."
    calls = []
    class Enough(Exception): "That was to be known."
    def watched(start, labelled, unlabelled, targets, config, strategy, widths, size, **more):
        calls.append(dict(start=start, labelled=labelled, unlabelled=unlabelled, targets=targets, config=config,
                          strategy=strategy, **more))
        raise Enough
    def ask(shop: Workshop, network: str, *which):
        with pytest.raises(Enough): shop.network(kind_of(network), *which)
        return calls[-1]
    monkeypatch.setattr(chapter, "fine_tune", watched)
    return ask


def same_cost(one: dict, other: dict) -> bool:
    "Whether two trainings cost the same, but for the time."
    known = ("flops", "flops_best", "weights", "all_weights")
    inner = (*known, "steps", "best", "looks", "per_step")
    return all(one[n] == other[n] for n in known) and one["networks"].keys() == other["networks"].keys() and all(
        one["networks"][kind][n] == other["networks"][kind][n] for kind in one["networks"] for n in inner)


# ---------------------------------------------------------------- arms

def test_the_arms_of_a_study_are_named_apart():
    arms = study_arms(["guided", "separate"], ["frozen", "full"], ["separate", "full"], {10: 3, 25: 1}, ["masked"], 25)
    assert [(a.name, a.sets) for a in arms if a.labelled] == [
        ("separate-10", 3), ("full-10", 3), ("separate-25", 1), ("full-25", 1), ("full.masked-25", 1)]
    assert [a.name for a in arms if not a.labelled] == [
        "separate-all", "guided-all", "frozen-all", "full-all", "full.masked-all"]
    assert len({a.file for a in arms}) == len({a.name for a in arms}) == len(arms)
    assert arms[0] == Arm("separate")
    assert study_arms([], ["full"], [], {})[0] == Arm("separate"), "the reference is always there"
    (one,) = [a for a in study_arms(["joint"], ["full"], [], {}, as_one=["full"]) if a.as_one]
    assert one.name == "full-one-all" and one.networks(WITHIN) == [Kind("full", as_one=True)]


def test_an_arm_of_more_sets_is_another_file():
    assert Arm("separate", 10, sets=1).file != Arm("separate", 10, sets=3).file


def test_an_arm_is_one_network_or_one_for_each_target():
    shared = ["separate-denoising", "separate-organs"]
    for start in ("separate", "guided"):
        assert [*map(str, Arm(start).networks(WITHIN))] == [*shared, f"{start}-finding"]
    assert [*map(str, Arm("taught").networks(WITHIN))] == ["separate-denoising", "taught-organs", "taught-finding"]
    for arm in (Arm("joint"), Arm("imagenet", 6), Arm("full", None, ("masked", "told"))):
        assert arm.networks(WITHIN) == [Kind(arm.strategy, arm.pretexts)]


# after so many steps, of three networks in two sets with three steps each
@pytest.mark.parametrize("after", [2, *(pytest.param(step, marks=pytest.mark.long) for step in (5, 7)), 13])
def test_an_arm_goes_on_within_a_network(images, whole, tmp_path, monkeypatch, after):
    steps, step = [], tuning.Tuning.training_step

    def dying(self, *given):
        if len(steps) == after: raise SystemExit(143)
        steps.append(1)
        return step(self, *given)

    def call(): return [shop_of(tmp_path, images).arm(arm) for arm in (FEW, ALL)]
    monkeypatch.setattr(checkpoint, "SECONDS", 0.)
    monkeypatch.setattr(tuning.Tuning, "training_step", dying)
    with pytest.raises(SystemExit): call()
    assert len(steps) == after
    after = 1000
    found = call()
    assert len(steps) == 3 * 7  # no step twice: denoising, which both arms share, and two networks of each set
    for (scores, cost, _), (same, other, _) in zip(found, whole[1]):
        pd.testing.assert_frame_equal(scores, same, rtol=1e-12)
        assert same_cost(cost, other)


def test_sets_of_labels_are_averaged(whole):
    shop, ((two, cost, _), _) = whole
    one, first_cost, _ = shop.arm(dataclasses.replace(FEW, sets=1))
    assert len(two) == 2 * len(one) and set(two["set"]) == {0, 1}
    pd.testing.assert_frame_equal(one, two[two["set"] == 0], rtol=1e-12)
    second = two[two["set"] == 1]
    assert not np.allclose(one["margin finding"], second["margin finding"])
    assert np.allclose(one["psnr Gaussian"], second["psnr Gaussian"])
    results = Results("toy", WITHIN, dict(a=[two]), {}, {}, {})
    for metric in ("accuracy", "dice"):
        mean = np.mean([image_values(part, WITHIN, metric).mean() for part in (one, second)])
        assert value(results, "a", metric)[0] == pytest.approx(mean)
    auroc = value(results, "a", "auroc")[0]
    assert auroc == pytest.approx(np.mean([mean_scores(part, WITHIN)["auroc"] for part in (one, second)]))
    assert auroc == pytest.approx(mean_scores(two, WITHIN)["auroc"])
    assert cost["flops"] == first_cost["flops"] == sum(n["flops"] for n in cost["networks"].values())
    assert cost["labelled"] == 6 and cost["strategy"] == "separate" and cost["networks"].keys() == set(
        map(str, FEW.networks(WITHIN)))


def test_the_denoiser_alone_is_the_same_for_any_number_of_labels(images, whole, tmp_path):
    "It reads no label; for fewer labels it is remembered, and that changes nothing."
    shop, (few, every) = whole
    denoiser = kind_of("separate-denoising")
    assert len({shop.place(denoiser, n, take) for n in (None, 3, 6) for take in (0, 1)}) == 1
    assert few.cost["networks"]["separate-denoising"]["flops"] == every.cost["networks"]["separate-denoising"]["flops"]
    for column in ("psnr Gaussian", "ssim speckle"):
        assert few.scores[column][:24].tolist() == pytest.approx(every.scores[column].tolist(), rel=1e-12)
    net, _ = shop_of(tmp_path, images).fine_tuned(denoiser, 6, 1)
    assert equal(net, shop.trained(denoiser)[0])


def test_which_images_are_labelled(images, tmp_path, asked):
    shop = shop_of(tmp_path, images)
    subjects = {(n, take): asked(shop, "joint", n, take)["labelled"].subject.tolist() for n, take in
                ((6, 0), (6, 1), (None, 0))}
    wanted = images.subject[choose_labelled(images, 6, "finding", 0, 1)].tolist()
    assert subjects[6, 1] == wanted != subjects[6, 0] and len(subjects[None, 0]) == 24


def test_baselines_share_what_they_can(images, whole, monkeypatch):
    "Separate and guided have one denoiser and one segmentation; of the guided arm one network is new."
    shop, (_, every) = whole
    made, tune = [], chapter.fine_tune
    def watched(start, labelled, unlabelled, targets, *a, **k):
        made.append(([t.name for t in targets], targets[0].within, k["guide"]))
        return tune(start, labelled, unlabelled, targets, *a, **k)
    monkeypatch.setattr(chapter, "fine_tune", watched)
    guided = shop.arm(Arm("guided"))
    (names, within, guide), = made
    assert names == ["finding"] and within == "organs" and list(guide.heads) == ["organs"]
    assert equal(guide, shop.trained(kind_of("separate-organs"))[0]) and not guide.training
    shared = ["psnr Gaussian", "ssim speckle", "dice organs"]
    pd.testing.assert_frame_equal(guided.scores[shared], every.scores[shared], rtol=1e-12)
    assert not np.allclose(guided.scores["margin finding"], every.scores["margin finding"])
    for kind in ("separate-denoising", "separate-organs"):
        assert guided.cost["networks"][kind]["flops"] == every.cost["networks"][kind]["flops"]
    few, all_of = (shop.place(kind_of("separate-organs"), n, take) for n, take in ((6, 1), (None, 0)))
    assert few.is_dir() and few != all_of, "each set has a guide of its own"


def test_a_guide_knows_the_same_labels(images, whole, asked):
    "A guided class with six labels looks within the masks of a segmentation that had these six."
    shop = whole[0]
    guide = asked(shop, "guided-finding", 6, 1)["guide"]
    assert equal(guide, shop.trained(kind_of("separate-organs"), 6, 1)[0])
    assert not equal(guide, shop.trained(kind_of("separate-organs"), 6, 0)[0])


def test_what_phantoms_teach_is_given_to_a_baseline(images, tmp_path, monkeypatch):
    "Each target's network learns from phantoms alone, then from six labels; classes look within masks of their kind."
    shop = shop_of(tmp_path, images, phantoms=images.take(range(20)))
    made, tune = [], chapter.fine_tune
    def watched(start, labelled, unlabelled, targets, *a, **k):
        made.append((start, len(labelled), [t.name for t in targets], k["guide"], k["val"]))
        return tune(start, labelled, unlabelled, targets, *a, **k)
    monkeypatch.setattr(chapter, "fine_tune", watched)
    found = shop.arm(Arm("taught", 6))
    of = {(names[0], count): (start, guide, val) for start, count, names, guide, val in made}
    assert of.keys() == {("denoising", 24), ("organs", 18), ("organs", 6), ("finding", 18), ("finding", 6)}
    assert of["organs", 18][0] is None and len(of["organs", 18][2]) == 2, "a tenth of the phantoms is looked at"
    start, guide, val = of["finding", 6]
    assert isinstance(start, Representation) and list(start.net.heads) == ["finding"] and len(val) == 8
    assert equal(guide, shop.trained(kind_of("taught-organs"), 6)[0])
    assert equal(of["finding", 18][1], shop.trained(kind_of("phantoms-organs"))[0])
    spent = sum(shop.trained(kind_of(f"phantoms-{name}"))[1]["flops"] for name in ("organs", "finding"))
    assert found.cost["first"] == spent > 0
    results = Results("toy", WITHIN, {"taught-6": [found.scores]}, {"taught-6": [found.cost]}, {}, {"taught-6": []})
    assert stage_one(results, "taught-6") == spent


def test_a_taught_network_begins_with_the_weights_of_phantoms_at_the_norms_of_a_fresh_one(images, tmp_path):
    shop = shop_of(tmp_path, images, phantoms=images.take(range(20)))
    learnt, begun = shop.trained(kind_of("phantoms-organs"))[0], shop.start(kind_of("taught-organs")).net
    fresh = conv_norms(shop.blank(kind_of("phantoms-organs")))
    for name, norm in conv_norms(begun).items(): assert float(norm) == pytest.approx(float(fresh[name]), rel=1e-4)
    name = next(iter(fresh))
    one, other = (net.get_submodule(name).get_parameter("conv.weight").flatten() for net in (learnt, begun))
    assert torch.cosine_similarity(one, other, 0) > .9999


def test_without_phantoms_nobody_is_taught(images, tmp_path):
    with pytest.raises(ParameterError, match="no phantoms"): shop_of(tmp_path, images).arm(Arm("taught"))


# ---------------------------------------------------------------- how each is trained

def test_the_separate_class_looks_everywhere(images, tmp_path, asked, monkeypatch, representation):
    remembered = lambda self, pretexts=(): Representation(representation.net, "toy", 0, pretexts or ("denoising",))
    monkeypatch.setattr(Workshop, "representation", remembered)
    shop = shop_of(tmp_path, images, setting=setting(noisy=3))
    def how(kind):
        found = asked(shop, kind)
        return [t.within for t in found["targets"]], found["noisy"], found["strategy"], type(found["start"])
    for kind in ALL.networks(WITHIN): assert how(str(kind)) == ([None], None, "full", type(None))
    assert how("joint") == ([None, None, "organs"], None, "full", type(None))
    assert how("full") == ([None, None, "organs"], 3, "full", Representation)
    assert how("last2.denoising+told") == ([None, None, "organs"], 3, "last2", Representation)
    assert how("full.masked")[1] is None, "it does not know how to denoise"


def test_everything_else_is_the_same_for_all(images, tmp_path, asked, monkeypatch, representation):
    monkeypatch.setattr(Workshop, "representation", lambda self, pretexts=(): representation)
    made = []
    drawn = lambda channels, seed: made.append(seed) or ImageNetEncoder(channels, random=True)
    monkeypatch.setattr(chapter, "ImageNetEncoder", drawn)
    shop = shop_of(tmp_path, images, setting=setting(augment=Augment(turn=3.), rate=.5))
    for kind in ("separate-organs", "joint", "imagenet", "frozen", "full.masked"):
        found = asked(shop, kind)
        assert found["augment"] == Augment(turn=3.) and found["patience"] == shop.setting.patience
        assert found["val"] is shop.val and found["unlabelled"] is shop.train and found["seed"] == 0
        assert found["rate"] == .5 and found["config"].steps == 3 and found["config"].precision == "32"
        assert isinstance(found["start"], ImageNetEncoder) == (kind == "imagenet")
    assert made == [shop.seed]


def test_each_kind_has_the_rate_that_was_chosen(images, tmp_path, asked, monkeypatch, representation):
    monkeypatch.setattr(Workshop, "representation", lambda self, pretexts=(): representation)
    shop = shop_of(tmp_path, images, rates={"joint": .02, "full": .003})
    rate = lambda *network: asked(shop, *network)["config"].learning_rate
    assert rate("joint") == .02 and rate("full", 6, 1) == .003 and rate("frozen") == 5e-3
    assert rate("full.denoising+told") == .003, "other pretexts go by the same"
    assert rate("joint", None, 0, .1) == .1
    ways = (None, 0), (None, 0, .1), (6, 0), (6, 1)
    places = {shop.place(Kind("joint"), *way) for way in ways}
    assert len(places) == 4 and shop.place(Kind("joint"), None, 0, .02) in places


def test_stage_1_sees_what_it_may_and_is_learnt_once(images, tmp_path, monkeypatch, representation):
    calls = []
    def learn(seen, modality, config, *a, **more):
        calls.append(dict(seen=seen, modality=modality, rate=config.learning_rate, **more))
        return dataclasses.replace(representation, pretexts=more["pretexts"])
    monkeypatch.setattr(chapter, "learn_representation", learn)
    shop, first = shop_of(tmp_path, images, setting=setting(first_rate=.07)), Patience(every=9)
    shop.unlabelled = images.take(range(5))
    for _ in range(2): assert equal(shop.representation().net, representation.net)
    (call,) = calls
    assert call["seen"] is shop.unlabelled and call["val"] is shop.val and call["rate"] == .07
    assert call["pretexts"] == ("denoising",) and call["patience"] == shop.setting.patience
    shop.setting = dataclasses.replace(shop.setting, first_patience=first)
    shop.start(Kind("full", ("denoising", "told")))
    assert calls[1]["pretexts"] == ("denoising", "told") and calls[1]["patience"] == first
    made = sorted(p.name for p in tmp_path.glob("representation-*"))
    assert made == ["representation-denoising", "representation-denoising+told"]
    assert shop.start(Kind("joint")) is None and len(calls) == 2


# ---------------------------------------------------------------- what is kept

LARGE = pytest.param("imagenet", marks=pytest.mark.long)


@pytest.mark.parametrize("kind", ["separate-organs", "joint", "frozen", LARGE])
def test_a_network_is_scored_as_it_was_trained(images, tmp_path, monkeypatch, kind):
    "What is scored was written and read; the network that was in memory answers the same."
    drawn = lambda channels, **_: ImageNetEncoder(channels, random=True)
    monkeypatch.setattr(chapter, "ImageNetEncoder", drawn)
    one, other = (shop_of(tmp_path / name, images.take(range(12)), setting=setting(2, noisy=2)) for name in "ab")
    torch.manual_seed(0)
    scored, (read, cost) = one.network(kind_of(kind)), one.trained(kind_of(kind))
    torch.manual_seed(0)
    net, _ = other.fine_tuned(kind_of(kind))
    found = score_images(net, other.test, other.targets_of(kind_of(kind)))
    pd.testing.assert_frame_equal(found, scored.scores, rtol=1e-3, atol=1e-3)
    assert not read.training and not any(p.requires_grad for p in read.parameters())
    assert cost["all_weights"] == sum(p.numel() for p in read.parameters())


def test_each_target_is_answered_by_the_state_that_val_liked_best(images, tmp_path):
    "As a training of one target would; where one network serves all, it is that of the best sum."
    shop = shop_of(tmp_path, images, setting=setting(6))
    (states, cost), (one, _) = (shop.trained(Kind("joint", as_one=as_one)) for as_one in (False, True))
    names = [t.name for t in WITHIN]
    assert list(states.nets) == names and not hasattr(one, "nets") and cost["looks"].keys() >= {
        f"value {name}" for name in names}
    look = {name: look_at(net, shop.val, WITHIN)() for name, net in states.nets.items()}
    for name in names:
        assert look[name][f"value {name}"] == pytest.approx(max(cost["looks"][f"value {name}"]), abs=1e-3)
    answers = states(images.clean(range(2)))
    for name in names: assert torch.equal(answers[name], states.nets[name](images.clean(range(2)), [name])[name])
    looks = shop.network(Kind("joint", as_one=True)).cost["looks"]
    assert "value organs" not in looks
    assert look_at(one, shop.val, WITHIN, True)()["value"] == pytest.approx(max(looks["value"]), abs=1e-3)


def test_a_network_that_was_killed_while_it_was_scored_is_not_trained_again(images, tmp_path, monkeypatch):
    steps, step, score = [], tuning.Tuning.training_step, chapter.score_images
    def killed(*given): raise KeyboardInterrupt
    monkeypatch.setattr(tuning.Tuning, "training_step", lambda self, *given: steps.append(1) or step(self, *given))
    monkeypatch.setattr(chapter, "score_images", killed)
    with pytest.raises(KeyboardInterrupt): shop_of(tmp_path, images).network(kind_of("separate-finding"))
    monkeypatch.setattr(chapter, "score_images", score)
    assert len(shop_of(tmp_path, images).network(kind_of("separate-finding")).scores) == 24 and len(steps) == 3


def test_a_class_of_its_own_comes_back_as_well(images, tmp_path):
    shop = shop_of(tmp_path, images, setting=setting(1))
    scored, net = shop.network(kind_of("separate-finding")), shop.trained(kind_of("separate-finding"))[0]
    found = score_images(net, shop.test, WITHIN[2:])
    pd.testing.assert_frame_equal(found, scored.scores, rtol=1e-4, atol=1e-4)


def test_images_of_another_source_are_asked_about(images, tmp_path):
    shop = shop_of(tmp_path, images, setting=setting(1), asked=images.take([5, 1, 2]), rows=range(100, 124))
    for _ in range(2):  # made, and kept
        scores, _, asked = shop.arm(Arm("joint"))
        assert scores["image"].tolist() == list(range(100, 124))
        assert scores["subject"].tolist() == images.subject.tolist()
        assert asked["subject"].tolist() == ["s5", "s1", "s2"] and asked["image"].tolist() == [0, 1, 2]
        columns = ["dice organs", "margin finding", "class finding"]  # noise is drawn by position
        expected = scores[columns].iloc[[5, 1, 2]].reset_index(drop=True)
        pd.testing.assert_frame_equal(asked[columns], expected, rtol=1e-3, atol=1e-4)
    assert shop_of(tmp_path / "other", images, setting=setting(1)).arm(Arm("joint")).asked is None


SCORED = Scored(pd.DataFrame({"dice organs": [1 / 3, .5], "subject": ["a", "b"]}), dict(flops=3), None)


def test_what_was_kept_is_read_back(tmp_path):
    assert kept(tmp_path, "network") is None
    for asked in (None, SCORED.scores[:1]):
        keep(tmp_path, "network", SCORED._replace(asked=asked))
        found = kept(tmp_path, "network")
        pd.testing.assert_frame_equal(found.scores, SCORED.scores)
        assert found.cost["flops"] == 3 and (found.asked is None) == (asked is None)
    pd.testing.assert_frame_equal(found.asked, SCORED.scores[:1])


@pytest.mark.parametrize("file", ["network.csv", "network.asked.csv", "network.json"])
def test_a_damaged_file_is_refused_and_a_missing_one(images, tmp_path, file):
    shop = shop_of(tmp_path, images)
    place = shop.place(kind_of("joint"), None, 0, None)
    keep(place, "network", SCORED._replace(asked=SCORED.scores))
    assert shop.network(kind_of("joint")).cost["flops"] == 3, "it is not trained again"
    data = bytearray((place / file).read_bytes())
    data[len(data) // 2] ^= 1
    (place / file).write_bytes(data)
    with pytest.raises(StoreError, match=rf"{file}(.|\n)*Delete the folder .*joint"): shop.network(kind_of("joint"))
    (place / file).unlink()
    if file != "network.json":
        with pytest.raises(StoreError, match="missing"): shop.network(kind_of("joint"))


def test_pretexts_in_turn_and_what_they_left_ready(tmp_path, images):
    "The first of them denoises for every network that goes on from the second; what it learnt is learnt once."
    how = dict(pretexts=("denoising", "drawn"), in_turn=True, cut=0., noisy=0)
    shop = shop_of(tmp_path, images, setting=setting(**how))
    shop.phantoms = images
    net, cost = shop.trained(Kind("full"))
    first, both = shop.representation(("denoising",)), shop.representation()
    assert both.pretexts == ("denoising", "drawn") and both.flops > first.flops > 0
    assert equal(net.nets["denoising"].encoder, first.net.encoder)
    assert equal(net.nets["denoising"].heads["denoising"], first.net.heads["denoising"])
    assert not equal(net.nets["organs"].encoder, first.net.encoder)
    assert not any("denoising" in name for name in cost["looks"])
    one, spent = shop.trained(Kind("full", as_one=True))
    assert not equal(one.encoder, first.net.encoder) and "loss denoising" in spent["looks"], "it learns all three"
    beside, told = shop.trained(Kind("full", ("drawn",)))
    assert "loss denoising" in told["looks"], "nobody had learnt it"
