"Encoders to compare with: the same interface, and each by one word."
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from taco.atlas.embedding import embed, plan_pairs, planned
from taco.atlas.rivals.baselines import (
    BASELINE_NAMES,
    PixelEncoder,
    PixelPCA,
    available,
    baseline,
    baseline_name,
    named_folders,
)
from taco.atlas.rivals.image_contrast import ImageContrast, ImageEncoderConfig
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
        "pca",
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
        "pca",
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
