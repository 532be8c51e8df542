"""The tasks that kornia has as well, for a whole batch: its augmentation modules, which draw parameters per sample.

Each entry makes a callable of a batch (B, 3, S, S) in [0, 1]. Ranges are those of the task where kornia's module knows
them; where it draws less (one strength for a batch, one hole instead of five, no MR noise), it is left the easier job.
kornia is no requirement of taco: `pip install taco[bench]`. Without it the column stays empty and says so.
"""

import importlib.util
from collections.abc import Callable

import torch

INSTALLED = importlib.util.find_spec("kornia") is not None


def _odd(pixels: float) -> int:
    return 2 * round(pixels / 2) + 1


def _modules(size: int) -> dict[str, Callable]:
    import kornia.augmentation as K

    return dict(
        gaussian_denoising=K.RandomGaussianNoise(std=0.13, p=1),
        salt_and_pepper_denoising=K.RandomSaltAndPepperNoise(amount=(0.05, 0.25), p=1),
        deblurring=K.RandomGaussianBlur(_odd(0.24 * size), (0.018 * size, 0.04 * size), p=1),
        inpainting=K.RandomErasing(scale=(0.02, 0.1), p=1),
        colorization=K.RandomGrayscale(p=1),
        horizontal_flip=K.RandomHorizontalFlip(p=1),
        vertical_flip=K.RandomVerticalFlip(p=1),
        quarter_turn=K.RandomRotation90(times=(1, 3), p=1),
        free_rotation=K.RandomRotation(degrees=75.0, p=1, align_corners=False),
        translation=K.RandomTranslate((-0.35, 0.35), (-0.35, 0.35), p=1),
        scaling=K.RandomAffine(degrees=0.0, scale=(0.5, 2.0), p=1),
        shear=K.RandomShear(shear=(-40.0, 40.0), p=1),
        elastic_deformation=K.RandomElasticTransform((_odd(size / 2),) * 2, (size / 8,) * 2, p=1),
        intensity_inversion=K.RandomInvert(p=1),
        brightness_change=K.RandomBrightness(brightness=(0.6, 1.4), p=1),
    )


def batched(size: int) -> dict[str, Callable]:
    "By task: the pair of images that kornia makes of a batch; empty where kornia is not installed."
    if not INSTALLED:
        return {}

    def pair(module):
        def make(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return image, module(image)

        return make

    return {name: pair(module) for name, module in _modules(size).items()}
