"MoCo v2: the official defaults, queue and momentum by hand, the order of updates, queues that cannot be."
import numpy as np
import pytest
import torch
from torch import nn

from taco.base import ParameterError
from taco.learning.loop import fit
from taco.transfer import moco
from taco.transfer.moco import (
    MoCo,
    MoCoConfig,
    crop_boxes,
    follow,
    gaussian_blur,
    head,
    in_parts,
    info_nce,
    moco_fit_config,
    moco_view,
    scaled_queue,
    scaled_rate,
    tone_jitter,
)
from taco.transfer.unet import UNetEncoder

SMALL = (4, 8, 8)


def test_the_defaults_are_the_official_ones():
    c = MoCoConfig()
    assert (c.queue, c.dimension, c.momentum, c.temperature) == (65536, 128, .999, .2)
    assert (c.batch, c.learning_rate, c.sgd_momentum, c.weight_decay, c.epochs) == (256, .03, .9, 1e-4, 200)
    assert (c.crop, c.jitter, c.blur, c.splits) == ((.2, 1.), (.4, .4, .4, .1), (.1, 2.), 8)
    assert (c.jitter_chance, c.grey_chance, c.blur_chance, c.flip_chance) == (.8, .2, .5, .5)
    how = moco_fit_config(c, 256, 10)
    assert (how.optimiser, how.learning_rate, how.weight_decay, how.warmup, how.clip) == ("sgd", .03, 1e-4, 0, 0)


def test_the_optimiser_is_sgd_with_momentum_and_a_cosine():
    model = MoCo(UNetEncoder(widths=SMALL), MoCoConfig(), 8)
    model.config = moco_fit_config(MoCoConfig(), 8, 100)
    [optimiser], [schedule] = model.configure_optimizers()
    assert isinstance(optimiser, torch.optim.SGD) and all(g["momentum"] == .9 for g in optimiser.param_groups)
    assert optimiser.param_groups[0]["weight_decay"] == 1e-4
    factor = schedule["scheduler"].lr_lambdas[0]
    assert factor(0) == pytest.approx(1) and factor(50) == pytest.approx(.5, abs=.02) and factor(99) < .01
    held = {id(p) for g in optimiser.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.query.parameters()}, "the key encoder is not learned"


def test_the_head_is_linear_relu_linear_without_batch_norm():
    assert [type(layer) for layer in head(16)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert head(16)[0].weight.shape == (16, 16) and head(16)[2].weight.shape == (128, 16)


@pytest.mark.parametrize("slices, batch, queue", [
    (10**6, 256, 65536), (700, 32, 160), (640, 32, 160), (256, 64, 64), (10**6, 48, 65520)])
def test_the_queue_is_a_multiple_of_the_batch_and_a_quarter_of_the_slices_at_most(slices, batch, queue):
    found = scaled_queue(slices, batch)
    assert found == queue and found % batch == 0 and found <= slices / 4


@pytest.mark.parametrize("slices, batch", [(127, 32), (10, 32), (5, 0)])
def test_a_queue_that_cannot_be_scaled_says_so(slices, batch):
    with pytest.raises(ParameterError, match="smaller batch"): scaled_queue(slices, batch)


def test_the_learning_rate_follows_the_batch():
    assert scaled_rate(MoCoConfig(), 64) == pytest.approx(.0075)


def test_info_nce_by_hand():
    q, k = torch.tensor([[1., 0]]), torch.tensor([[.8, .6]])
    queue = torch.tensor([[0., 1], [-1, 0]])
    logits = np.array([.8, 0, -1]) / .2
    by_hand = -np.log(np.exp(logits[0]) / np.exp(logits).sum())
    assert info_nce(q, k, queue, .2).item() == pytest.approx(by_hand, abs=1e-5)


def test_momentum_by_hand():
    slow, fast = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        for norm, weight, mean in ((slow, 2., 1.), (fast, 5., 9.)):
            norm.weight.fill_(weight)
            norm.running_mean.fill_(mean)
    follow(slow, fast, .9)
    assert slow.weight.item() == pytest.approx(.9 * 2 + .1 * 5)
    assert fast.weight.item() == 5 and slow.running_mean.item() == 1


class Plain(nn.Module):
    "A tower whose output is its only weight, so that a whole step can be followed by hand."
    def __init__(self, start, log, name):
        super().__init__()
        self.w, self.log, self.name = nn.Parameter(torch.tensor(start)), log, name

    def forward(self, x):
        self.log.append((self.name, self.w.detach().clone()))
        return nn.functional.normalize(self.w, dim=0).expand(len(x), -1)


def test_a_step_by_hand_in_the_official_order(monkeypatch):
    log = []
    model = MoCo(UNetEncoder(widths=SMALL), MoCoConfig(momentum=.5, dimension=2), 4)
    model.query, model.key = Plain([1., 0], log, "query"), Plain([0., 1], log, "key")
    model.queue = queue = torch.tensor([[1., 0], [0, 1], [-1, 0], [0, -1]])
    before = queue.clone()
    truly = moco.follow
    monkeypatch.setattr(moco, "follow", lambda *a: (log.append(("follow", None)), truly(*a)))
    loss = model.contrast(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32), torch.tensor([1, 0]))
    assert [name for name, _ in log] == ["query", "follow", "key"]
    assert torch.equal(log[2][1], torch.tensor([.5, .5])), "the key is encoded after the momentum update"
    logits = np.array([np.sqrt(.5), 1, 0, -1, 0]) / .2  # against the queue as it was
    assert loss.item() == pytest.approx(-np.log(np.exp(logits[0]) / np.exp(logits).sum()), abs=1e-5)
    assert torch.allclose(model.queue[:2], torch.full((2, 2), np.sqrt(.5)))
    assert torch.equal(model.queue[2:], before[2:]) and model.place == 2
    model.contrast(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32), torch.arange(2))
    last = nn.functional.normalize(torch.tensor([[.75, .25]]), dim=1).expand(2, 2)
    assert model.place == 0 and torch.allclose(model.queue[2:], last), "the oldest go first"
    loss.backward()
    assert model.key.w.grad is None and model.query.w.grad is not None


def test_a_batch_that_does_not_divide_the_queue_is_refused():
    model = MoCo(UNetEncoder(widths=SMALL), MoCoConfig(), 10)
    with pytest.raises(ParameterError, match="multiple of the batch"):
        model.contrast(*torch.rand(2, 4, 1, 32, 32), torch.arange(4))


class Marked(nn.Module):
    "A tower whose embedding is the image's number and that of the part it was encoded in."
    def __init__(self):
        super().__init__()
        self.parts, self.w = [], nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.parts.append(x.flatten(1)[:, 0].int().tolist())
        return torch.stack([x.flatten(1)[:, 0] + self.w, torch.ones(len(x))], 1)


def test_keys_are_encoded_in_shuffled_parts_and_put_back(monkeypatch):
    "Parts share the statistics of batch norm; those of a key must not be those of its query."
    model = MoCo(UNetEncoder(widths=SMALL), MoCoConfig(dimension=2, splits=4), 32)
    model.query, model.key = Marked(), Marked()
    images, seen = torch.arange(32.)[:, None, None, None].expand(32, 1, 8, 8), {}
    watch = lambda query, key, queue, t: seen.update(query=query, key=key) or query.sum()
    monkeypatch.setattr(moco, "info_nce", watch)
    model.contrast(images, images, torch.randperm(32, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(seen["query"], seen["key"]), "each key stands beside its query again"
    assert model.query.parts == [list(range(i, i + 8)) for i in range(0, 32, 8)]
    assert len(model.key.parts) == 4 and sorted(sum(model.key.parts, [])) == list(range(32))  # noqa: RUF017
    assert not any(set(a) == set(b) for a in model.query.parts for b in model.key.parts)
    few = Marked()
    assert len(in_parts(few, images[:9], 8)) == 9 and len(few.parts) == 1, "no part of less than eight images"


def test_images_seldom_meet_themselves_in_the_queue():
    "Epochs in random order, as `SliceBatches` makes them: how many images meet their own embedding."
    slices, batch, rng = 640, 32, np.random.default_rng(0)
    streams = [np.concatenate([rng.permutation(slices) for _ in range(2)]).tolist() for _ in range(3)]

    def share(queue):
        places = [(stream, at) for stream in streams for at in range(slices, 2 * slices, batch)]
        met = [i in set(stream[max(0, at - queue):at]) for stream, at in places for i in stream[at:at + batch]]
        return np.mean(met)
    assert share(scaled_queue(slices, batch)) == pytest.approx(1 / 32, abs=.015) and share(slices - batch) > .4


def test_training_moves_the_key_slowly_and_resumes_exactly(tmp_path):
    images = torch.rand(24, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    batches = lambda step: images[step % 3 * 8:step % 3 * 8 + 8]
    config = moco_fit_config(MoCoConfig(), 8, 12, learning_rate=.05, device="cpu", precision="32", checkpoint_every=4)

    def made():
        torch.manual_seed(0)
        return MoCo(UNetEncoder(widths=SMALL), MoCoConfig(), 16)
    whole, start = made(), made()
    fit(whole, batches, config)
    moved = lambda a, b: (a.head[0].weight - b.head[0].weight).norm().item()
    assert 0 < moved(whole.key, start.key) < .1 * moved(whole.query, start.query)

    def dies(step):
        if step == 7: raise KeyboardInterrupt
        return batches(step)
    with pytest.raises(BaseException): fit(made(), dies, config, tmp_path)  # noqa: B017
    again = made()
    fit(again, batches, config, tmp_path)
    same = zip(whole.state_dict().values(), again.state_dict().values())
    assert all(torch.equal(a, b) for a, b in same), "queue, place and both encoders"


def test_views_keep_range_and_follow_their_generator():
    images = torch.rand(16, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    one, two, other = (moco_view(images, MoCoConfig(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert one.shape == images.shape and one.min() >= 0 and one.max() <= 1


def test_crops_lie_within_the_image_and_the_recipe():
    boxes = crop_boxes(4000, MoCoConfig(), torch.Generator().manual_seed(0))
    centre, half = boxes[:, :2], boxes[:, 2:]
    assert (centre.abs() + half <= 1 + 1e-5).all()
    area = half.prod(1)
    assert area.min() > .19 and area.max() <= 1 and abs(area.mean() - .6) < .03


def test_augmentation_runs_in_the_official_order(monkeypatch):
    order, names = [], ["resized_crop", "tone_jitter", "gaussian_blur"]
    for name in names:
        monkeypatch.setattr(moco, name, lambda images, *a, name=name: (order.append(name), images)[1])
    ramp = torch.arange(64.).expand(8, 1, 64, 64) / 64
    out = moco_view(ramp, MoCoConfig(flip_chance=1.), torch.Generator().manual_seed(0))
    assert order == names and torch.equal(out, ramp.flip(-1)), "the flip comes last"


def test_jitter_and_blur_by_hand():
    flat = torch.full((4, 1, 8, 8), .5)
    always = MoCoConfig(jitter=(.4, 0., 0., 0.), jitter_chance=1.)
    bright = tone_jitter(flat, always, torch.Generator().manual_seed(0))
    assert (bright - .5).abs().max() <= .2 + 1e-6
    assert bright.flatten(1).std(1).max() < 1e-6 and bright[:, 0, 0, 0].std() > 0
    never = MoCoConfig(jitter_chance=0.)
    assert torch.equal(tone_jitter(flat, never, torch.Generator().manual_seed(0)), flat)
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1
    blurred = gaussian_blur(point, torch.tensor([0., 1.5]))
    assert torch.allclose(blurred[0], point[0]) and blurred[1].sum() == pytest.approx(1, abs=1e-3)
    x = torch.arange(-7., 8)
    assert (blurred[1, 0].sum(0) @ x**2).item() == pytest.approx(1.5**2, rel=.05), "variance of the kernel"


def test_several_devices_are_refused():
    with pytest.raises(ParameterError, match="shuffled batch norm"):
        moco_fit_config(MoCoConfig(), 8, 4, devices=2)
