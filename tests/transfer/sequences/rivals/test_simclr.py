"SimCLR: who is compared with whom."
from dataclasses import asdict

import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.transfer.moco import MoCoConfig
from taco.transfer.sequences.batches import SliceBatches
from taco.transfer.sequences.rivals.simclr import SimCLR, SimCLRConfig, nt_xent, tower, two_views
from tests.transfer.sequences.rivals.toys import bodies, check_pure, check_resumes, fall, halves
from tests.transfer.sequences.toys import equal

BATCHES = SliceBatches(bodies(), "abc", 8)


def make(seed): return SimCLR(halves()[0], SimCLRConfig(), seed)


def test_the_defaults_are_those_of_the_chapter():
    assert asdict(SimCLRConfig()) == dict(dimension=128, temperature=.2, views=asdict(MoCoConfig()))


@pytest.mark.parametrize("wrong", [dict(temperature=0.), dict(temperature=-.1), dict(dimension=0)])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ParameterError): SimCLRConfig(**wrong)


def test_the_loss_by_hand():
    z = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    s, lost = np.exp((z @ z.T).numpy() / .3), []
    for i in range(6):
        others = sum(s[i, k] for k in range(6) if k != i)
        lost.append(-np.log(s[i, (i + 3) % 6] / others))
    assert nt_xent(z, .3).item() == pytest.approx(np.mean(lost), abs=1e-5)


def test_two_views_stand_one_after_the_other():
    images = torch.linspace(0, 1, 4)[:, None, None, None].expand(-1, 1, 32, 32)
    same = MoCoConfig(jitter_chance=0.)
    one, two = two_views(images, same, torch.Generator().manual_seed(0)).chunk(2)
    assert torch.allclose(one, images, atol=1e-5) and torch.allclose(two, images, atol=1e-5)


def test_the_head_depends_on_the_seed_and_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    encoder = halves()[0]
    torch.manual_seed(3)
    heads = [tower(encoder, 16, seed).head for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert equal(heads[0], heads[1]) and not equal(heads[0], heads[2])


def test_it_is_pure_and_goes_on_where_it_was_killed(tmp_path):
    check_pure(make, BATCHES(0))
    check_resumes(make, BATCHES, tmp_path)


def test_the_loss_falls():
    assert fall(make, BATCHES) < .95
