"Global and local contrast: groups, regions, the frozen encoder, and two stages that go on where they were killed."
from dataclasses import asdict

import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.learning.loop import fit
from taco.transfer.moco import MoCoConfig
from taco.transfer.sequences.batches import SliceBatches
from taco.transfer.sequences.rivals import global_local
from taco.transfer.sequences.rivals.global_local import (
    REGIONS,
    GlobalContrast,
    GlobalLocalConfig,
    LocalContrast,
    group_contrast,
    partition,
    pretrain_global_local,
    region_features,
)
from taco.transfer.sequences.rivals.positional import PlacedBatches
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, dies_at, fall, halves, how
from tests.transfer.sequences.toys import equal

PLACED, SINGLE = PlacedBatches(bodies(), "abc", 8), SliceBatches(bodies(), "abc", 8)


def make_global(seed): return GlobalContrast(halves()[0], GlobalLocalConfig(), seed)
def make_local(seed): return LocalContrast(*halves(), GlobalLocalConfig(), seed)


def test_the_defaults_are_those_of_the_chapter():
    views = dict(views=asdict(MoCoConfig()))
    expected = dict(partitions=4, temperature=.1, dimension=128, region=3, strength=1.) | views
    assert asdict(GlobalLocalConfig()) == expected and len(set(REGIONS)) == 13


@pytest.mark.parametrize("wrong", [dict(partitions=1), dict(temperature=0.), dict(dimension=0), dict(region=0),
                                   dict(strength=-1.)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): GlobalLocalConfig(**wrong)


def test_partitions_are_quarters_of_the_height():
    assert partition(torch.tensor([0., .2, .3, .5, .74, .8, 1.]), 4).tolist() == [0, 0, 1, 2, 2, 3, 3]


def test_the_loss_of_groups_by_hand_stack_by_stack():
    z = torch.nn.functional.normalize(torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    group, lost = [0, 0, 1, 2, 1, 0], []
    for stack in z:
        s = np.exp((stack @ stack.T).numpy() / .3)
        for i in range(6):
            others = sum(s[i, k] for k in range(6) if group[k] != group[i])
            lost += [-np.log(s[i, j] / (s[i, j] + others)) for j in range(6) if j != i and group[i] == group[j]]
    assert group_contrast(z, torch.tensor(group), .3).item() == pytest.approx(np.mean(lost), abs=1e-5)


def test_without_negatives_there_is_neither_loss_nor_a_gradient_that_is_no_number():
    z = torch.nn.functional.normalize(torch.randn(4, 3), dim=1).requires_grad_()
    loss = group_contrast(z, torch.zeros(4), .1)
    loss.backward()
    assert loss == 0 and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("size, side", [(48, 3), (32, 3), (31, 1)])
def test_regions_lie_inside_and_begin_at_the_corners(size, side):
    maps = torch.arange(float(size * size)).view(1, 1, size, size).repeat(1, 2, 1, 1)
    found = region_features(maps, side).view(13, 2, side, side)
    assert torch.equal(found[:, 0], found[:, 1]), "channel by channel"
    corners = [found[i, 0, j, j].item() for i, j in ((0, 0), (8, side - 1))]
    assert corners == [0, size * size - 1] and len(found[:, 0].flatten().unique()) == 13 * side**2


def test_only_the_same_place_of_the_same_slice_is_a_positive(monkeypatch):
    "Features that name the slice and the place are perfect; those that name the slice alone guess among 25."
    model, count = make_local(0), 4
    place = torch.eye(13).expand(2 * count, -1, -1)
    which = torch.eye(count).repeat(2, 1)[:, None].expand(-1, 13, -1)
    model.project = torch.nn.Identity()
    for features, expected in ((place, 0), (which, np.log(25))):
        monkeypatch.setattr(global_local, "region_features", lambda maps, side, f=features: f)
        assert model.loss(SINGLE(0)[:count], 0).item() == pytest.approx(expected, abs=2e-3)


def test_the_frozen_encoder_does_not_move_while_the_decoder_learns():
    model, start = make_local(0), make_local(0)
    fit(model, SINGLE, how(4, weight_decay=.1))
    assert equal(model.encoder, start.encoder), "neither weights nor statistics of batch norm"
    moved = [not torch.equal(a, b) for a, b in zip(model.decoder.ups.parameters(), start.decoder.ups.parameters())]
    assert all(moved) and equal(model.decoder.final, start.decoder.final)
    start.loss(SINGLE(0), 0).backward()
    assert all(p.grad is None for p in start.encoder.parameters()), "nor is anything spent on it"


@pytest.mark.parametrize("make, batches, share", [(make_global, PLACED, .88), (make_local, SINGLE, .3)])
def test_each_stage_is_pure_goes_on_and_learns(make, batches, share, tmp_path):
    check_pure(make, batches(0))
    check_resumes(make, batches, tmp_path)
    assert fall(make, batches) < share


def whole(folder=None, seed=0):
    "Both stages, in a folder or without."
    encoder, decoder = halves()
    return pretrain_global_local(encoder, decoder, bodies(), 8, how(8), seed, folder)


@pytest.mark.parametrize("dying", ["PlacedBatches", "SliceBatches"])
def test_a_run_that_is_killed_in_either_stage_ends_as_one_that_was_not(dying, tmp_path, monkeypatch):
    expected, kind = whole(), getattr(global_local, dying)
    with monkeypatch.context() as m, pytest.raises(BaseException):  # noqa: B017
        m.setattr(global_local, dying, lambda *given: dies_at(kind(*given), 6))
        whole(tmp_path)
    assert (tmp_path / "global/encoder.safetensors").exists() == (dying == "SliceBatches")
    seen = []
    class Watched(PlacedBatches):
        def __call__(self, step):
            seen.append(step)
            return super().__call__(step)
    monkeypatch.setattr(global_local, "PlacedBatches", Watched)
    found = whole(tmp_path)
    assert all(equal(a, b) for a, b in zip(found, expected))
    assert (min(seen) == 3 if dying == "PlacedBatches" else seen == []), "what was done is not done again"
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["history.csv"] * 2, "nothing that the next run would find"
    assert not equal(found[0], whole(seed=1)[0])
