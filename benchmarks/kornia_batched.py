"""The tasks that kornia has as well, for a whole batch: its augmentation modules, which draw parameters per sample.

Each entry makes a callable of a `Batch` that gives the pair of images (B, 3, S, S). Ranges are those of the task where
kornia's module knows them; where it draws less (one strength for a batch, one hole instead of five, no MR noise, a
brighter or darker spot instead of a bias field), it is left the easier job. Three semantic tasks are made of kornia's
functions, and what those leave out is done with two random colours as cheaply as can be.
kornia is no requirement of taco: `pip install taco[bench]`. Without it the column stays empty and says so.
"""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from taco.data.prepare import Batch

INSTALLED = importlib.util.find_spec("kornia") is not None


def _odd(pixels: float) -> int:
    return 2 * round(pixels / 2) + 1


def _modules(size: int) -> dict[str, Callable]:
    import kornia.augmentation as K

    gaussian = K.RandomGaussianBlur(_odd(0.24 * size), (0.018 * size, 0.04 * size), p=1)
    motion = K.RandomMotionBlur((3, _odd(0.12 * size)), angle=(0.0, 180.0), direction=0.0, border_type="reflect", p=1)

    noise = K.RandomGaussianNoise(std=0.13, p=1)

    def either_blur(image: Tensor) -> Tensor:
        half = len(image) // 2
        return torch.cat([gaussian(image[:half]), motion(image[half:])])

    return dict(
        gaussian_denoising=lambda image: noise(image).clamp_(0, 1),
        salt_and_pepper_denoising=K.RandomSaltAndPepperNoise(amount=(0.05, 0.25), p=1),
        deblurring=either_blur,
        inpainting=K.RandomErasing(scale=(0.02, 0.1), p=1),
        colorization=K.RandomGrayscale(p=1),
        bias_field_correction=K.RandomGaussianIllumination(gain=(0.3, 0.6), p=1),
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


def _blended(weight: Tensor) -> Tensor:
    "(B, 3, S, S) of (B, 1, S, S): a ramp between two random colours for each sample."
    low, high = torch.rand(2, len(weight), 3, 1, 1)
    return torch.lerp(low, high, weight)


def _functions(size: int) -> dict[str, Callable]:
    from kornia.contrib import distance_transform
    from kornia.geometry.subpix import render_gaussian2d
    from kornia.morphology import gradient

    square = torch.ones(3, 3)

    def borders(batch: Batch) -> Tensor:
        return _blended((gradient(batch.semantic[:, None].float(), square) > 0).float())

    def depths(batch: Batch) -> Tensor:
        depth = distance_transform((batch.semantic[:, None] == 0).float())
        return _blended(depth / depth.amax((1, 2, 3), keepdim=True).clamp(min=1e-6))

    def spots(batch: Batch) -> Tensor:
        sigma = (0.05 + 0.05 * torch.rand(len(batch), 1, 1)).expand(-1, -1, 2)  # of two sides, as places have -1 to 1
        there = ~batch.points[..., :1].isnan()
        heat = render_gaussian2d(2 * batch.points.nan_to_num(0.5) - 1, sigma, (size, size))
        heat = heat / heat.amax((2, 3), keepdim=True) * there[..., None]
        return _blended(heat.amax(1, keepdim=True))

    return dict(boundary_detection=borders, distance_map=depths, centre_point_detection=spots)


def batched(size: int) -> dict[str, Callable[[Batch], tuple[Tensor, Tensor]]]:
    "By task: what makes pairs of a batch with kornia; empty where kornia is not installed."
    if not INSTALLED:
        return {}

    def of_image(module: Callable) -> Callable:
        return lambda batch: (batch.image, module(batch.image))

    def of_labels(function: Callable) -> Callable:
        return lambda batch: (batch.image, function(batch))

    modules = {name: of_image(module) for name, module in _modules(size).items()}
    return modules | {name: of_labels(function) for name, function in _functions(size).items()}
