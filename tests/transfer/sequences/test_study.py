"Sequential self-supervision compared: where an arm starts, and runs that go on."
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from taco.base import ParameterError
from taco.learning.loop import FitConfig
from taco.transfer.sequences import study
from taco.transfer.sequences.arms import (
    PRETRAININGS,
    RECOMMENDED,
    SEQUENCE_ARMS,
    SequenceConfig,
    check_arms,
    pretrain,
)
from taco.transfer.sequences.batches import PretextBatches
from taco.transfer.sequences.finetune import PARTS, hand_on, handed
from taco.transfer.sequences.pretext import BINS
from taco.transfer.sequences.results import volume_means
from taco.transfer.sequences.rivals.register import RIVALS
from taco.transfer.sequences.study import compare, finetune
from taco.transfer.unet import UNetDecoder, UNetEncoder
from tests.transfer.sequences.toys import TINY, alike, equal, quiet


def test_finetuning_starts_from_what_its_arm_hands_on(hearts, tmp_path, monkeypatch):
    weights = pretrain("all", hearts, TINY, 0, tmp_path / "all.safetensors")
    monkeypatch.setattr(study, "fit", lambda module, *a, **k: None)
    tuned = lambda arm: finetune(arm, hearts, 1, TINY, 0, weights)[0]
    scratch, encoder_only, both = map(tuned, ("scratch", "all-encoder", "all"))
    torch.manual_seed(1)
    encoder, decoder = UNetEncoder(1, TINY.widths), UNetDecoder(BINS, TINY.widths)
    hand_on(weights, PARTS, encoder, decoder)
    assert not equal(scratch.encoder, encoder)
    assert alike(encoder_only.encoder, encoder) and alike(both.encoder, encoder)
    assert equal(encoder_only.decoder, scratch.decoder) and alike(handed(both.decoder), handed(decoder))
    assert equal(both.decoder.ups[-1], scratch.decoder.ups[-1])
    assert equal(both.decoder.final, scratch.decoder.final)


def test_a_killed_comparison_goes_on_and_ends_the_same(hearts, tmp_path, monkeypatch):
    arms, calls = ("scratch", "moco", "all"), []
    go = lambda name: compare(hearts, TINY, tmp_path / name, arms, (1, 2), (0,), tell=quiet)
    whole = go("whole")

    def dying(arm, volumes, labelled, *rest):
        calls.append((arm, labelled))
        if len(calls) == 4: raise KeyboardInterrupt
        return finetune(arm, volumes, labelled, *rest)
    monkeypatch.setattr(study, "finetune", dying)
    with pytest.raises(KeyboardInterrupt): go("part")
    written = lambda: {p.name: p.stat().st_mtime_ns for p in (tmp_path / "part").glob("*.safetensors")}
    weights = written()
    assert len(list((tmp_path / "part").glob("*.csv"))) == 3 and len(weights) == 2
    again = go("part")
    assert calls[4:] == [("scratch", 2), ("moco", 2), ("all", 2)] and written() == weights
    pd.testing.assert_frame_equal(again, whole)


def test_a_pretraining_that_was_killed_resumes_exactly(hearts, tmp_path, monkeypatch):
    often = lambda self, **s: FitConfig(device="cpu", precision="32", checkpoint_every=2, **s)
    monkeypatch.setattr(SequenceConfig, "fit_config", often)
    config = replace(TINY, pretrain_steps=7)
    whole = load_file(pretrain("all", hearts, config, 0, tmp_path / "whole.safetensors"))
    truly = PretextBatches.__call__

    def dies(self, step):
        if step == 5: raise KeyboardInterrupt
        return truly(self, step)
    monkeypatch.setattr(PretextBatches, "__call__", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        pretrain("all", hearts, config, 0, tmp_path / "part.safetensors")
    assert not (tmp_path / "part.safetensors").exists() and (tmp_path / "part/training.ckpt").exists()
    goes_on = lambda self, step: truly(self, step) if step >= 4 else pytest.fail("began anew")
    monkeypatch.setattr(PretextBatches, "__call__", goes_on)
    part = load_file(pretrain("all", hearts, config, 0, tmp_path / "part.safetensors"))
    assert whole.keys() == part.keys() and all(torch.equal(whole[k], part[k]) for k in whole)


@pytest.mark.parametrize("name", ["moco", *PRETRAININGS])
def test_a_pretraining_depends_on_its_seed_alone_and_trains_what_its_arm_hands_on(hearts, tmp_path, name):
    def trained(global_seed: int, seed: int) -> dict:
        torch.manual_seed(global_seed)
        return load_file(pretrain(name, hearts, TINY, seed, tmp_path / f"{global_seed}.safetensors"))
    one, two, other = trained(1, 0), trained(2, 0), trained(3, 1)
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    for by, parts in SEQUENCE_ARMS.values():
        if by == name: assert set(parts) <= {k.split(".")[0] for k in one}


@pytest.mark.parametrize("name", ["moco", "all"])
def test_pretraining_runs_in_bf16(hearts, tmp_path, name):
    "Where a device computes bf16 natively this is what `auto` means; logits stay in full precision."
    half = replace(TINY, precision="bf16")
    assert pretrain(name, hearts, half, 0, tmp_path / "weights.safetensors").exists()


def test_what_is_recommended_was_first_with_few_labels_on_real_hearts():
    file = Path(__file__).parents[3] / "figures/real/metrics.json"
    found = json.loads(file.read_text())
    for labels in (1, 2):
        dice = {arm: m["value"] for arm in SEQUENCE_ARMS if (m := found.get(f"sequence_acdc_{arm}_{labels}_dice"))}
        assert len(dice) >= 7 and max(dice, key=dice.get) == RECOMMENDED


def test_unknown_arms_are_named(hearts):
    with pytest.raises(ParameterError, match="Did you mean 'all-encoder'"):
        finetune("all-encodr", hearts, 1, TINY, 0, None)
    with pytest.raises(ParameterError, match="everything, nothing"):
        check_arms(["nothing", "all", "everything"])


@pytest.mark.long
def test_several_processes_give_what_one_gives(hearts, tmp_path):
    arms, said = ("scratch", "all"), []
    go = lambda name, **how: compare(hearts, TINY, tmp_path / name, arms, (1,), (0, 1), distances=False, **how)
    one, two = go("one", tell=quiet), go("two", tell=said.append, workers=2)
    pd.testing.assert_frame_equal(one, two)
    assert len(said) == 4 and all("Dice" in line for line in said)
    go("two", tell=said.append, workers=2)
    assert len(said) == 4, "nothing is computed twice"


def test_several_sets_of_labels_share_a_pretraining(hearts, tmp_path, monkeypatch):
    made = []
    def watched(arm, volumes, labelled, config, seed, weights, folder, take):
        made.append((arm, labelled, take, weights and weights.name))
        return finetune(arm, volumes, labelled, config, seed, weights, folder, take)
    monkeypatch.setattr(study, "finetune", watched)
    arms, counts = ("scratch", "order"), (1, None)
    scores = compare(hearts, TINY, tmp_path, arms, counts, (0,), distances=False, tell=quiet, sets=(2, 3))
    file = dict(scratch=None, order="seed0-order.safetensors")
    assert made == [(a, n, take, file[a]) for n, take in ((1, 0), (1, 1), (None, 0)) for a in arms], "all are one set"
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    one = scores[(scores["arm"] == "order") & (scores["labelled"] == 1)]
    mean = volume_means(scores).query("arm == 'order' and labelled == 1")
    assert len(mean) == len(hearts.subjects("test"))
    assert np.isclose(mean["dice"].mean(), one.groupby("volume")["dice"].mean().mean())
    for wrong in ((1,), 0):
        with pytest.raises(ParameterError, match="How many sets"):
            compare(hearts, TINY, tmp_path, ("scratch",), counts, (0,), sets=wrong)


@pytest.mark.parametrize("name", ["moco", "all", *RIVALS])
def test_every_method_encodes_as_many_images_in_a_step(name, hearts, tmp_path, monkeypatch):
    counted, forward = [], UNetEncoder.forward
    def watched(self, x):
        counted.append(len(x))
        return forward(self, x)
    monkeypatch.setattr(UNetEncoder, "forward", watched)
    config = replace(TINY, pretrain_steps=2, moco_batch=10, anchors=4)
    pretrain(name, hearts, config, 0, tmp_path / f"{name}.safetensors")
    assert sum(counted) == 2 * 20
