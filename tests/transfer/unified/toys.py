"Small images with known structures, and the shortest way to tune a network on them."
import numpy as np
import torch

from taco.learning.loop import FitConfig
from taco.transfer.unified.targets import Examples, Target
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
        assert any(weights) == any(statistics)
        found.append(any(weights))
    return found
