"UMS-Rep: what a step sees, and how images and masks are turned and shaded."
import math

import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.transfer.unified.batches import NO_AUGMENT, Augment, augmented, batches
from tests.transfer.unified.toys import relabelled

MOVES = dict(light=0, contrast=0, gamma=0, noise=0)  # and does not shade
SHADES = dict(turn=0, zoom=0, shift=0)               # and does not move


def squares(count: int = 64) -> torch.Tensor:
    image = torch.zeros(count, 1, 32, 32)
    image[:, :, 8:20, 10:22] = 1
    return image


def change(image: torch.Tensor, how: Augment, seed: int = 0, **masks) -> tuple:
    return augmented(image, masks, how, torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- steps

def test_batches_are_a_function_of_the_step_and_show_every_image_equally_often(images):
    draw = batches(images, images, 8, seed=3)
    for step in (0, 5): assert torch.equal(draw(step).noisy, draw(step).noisy)
    assert not torch.equal(draw(0).noisy, draw(3).noisy)
    seen = torch.cat([draw(step).image for step in range(3)])  # 24 images, once each
    assert len(torch.unique((seen * 255).round(), dim=0)) == len(images)


def test_fewer_images_to_denoise_leave_the_labelled_ones_as_they_are(images):
    many, few = (batches(images, images, 8, seed=3, noisy=n, augment=Augment()) for n in (None, 2))
    assert torch.equal(many(5).image, few(5).image) and len(few(5).noisy) == len(few(5).clean) == 2
    plain = batches(images, images, 8, seed=3, noisy=2)
    seen = torch.cat([plain(step).clean for step in range(len(images) // 2)])
    sums = lambda clean: sorted(clean.flatten(1).sum(1).tolist())
    assert sums(seen) == pytest.approx(sums(images.clean(np.arange(len(images)))))
    for wrong in (dict(noisy=0), dict(size=0)):
        with pytest.raises(ParameterError, match="at least one image"): batches(images, images, **wrong)


def test_a_batch_moves_to_another_device_as_a_whole(images):
    moved = batches(images, images, 4)(0).to("meta")
    parts = [moved.image, moved.clean, moved.noisy, *moved.labels.values()]
    assert len(parts) == 5 and all(part.device.type == "meta" for part in parts)


# ---------------------------------------------------------------- augmentation

def test_a_mask_moves_with_its_image():
    square = squares()
    moved, masks = change(square, Augment(often=1, **MOVES), it=square[:, 0].long(), again=3 * square[:, 0].byte())
    assert masks["it"].dtype == torch.long and masks["again"].dtype == torch.uint8
    assert ((moved[:, 0] > .5) == masks["it"].bool()).float().mean() > .99
    assert torch.equal(masks["again"], 3 * masks["it"].byte()), "no label is mixed of two"
    where = [(mask.nonzero().float().mean(0), mask.sum()) for mask in masks["it"]]
    places, areas = torch.stack([place for place, _ in where]), torch.stack([area for _, area in where]).float()
    assert (places.std(0) > .5).all() and areas.std() > 10, "shifted, turned and zoomed"
    assert (places - torch.tensor([13.5, 15.5])).abs().max() < 6 and .6 < areas.min() / 144 < areas.max() / 144 < 1.5


@pytest.mark.parametrize("turn, zoom, shift", [(30., 0, 0), (0, .5, 0), (0, 0, .2)])
def test_images_move_as_far_as_is_said(turn, zoom, shift):
    "A round blob beside the middle: how far it lies from there, in which direction, how large it is."
    y, x = torch.meshgrid(torch.arange(64.), torch.arange(64.), indexing="ij")
    blob = torch.exp(-((y - 31.5) ** 2 + (x - 43.5) ** 2) / 18).expand(200, 1, -1, -1)
    moved, _ = change(blob, Augment(turn, zoom, shift, often=1, **MOVES))
    total = moved.sum((1, 2, 3))
    down, right = ((moved * axis).sum((1, 2, 3)) / total - 31.5 for axis in (y, x))
    angle, far = torch.atan2(down, right) * 180 / math.pi, torch.hypot(down, right)
    if turn: assert 27 < angle.max() < 30.5 and -30.5 < angle.min() < -27 and (far - 12).abs().max() < .3
    elif zoom:
        assert 7.9 < far.min() < 8.3 and 22 < far.max() < 24.1 and angle.abs().max() < 1, "12 / 1.5, 12 / 0.5"
    else:
        assert max(down.abs().max(), (right - 12).abs().max()) < 64 * .2 + .1
        assert min(down.max(), -down.min(), (right - 12).max(), (12 - right).max()) > 64 * .2 * .9


def test_shading_leaves_the_range_and_the_masks_alone():
    image, mask = squares() * .5 + .2, squares()[:, 0].long()
    shaded, masks = change(image, Augment(often=1, **SHADES), it=mask)
    assert shaded.min() >= 0 and shaded.max() <= 1 and torch.equal(masks["it"], mask)
    assert (shaded - image).flatten(1).abs().mean(1).min() > 1e-3, "every image is another"
    loud, _ = change(image, Augment(0, 0, 0, 2., 1., 3., 2., 1))
    assert loud.min() >= 0 and loud.max() <= 1
    for one in (dict(light=.15), dict(contrast=.3), dict(gamma=.4), dict(noise=.03)):
        alone, _ = change(image, Augment(0, 0, 0, **{**MOVES, **one}, often=1))
        assert not torch.allclose(alone, image, atol=1e-3), one


def test_some_images_are_left_as_they_are_and_moving_is_drawn_apart_from_shading():
    image = squares(400) * .5 + .2
    changed = lambda how: ((change(image, how)[0] - image).flatten(1).abs().amax(1) > 1e-4).float()
    moved, shaded = changed(Augment(often=.5, **MOVES)), changed(Augment(often=.5, **SHADES))
    for share in (moved.mean(), shaded.mean()): assert .4 < share < .6
    assert abs(np.corrcoef(moved, shaded)[0, 1]) < .2
    whole = changed(Augment(often=.5))
    assert .65 < whole.mean() < .85


def test_no_augmentation_is_the_image_itself(images):
    image = squares()
    same, masks = change(image, NO_AUGMENT, it=image[:, 0])
    assert same is image and masks["it"].equal(image[:, 0])
    assert change(image, Augment(often=0))[0] is image
    batch = batches(images, images, 24)(0)
    sums = lambda many: sorted(many.flatten(1).sum(1).tolist())
    assert sums(batch.image) == sums(images.clean(np.arange(24)))


def test_a_change_is_a_function_of_seed_and_step(images):
    "Of one image, so that whatever differs is the change."
    one = images.take([1] * 8)
    draw = lambda step, seed=0: batches(one, one, 8, seed=seed, augment=Augment(often=1))(step)
    first, same, later, other = draw(0), draw(0), draw(1), draw(0, 1)
    for name in ("image", "clean", "noisy"): assert torch.equal(getattr(first, name), getattr(same, name))
    assert torch.equal(first.labels["organs"], same.labels["organs"])
    for batch in (later, other):
        for name in ("image", "clean"): assert not torch.allclose(getattr(first, name), getattr(batch, name), atol=.01)
        assert not torch.equal(first.labels["organs"], batch.labels["organs"])
    assert not torch.allclose(first.image, first.clean, atol=.01), "those with labels and those without, apart"


def test_masks_follow_and_classes_are_left_alone(images):
    "Organs are bright, so that a mask that stayed behind would lie beside them; each image is known by its finding."
    numbered = relabelled(images, **images.labels, number=torch.arange(len(images)))
    plain, turned = (batches(numbered, numbered, 8, seed=2, augment=how)(1) for how in (NO_AUGMENT, Augment(often=1)))
    for name in ("finding", "number"): assert torch.equal(plain.labels[name], turned.labels[name])
    assert not torch.equal(plain.labels["organs"], turned.labels["organs"])
    for batch in (plain, turned):
        inside = batch.labels["organs"][:, None] > 0
        for image, where in zip(batch.image, inside): assert image[where].mean() > image[~where].mean() + .2
    left = torch.isclose(plain.noisy, plain.clean) | torch.isclose(turned.noisy, turned.clean)
    assert left.float().mean() < .5 and turned.noisy.min() >= 0 and turned.noisy.max() <= 1


@pytest.mark.parametrize("name, value", [("turn", -1), ("zoom", 1.5), ("shift", -.1), ("gamma", math.nan),
                                         ("light", math.inf), ("often", 2), ("noise", "much"), ("contrast", 1.1)])
def test_impossible_augmentations_are_refused(name, value):
    with pytest.raises(ParameterError, match=rf"augmentation(.|\n)*{name}"): Augment(**{name: value})
