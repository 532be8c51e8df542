"The thirty tasks: what each promises, against slow references where there are any."

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from skimage import measure, morphology, segmentation, transform

from taco.base import TaskError
from taco.data.prepare import NEEDS, collate, prepare
from taco.data.record import Record
from taco.tasks import generative
from taco.tasks.catalogue import ALL_TASKS, GENERATIVE, SEMANTIC, TRANSFORMATION
from taco.tasks.random import Draw
from taco.tasks.semantic import CONTRAST, choose_colours
from taco.tasks.task import FAMILIES, TASKS, Choice, Task, Uniform, get_task

NOTHING_DRAWN = {"horizontal_flip", "vertical_flip", "intensity_inversion", "colorization"}


def random_record(seed: int, size: int = 64) -> Record:
    "Overlapping ellipses and bars of three classes on a textured background; colour, grey CT and grey MR in turn."
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size] / size
    semantic, instances = np.zeros((2, size, size), np.int64)
    for i in range(1, 9 + seed % 4):
        cx, cy, turn = *rng.uniform(0.1, 0.9, 2), rng.uniform(0, 3)
        a, b = rng.uniform(0.06, 0.16, 2) * (1 if i % 3 else np.array([1.8, 0.35]))
        u, v = (
            (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn),
            (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn),
        )
        inside = (u / a) ** 2 + (v / b) ** 2 < 1
        semantic[inside], instances[inside] = 1 + i % 3, i
    tints = rng.uniform(0.15, 0.85, (4, 3) if seed % 3 == 0 else (4, 1))
    texture = ndimage.gaussian_filter(rng.normal(0, 0.3, (size, size)), 1.5)
    image = np.moveaxis(tints[semantic] + texture[..., None], -1, 0).clip(0, 1).astype(np.float32)
    return Record(image, semantic=semantic, instances=instances, modality=("histology", "CT", "MR")[seed % 3])


def constant(value: float, count: int, modality: str = "CT", size: int = 64):
    return collate(
        [prepare(Record(np.full((1, size, size), value, np.float32), modality=modality), size)] * count
    )


@pytest.fixture(scope="module")
def batch():
    return collate([prepare(random_record(seed), 64) for seed in range(9)])


def run(name, batch, seed=0, **parameters):
    "The task on those records that allow it; returns the records, the input and the output."
    task = get_task(name)
    able = batch[task.allows(batch)]
    assert len(able) >= 2, f"the test batch holds too few records for {name}"
    return able, *task(able, seeds=torch.arange(len(able)) + 1000 * seed, **parameters)


# --- all thirty -----------------------------------------------------------------------------------------------------


def test_the_catalogue_lists_thirty_tasks_family_by_family():
    assert len(ALL_TASKS) == len(set(ALL_TASKS)) == 30
    assert [TASKS[name].family for name in ALL_TASKS] == [f for f in FAMILIES for _ in range(10)]
    assert all(TASKS[name].summary and TASKS[name].title for name in ALL_TASKS)


@pytest.mark.parametrize("size", [33, 64, 100])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_pairs_are_pictures(name, size):
    some = collate([prepare(random_record(seed), size) for seed in range(6)])
    able, input, output = run(name, some)
    for picture in (input, output):
        assert picture.shape == able.image.shape and picture.dtype == torch.float32
        assert picture.isfinite().all() and picture.min() >= 0 and picture.max() <= 1
    clean = output if name in GENERATIVE else input
    assert torch.equal(clean, able.image), (
        "semantic and transformation tasks show the image as input, generative ones as output"
    )


@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_seed_determines_the_pair(name, batch):
    able, *first = run(name, batch)
    _, *again = run(name, batch)
    _, *other = run(name, batch, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    changed = any(not torch.equal(a, b) for a, b in zip(first, other))
    assert changed == (name not in NOTHING_DRAWN)
    one, two = (get_task(name)(able, torch.Generator().manual_seed(5)) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(one, two))


@pytest.mark.parametrize("name", ALL_TASKS)
def test_an_image_alone_is_the_same_as_in_a_batch(name, batch):
    able, *together = run(name, batch)
    for i in (0, len(able) - 1):
        alone = get_task(name)(able[i], seeds=torch.tensor([i]))
        assert all(torch.allclose(a[0], t[i], atol=1e-5) for a, t in zip(alone, together))


@pytest.mark.parametrize("name", ALL_TASKS)
def test_the_output_differs_from_the_input(name, batch):
    able, input, output = run(name, batch)
    difference = (input - output).abs().mean((1, 2, 3))
    assert (difference > 0.004).all(), difference


@pytest.mark.parametrize("name", ALL_TASKS)
def test_the_batch_is_left_as_it_was(name, batch):
    able = batch[TASKS[name].allows(batch)]
    before = able.map(torch.clone)
    TASKS[name](able, seeds=torch.arange(len(able)))
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(vars(able).values(), vars(before).values())
    )


@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_parameter_may_be_set_to_the_ends_of_its_limits(name, batch):
    task = TASKS[name]
    able = batch[task.allows(batch)]
    for parameter, spec in task.parameters.items():
        for value in spec.bounds():
            for picture in task(able, seeds=torch.arange(len(able)), **{parameter: np.float64(value)}):
                assert picture.isfinite().all() and picture.dtype == torch.float32


def test_a_training_loops_autocast_changes_nothing(batch):
    for name in ("super_resolution", "despeckling", "box_detection", "free_rotation"):
        _, *plain = run(name, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, *under = run(name, batch)
        assert all(torch.equal(a, b) for a, b in zip(plain, under))


# --- semantic, against slow references ------------------------------------------------------------------------------


def white(picture):
    return (picture[:, 0] > 0.5).numpy()  # the fixed palette is white on black


def test_binary_segmentation_and_foreground_extraction(batch):
    able, _, output = run("binary_segmentation", batch, palette=0)
    assert np.array_equal(white(output), able.semantic.numpy() > 0) and set(output.unique().tolist()) == {
        0,
        1,
    }
    able, _, output = run("foreground_extraction", batch, palette=0)
    assert torch.equal(output, able.image * (able.semantic > 0)[:, None])


@pytest.mark.parametrize(
    "name, labels", [("multi_class_segmentation", "semantic"), ("instance_segmentation", "instances")]
)
@pytest.mark.parametrize("palette", [0, 1])
def test_every_label_has_one_colour_of_its_own(name, labels, palette, batch):
    able, _, output = run(name, batch, palette=palette)
    for picture, map_ in zip(output, getattr(able, labels)):
        colours = torch.cat(
            [picture.flatten(1).T[(map_ == k).flatten()].unique(dim=0) for k in map_.unique()]
        )
        assert len(colours) == len(map_.unique()), "one colour per label"
        assert torch.pdist(colours).min() > (0.2 if labels == "semantic" else 0.01), (
            "and no two labels share it"
        )


@pytest.mark.parametrize(
    "name", ["binary_segmentation", "box_detection", "boundary_detection", "centreline", "convex_hull"]
)
def test_masks_have_two_colours_that_contrast(name, batch):
    for picture in run(name, batch)[2]:
        colours = picture.flatten(1).T.unique(dim=0)
        assert len(colours) == 2 and torch.pdist(colours) > CONTRAST - 1e-3, (
            f"{name} paints with two colours that can be told apart"
        )


def test_boundary_detection_is_find_boundaries(batch):
    able, _, output = run("boundary_detection", batch, palette=0)
    expected = [segmentation.find_boundaries(m, connectivity=2, mode="thick") for m in able.semantic.numpy()]
    assert np.array_equal(white(output), expected)
    noise = torch.randint(0, 3, (4, 40, 40), generator=torch.Generator().manual_seed(0))
    from taco.tasks.semantic import boundaries

    assert np.array_equal(
        boundaries(noise),
        [segmentation.find_boundaries(m, connectivity=2, mode="thick") for m in noise.numpy()],
    )


def test_boundaries_grow_with_the_image():
    labels = np.zeros((192, 192), np.int64)
    labels[60:130, 50:140] = 1
    large = collate([prepare(Record(np.zeros((1, 192, 192), np.float32), semantic=labels), 192)])
    output = TASKS["boundary_detection"](large, seeds=torch.zeros(1), palette=0)[1]
    near = ndimage.distance_transform_cdt(labels == 1, "chessboard") + ndimage.distance_transform_cdt(
        labels == 0, "chessboard"
    )
    assert np.array_equal(white(output)[0], near <= 3)


def test_centreline_of_width_0_is_the_skeleton_and_widens_evenly(batch):
    able, _, output = run("centreline", batch, palette=0, width=0)
    skeletons = [morphology.skeletonize(m) for m in able.semantic.numpy() > 0]
    assert np.array_equal(white(output), skeletons)
    wide = white(run("centreline", batch, palette=0, width=0.1)[2])
    distance = np.stack([ndimage.distance_transform_edt(~s) for s in skeletons]) / 64
    sure = abs(distance - 0.05) > 1e-3  # the batch stores half precision
    assert np.array_equal(wide[sure], (distance <= 0.05)[sure])


def test_convex_hull_and_distance_map(batch):
    able, _, output = run("convex_hull", batch, palette=0)
    assert np.array_equal(white(output), [morphology.convex_hull_image(m) for m in able.semantic.numpy() > 0])
    able, _, output = run("distance_map", batch, palette=0)
    expected = np.stack([ndimage.distance_transform_edt(m) for m in able.semantic.numpy() > 0])
    assert np.allclose(output[:, 0], expected / expected.max((1, 2), keepdims=True), atol=2e-3)


@pytest.mark.parametrize("width, pixels", [(0, 1), (0.02, 1), (0.047, 3)])
def test_box_detection_draws_the_bounding_boxes(width, pixels, batch):
    able, _, output = run("box_detection", batch, palette=0, width=width)
    for picture, objects in zip(white(output), able.instances.numpy()):
        expected = np.zeros((64, 64), bool)
        for region in measure.regionprops(objects):
            y0, x0, y1, x1 = region.bbox
            for inset in range(pixels):
                if y0 + inset < y1 - inset and x0 + inset < x1 - inset:
                    expected[y0 + inset : y1 - inset, [x0 + inset, x1 - 1 - inset]] = True
                    expected[[y0 + inset, y1 - 1 - inset], x0 + inset : x1 - inset] = True
        assert np.array_equal(picture, expected)


def test_a_box_smaller_than_a_pixel_is_still_seen():
    tiny = collate(
        [
            prepare(
                Record(
                    np.zeros((1, 64, 64), np.float32), boxes=np.array([[0.5, 0.5, 0.503, 0.503]], np.float32)
                ),
                64,
            )
        ]
    )
    assert TASKS["box_detection"](tiny, seeds=torch.zeros(1), palette=0)[1][0, 0].sum() == 1


def test_centre_point_detection_is_the_maximum_of_gaussians(batch):
    able, _, output = run("centre_point_detection", batch, palette=0, sigma=0.04)
    y, x = (np.mgrid[:64, :64] + 0.5) / 64
    for picture, objects in zip(output, able.instances.numpy()):
        centres = [(np.array(r.centroid) + 0.5) / 64 for r in measure.regionprops(objects)]
        heat = np.max([np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 0.04**2)) for cy, cx in centres], 0)
        assert np.allclose(picture[0], heat, atol=1e-4)


def test_palettes_are_random_reach_every_colour_and_keep_their_distance():
    colours = choose_colours(Draw(torch.arange(2000)), 4, torch.ones(2000))
    assert min(torch.pdist(c).min() for c in colours[:300]) > CONTRAST - 1e-3
    histogram = torch.histc(colours, 5, 0, 1) / colours.numel()
    assert (histogram > 0.1).all(), "dark, middle and bright values all occur"
    assert (colours.mean((0, 1)) - 0.5).abs().max() < 0.05
    assert choose_colours(Draw(torch.arange(3)), 4, torch.zeros(3)).unique(dim=0).shape[0] == 1, (
        "the fixed palette is one"
    )


def test_two_hundred_classes_can_be_painted():
    labels = np.arange(64 * 64).reshape(64, 64) % 201 * (np.arange(64) < 60)
    many = collate([prepare(Record(np.zeros((1, 64, 64), np.float32), semantic=labels), 64)])
    output = TASKS["multi_class_segmentation"](many, seeds=torch.zeros(1))[1]
    assert output[0].flatten(1).T.unique(dim=0).shape[0] == 125


# --- generative -----------------------------------------------------------------------------------------------------

AT_REST = dict(
    gaussian_denoising=dict(sigma=0),
    salt_and_pepper_denoising=dict(amount=0),
    despeckling=dict(strength=0),
    deblurring=dict(width=0),
    super_resolution=dict(reduction=0),
    inpainting=dict(size=0),
    outpainting=dict(margin=0),
    colorization=dict(strength=0),
    bias_field_correction=dict(strength=0),
    k_space_reconstruction=dict(missing=0),
    free_rotation=dict(angle=0),
    translation=dict(x=0, y=0),
    scaling=dict(zoom=0),
    shear=dict(angle=0),
    elastic_deformation=dict(strength=0),
    brightness_change=dict(shift=0),
)


@pytest.mark.parametrize("name", AT_REST)
def test_strength_0_is_the_identity(name, batch):
    _, input, output = run(name, batch, **AT_REST[name])
    assert torch.allclose(input, output, atol=2e-5)


def test_every_generative_task_has_a_strength():
    assert set(GENERATIVE) <= set(AT_REST)


@pytest.mark.parametrize(
    "name, parameter, values",
    [
        ("gaussian_denoising", "sigma", (0.05, 0.1, 0.2)),
        ("salt_and_pepper_denoising", "amount", (0.05, 0.1, 0.2)),
        ("despeckling", "strength", (0.2, 0.5, 1)),
        ("deblurring", "width", (0.01, 0.02, 0.05)),
        ("super_resolution", "reduction", (0.3, 0.6, 0.9)),
        ("inpainting", "size", (0.05, 0.1, 0.25)),
        ("outpainting", "margin", (0.05, 0.15, 0.3)),
        ("bias_field_correction", "strength", (0.3, 1, 2)),
        ("k_space_reconstruction", "missing", (0.2, 0.5, 0.8)),
        ("elastic_deformation", "strength", (0.02, 0.05, 0.1)),
        ("brightness_change", "shift", (0.1, 0.3, 0.6)),
        ("colorization", "strength", (0.3, 0.6, 1)),
    ],
)
def test_more_strength_changes_more(name, parameter, values, batch):
    errors = [(lambda i, o: (i - o).square().mean())(*run(name, batch, **{parameter: v})[1:]) for v in values]
    assert errors[0] < errors[1] < errors[2]


def test_noise_is_normal_and_in_mr_rician():
    noisy = TASKS["gaussian_denoising"](constant(0.5, 40), seeds=torch.arange(40), sigma=0.1)[0]
    assert abs(noisy.mean() - 0.5) < 2e-3 and abs(noisy.std() - 0.1) < 1e-3
    assert stats.kstest(noisy[:, 0].flatten()[::17], "norm", args=(0.50, 0.1)).pvalue > 1e-3
    signal = 128 / 255  # what 0.5 is after packing to eight bits
    rician = TASKS["gaussian_denoising"](constant(0.5, 40, "MR"), seeds=torch.arange(40), sigma=0.1)[0][
        :, 0
    ].flatten()
    assert stats.kstest(rician[::17], "rice", args=(signal / 0.1, 0, 0.1)).pvalue > 1e-3
    assert abs(rician.square().mean() - (signal**2 + 2 * 0.1**2)) < 2e-3
    assert stats.kstest(rician[::17], "norm", args=(signal, 0.1)).pvalue < 1e-3, (
        "and it is told from a normal distribution"
    )


def test_noise_keeps_grey_images_grey_and_colour_channels_apart(batch):
    grey, colour = (
        run("gaussian_denoising", batch[torch.tensor(rows)], sigma=0.1) for rows in ([1, 2, 4], [0, 3, 6])
    )
    assert torch.equal(grey[1][:, 0], grey[1][:, 2])
    noise = (colour[1] - colour[2])[:, :, 20:40, 20:40]
    assert np.corrcoef(noise[:, 0].flatten(), noise[:, 1].flatten())[0, 1] < 0.1


def test_salt_and_pepper_are_as_many():
    spoiled = TASKS["salt_and_pepper_denoising"](constant(0.5, 40), seeds=torch.arange(40), amount=0.2)[0][
        :, 0
    ]
    assert abs((spoiled == 0).float().mean() - 0.1) < 2e-3 and abs((spoiled == 1).float().mean() - 0.1) < 2e-3


def test_speckle_is_multiplicative_rayleigh_with_a_grain():
    speckle = lambda value, **p: (
        TASKS["despeckling"](constant(value, 60), seeds=torch.arange(60), **p)[0][:, 0]
        / (round(value * 255) / 255)
    )
    full, dim = speckle(0.2, strength=1, grain=0.015), speckle(0.1, strength=1, grain=0.015)
    assert torch.allclose(full, dim, atol=1e-4), "multiplicative: the factor does not depend on the image"
    assert (
        stats.kstest(full[:, ::9, ::9].flatten(), "rayleigh", args=(0, math.sqrt(2 / math.pi))).pvalue > 1e-3
    )
    for strength in (0.5, 1):
        factor = speckle(0.2, strength=strength, grain=0.015)
        assert (
            abs(factor.mean() - 1) < 0.01 and abs(factor.std() - strength * math.sqrt(4 / math.pi - 1)) < 0.01
        )
    correlation = lambda f, lag: np.corrcoef(f[..., lag:].flatten(), f[..., :-lag].flatten())[0, 1]
    assert correlation(full, 1) > 0.5 and abs(correlation(full, 12)) < 0.03
    assert abs(correlation(speckle(0.2, strength=1, grain=0), 1)) < 0.02, (
        "without a grain neighbours are independent"
    )


def test_gaussian_blur_is_scipys(batch):
    able, input, output = run("deblurring", batch, motion=0, width=1.5 / 64)
    expected = ndimage.gaussian_filter(output.numpy(), (0, 0, 1.5, 1.5), mode="mirror", truncate=8)
    assert np.allclose(input, expected, atol=1e-4)


def test_motion_blur_smears_along_its_angle_and_keeps_the_light():
    dot = np.zeros((1, 64, 64), np.float32)
    dot[0, 32, 32] = 1
    dots = collate([prepare(Record(dot), 64)] * 4)
    smear = TASKS["deblurring"](
        dots, seeds=torch.arange(4), motion=1, width=0.04, angle=torch.tensor([0.0, 45, 90, 135])
    )[0][:, 0]
    assert torch.allclose(smear.sum((1, 2)), torch.ones(4), atol=1e-4)
    y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
    for picture, angle in zip(smear, (0, 45, 90, 135)):
        t = math.radians(angle)
        along, across = (
            (picture * (x * math.cos(t) - y * math.sin(t)) ** 2).sum() ** 0.5,
            (picture * (x * math.sin(t) + y * math.cos(t)) ** 2).sum() ** 0.5,
        )
        assert abs(along - 0.04 * 64) < 0.15 and across < 0.6


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_super_resolution_shows_block_means(factor, batch):
    _, input, output = run("super_resolution", batch, reduction=1 - 1 / factor)
    expected = F.interpolate(F.avg_pool2d(output, factor), scale_factor=factor, mode="nearest")
    assert torch.allclose(input, expected, atol=1e-5)


def test_super_resolution_by_any_factor_keeps_the_mean_of_each_large_pixel(batch):
    _, input, output = run(
        "super_resolution", batch, reduction=1 - 11 / 64
    )  # eleven large pixels on sixty-four
    edges = np.linspace(0, 64, 12)
    fine = (
        output.numpy().repeat(11, -1).repeat(11, -2)
    )  # 704 = 11 · 64 pixels, so that every edge falls on one
    means = fine.reshape(*fine.shape[:2], 11, 64, 11, 64).mean((3, 5))
    cell = np.searchsorted(edges, np.arange(64) + 0.5) - 1
    assert np.allclose(input, means[:, :, cell][..., cell], atol=1e-4)


@pytest.mark.parametrize("name", ["inpainting", "outpainting"])
def test_missing_parts_are_one_flat_colour_and_the_rest_is_untouched(name, batch):
    _, input, output = run(name, batch)
    for i, o in zip(input, output):
        hole = (i != o).any(0)
        assert hole.float().mean() > 0.02 and i[:, hole].unique(dim=1).shape[1] == 1


def test_outpainting_hides_the_rim_and_shows_the_centre():
    picture = constant(0.5, 30)
    input, output = TASKS["outpainting"](picture, seeds=torch.arange(30), margin=0.25)
    hidden = (input != output).any(1)
    assert hidden[:, :9].all() and hidden[:, -9:].all() and hidden[:, :, :9].all() and hidden[:, :, -9:].all()
    assert not hidden[:, 16:48, 16:48].any()


def test_a_bias_field_is_smooth_positive_and_as_deep_as_asked():
    input, output = TASKS["bias_field_correction"](constant(1.0, 50), seeds=torch.arange(50), strength=1.5)
    field = (input / output)[:, 0]
    assert torch.allclose(field.amax((1, 2)), torch.ones(50), atol=1e-4)
    assert torch.allclose(field.amin((1, 2)), torch.full((50,), math.exp(-1.5)), atol=1e-4)
    assert field.diff(dim=1).abs().max() < 0.12 and field.diff(dim=2).abs().max() < 0.12


@pytest.mark.parametrize("missing", [0, 0.3, 0.7, 0.8])
def test_k_space_masks_hold_the_centre_and_the_number_of_lines_asked_for(missing):
    lines = generative._measured_lines(Draw(torch.arange(400)), torch.full((400,), missing), 64)
    assert (lines.sum(1) == round((1 - missing) * 64)).all()
    density = torch.fft.fftshift(lines.float().mean(0))
    assert (density[30:35] == 1).all()
    if missing:
        assert density[32] > density[24:40].mean() > density[12:52].mean() > density.mean()


def test_the_undersampled_image_agrees_with_the_clean_one_where_k_space_was_measured(batch):
    able, input, output = run("k_space_reconstruction", batch, missing=0.6, vertical=0)
    lines = generative._measured_lines(Draw(torch.arange(len(able))), torch.full((len(able),), 0.6), 64)[
        :, None, :, None
    ]
    clean = torch.fft.fft2(output)
    filled = torch.fft.ifft2(torch.where(lines, clean, 0))
    assert torch.allclose(input, filled.abs().clamp(0, 1), atol=1e-5)
    assert torch.allclose(
        torch.fft.fft2(filled)[lines.expand_as(clean)], clean[lines.expand_as(clean)], atol=1e-2
    )
    turned = able.map(torch.clone)
    turned.image = able.image.mT.contiguous()
    columns = TASKS["k_space_reconstruction"](turned, seeds=torch.arange(len(able)), missing=0.6, vertical=1)[
        0
    ]
    assert torch.allclose(columns.mT, input, atol=1e-5), "columns are the rows of the transposed image"


# --- transformation -------------------------------------------------------------------------------------------------


def then(name, batch, picture, **parameters):
    "Apply the task to a picture in place of the batch's image; return its output."
    next_ = batch.map(torch.clone)
    next_.image = picture
    return TASKS[name](next_, seeds=torch.arange(len(batch)), **parameters)[1]


@pytest.mark.parametrize(
    "name, there, back",
    [
        ("horizontal_flip", {}, {}),
        ("vertical_flip", {}, {}),
        ("quarter_turn", dict(turns=1), dict(turns=3)),
        ("quarter_turn", dict(turns=2), dict(turns=2)),
    ],
)
def test_exact_inverses(name, there, back, batch):
    assert torch.equal(then(name, batch, then(name, batch, batch.image, **there), **back), batch.image)


def test_inversion_twice_is_the_image(batch):
    assert torch.allclose(then("intensity_inversion", batch, 1 - batch.image), batch.image, atol=1e-7)


@pytest.mark.parametrize(
    "name, there, back",
    [
        ("free_rotation", dict(angle=35), dict(angle=-35)),
        ("free_rotation", dict(angle=200), dict(angle=160)),
        ("translation", dict(x=0.13, y=-0.08), dict(x=-0.13, y=0.08)),
        ("scaling", dict(zoom=0.5), dict(zoom=-0.5)),
        ("scaling", dict(zoom=-0.5), dict(zoom=0.5)),
        ("shear", dict(angle=20, vertical=0), dict(angle=-20, vertical=0)),
        ("shear", dict(angle=-20, vertical=1), dict(angle=20, vertical=1)),
    ],
)
def test_approximate_inverses_inside(name, there, back, batch):
    smooth = torch.from_numpy(ndimage.gaussian_filter(batch.image.numpy(), (0, 0, 2, 2)))
    there_and_back = then(name, batch, then(name, batch, smooth, **there), **back)
    inside = (..., slice(20, 44), slice(20, 44))
    moved = then(name, batch, smooth, **there)
    assert (there_and_back - smooth)[inside].abs().mean() < 0.01 < (moved - smooth)[inside].abs().mean()


def test_brightness_is_undone_where_nothing_was_clipped(batch):
    middle = 0.4 + 0.2 * batch.image
    assert torch.allclose(
        then("brightness_change", batch, then("brightness_change", batch, middle, shift=0.3), shift=-0.3),
        middle,
        atol=1e-6,
    )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_agrees_with_rot90(turns, batch):
    assert torch.allclose(
        then("free_rotation", batch, batch.image, angle=90.0 * turns),
        torch.rot90(batch.image, turns, (-2, -1)),
        atol=1e-4,
    )
    assert torch.equal(
        then("quarter_turn", batch, batch.image, turns=turns), torch.rot90(batch.image, turns, (-2, -1))
    )


def test_rotation_agrees_with_scikit_image(batch):
    expected = transform.rotate(np.moveaxis(batch.image[0].numpy(), 0, -1), 33, order=1, mode="constant")
    assert np.allclose(
        np.moveaxis(then("free_rotation", batch, batch.image, angle=33)[0].numpy(), 0, -1)[2:-2, 2:-2],
        expected[2:-2, 2:-2],
        atol=1e-3,
    )


def test_translation_scaling_and_shear_go_the_way_they_say(batch):
    right = then("translation", batch, batch.image, x=0.25, y=0)
    assert torch.allclose(right[..., 16:], batch.image[..., :48], atol=1e-5) and (right[..., :16] == 0).all()
    down = then("translation", batch, batch.image, x=0, y=0.5)
    assert torch.allclose(down[..., 32:, :], batch.image[..., :32, :], atol=1e-5)
    square = torch.zeros_like(batch.image)
    square[..., 24:40, 24:40] = 1
    assert (
        then("scaling", batch, square, zoom=1).sum((1, 2, 3)) / square.sum((1, 2, 3)) - 4
    ).abs().max() < 0.1
    bar = torch.zeros_like(batch.image)
    bar[..., 31:33] = 1
    top, bottom = (
        then("shear", batch, bar, angle=30, vertical=0)[0, 0, row].argmax().item() for row in (5, 58)
    )
    assert top < 31 - 10 and bottom > 32 + 10, "upright lines lean to the left"
    bar = bar.mT.contiguous()
    left, right = (
        then("shear", batch, bar, angle=30, vertical=1)[0, 0, :, column].argmax().item() for column in (5, 58)
    )
    assert right < 31 - 10 and left > 32 + 10, "level lines go up on the right"


@pytest.mark.parametrize("strength", [0.03, 0.1])
def test_elastic_deformation_moves_as_far_as_it_says_and_not_on_the_border(strength):
    ramps = constant(0, 20)
    place = (torch.arange(64) + 0.5) / 64
    ramps.image = torch.stack(torch.broadcast_tensors(place, place[:, None], torch.tensor(0.0))).expand(
        20, -1, -1, -1
    )
    input, output = TASKS["elastic_deformation"](ramps, seeds=torch.arange(20), strength=strength)
    moved = (output - input)[:, :2, 6:-6, 6:-6].square().sum(1).sqrt()
    assert (moved.amax((1, 2)) - strength).abs().max() < 0.1 * strength
    assert (output - input)[:, 0, 32, [1, -2]].abs().max() < 0.2 * strength


# --- bad input ------------------------------------------------------------------------------------------------------


def test_mistakes_are_named_with_a_way_out(batch):
    with pytest.raises(TaskError, match="gaussian_denoising"):
        get_task("gausian_denoising")
    with pytest.raises(TaskError, match="Did you mean 'sigma'"):
        TASKS["gaussian_denoising"](batch, sgima=0.1)
    with pytest.raises(TaskError, match="no parameters"):
        TASKS["horizontal_flip"](batch, angle=1)
    with pytest.raises(TaskError, match=r"0 … 1"):
        TASKS["gaussian_denoising"](batch, sigma=1.5)
    with pytest.raises(TaskError, match="out of range"):
        TASKS["gaussian_denoising"](batch, sigma=math.nan)
    with pytest.raises(TaskError, match="out of range"):
        TASKS["free_rotation"](batch, angle=torch.tensor([0.0] * 8 + [400.0]))


@pytest.mark.parametrize("name", [n for n in ALL_TASKS if TASKS[n].needs != {"image"}])
def test_a_record_without_what_the_task_needs_is_refused(name, batch):
    plain = collate([prepare(Record(np.zeros((1, 32, 32), np.float32)), 64)])
    need = sorted(TASKS[name].needs - {"image"})
    with pytest.raises(TaskError) as error:
        TASKS[name](plain, seeds=torch.zeros(1))
    assert any(NEEDS[n] in str(error.value) for n in need) and name in str(error.value)
    assert not TASKS[name].allows(plain).any()


def test_families_hold_the_tasks_named():
    assert SEMANTIC[0] == "binary_segmentation" and TRANSFORMATION[-1] == "brightness_change"


# ── what a task draws ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_amounts_are_strengths():
    "A kind and a direction are drawn, and say nothing of how much was done."
    drawn = dict(amount=Uniform(1, 3, signed=True), kind=Choice((True, False)), angle=Uniform(0, 180, ordered=False))
    own, draw = Task("own", "generative", frozenset({"image"}), lambda *_: _, drawn), Draw(torch.arange(300))
    found, amount = own.strengths(draw), drawn["amount"].draw("amount", draw)
    assert found.shape == (300, 1) and found.dtype == torch.float32
    assert torch.allclose(found[:, 0], (amount + 3) / 6) and found.min() < 0.05 and found.max() > 0.95
    for spec in (get_task("deblurring"), get_task("quarter_turn"), get_task("horizontal_flip")):
        ordered = [name for name, of in spec.parameters.items() if of.ordered]
        assert spec.strengths(draw).shape == (300, len(ordered)) and "angle" not in ordered


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        (dict(low=0.3, high=0.1), "smaller number first"),
        (dict(low=-1, high=1, signed=True), "sign of a signed number"),
        (dict(low=float("nan"), high=1), "smaller number first"),
        (dict(low=0, high=float("inf")), "smaller number first"),
        (dict(low=0, high=2, limits=(0, 1)), "Widen the limits"),
        (dict(low=0.5, high=1, limits=(0, 3), signed=True), "Widen the limits"),
    ],
)
def test_a_range_that_cannot_be_drawn_is_refused(given, fix):
    with pytest.raises(TaskError, match=fix):
        Uniform(**given)


@pytest.mark.parametrize("values", [(), ("left", "right"), (None, 1)])
def test_a_choice_needs_numbers(values):
    with pytest.raises(TaskError, match="something to choose from"):
        Choice(values)
