"taco.atlas.rivals.image_contrast: views, their stream, and a training that resumes."
from dataclasses import replace

import lightning.pytorch as L
import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from taco.atlas.rivals.baselines import baseline
from taco.atlas.rivals.image_contrast import (
    ImageContrast,
    ImageContrastConfig,
    ImageEncoderConfig,
    Views,
    ViewSampler,
    image_view as view,
    train_image_contrast,
)
from taco.base import EncoderError, ParameterError, StoreError, TacoError
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.loss import supcon

SMALL = EncoderConfig("resnet10", width=.125, size=32, pool=False)
IMAGE = ImageEncoderConfig.like(SMALL)


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "monusac", subjects=6)


CONFIG = ImageContrastConfig.of(
    steps=24, pairs=16, learning_rate=3e-3, log_every=1, checkpoint_every=10, precision="32", device="cpu",
    encoder=IMAGE)


class Killer(L.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 15: raise RuntimeError("pulled the plug")


def test_the_loss_is_nt_xent():
    z = F.normalize(torch.randn(40, 6, dtype=torch.float64), dim=1)
    labels = torch.arange(20).repeat(2)
    for temperature in (.07, .1, .5):
        assert torch.isclose(supcon(z, labels, temperature), NTXentLoss(temperature)(z, labels))


def test_views_are_functions_of_their_seeds(store):
    batch, seeds = store.batch(np.arange(6)), torch.arange(6)
    first = view(batch, seeds)
    assert torch.equal(first, view(batch, seeds)) and not torch.equal(first, view(batch, seeds + 9))
    assert first.min() >= 0 and first.max() <= 1
    assert torch.allclose(view(batch[3], seeds[3:4]), first[3:4], atol=1e-5)
    off = dict(randomise=False, blur=0, noise=0, grey=0)
    plain = view(batch, seeds, Views(**off))
    assert torch.allclose(plain, batch.image)
    grey = view(batch, seeds, Views(**off | dict(grey=1)))
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.allclose(grey[:, 0], batch.image.mean(1), atol=1e-6)
    smooth = view(batch, seeds, Views(**off | dict(blur=1, width=.1)))
    assert (smooth - batch.image).abs().max() > .01
    with pytest.raises(ParameterError, match="noise"): Views(noise=2)


def test_the_stream_sees_training_images_alone(store):
    sampler = ViewSampler(store, 32, seed=1)
    records = torch.cat([sampler.plan(step).record for step in range(20)])
    assert set(store.table["split"].iloc[records.tolist()]) == {"train"}
    whole, halves = sampler.raw(3)[1], [sampler.raw(3, rank, 2)[1] for rank in (0, 1)]
    assert torch.equal(torch.stack([h.record for h in halves], 1).flatten(), whole.record)
    with pytest.raises(StoreError, match="split"): ViewSampler(store, 8, split="nowhere")


def test_training_learns_and_resumes_to_the_last_bit(store, tmp_path):
    straight = train_image_contrast(store, CONFIG, tmp_path / "straight", progress=False)
    losses = pd.read_csv(tmp_path / "straight/history.csv").loss
    assert losses.iloc[-6:].mean() < losses.iloc[:3].mean() - .2
    with pytest.raises(RuntimeError, match="plug"):
        train_image_contrast(store, CONFIG, tmp_path / "killed", progress=False, callbacks=[Killer()])
    assert (tmp_path / "killed/training.ckpt").exists() and not (tmp_path / "killed/encoder").exists()
    resumed = train_image_contrast(store, CONFIG, tmp_path / "killed", progress=False)
    for name, weights in straight.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert pd.read_csv(tmp_path / "killed/history.csv").loss.equals(losses)

    again = train_image_contrast(store, CONFIG, tmp_path / "killed", progress=False)  # finished: loaded
    x, y = torch.rand(2, 3, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(x, y)[1], straight(x, y)[1])
        for spec in (f"image-contrast:{tmp_path / 'straight'}", "image-contrast:straight/encoder"):
            assert torch.equal(baseline(spec, root=tmp_path)(x, y)[1], straight(x, y)[1])
    for change in (dict(seed=1), dict(pairs=12), dict(views=Views(noise=0.))):
        with pytest.raises(TacoError, match="another training run"):
            train_image_contrast(store, replace(CONFIG, **change), tmp_path / "killed", progress=False)


def test_the_network_is_tacos(tmp_path):
    ours, theirs = ImageContrast(IMAGE), PairEncoder(SMALL)
    inner = lambda e: [(n, t) for n, t in e.backbone.state_dict().items() if n != "conv1.weight"]
    shapes = lambda e: {name: tuple(t.shape) for name, t in inner(e)}
    assert shapes(ours) == shapes(theirs) and ours.backbone.conv1.weight.shape[1] == 3
    ours.eval().save(tmp_path / "image")
    theirs.save(tmp_path / "pair")
    with pytest.raises(EncoderError, match="image-contrast"): PairEncoder.load(tmp_path / "image")
    with pytest.raises(EncoderError, match="kind"): ImageContrast.load(tmp_path / "pair")
    file = tmp_path / "image/encoder.safetensors"
    weights = load_file(file)
    weights.pop("projection.0.bias")
    save_file(weights, file, metadata=dict(format="pt"))
    with pytest.raises(EncoderError, match="projection.0.bias"): ImageContrast.load(tmp_path / "image")


def test_settings_that_make_no_sense():
    for wrong in (dict(pairs=1), dict(steps=0), dict(pairs=True), dict(optimiser="adam"), dict(views=dict(blur=3))):
        with pytest.raises(ParameterError): ImageContrastConfig.of(**wrong)
    like = ImageContrastConfig(encoder=EncoderConfig("resnet10", "contrast", width=.5))
    assert like.encoder == ImageEncoderConfig("resnet10", width=.5)
    assert ImageContrastConfig.of(steps=7, width=.5).encoder == ImageEncoderConfig(width=.5)
    assert ImageContrastConfig.of(fusion="input").encoder.fusion == "input"


def test_it_may_see_what_taco_sees_of_an_image(tmp_path):
    "Edges and greys beside the colours, in training and as an encoder; they are kept with the weights."
    encoder = ImageContrast(ImageEncoderConfig("resnet10", fusion="input", width=.125, size=32)).eval()
    assert encoder.backbone.conv1.in_channels == 5
    x, y = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    again = ImageContrast.load(encoder.save(tmp_path / "encoder"), device="cpu")
    assert again.config.fusion == "input" and torch.equal(again(x, y)[1], encoder(x, y)[1])
    with pytest.raises(EncoderError, match="shared or input"): ImageEncoderConfig(fusion="stack")
