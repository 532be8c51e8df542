"""The thirty tasks applied image by image with MONAI, scikit-image and SciPy: what `taco.tasks` is measured against.

Each function takes one record of the final size (`record`, image (3, S, S) float32), the parameter values and a
numpy generator, and returns the pair as arrays (3, S, S). They are written as a careful data-loader author would:
the library's own transform where there is one, nothing computed that the task does not need, no metadata tracking.
What `taco` reads from prepared maps (skeleton, distances, hull, boxes) is computed here, because nothing else would
have computed it.
"""

import math

import numpy as np
from monai.apps.reconstruction.transforms.array import RandomKspaceMask
from monai.data import set_track_meta
from monai.data.fft_utils import fftn_centered
from monai.transforms import (
    Affine,
    Flip,
    GaussianSmooth,
    Rand2DElastic,
    RandBiasField,
    RandCoarseDropout,
    RandGaussianNoise,
    RandRicianNoise,
    Rotate,
    Rotate90,
    ShiftIntensity,
)
from scipy import ndimage, signal
from skimage import color, draw, measure, morphology, segmentation, transform, util

set_track_meta(False)
REFERENCES: dict = {}  # task name -> (function, libraries it uses)


def reference(libraries: str):
    def enter(function):
        REFERENCES[function.__name__] = (function, libraries)
        return function

    return enter


def palette(count, rng, contrast=0.4):
    "Random colours that contrast with each other, by rejection."
    taken = [rng.random(3)]
    while len(taken) < count:
        colour = rng.random(3)
        if np.linalg.norm(np.array(taken) - colour, axis=1).min() > (contrast if len(taken) < 8 else 0.1):
            taken.append(colour)
    return taken


def painted(labels, colours):
    return np.moveaxis(color.label2rgb(labels, colors=colours[1:], bg_label=0, bg_color=colours[0]), -1, 0)


def blended(weight, rng):
    low, high = palette(2, rng)
    return np.moveaxis(low + weight[..., None] * (high - low), -1, 0)


# --- semantic -------------------------------------------------------------------------------------------------------


@reference("scikit-image")
def binary_segmentation(record, rng, **_):
    return record.image, painted((record.semantic > 0).astype(int), palette(2, rng))


@reference("scikit-image")
def multi_class_segmentation(record, rng, **_):
    return record.image, painted(record.semantic, palette(record.semantic.max() + 1, rng))


@reference("scikit-image")
def instance_segmentation(record, rng, **_):
    return record.image, painted(record.instances, palette(record.instances.max() + 1, rng, contrast=0.1))


@reference("scikit-image")
def box_detection(record, rng, width, **_):
    size, mask = record.semantic.shape[0], np.zeros(record.semantic.shape, int)
    for region in measure.regionprops(record.instances):
        y0, x0, y1, x1 = region.bbox
        for i in range(max(1, round(width * size))):
            if min(y1 - y0, x1 - x0) - 2 * i <= 2:
                mask[y0 + i : y1 - i, x0 + i : x1 - i] = 1
                break  # nothing but outline is left
            mask[
                draw.rectangle_perimeter(
                    (y0 + i + 1, x0 + i + 1), end=(y1 - 2 - i, x1 - 2 - i), shape=mask.shape
                )
            ] = 1  # drawn around its corners
    return record.image, painted(mask, palette(2, rng))


@reference("scikit-image")
def centre_point_detection(record, rng, sigma, **_):
    size = record.semantic.shape[0]
    place, heat = np.arange(size), np.zeros(record.semantic.shape)
    for region in measure.regionprops(record.instances):
        y, x = (np.exp(-0.5 * ((place - c) / (sigma * size)) ** 2) for c in region.centroid)
        np.maximum(heat, np.outer(y, x), out=heat)
    return record.image, blended(heat, rng)


@reference("scikit-image")
def boundary_detection(record, rng, **_):
    return record.image, painted(
        segmentation.find_boundaries(record.semantic, connectivity=2, mode="thick").astype(int),
        palette(2, rng),
    )


@reference("scikit-image, SciPy")
def centreline(record, rng, width, **_):
    distance = (
        ndimage.distance_transform_edt(~morphology.skeletonize(record.semantic > 0))
        / record.semantic.shape[0]
    )
    return record.image, painted((distance <= width / 2).astype(int), palette(2, rng))


@reference("SciPy")
def distance_map(record, rng, **_):
    distance = ndimage.distance_transform_edt(record.semantic > 0)
    return record.image, blended(distance / distance.max(), rng)


@reference("scikit-image")
def convex_hull(record, rng, **_):
    return record.image, painted(
        morphology.convex_hull_image(record.semantic > 0).astype(int), palette(2, rng)
    )


@reference("NumPy")
def foreground_extraction(record, rng, **_):
    return record.image, np.where(record.semantic > 0, record.image, rng.random((3, 1, 1)))


# --- generative -----------------------------------------------------------------------------------------------------


@reference("MONAI")
def gaussian_denoising(record, rng, sigma, **_):
    noise = (
        RandRicianNoise(prob=1, std=sigma, sample_std=False)
        if record.modality == "MR"
        else RandGaussianNoise(prob=1, std=sigma, sample_std=False)
    )
    return np.clip(noise.set_random_state(state=rng.legacy)(record.image), 0, 1), record.image


@reference("scikit-image")
def salt_and_pepper_denoising(record, rng, amount, **_):
    impulses = util.random_noise(
        np.full(record.image.shape[1:], 0.5), mode="s&p", amount=amount, rng=rng.modern
    )
    return np.where(impulses == 0.5, record.image, impulses), record.image


@reference("SciPy")
def despeckling(record, rng, strength, grain, **_):
    sigma = grain * record.image.shape[-1]
    real, imaginary = (
        ndimage.gaussian_filter(rng.modern.standard_normal(record.image.shape[1:], dtype=np.float32), sigma)
        for _ in "ri"
    )
    speckle = np.hypot(real, imaginary)
    return np.clip(record.image * (1 + strength * (speckle / speckle.mean() - 1)), 0, 1), record.image


@reference("MONAI, SciPy")
def deblurring(record, rng, width, motion, angle, **_):
    sigma = width * record.image.shape[-1]
    if not motion:
        return GaussianSmooth(sigma=float(sigma))(record.image), record.image
    radius = math.ceil(math.sqrt(3) * sigma) + 1
    kernel = np.zeros((2 * radius + 1,) * 2)
    along = math.sqrt(3) * sigma * np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    kernel[draw.line(*(round(radius + v) for v in (along[1], -along[0], -along[1], along[0])))] = 1
    mirrored = np.pad(record.image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    return signal.fftconvolve(mirrored, (kernel / kernel.sum())[None], mode="valid", axes=(1, 2)).clip(
        0, 1
    ), record.image


@reference("scikit-image")
def super_resolution(record, rng, reduction, **_):
    size = record.image.shape[-1]
    small = transform.resize_local_mean(
        record.image, (max(1, round((1 - reduction) * size)),) * 2, channel_axis=0
    )
    return transform.resize(small, record.image.shape, order=0), record.image


@reference("scikit-image")
def inpainting(record, rng, size, ellipse, **_):
    side, input = record.image.shape[-1], record.image.copy()
    fill = rng.random((3, 1)) if rng.random() < 0.5 else np.full((3, 1), rng.random())
    for _ in range(5):
        (cy, cx), (hy, hx) = side * rng.uniform(0.15, 0.85, 2), side * size * rng.uniform(0.3, 0.7, 2)
        where = (
            draw.ellipse(cy, cx, hy, hx, shape=(side, side))
            if ellipse
            else draw.rectangle((cy - hy, cx - hx), (cy + hy, cx + hx), shape=(side, side))
        )
        input[:, where[0].astype(int).ravel(), where[1].astype(int).ravel()] = fill
    return input, record.image


@reference("MONAI")
def outpainting(record, rng, margin, **_):
    side = record.image.shape[-1]
    keep = RandCoarseDropout(
        holes=1,
        spatial_size=max(1, int(side * (1 - 2 * margin))),
        dropout_holes=False,
        fill_value=float(rng.random()),
        prob=1,
    )
    return keep.set_random_state(state=rng.legacy)(record.image), record.image


@reference("scikit-image")
def colorization(record, rng, **_):
    return np.broadcast_to(color.rgb2gray(record.image, channel_axis=0), record.image.shape), record.image


@reference("MONAI")
def bias_field_correction(record, rng, strength, **_):
    field = RandBiasField(degree=3, coeff_range=(-0.3 * strength, 0.3 * strength), prob=1)
    return np.clip(field.set_random_state(state=rng.legacy)(record.image), 0, 1), record.image


@reference("MONAI")
def k_space_reconstruction(record, rng, missing, vertical, **_):
    image = record.image if vertical else record.image.swapaxes(1, 2)
    kspace = fftn_centered(
        np.stack([image, np.zeros_like(image)], -1)[:, None], spatial_dims=2
    )  # (3, one coil, S, S, re/im)
    mask = RandomKspaceMask(center_fractions=[0.08], accelerations=[1 / (1 - missing)])
    filled = mask.set_random_state(state=rng.legacy)(kspace)[1].clip(0, 1)
    return filled if vertical else filled.swapaxes(1, 2), record.image


# --- transformation -------------------------------------------------------------------------------------------------


@reference("MONAI")
def horizontal_flip(record, rng, **_):
    return record.image, Flip(spatial_axis=1)(record.image)


@reference("MONAI")
def vertical_flip(record, rng, **_):
    return record.image, Flip(spatial_axis=0)(record.image)


@reference("MONAI")
def quarter_turn(record, rng, turns, **_):
    return record.image, Rotate90(k=int(turns))(record.image)


@reference("MONAI")
def free_rotation(record, rng, angle, **_):
    return record.image, Rotate(angle=-math.radians(angle), keep_size=True, padding_mode="zeros")(
        record.image
    )


def affine(record, **parameters):
    return record.image, Affine(padding_mode="zeros", image_only=True, **parameters)(record.image)


@reference("MONAI")
def translation(record, rng, x, y, **_):
    return affine(record, translate_params=(-y * record.image.shape[-1], -x * record.image.shape[-1]))


@reference("MONAI")
def scaling(record, rng, zoom, **_):
    return affine(record, scale_params=(2**-zoom,) * 2)


@reference("MONAI")
def shear(record, rng, angle, vertical, **_):
    slope = math.tan(math.radians(angle))
    return affine(record, shear_params=(slope, 0.0) if vertical else (0.0, -slope))


@reference("MONAI")
def elastic_deformation(record, rng, strength, **_):
    side = record.image.shape[-1]
    bend = Rand2DElastic(
        spacing=side / 4, magnitude_range=(strength * side,) * 2, prob=1, padding_mode="zeros"
    )
    return record.image, bend.set_random_state(state=rng.legacy)(record.image)


@reference("scikit-image")
def intensity_inversion(record, rng, **_):
    return record.image, util.invert(record.image)


@reference("MONAI")
def brightness_change(record, rng, shift, **_):
    return record.image, np.clip(ShiftIntensity(offset=float(shift))(record.image), 0, 1)
