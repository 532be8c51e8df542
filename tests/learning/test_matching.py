"A network that compares: it finds what was moved, keeps statistics, and is the same for any batch."
import pytest
import torch

from taco.learning.matching import LookUp, Matching, Stage, places, statistics

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_statistics_of_places():
    x = torch.randn(3, 5, 6, 7)
    found = statistics(x)
    wanted = torch.cat([x.mean((2, 3)), x.std((2, 3), unbiased=False), x.amax((2, 3))], 1)
    assert torch.allclose(found, wanted, atol=1e-4)
    moved = x.flatten(2)[..., torch.randperm(42)].view_as(x)
    assert torch.allclose(statistics(moved), found, atol=1e-5)


@pytest.mark.parametrize("side", [33, 48, 64])
def test_shapes(side):
    x, y = torch.rand(2, 2, 3, side, side)
    network = Matching(6, .25)
    assert network(torch.cat([x, y], 1), x, y).shape == (2, network.in_planes)
    assert Stage(3, 8)(x).shape == (2, 8, -(-side // 2), -(-side // 2))


def test_every_place_is_found_where_it_went():
    "Descriptions that are the colours themselves: an image of 64 different places, moved."
    look = LookUp(32)
    side = 8
    colours = torch.randn(1, 16, side, side, generator=torch.Generator().manual_seed(1))

    class Given(torch.nn.Module):
        def forward(self, x): return torch.cat([x, x], 1)

    look.picture, look.describe = Given(), torch.nn.Conv2d(32, 16, 1, bias=False)
    look.describe.weight.data[:] = torch.eye(16, 32)[..., None, None]
    look.sharpness.data.fill_(4.)
    for moved in (lambda t: t, lambda t: t.flip(3), lambda t: t.rot90(1, (2, 3))):
        told = look(colours, moved(colours))
        down, right = (told[0, 64:66] + places((side, side)).view(2, side, side))
        where = places((side, side)).view(1, 2, side, side)
        at = moved(where)  # what lies at each place of the output came from here
        for y in range(side):
            for x in range(side):
                found = torch.stack([down[y, x], right[y, x]])
                spot = (at[0] - where[0, :, y, x, None, None]).abs().sum(0).argmin()
                assert torch.allclose(found, where[0].flatten(1)[:, spot], atol=.05)
        assert (told[0, 66] > .9).all() and (told[0, 67] > .99).all() and told[0, 68:].abs().max() < .2


def test_a_sample_does_not_look_at_others():
    network = Matching(6, .25).eval()
    seen = torch.cat([IMAGES, IMAGES.flip(3)], 1)
    whole = network(seen, IMAGES, IMAGES.flip(3))
    one = network(seen[2:3], IMAGES[2:3], IMAGES.flip(3)[2:3])
    assert torch.allclose(whole[2:3], one, atol=1e-4)


def test_all_weights_learn():
    network = Matching(6, .25)
    network(torch.cat([IMAGES, IMAGES.flip(3)], 1), IMAGES, IMAGES.flip(3)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
