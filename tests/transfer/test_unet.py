"taco.transfer.unet: shapes, refusals, and weights of another network."
import pytest
import torch

from taco.base import EncoderError
from taco.learning.weights import load_weights, save_weights
from taco.transfer.unet import UNetDecoder, UNetEncoder, conv_norms, pooled, rescale


def test_halves_fit_together():
    encoder, decoder = UNetEncoder(2, (4, 8, 8)), UNetDecoder(3, (4, 8, 8))
    features = encoder(torch.rand(2, 2, 24, 16))
    assert [tuple(f.shape) for f in features] == [(2, 4, 24, 16), (2, 8, 12, 8), (2, 8, 6, 4)]
    assert decoder(features).shape == (2, 3, 24, 16) and pooled(features).shape == (2, 8)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_normalisations(norm):
    torch.manual_seed(0)
    encoder = UNetEncoder(1, (4, 8, 8), norm)
    images = torch.rand(3, 1, 32, 32)
    together, alone = encoder(images)[-1], encoder(images[:1])[-1]
    assert torch.allclose(together[:1], alone, atol=1e-5) == (norm != "batch"), "who shares a batch matters to one"
    before = encoder.eval()(images)[-1].detach()
    norms = conv_norms(encoder)
    rescale(encoder, {name: 2 * n for name, n in norms.items()})
    assert torch.allclose(encoder(images)[-1], before, atol=1e-2 * float(before.abs().max()))
    for name, n in conv_norms(encoder).items(): assert float(n) == pytest.approx(2 * float(norms[name]))


def test_a_normalisation_that_there_is_not():
    with pytest.raises(EncoderError, match="instance"): UNetDecoder(1, (4, 8), "instnce")


@pytest.mark.parametrize("images, word", [(torch.rand(1, 3, 32, 32), "channels"), (torch.rand(1, 1, 4, 32), "small")])
def test_images_that_do_not_fit(images, word):
    with pytest.raises(EncoderError, match=word): UNetEncoder(1, (4, 8, 8))(images)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    file = save_weights(tmp_path / "w.safetensors", encoder=UNetEncoder(1, (4, 8)))
    for widths in ((4, 8, 8), (4, 16)):
        with pytest.raises(EncoderError, match=r"encoder\.stages"):
            load_weights(file, encoder=UNetEncoder(1, widths))
    with pytest.raises(EncoderError, match="do not fit"): load_weights(file, decoder=UNetEncoder(1, (4, 8)))
