"What a pre-training hands on, and scores of volumes by hand."
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from taco.base import EncoderError, ParameterError
from taco.transfer.sequences.finetune import (
    PARTS,
    dice_scores,
    hand_on,
    handed,
    hausdorff95,
    save_pretrained,
    score_volumes,
)
from taco.transfer.sequences.pretext import BINS
from taco.transfer.unet import UNetDecoder, UNetEncoder, conv_norms, rescale
from tests.transfer.sequences.toys import TINY, alike, made


@pytest.fixture
def pretrained(tmp_path):
    torch.manual_seed(3)
    encoder, decoder = UNetEncoder(1, TINY.widths), UNetDecoder(BINS, TINY.widths)
    rescale(encoder, {name: 3 * norm for name, norm in conv_norms(encoder).items()})  # weights grow in training
    return encoder, decoder, save_pretrained(tmp_path / "both.safetensors", encoder, decoder)


@pytest.mark.parametrize("parts", [("encoder",), PARTS])
def test_what_is_handed_on_is_really_loaded_and_nothing_else(pretrained, parts):
    encoder, decoder, path = pretrained
    torch.manual_seed(9)
    new_encoder, new_decoder = UNetEncoder(1, TINY.widths), UNetDecoder(3, TINY.widths)
    last = new_decoder.final.weight.clone()
    finest = {k: t.clone() for k, t in new_decoder.ups[-1].state_dict().items()}
    norms = conv_norms(new_encoder)
    hand_on(path, parts, new_encoder, new_decoder)
    assert alike(new_encoder, encoder) and alike(handed(new_decoder), handed(decoder)) == ("decoder" in parts)
    for name, norm in conv_norms(new_encoder).items(): assert float(norm) == pytest.approx(float(norms[name]))
    assert torch.equal(new_decoder.final.weight, last)
    kept = [torch.equal(finest[k], t) for k, t in new_decoder.ups[-1].state_dict().items()]
    assert all(kept), "the finest stage starts afresh"
    with pytest.raises(ParameterError, match="nothing to hand on"): handed(UNetDecoder(3, (4, 8)))


def test_a_missing_part_or_key_raises(pretrained, tmp_path):
    encoder, decoder, path = pretrained
    alone = save_pretrained(tmp_path / "alone.safetensors", encoder)
    with pytest.raises(EncoderError, match="decoder"): hand_on(alone, PARTS, encoder, decoder)
    weights = load_file(path)
    lost = next(k for k in weights if k.startswith("decoder.") and k.endswith("conv.weight"))
    del weights[lost]
    save_file(weights, tmp_path / "holed.safetensors")
    before = [p.clone() for p in decoder.parameters()]
    with pytest.raises(EncoderError) as error:
        hand_on(tmp_path / "holed.safetensors", PARTS, encoder, decoder)
    assert lost in str(error.value) and all(torch.equal(a, b) for a, b in zip(before, decoder.parameters()))
    with pytest.raises(ParameterError, match="no such part"):
        hand_on(path, ("decodr",), encoder, decoder)


def test_dice_and_hausdorff_by_hand_and_their_rules():
    truth = np.zeros((4, 12, 12), np.uint8)
    truth[1:3, 2:6, 2:6], truth[0, 0, 0] = 1, 2
    guess = np.roll(truth, 1, 0)
    guess[guess == 2] = 0
    guess[3, 8:10, 8:10] = 3
    dice, hd = dice_scores(guess, truth, (1, 2, 3, 4)), hausdorff95(guess, truth, (1, 2, 3, 4), (6., 1., 1.))
    assert dice[:3].tolist() == [.5, 0, 0] and np.isnan(dice[3])
    diagonal = np.sqrt(24**2 + 12**2 + 12**2)
    assert hd[0] == pytest.approx(6) and hd[1] == hd[2] == pytest.approx(diagonal) and np.isnan(hd[3])
    assert np.isnan(hausdorff95(guess, truth, (1,), (np.nan, 1., 1.))).all()


def test_distances_across_missing_slices_keep_their_millimetres():
    v = made({"a": [0, 1, 2, 5, 6]}, split={"a": "test"}, spacing=(1., 1., 4.))
    v.labels[:] = 0
    v.labels[[0, 4], 10:14, 10:14] = 1   # the first and the last slice, six steps apart
    rows = v.rows(["a"])
    guess = v.labels[rows].clone()
    guess[0] = 0                         # the first is overlooked
    table = score_volumes(guess, v, rows).set_index("structure")
    assert table.loc["a", "dice"] == pytest.approx(2 / 3) and table.loc["a", "hd95"] == pytest.approx(24)
    assert not table.loc["a", "missed"] and np.isnan(table.loc["b", "dice"])
