"taco.learning.encoder: shapes, and what comes back from a folder."
import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from taco.base import EncoderError
from taco.learning.encoder import BACKBONES, FUSIONS, EncoderConfig, PairEncoder, channels, encode
from taco.learning.pairs import make_pairs


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_encoders(backbone, fusion):
    if (backbone, fusion) == ("matching", "shared"):  # it compares two pictures itself
        with pytest.raises(EncoderError, match="contrast"): EncoderConfig(backbone, fusion)
        return
    encoder = PairEncoder(EncoderConfig(backbone, fusion, width=.125, embedding=16, size=40)).eval()
    features, embedding = encoder(*torch.rand(2, 3, 3, 40, 40))
    assert features.shape == (3, encoder.features) and embedding.shape == (3, 16) and embedding.dtype == torch.float32
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)


def test_an_encoder_of_one_side_sees_one_side():
    x, y, z = torch.rand(3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    sides = dict(input=((x, z), (z, y)), output=((z, y), (x, z)))
    for backbone, (fusion, (same, other)) in itertools.product(("resnet10", "matching"), sides.items()):
        encoder = PairEncoder(EncoderConfig(backbone, fusion, width=.125)).eval()
        assert torch.equal(encoder(x, y)[1], encoder(*same)[1])
        assert not torch.equal(encoder(x, y)[1], encoder(*other)[1])
    both = channels(x, y, "contrast")  # each side as TaCo sees it
    assert torch.equal(channels(x, y, "input"), both[:, [0, 1, 2, 6, 8]])
    assert torch.equal(channels(x, y, "output"), both[:, [3, 4, 5, 7, 9]])


def test_standard_resnet50_has_2048_features():
    assert PairEncoder(EncoderConfig("resnet50")).features == 2048


def test_encoder_refuses_other_shapes():
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125))
    with pytest.raises(EncoderError, match="colour"): encoder(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32))


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wrong, words", [
    (IMAGES * 255, "another range(.|\n)*values from 0[^ ]* to 25"), ((IMAGES * 255).byte(), "real numbers"),
    (IMAGES * 2 - 1, "another range"), (IMAGES.where(IMAGES < .9, torch.nan), "another range"),
    (torch.rand(2, 3, 224, 224), "another size(.|\n)*3, 64, 64"), (torch.rand(2, 3, 64, 32), "another size"),
])
@pytest.mark.parametrize("training", [False, True])
def test_images_of_another_range_or_size_are_refused_and_the_fix_works(wrong, words, training):
    "They used to give a point on the sphere that looked like any other: cosine -0.44 at 255, 0.06 at 224 pixels."
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125)).train(training)
    with pytest.raises(EncoderError, match=words) as error: encoder(wrong, wrong)
    assert "as_input" in str(error.value)


def test_following_the_advice_gives_the_right_embedding():
    torch.manual_seed(0)
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125)).eval()
    smooth = torch.nn.functional.interpolate(IMAGES[:, :, :8, :8], (64, 64), mode="bilinear", align_corners=False)
    right = encoder(smooth, smooth.flip(3))[1]
    def cosine(x, y): return (encoder(encoder.as_input(x), encoder.as_input(y))[1] * right).sum(1).min().item()
    assert cosine(smooth * 255, smooth.flip(3) * 255) > .9999
    assert cosine((smooth * 255).byte(), (smooth.flip(3) * 255).byte()) > .99
    large = torch.nn.functional.interpolate(smooth, (224, 224), mode="bilinear", align_corners=False)
    assert cosine(large, large.flip(3)) > .95


def test_save_and_load(tmp_path):
    encoder = PairEncoder(EncoderConfig("resnet10", "difference", width=.125, stem=3, pool=False, size=32))
    encoder(*torch.rand(2, 4, 3, 32, 32))  # moves the running averages
    encoder.save(tmp_path / "e")
    encoder.save(tmp_path / "e")
    again = PairEncoder.load(tmp_path / "e", device="cpu")
    assert again.config == encoder.config and not again.training
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), again.state_dict().values()))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["e", "encoder.json", "encoder.safetensors"]


def saved(tmp_path):
    PairEncoder(EncoderConfig("resnet10", width=.125)).save(tmp_path / "e")
    return tmp_path / "e", load_file(tmp_path / "e" / "encoder.safetensors")


@pytest.mark.parametrize("change, words", [
    (lambda w: w.pop("projection.0.bias"), "missing.*\n.*\n.*projection.0.bias"),
    (lambda w: w.update(surplus=torch.zeros(2)), "does not have.*\n.*\n.*surplus"),
    (lambda w: w.update({"projection.0.bias": torch.zeros(3)}), "shape.*\n.*\n.*projection.0.bias"),
    (lambda w: w["backbone.conv1.weight"].view(-1)[5:6].fill_(torch.nan), "not numbers.*\n.*\n.*backbone.conv1.weight"),
])
def test_weights_that_do_not_fit(tmp_path, change, words):
    folder, weights = saved(tmp_path)
    change(weights)
    save_file(weights, folder / "encoder.safetensors")
    with pytest.raises(EncoderError, match=words): PairEncoder.load(folder, device="cpu")


@pytest.mark.parametrize("text, words", [
    ("{", "JSON"), ("[]", "table"), ('{"backbone": "resnet11"}', "resnet1"),
    ('{"backbon": "resnet10"}', "'backbone'"), ('{"backbone": "resnet18", "width": 0.125}', "architecture"),
])
def test_configurations_that_do_not_fit(tmp_path, text, words):
    folder, _ = saved(tmp_path)
    (folder / "encoder.json").write_text(text)
    with pytest.raises(EncoderError, match=words): PairEncoder.load(folder, device="cpu")


def test_damaged_and_absent_files(tmp_path):
    folder, _ = saved(tmp_path)
    data = (folder / "encoder.safetensors").read_bytes()
    (folder / "encoder.safetensors").write_bytes(data[:len(data) // 2])
    with pytest.raises(EncoderError, match="cannot be read"): PairEncoder.load(folder)
    with pytest.raises(EncoderError, match="no encoder"): PairEncoder.load(tmp_path / "nowhere")


def test_saving_spares_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    broken = PairEncoder(EncoderConfig("resnet10", width=.125))
    with pytest.raises(EncoderError, match="notes.txt"): broken.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with torch.no_grad(): broken.projection[0].bias[0] = torch.inf
    with pytest.raises(EncoderError, match="projection.0.bias"): broken.save(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_encode_in_blocks(store):
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125, size=store.size))
    pairs = make_pairs(store, "deblurring", store.select(split="train")[:10], np.arange(10))
    features, embedding = encode(encoder, pairs, batch_size=4, device="cpu")
    assert features.shape == (10, encoder.features) and embedding.shape == (10, 128)
    assert encoder.training and not embedding.requires_grad
    assert torch.allclose(encode(encoder, [pairs[:3], pairs[3:]], device="cpu")[1], embedding, atol=1e-5)
    with pytest.raises(EncoderError, match="no pairs"): encode(encoder, [], device="cpu")


@pytest.mark.parametrize("kind, layers", [
    ("basic", (1, 1, 1, 1)), ("basic", (2, 1, 3, 1)), ("bottleneck", (1, 2, 1, 1))])
@pytest.mark.parametrize("stem, pool", [(7, True), (3, False)])
def test_the_backbone_is_monais(kind, layers, stem, pool):
    "Names and values of all weights for one seed, what comes out, and every gradient, to the last bit."
    from monai.networks.nets.resnet import ResNet as Theirs

    from taco.learning.encoder import ResNet
    planes, x, made = [8, 12, 16, 24], torch.rand(3, 5, 32, 32), []
    for make in (
        lambda: ResNet(kind, layers, planes, 5, stem, pool),
        lambda: Theirs(kind, list(layers), planes, spatial_dims=2, n_input_channels=5, conv1_t_size=stem,
                       conv1_t_stride=2, no_max_pool=not pool, feed_forward=False, bias_downsample=False),
    ):
        torch.manual_seed(0)
        net = make()
        drawn = torch.rand(1).item()  # both have taken as many random numbers
        first = {name: value.clone() for name, value in net.state_dict().items()}
        found = net(x)
        (found * torch.arange(found.shape[1])).sum().backward()
        gradients = {name: value.grad for name, value in net.named_parameters()}
        made.append((first, dict(found=found), gradients, dict(net.state_dict()), dict(quiet=net.eval()(x)), drawn))
    for ours, theirs in zip(*made):
        if isinstance(ours, float): assert ours == theirs
        else: assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
