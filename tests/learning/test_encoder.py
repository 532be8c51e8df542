"taco.learning.encoder: shapes, and what comes back from a folder."
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from taco.base import EncoderError
from taco.learning.encoder import BACKBONES, FUSIONS, EncoderConfig, PairEncoder, encode
from taco.learning.pairs import make_pairs


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_encoders(backbone, fusion):
    encoder = PairEncoder(EncoderConfig(backbone, fusion, width=.125, embedding=16)).eval()
    features, embedding = encoder(*torch.rand(2, 3, 3, 40, 40))
    assert features.shape == (3, encoder.features) and embedding.shape == (3, 16) and embedding.dtype == torch.float32
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)


def test_standard_resnet50_has_2048_features():
    assert PairEncoder(EncoderConfig("resnet50")).features == 2048


def test_encoder_refuses_other_shapes():
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125))
    with pytest.raises(EncoderError, match="colour"): encoder(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32))


def test_save_and_load(tmp_path):
    encoder = PairEncoder(EncoderConfig("resnet10", "difference", width=.125, stem=3, pool=False))
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
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125))
    pairs = make_pairs(store, "deblurring", store.select(split="train")[:10], np.arange(10))
    features, embedding = encode(encoder, pairs, batch_size=4, device="cpu")
    assert features.shape == (10, encoder.features) and embedding.shape == (10, 128)
    assert encoder.training and not embedding.requires_grad
    assert torch.allclose(encode(encoder, [pairs[:3], pairs[3:]], device="cpu")[1], embedding, atol=1e-5)
    with pytest.raises(EncoderError, match="no pairs"): encode(encoder, [], device="cpu")
