"Volume fusion: the map of levels, what is laid over what, and what is asked."
from dataclasses import asdict

import pytest
import torch

from taco.base import ParameterError
from taco.transfer.sequences.batches import SliceBatches
from taco.transfer.sequences.rivals import volume_fusion
from taco.transfer.sequences.rivals.volume_fusion import FusionConfig, VolumeFusion, fused, level_map
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, halves

BATCHES = SliceBatches(bodies(), "abc", 8)


def make(seed): return VolumeFusion(*halves(5), FusionConfig(), seed)


def test_the_defaults_are_those_of_the_chapter():
    assert asdict(FusionConfig()) == dict(levels=4, blocks=(4, 14), block=(.0625, .625), strength=.5)


@pytest.mark.parametrize("wrong", [dict(levels=0), dict(blocks=(0, 3)), dict(blocks=(5, 3)), dict(block=(.5, 1.5)),
                                   dict(block=(-.1, .5)), dict(block=(0., 0.)), dict(strength=-1.)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): FusionConfig(**wrong)


def test_a_decoder_of_other_outputs_is_refused():
    with pytest.raises(ParameterError, match="outputs"): VolumeFusion(*halves(4), FusionConfig())


def test_one_rectangle_is_a_rectangle_of_one_level():
    recipe = FusionConfig(levels=3, blocks=(1, 1), block=(.25, .25))
    maps = level_map(50, 32, recipe, torch.Generator().manual_seed(0))
    assert maps.shape == (50, 32, 32) and maps.unique().tolist() == [0, 1, 2, 3]
    for one in maps:
        rows, columns = (one > 0).any(1), (one > 0).any(0)
        level = one.max()
        assert torch.equal(one, level * (rows[:, None] & columns)) and level > 0
        assert rows.sum() <= 9 and columns.sum() <= 9


def test_few_and_many_rectangles():
    made = lambda *blocks: level_map(200, 32, FusionConfig(blocks=blocks), torch.Generator().manual_seed(0))
    few, some, many = ((m > 0).float().mean() for m in (made(1, 1), made(1, 9), made(9, 9)))
    assert few < .15 < some - .1 and some + .1 < many
    assert all(len(one.unique()) <= 2 for one in made(1, 1)), "no second rectangle"


def test_levels_are_shares_of_the_second():
    first, second = torch.full((1, 1, 2, 2), .2), torch.ones(1, 1, 2, 2)
    found = fused(first, second, torch.tensor([[[0, 1], [2, 4]]]), 4)
    assert torch.allclose(found, torch.tensor([[[[.2, .4], [.6, 1.]]]]))


def test_what_is_asked_is_the_level_of_what_is_shown(monkeypatch):
    "A network that sees the levels pays nothing: the map that is asked is the one that the slices were fused by."
    model, seen = make(0), {}
    truly = volume_fusion.fused
    def watched(first, second, level, levels):
        seen.update(first=first, second=second, level=level)
        return truly(first, second, level, levels)
    monkeypatch.setattr(volume_fusion, "fused", watched)
    model.encoder = torch.nn.Identity()
    def right(shown):
        assert torch.equal(shown, truly(**seen, levels=4))
        return 50 * torch.nn.functional.one_hot(seen["level"], 5).movedim(3, 1).float()
    model.decoder = torch.nn.Module()
    model.decoder.forward = right
    assert model.loss(BATCHES(0), 0) < 1e-3
    assert torch.equal(seen["second"], seen["first"].roll(1, 0)), "the next slice of the batch"


def test_it_is_pure_and_goes_on_where_it_was_killed(tmp_path):
    check_pure(make, BATCHES(0))
    check_resumes(make, BATCHES, tmp_path)


def test_a_map_is_learnt_by_heart():
    "The toy's slices are too alike to be told apart within some steps; so the same step again and again."
    model = make(0).train()
    optimiser, lost = torch.optim.AdamW(model.learns(), 1e-2), []
    for _ in range(30):
        optimiser.zero_grad()
        loss = model.loss(BATCHES(0), 0)
        loss.backward()
        optimiser.step()
        lost.append(loss.item())
    assert lost[-1] < .8 * lost[0]
