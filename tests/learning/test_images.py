"Any image becomes what the encoder was trained on, or says what is missing."
import numpy as np
import pytest
import torch
from PIL import Image

from taco.base import DataError, EncoderError
from taco.learning.images import as_input, one_image, unit_range

BYTES = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
UNIT = torch.from_numpy(BYTES / np.float32(255)).permute(2, 0, 1)


@pytest.mark.parametrize("guise", [
    BYTES, BYTES / 255, BYTES.astype(np.float64), (BYTES / 255).astype(np.float16), torch.from_numpy(BYTES), UNIT,
    UNIT * 255, UNIT.double(), BYTES.transpose(2, 0, 1), Image.fromarray(BYTES), [Image.fromarray(BYTES)], BYTES[None],
    UNIT[None], np.dstack([BYTES, np.full((48, 48), 255, np.uint8)]), Image.fromarray(BYTES).convert("RGBA"),
])
def test_every_guise_of_one_image_is_one_input(guise):
    made = as_input(guise, 48)
    assert made.shape == (1, 3, 48, 48) and made.dtype == torch.float32
    assert (made[0] - UNIT).abs().max() < 1e-3  # half precision has a thousandth


def test_grey_bool_and_palettes():
    grey = BYTES[..., 0]
    for guise in (grey, grey[..., None], grey[None], Image.fromarray(grey)):
        assert torch.equal(as_input(guise, 48)[0, 1], torch.from_numpy(grey / np.float32(255)))
    assert as_input(grey > 99, 48).unique().tolist() == [0, 1]
    few = Image.fromarray(BYTES).quantize(8)  # a palette: the numbers are no grey values
    assert torch.equal(as_input(few, 48), as_input(few.convert("RGB"), 48))
    turned, plain = Image.Exif(), Image.fromarray(BYTES)
    turned[0x0112] = 6
    plain.info["exif"] = turned.tobytes()
    plain.getexif().update(turned)
    assert torch.equal(as_input(plain, 48)[0], torch.rot90(UNIT, -1, (1, 2)))  # as a person sees it


def test_sizes_and_several():
    wide = np.zeros((32, 64), np.uint8)
    wide[:, 16:48] = 255
    assert as_input(wide, 32).min() == 1                      # cover: the middle square
    assert as_input(wide, 32, "contain").mean() == pytest.approx(.25, abs=.02)
    assert as_input(wide, 32, "stretch").mean() == pytest.approx(.5, abs=.02)
    assert as_input([wide, BYTES], 32).shape == (2, 3, 32, 32)
    assert as_input(torch.rand(5, 1, 20, 30), 16).shape == (5, 3, 16, 16)


@pytest.mark.parametrize("wrong, words", [
    (BYTES.astype(np.uint16) * 16, r"window=\(0, 4080\)"), (BYTES.astype(np.int16) - 1000, "window=\\("),
    (BYTES.astype(np.float32) * 2, "window"), (np.full((8, 8), np.nan), "not numbers"), ("text", "not an image"),
    (np.zeros((5, 9, 9)), "which axis"), (np.zeros((3, 9, 3)), "which axis(.|\n)*layout"),
    (np.zeros(7), "not one image"),
    (np.zeros((0, 5)), "not one image"), ([], "no images"),
    (np.dstack([BYTES, np.full((48, 48), 99, np.uint8)]), "transparent"), (np.array([{}]), "not an image"),
])
def test_what_cannot_be_told_is_asked_for(wrong, words):
    with pytest.raises(EncoderError, match=words): as_input(wrong)


def test_the_advice_works():
    deep = BYTES.astype(np.uint16) * 16
    assert torch.allclose(as_input(deep, 48, window=(0, 4080)), as_input(BYTES, 48), atol=1e-6)
    assert torch.equal(as_input(np.ones((3, 9, 3)), 9, layout="CHW"), torch.ones(1, 3, 9, 9))
    with pytest.raises(EncoderError, match="black and white"): unit_range(deep, (9, 9))
    with pytest.raises(DataError, match="squeeze"): as_input(BYTES, 32, "squeeze")
    assert one_image(BYTES, "HWC").shape == BYTES.shape
