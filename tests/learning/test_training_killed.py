"Training that is killed before each of its file operations goes on, ends in the same bits, and leaves nothing behind."

import json
import os
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from taco.base import EncoderError, TacoError
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.recipe import TrainConfig
from taco.learning.training import train
from taco.learning.weights import state_of
from tests.crash import content, crash_points, full_before, rests
from tests.spoil import FEW, MANY, unnoticed

pytestmark = pytest.mark.long  # a campaign: it takes long and seldom breaks

CONFIG = TrainConfig.of(
    steps=6, checkpoint_every=2, pairs_per_task=2, device="cpu", precision="32", learning_rate=3e-3,
    encoder=EncoderConfig(backbone="resnet10", width=0.0625, size=32), randomise=False,
)


def run(store, folder):
    return train(store, ["horizontal_flip", "intensity_inversion"], CONFIG, folder, progress=False)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_every_point_of_a_training(store, tmp_path, every):
    whole, folder, points = tmp_path / "whole", tmp_path / "run", 0
    run(store, whole)
    wanted = content(whole / "encoder") | {"run.json": (whole / "run.json").read_bytes()}
    prepare = lambda: shutil.rmtree(folder, ignore_errors=True)
    for _ in crash_points(lambda: run(store, folder), tmp_path, prepare, every):
        points += 1
        run(store, folder)
        assert content(folder / "encoder") | {"run.json": (folder / "run.json").read_bytes()} == wanted
        assert not rests(folder) and sorted(os.listdir(folder)) == sorted(os.listdir(whole))
    assert points >= 30 // every


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_disk_that_is_full_at_any_point_of_a_training(store, tmp_path, every):
    whole, folder, number = tmp_path / "whole", tmp_path / "run", 1
    run(store, whole)
    wanted = content(whole / "encoder") | {"run.json": (whole / "run.json").read_bytes()}
    while (raised := full_before(number, lambda: run(store, folder), tmp_path)) is not None:
        assert raised is TacoError, number
        assert not rests(folder), number
        run(store, folder)  # with room, it goes on
        assert content(folder / "encoder") | {"run.json": (folder / "run.json").read_bytes()} == wanted
        shutil.rmtree(folder)
        number += every
    assert number >= 18


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_an_encoder_is_old_or_new_at_every_point(tmp_path, every):
    config, folder = EncoderConfig(backbone="resnet10", width=0.0625, size=32), tmp_path / "encoder"
    old, new = PairEncoder(config), PairEncoder(config)
    both = [e.state_dict() for e in (old, new)]
    same = lambda a, b: all(torch.equal(a[name], b[name]) for name in a)
    for _ in crash_points(lambda: new.save(folder), tmp_path, lambda: old.save(folder), every):
        found = PairEncoder.load(folder, device="cpu").state_dict()
        assert any(same(found, one) for one in both)
        new.save(folder)
        assert same(PairEncoder.load(folder, device="cpu").state_dict(), both[1])
        assert os.listdir(tmp_path) == ["encoder"]


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["encoder.json", "encoder.safetensors"])
def test_no_damage_of_an_encoder_is_silent(tmp_path, name, count):
    torch.manual_seed(0)
    encoder = PairEncoder(EncoderConfig(backbone="resnet10", width=0.0625, size=32))
    folder = encoder.save(tmp_path / "encoder")
    wanted = encoder.state_dict()

    def same(found) -> bool:
        return found.config == encoder.config and all(torch.equal(found.state_dict()[n], t) for n, t in wanted.items())

    silent, odd, counts = unnoticed(folder / name, lambda: PairEncoder.load(folder, device="cpu"), same, count)
    assert silent == [] and odd == [], (silent, odd)
    assert counts["refused"] > counts["harmless"]


def test_an_encoder_of_an_older_version_has_no_digest_and_is_read(tmp_path):
    encoder = PairEncoder(EncoderConfig(backbone="resnet10", width=0.0625, size=32))
    save_file(state_of(encoder), tmp_path / "encoder.safetensors", metadata=dict(format="pt"))
    (tmp_path / "encoder.json").write_text(json.dumps(asdict(encoder.config)))
    assert PairEncoder.load(tmp_path, device="cpu").config == encoder.config
    (tmp_path / "encoder.json").write_text(json.dumps(asdict(encoder.config) | dict(digest="of something else")))
    with pytest.raises(EncoderError, match="not as it was written"):
        PairEncoder.load(tmp_path, device="cpu")
