"Small images with known structures, the shortest way to tune a network on them, and results with known answers."
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from taco.learning.loop import FitConfig
from taco.learning.until import Patience
from taco.transfer.unified.examples import Examples
from taco.transfer.unified.networks import Setting
from taco.transfer.unified.results import Results
from taco.transfer.unified.targets import Target
from taco.transfer.unified.tuning import fine_tune

WIDTHS = (4, 8, 8, 8)
TARGETS = (Target("denoising", "denoising"), Target("organs", "segmentation", 3),
           Target("finding", "classification", 2))
WITHIN = (*TARGETS[:2], Target("finding", "classification", 2, within="organs"))


def examples(count: int = 24, size: int = 32, seed: int = 0, channels: int = 1) -> Examples:
    "Squares of two kinds on noise; the finding is whether the second is there."
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (count, channels, size, size), dtype=np.uint8)
    organs, finding = np.zeros((count, size, size), np.uint8), np.arange(count) % 2
    for i in range(count):
        y, x = rng.integers(2, size // 2 - 6, 2)
        image[i, :, y:y + 8, x:x + 8] += 120
        organs[i, y:y + 8, x:x + 8] = 1
        if finding[i]:
            image[i, :, -10:-4, -10:-4] += 190
            organs[i, -10:-4, -10:-4] = 2
    labels = dict(organs=torch.from_numpy(organs), finding=torch.from_numpy(finding))
    names, sources = np.array([f"s{i}" for i in range(count)]), np.array(["phantom"] * count)
    return Examples(torch.from_numpy(image), labels, names, sources)


def relabelled(images: Examples, **labels) -> Examples:
    "The same images with other labels."
    return Examples(images.image, labels, images.subject, images.source)


def brief(steps: int, **more) -> FitConfig:
    return FitConfig(steps=steps, precision="32", device="cpu", **more)


def tune(start, images, strategy="full", steps=4, targets=TARGETS, **more):
    return fine_tune(start, images, images, targets, brief(steps, checkpoint_every=2), strategy, WIDTHS, 8, **more)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    "Whether all weights and statistics of two networks are the same."
    pairs = zip(a.state_dict().values(), b.state_dict().values())
    return all(torch.equal(x, y) for x, y in pairs)


def moved(before: torch.nn.Module, after: torch.nn.Module) -> list[bool]:
    "For each stage whether any weight or statistic changed; a stage changes as a whole or not at all."
    found = []
    for a, b in zip(before.stages, after.stages):
        weights = [not torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())]
        statistics = [not torch.equal(x, y) for x, y in zip(a.buffers(), b.buffers())]
        assert all(statistics) or not any(statistics)
        assert not statistics or any(weights) == any(statistics), "of a batch norm, where there is one"
        found.append(any(weights))
    return found


# ---------------------------------------------------------------- studies

def setting(most: int = 3, **more) -> Setting:
    "Trainings of `most` steps at most; a look at the images after every second."
    short = dict(targets=WITHIN, patience=Patience(every=2, looks=1, falls=0), size=8, widths=WIDTHS, device="cpu",
                 precision="32")
    return Setting(most=most, **(short | more))


def montgomery_files(root: Path, count: int = 12) -> Path:
    "The published layout, made here: films of two classes, one mask a lung, the finding in the file's name."
    place = root / "montgomery"
    for folder in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
        (place / folder).mkdir(parents=True)
    for i in range(count):
        name = f"MCUCXR_{i:04d}_{i % 2}.png"
        film = np.random.default_rng(i).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(film).save(place / "CXR_png" / name)
        for side, columns in (("left", slice(22, 36)), ("right", slice(4, 18))):
            mask = np.zeros((40, 40), np.uint8)
            mask[8:30, columns] = 255
            Image.fromarray(mask).save(place / f"ManualMask/{side}Mask" / name)
    return root


# ---------------------------------------------------------------- results

IMAGES = 40
ARMS = {  # strategy, pretexts, labelled, operations, share of right findings, Dice
    "separate-all": ("separate", [], None, 1000, .9, .8), "guided-all": ("guided", [], None, 1100, .9, .75),
    "joint-all": ("joint", [], None, 900, .85, .7), "full-all": ("full", [], None, 200, .9, .8),
    "frozen-all": ("frozen", [], None, 100, .9, .6), "separate-6": ("separate", [], 6, 500, .6, .5),
    "full-6": ("full", [], 6, 200, .8, .7),
    "full.denoising+told-all": ("full", ["denoising", "told"], None, 200, .9, .85)}


def scores_of(right: float, dice: float) -> pd.DataFrame:
    "Test images of which each has the same noise in every arm; the first ones are told rightly."
    noise, truth = .02 * np.random.default_rng(0).standard_normal(IMAGES), np.arange(IMAGES) % 2
    noise -= noise.mean()
    correct = 1. * (np.arange(IMAGES) < IMAGES * right)
    table = {"dice organs": dice + noise, "correct finding": correct, "class finding": truth,
             "margin finding": (2 * correct - 1) * (2 * truth - 1)}
    for kind in ("Gaussian", "speckle"):
        table |= {f"psnr {kind}": 20. + noise, f"ssim {kind}": .5 + noise}
    return pd.DataFrame(table | {"set": 0, "image": np.arange(IMAGES), "subject": np.arange(IMAGES)})


def cost_of(strategy: str, pretexts: list[str], labelled: int | None, flops: int, right: float, dice: float) -> dict:
    "What an arm cost: two looks at each network, the second better."
    looks = dict(step=[2, 4], rate=[1., 1.], value=[-2., -1.], best=[False, True], flops=[flops // 2, flops],
                 accuracy=[.5, right], auroc=[.5, right], dice=[.1, dice], psnr=[15., 20.], ssim=[.2, .5])
    alone = strategy in ("separate", "guided")
    shares = {f"separate-{t.name}": s for t, s in zip(WITHIN, (.5, .3, .2))} if alone else {strategy: 1.}
    learnt = lambda name: [t.name for t in WITHIN if not alone or name.endswith(t.name)]
    network = lambda name, part: dict(flops=part * flops, steps=4, looks=looks | {f"loss {n}": [1., .5] for n in learnt(
        name)} | dict(flops=[part * flops / 2, part * flops]),
                                per_step=dict(learning=part * flops / 4 * 1.25, as_many=part * flops / 4 * 1.5))
    about = dict(strategy=strategy, pretexts=pretexts, labelled=labelled, as_one=False, seconds=1., weights=2)
    networks = {name: network(name, part) for name, part in shares.items()}
    return about | dict(flops=flops, flops_best=flops, all_weights=3, networks=networks)


def made(**arms) -> Results:
    "Three seeds of `ARMS`, of which some may be others; stage 1 took 100 operations, with a second pretext 150."
    arms = ARMS | arms
    return Results("chest X-ray", WITHIN, {n: [scores_of(*a[4:])] * 3 for n, a in arms.items()},
                   {n: [cost_of(*a)] * 3 for n, a in arms.items()},
                   {"denoising": [100] * 3, "denoising+told": [150] * 3}, {n: [] for n in arms}, "denoising")
