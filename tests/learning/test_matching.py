"A network that compares: it finds what was moved, keeps statistics, and is the same for any batch."
import numpy as np
import pytest
import torch

from taco.learning.matching import (
    Correlation,
    LookUp,
    Matching,
    Stage,
    Wholes,
    correlated,
    places,
    rings,
    sampled,
    statistics,
)

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


def test_channels_are_correlated_over_places():
    x, y = torch.randn(2, 3, 4, 6, 7)
    y[1, 2] = 5 - 2 * x[1, 0]
    found = correlated(x, y).view(3, 4, 4)
    wanted = [np.corrcoef(a.flatten(1), b.flatten(1))[:4, 4:] for a, b in zip(x, y)]
    assert torch.allclose(found, torch.from_numpy(np.stack(wanted)).float(), atol=1e-3)
    assert found[1, 0, 2] < -.999
    assert correlated(torch.ones(1, 2, 3, 3), y[:1, :2, :3, :3]).abs().max() == 0, "what is flat is like nothing"


def test_every_place_is_found_where_it_went():
    "Descriptions that are the colours themselves: an image of 64 different places, moved."
    look = LookUp(32)
    side = 8
    colours = torch.randn(1, 16, side, side, generator=torch.Generator().manual_seed(1))

    class Given(torch.nn.Module):
        def forward(self, x): return torch.cat([x, x], 1)

    look.picture, look.describe = torch.nn.Sequential(Given()), torch.nn.Conv2d(32, 16, 1, bias=False)
    look.describe.weight.data[:] = torch.eye(16, 32)[..., None, None]
    look.sharpness.data.fill_(4.)
    for moved in (lambda t: t, lambda t: t.flip(3), lambda t: t.rot90(1, (2, 3))):
        told, pairs = look(colours, moved(colours))
        assert pairs.shape == (1, 32**2)
        down, right = (told[0, 64:66] + places((side, side)).view(2, side, side))
        where = places((side, side)).view(1, 2, side, side)
        at = moved(where)  # what lies at each place of the output came from here
        for y in range(side):
            for x in range(side):
                found = torch.stack([down[y, x], right[y, x]])
                spot = (at[0] - where[0, :, y, x, None, None]).abs().sum(0).argmin()
                assert torch.allclose(found, where[0].flatten(1)[:, spot], atol=.05)
        assert (told[0, 66] > .9).all() and (told[0, 67] > .99).all() and told[0, 68:].abs().max() < .2


@pytest.mark.parametrize("size, reach", [((8, 8), (3, 3)), ((5, 9), (0, 2)), ((6, 7), (2, None))])
def test_correlation_is_the_sum_of_products(size, reach):
    a, b = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    found = Correlation(size, reach)(a, b)
    asked = [range(n) if far is None else range(-far, far + 1) for n, far in zip(size, reach)]
    assert found.shape == (3, *map(len, asked))

    def there(i: int, by: int, n: int, far: int | None) -> int | None:
        "The place of the second that `i` of the first is compared with."
        if far is None: return (i + by) % n
        return i + by if 0 <= i + by < n else None

    for row, down in enumerate(asked[0]):
        for column, right in enumerate(asked[1]):
            total = torch.zeros(3)
            for i in range(size[0]):
                for j in range(size[1]):
                    k, m = there(i, down, size[0], reach[0]), there(j, right, size[1], reach[1])
                    if k is not None and m is not None: total += a[:, i, j] * b[:, k, m]
            assert torch.allclose(found[:, row, column], total, atol=1e-4)


def test_a_matrix_samples_as_torch_does():
    maps = torch.rand(2, 3, 9, 9)
    weights, where = sampled(rings(4, 6), 9), rings(4, 6).expand(2, -1, -1, -1)
    assert weights.shape == (81, 4, 6) and (weights >= 0).all() and (weights.sum(0) <= 1 + 1e-6).all()
    wanted = torch.nn.functional.grid_sample(maps, where, align_corners=False)
    assert torch.allclose(torch.einsum("bcp,pra->bcra", maps.flatten(2), weights), wanted, atol=1e-6)


def test_wholes_tell_left_from_right():
    wholes, picture = Wholes(), torch.nn.functional.avg_pool2d(IMAGES, 7, 1, 3, count_include_pad=False) * 2 - 1
    for quarters in (1, 2, 3):
        likeness = wholes.compared(picture, picture.rot90(quarters, (2, 3)))[2][:, 0, 0]
        assert (likeness.flatten(1).argmax(1) == 4 * 32 + (32 - 8 * quarters)).all()
    backwards = wholes.compared(picture, picture.flip(3))[2].amax((3, 4))
    assert (backwards[:, 1] > backwards[:, 0]).all(), "a mirror image is found on rings that are read backwards"
    flat = torch.zeros(2, 3, 64, 64)
    assert all(part.abs().max() < 1e-3 for part in wholes.compared(flat, flat))


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
