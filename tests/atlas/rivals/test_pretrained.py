"Published weights: read without trusting them, refused by name, and the numbers of the libraries they come from."

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from taco.atlas import embedding
from taco.atlas.rivals import pretrained
from taco.atlas.rivals.pretrained import CLIPS, IMAGENET_MEAN, IMAGENET_STD, PAIRS, ImagePairs, clip, imagenet
from taco.base import EncoderError


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 3, 40, 40, generator=generator)


# ── Blocks in parts ───────────────────────────────────────────────────────────────────────────────


class Noticing(torch.nn.Module):
    "Small means of images, and how many it was shown at a time."
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return F.adaptive_avg_pool2d(images, 4).flatten(1)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("count", [1, 15, 17, 100])
def test_a_block_is_computed_in_parts_with_the_same_numbers(pair, count, monkeypatch):
    x, y = torch.rand(2, count, 3, 24, 24, generator=torch.Generator().manual_seed(count))
    encoder = ImagePairs(Noticing(), 48, IMAGENET_MEAN, IMAGENET_STD, pair)
    parts = encoder(x, y)
    sizes, encoder.network.seen = encoder.network.seen, []
    monkeypatch.setattr(embedding, "PART", 10**6)
    whole, rows = encoder(x, y), 2 * count if pair == "difference" else count
    assert encoder.network.seen == [rows] and sum(sizes) == rows
    assert max(sizes) < 32 and (len(sizes) == 1 or min(sizes) >= 16)
    assert all(torch.equal(a, b) for a, b in zip(parts, whole))


# ── torchvision's ResNet-50, written down once more ───────────────────────────────────────────────


def torchvision_weights() -> dict:
    "A random state dict with the names and shapes of torchvision.models.resnet50."
    generator, weights = torch.Generator().manual_seed(1), {}

    def conv(name, out, into, side):
        weights[f"{name}.weight"] = (
            torch.randn(out, into, side, side, generator=generator) * (2 / (into * side**2)) ** 0.5
        )

    def norm(name, size):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = (
            torch.rand(size, generator=generator) + 0.2,
            torch.randn(size, generator=generator) * 0.1,
        )
        weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = (
            torch.randn(size, generator=generator) * 0.1,
            torch.rand(size, generator=generator) + 0.5,
        )
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 3, 7), norm("bn1", 64)
    into = 64
    for stage, (planes, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3)), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            (
                conv(f"{at}.conv1", planes, into, 1),
                norm(f"{at}.bn1", planes),
                conv(f"{at}.conv2", planes, planes, 3),
                norm(f"{at}.bn2", planes),
            )
            conv(f"{at}.conv3", 4 * planes, planes, 1), norm(f"{at}.bn3", 4 * planes)
            if block == 0:
                (
                    conv(f"{at}.downsample.0", 4 * planes, into, 1),
                    norm(f"{at}.downsample.1", 4 * planes),
                )
            into = 4 * planes
    weights["fc.weight"], weights["fc.bias"] = (
        torch.randn(1000, 2048, generator=generator),
        torch.zeros(1000),
    )
    return weights


def torchvision_forward(w: dict, x: torch.Tensor) -> torch.Tensor:
    "The forward pass of torchvision's resnet50 up to the pooled features: stride in the 3 × 3 convolution, no biases."
    norm = lambda x, n: F.batch_norm(
        x,
        w[f"{n}.running_mean"],
        w[f"{n}.running_var"],
        w[f"{n}.weight"],
        w[f"{n}.bias"],
        False,
        0.0,
        1e-5,
    )
    x = F.max_pool2d(
        norm(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1").relu(), 3, 2, 1
    )
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = norm(F.conv2d(x, w[f"{at}.conv1.weight"]), f"{at}.bn1").relu()
            y = norm(
                F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1), f"{at}.bn2"
            ).relu()
            y = norm(F.conv2d(y, w[f"{at}.conv3.weight"]), f"{at}.bn3")
            if block == 0:
                x = norm(
                    F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1"
                )
            x = (x + y).relu()
    return x.mean((2, 3))


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory) -> tuple[Path, dict]:
    file, weights = tmp_path_factory.mktemp("imagenet") / "resnet50.pth", torchvision_weights()
    torch.save(weights, file)
    return file, weights


@torch.inference_mode()
def test_imagenet_numbers_are_those_of_torchvisions_forward(resnet50, images):
    file, weights = resnet50
    x, y = images
    standard = lambda t: (
        (t - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    )
    features, embedding = imagenet(file, size=40)(x, y)
    a, b = torchvision_forward(weights, standard(x)), torchvision_forward(weights, standard(y))
    assert a.std() > 0 and torch.allclose(
        features, torch.cat([a, b, b - a], 1), rtol=1e-3, atol=1e-4 * a.abs().max()
    )
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)
    canvas = imagenet(file, "canvas", size=40)
    assert canvas(x, y)[1].shape == (3, 2048) and not torch.allclose(
        canvas(x, y)[1], canvas(y, x)[1], atol=1e-3
    )


def test_imagenet_from_safetensors_and_older_files(resnet50, images, tmp_path):
    file, weights = resnet50
    save_file(
        {f"module.{n}": t for n, t in weights.items() if not n.endswith("num_batches_tracked")},
        tmp_path / "r.safetensors",
    )
    with torch.inference_mode():
        assert torch.equal(
            imagenet(tmp_path / "r.safetensors", size=32)(*images)[1],
            imagenet(file, size=32)(*images)[1],
        )


class Evil:
    def __reduce__(self): return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("change, words", [
    (lambda w: w.pop("layer2.0.conv2.weight"), ["missing", "layer2.0.conv2.weight", "absent"]),
    (lambda w: w.update({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}),
     ["another shape", "layer1.0.conv1.weight", "(64, 64, 3, 3)", "(64, 64, 1, 1)"]),
    (lambda w: w.update({"layer5.0.conv1.weight": torch.zeros(1)}), ["does not have", "layer5.0.conv1.weight"]),
    (lambda w: w["bn1.weight"].fill_(torch.nan), ["not numbers", "bn1.weight"]),
    (lambda w: w.update(extra=Evil()), ["cannot be read", "arrays alone"]),
])
def test_imagenet_refuses_what_does_not_fit(resnet50, tmp_path, change, words):
    weights = {n: t.clone() for n, t in resnet50[1].items()}
    change(weights)
    torch.save(weights, tmp_path / "wrong.pth")
    with pytest.raises(EncoderError) as error: imagenet(tmp_path / "wrong.pth")
    for word in [*words, "wrong.pth", "fix:"]: assert word in str(error.value)


def test_files_that_hold_no_weights(tmp_path):
    (tmp_path / "half.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04 and no more")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, word in (
        ("half.safetensors", "cannot be read"),
        ("half.pth", "cannot be read"),
        ("list.pth", "state dict"),
        ("none.pth", "no such file"),
    ):
        with pytest.raises(EncoderError, match=word) as error:
            imagenet(tmp_path / name)
        assert name in str(error.value) and "fix:" in str(error.value)


# ── CLIP ──────────────────────────────────────────────────────────────────────────────────────────

TINY = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    "A CLIP of a few thousand random weights, as transformers saves it."
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=TINY | dict(vocab_size=50, bos_token_id=1, eos_token_id=2),
        vision_config=TINY | dict(image_size=32, patch_size=8),
        projection_dim=12,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(dict(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]))
    )
    return folder


@torch.inference_mode()
def test_clip_gives_transformers_numbers(clip_folder, images):
    from transformers import CLIPModel
    x, y = images
    model, encoder = CLIPModel.from_pretrained(clip_folder).eval(), clip(clip_folder)
    small = F.interpolate(x, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    expected = model.get_image_features(
        pixel_values=(small - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        / torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1)
    )
    expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    features, embedding = encoder(x, y)
    assert torch.allclose(features[:, :12], expected, atol=1e-5) and embedding.shape == (3, 36)
    a, b = (F.normalize(features[:, k:k + 12], dim=1) for k in (0, 12))
    assert torch.allclose(embedding, F.normalize(torch.cat([a, b, b - a], 1), dim=1), atol=1e-6)


@torch.inference_mode()
def test_clip_on_a_canvas(clip_folder, images):
    x, y = images
    encoder = clip(clip_folder, "canvas")
    canvas = encoder.canvas(x, y)
    assert (
        canvas.shape == (3, 3, 32, 32)
        and canvas[:, :, :8].abs().max() == canvas[:, :, 24:].abs().max() == 0
    )
    for picture, columns in ((x, slice(0, 16)), (y, slice(16, 32))):
        shown = canvas[:, :, 8:24, columns] * encoder.std + encoder.mean
        assert torch.allclose(
            shown,
            F.interpolate(picture, (16, 16), mode="bicubic", antialias=True).clamp(0, 1),
            atol=1e-5,
        )
    embedding = encoder(x, y)[1]
    assert (
        embedding.shape == (3, 12)
        and torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)
        and torch.equal(embedding, clip(clip_folder, "canvas")(x, y)[1])
    )
    with pytest.raises(EncoderError, match="difference, canvas"): clip(clip_folder, "stacked")


def test_clip_from_a_pickle_of_arrays(clip_folder, images, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "bin")
    weights = load_file(folder / "model.safetensors") | {
        "vision_model.embeddings.position_ids": torch.arange(17)[None]
    }
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with torch.inference_mode():
        assert torch.equal(clip(folder)(*images)[1], clip(clip_folder)(*images)[1])


def edit(file: Path, change) -> None:
    weights = {n: t.clone() for n, t in load_file(file).items()}
    change(weights)
    save_file(weights, file, metadata=dict(format="pt"))


KEY = "vision_model.encoder.layers.1.mlp.fc1.weight"


@pytest.mark.parametrize("change, words", [
    (lambda d: edit(d / "model.safetensors", lambda w: w.pop(KEY)), ["missing", KEY, "model.safetensors"]),
    (lambda d: edit(d / "model.safetensors", lambda w: w.update({KEY: torch.zeros(32, 8)})),
     ["another shape", KEY, "(32, 8)", "(32, 16)", "model.safetensors"]),
    (lambda d: edit(d / "model.safetensors", lambda w: w[KEY].fill_(torch.inf)),
     ["not numbers", KEY, "model.safetensors"]),
    (lambda d: (d / "model.safetensors").write_bytes(b"half"), ["cannot be read", "model.safetensors"]),
    (lambda d: (d / "model.safetensors").unlink(), ["no weights", "model.safetensors"]),
    (lambda d: (d / "config.json").write_text("{"), ["configuration cannot be read", "config.json"]),
    (lambda d: (d / "config.json").unlink(), ["configuration cannot be read", "config.json"]),
    (lambda d: (d / "config.json").write_text('{"model_type": "siglip"}'), ["not a CLIP", "model_type", "siglip"]),
])
def test_clip_refuses_what_does_not_fit(clip_folder, tmp_path, change, words):
    folder = shutil.copytree(clip_folder, tmp_path / "wrong")
    change(folder)
    with pytest.raises(EncoderError) as error: clip(folder)
    for word in [*words, "fix:"]: assert word in str(error.value)


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__): raise LocalEntryNotFoundError("no network")
    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(EncoderError) as error: clip("pubmedclip")
    for word in (
        "flaviagiammarino/pubmed-clip-vit-base-patch32",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "clip:<folder>",
    ):
        assert word in str(error.value)


def test_a_hub_that_answers(clip_folder, images, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import LocalEntryNotFoundError
    asked, empty = [], tmp_path / "empty"
    empty.mkdir()

    def online(repository, local_files_only=False, allow_patterns=()):
        asked.append(allow_patterns)
        if local_files_only: raise LocalEntryNotFoundError("not cached")
        return str(clip_folder if "pytorch_model.bin" in allow_patterns else empty)
    monkeypatch.setattr(hub, "snapshot_download", online)
    with torch.inference_mode():
        assert torch.equal(clip("plip")(*images)[1], clip(clip_folder)(*images)[1])
    assert len(asked) == 4 and "model.safetensors" in asked[1]


def test_clips_by_name():
    for name in ("medclip", "google/medsiglip-448"):
        with pytest.raises(EncoderError, match="fix: +Choose another"): clip(name)
    for name in ("pubmedclp", "/no/such/folder", "./none"):
        with pytest.raises(EncoderError, match="no such CLIP"): clip(name)
    assert all(p.hub.count("/") == 1 and p.licence and p.citation for p in CLIPS.values())


def test_the_extra_is_imported_only_when_asked_for(clip_folder, monkeypatch):
    top = [
        alias.name.split(".")[0]
        for node in ast.parse(Path(pretrained.__file__).read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in [ast.alias(getattr(node, "module", None) or ""), *node.names]
    ]
    assert top and not {"transformers", "huggingface_hub", "torchvision"} & set(top)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match="optional extra 'clip'") as error: clip(clip_folder)
    assert "pip install" in str(error.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderError, match="optional extra 'clip'"): clip("pubmedclip")


# ── BiomedCLIP's layout ───────────────────────────────────────────────────────────────────────────


def timm_weights(width=128, depth=2, patch=8, side=4, out=10) -> dict:
    "Random weights with the names that open_clip gives the image tower of BiomedCLIP."
    torch.manual_seed(2)
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + side**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for k in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 2 * width, width),
            ("mlp.fc2", width, 2 * width),
        ):
            shapes |= {
                f"blocks.{k}.{name}.weight": (rows, columns),
                f"blocks.{k}.{name}.bias": (rows,),
            }
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{k}.{name}.weight": (width,), f"blocks.{k}.{name}.bias": (width,)}
    weights = {f"visual.trunk.{n}": torch.randn(s) * .1 for n, s in shapes.items()}
    return weights | {
        "visual.head.proj.weight": torch.randn(out, width),
        "text.transformer.some.weight": torch.zeros(2),
        "logit_scale": torch.tensor(1.0),
    }


def timm_forward(w: dict, images: torch.Tensor, patch=8) -> torch.Tensor:
    "timm's VisionTransformer (pre-norm, class token, GELU) and open_clip's projection, from their definitions."
    w = {n.removeprefix("visual.trunk."): t for n, t in w.items()}
    norm = lambda x, n: F.layer_norm(x, x.shape[-1:], w[f"{n}.weight"], w[f"{n}.bias"], 1e-6)
    linear = lambda x, n: F.linear(x, w[f"{n}.weight"], w[f"{n}.bias"])
    x = (
        F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
        .flatten(2)
        .transpose(1, 2)
    )
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]
    for k in range(2):
        B, N, C = x.shape
        q, key, v = (
            linear(norm(x, f"blocks.{k}.norm1"), f"blocks.{k}.attn.qkv")
            .reshape(B, N, 3, C // 64, 64)
            .permute(2, 0, 3, 1, 4)
        )
        attended = ((q @ key.transpose(-2, -1)) / 8).softmax(-1) @ v
        x = x + linear(attended.transpose(1, 2).reshape(B, N, C), f"blocks.{k}.attn.proj")
        x = x + linear(
            F.gelu(linear(norm(x, f"blocks.{k}.norm2"), f"blocks.{k}.mlp.fc1")),
            f"blocks.{k}.mlp.fc2",
        )
    return norm(x, "norm")[:, 0] @ w["visual.head.proj.weight"].T


@pytest.fixture
def biomedclip(tmp_path) -> Path:
    torch.save(timm_weights(), tmp_path / "open_clip_pytorch_model.bin")
    tower = dict(
        timm_model_name="vit_base_patch16_224",
        timm_model_pretrained=False,
        timm_pool="",
        timm_proj="linear",
    )
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps(
            dict(
                model_cfg=dict(embed_dim=10, vision_cfg=tower),
                preprocess_cfg=dict(mean=[0.5] * 3, std=[0.25] * 3),
            )
        )
    )
    return tmp_path


@torch.inference_mode()
def test_biomedclips_tower_without_open_clip(biomedclip, images):
    small = F.interpolate(images[0], (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    features = clip(biomedclip)(*images)[0]
    assert torch.allclose(
        features[:, :10], timm_forward(timm_weights(), (small - 0.5) / 0.25), rtol=1e-3, atol=1e-4
    )
    assert clip(biomedclip, "canvas")(*images)[1].shape == (3, 10)


def test_biomedclips_faults(biomedclip):
    file = biomedclip / "open_clip_pytorch_model.bin"
    for key in (
        "visual.trunk.blocks.1.attn.qkv.weight",
        "visual.trunk.cls_token",
        "visual.head.proj.weight",
        "visual.trunk.pos_embed",
    ):
        torch.save({n: t for n, t in timm_weights().items() if n != key}, file)
        with pytest.raises(EncoderError, match="open_clip_pytorch_model.bin"):
            clip(biomedclip)
    config = biomedclip / "open_clip_config.json"
    config.write_text(config.read_text().replace("vit_base", "swin_base"))
    with pytest.raises(EncoderError, match="plain ViT"): clip(biomedclip)
