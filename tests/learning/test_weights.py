"taco.learning.weights: files that others wrote, and weights that do not fit."
import pytest
import torch
from torch import nn

from taco.base import EncoderError
from taco.learning.weights import (
    check_finite,
    check_fit,
    fill,
    load_weights,
    read_json,
    read_weights,
    restore,
    save_weights,
    state_of,
)


def network(width=3): return nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4))


def test_files_that_hold_no_weights(tmp_path):
    (tmp_path / "half.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04 and no more")
    torch.save([1, 2], tmp_path / "list.pth")
    words = {"half.safetensors": "cannot be read", "half.pth": "cannot be read", "list.pth": "state dict",
             "none.pth": "no such file"}
    for name, word in words.items():
        with pytest.raises(EncoderError, match=word) as error: read_weights(tmp_path / name)
        assert name in str(error.value) and "fix:" in str(error.value)


def test_a_tar_file_is_not_unpacked(tmp_path):
    (tmp_path / "old.pth").write_bytes(bytes(10240))  # an empty archive
    with pytest.raises(EncoderError, match=r"(?s)cannot be read.*old\.pth.*tar archive"):
        read_weights(tmp_path / "old.pth")


def test_a_state_dict_may_lie_deeper(tmp_path):
    torch.save(dict(state_dict=network().state_dict(), epoch=3), tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").keys() == network().state_dict().keys()


@pytest.mark.parametrize("text, word", [("{", "JSON"), ("[]", "table")])
def test_json_that_is_none(tmp_path, text, word):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(EncoderError, match=word): read_json(tmp_path / "c.json")


@pytest.mark.parametrize("change, words", [
    (lambda w: w.pop("0.bias"), ["missing", "0.bias", "absent"]),
    (lambda w: w.update(extra=torch.zeros(2)), ["does not have", "extra", "(2,)"]),
    (lambda w: w.update({"0.bias": torch.zeros(9)}), ["another shape", "0.bias", "(9,)", "(4,)"]),
    (lambda w: w["0.weight"].view(-1)[2:3].fill_(torch.inf), ["not numbers", "0.weight"]),
])
@pytest.mark.parametrize("put", [fill, restore])
def test_weights_that_do_not_fit(change, words, put):
    weights = {name: t.clone() for name, t in network().state_dict().items()}
    change(weights)
    target = network()
    before = state_of(target)
    with pytest.raises(EncoderError) as error: put(target, weights, "w.pth", "Build it again.")
    for word in [*words, "w.pth"]: assert word in str(error.value)
    assert all(torch.equal(before[name], t) for name, t in target.state_dict().items())


def test_what_is_passed_over_and_what_is_not():
    weights = network().state_dict() | {"head.weight": torch.zeros(5)}
    del weights["1.num_batches_tracked"]
    half = {name: t.half() for name, t in weights.items()}
    found = fill(network(), half, "w.pth", "", ignore=("head.",))
    assert found[0].weight.dtype == torch.float32 and torch.allclose(found[0].weight, weights["0.weight"], atol=1e-3)
    with pytest.raises(EncoderError, match="num_batches_tracked"): restore(network(), half, "w.pth", "")


def test_several_faults_are_counted():
    with pytest.raises(EncoderError, match=r"absent, and \d more like it"): check_fit(network(), {}, "w.pth", "")
    check_finite(network().state_dict(), "w.pth")


def test_parts_are_handed_on_by_name(tmp_path):
    file = save_weights(tmp_path / "w.safetensors", encoder=network(), decoder=network(5))
    one = network()
    load_weights(file, encoder=one)
    with pytest.raises(EncoderError, match="encoder.0.weight"): load_weights(file, encoder=network(7))
    with pytest.raises(EncoderError, match="do not fit(.|\n)*decoder, encoder"): load_weights(file, head=network())


def test_nothing_is_changed_when_one_part_does_not_fit(tmp_path):
    file, encoder = save_weights(tmp_path / "w.safetensors", encoder=network(), decoder=network(5)), network()
    before = state_of(encoder)
    with pytest.raises(EncoderError): load_weights(file, encoder=encoder, decoder=network(6))
    assert all(torch.equal(before[name], t) for name, t in encoder.state_dict().items())
