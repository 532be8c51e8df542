"taco.transfer.unet: shapes, refusals, and weights of another network."
import pytest
import torch

from taco.base import EncoderError
from taco.learning.weights import load_weights, save_weights
from taco.transfer.unet import UNetDecoder, UNetEncoder, pooled


def test_halves_fit_together():
    encoder, decoder = UNetEncoder(2, (4, 8, 8)), UNetDecoder(3, (4, 8, 8))
    features = encoder(torch.rand(2, 2, 24, 16))
    assert [tuple(f.shape) for f in features] == [(2, 4, 24, 16), (2, 8, 12, 8), (2, 8, 6, 4)]
    assert decoder(features).shape == (2, 3, 24, 16) and pooled(features).shape == (2, 8)


@pytest.mark.parametrize("images, word", [(torch.rand(1, 3, 32, 32), "channels"), (torch.rand(1, 1, 4, 32), "small")])
def test_images_that_do_not_fit(images, word):
    with pytest.raises(EncoderError, match=word): UNetEncoder(1, (4, 8, 8))(images)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    file = save_weights(tmp_path / "w.safetensors", encoder=UNetEncoder(1, (4, 8)))
    for widths in ((4, 8, 8), (4, 16)):
        with pytest.raises(EncoderError, match=r"encoder\.stages"):
            load_weights(file, encoder=UNetEncoder(1, widths))
    with pytest.raises(EncoderError, match="do not fit"): load_weights(file, decoder=UNetEncoder(1, (4, 8)))
