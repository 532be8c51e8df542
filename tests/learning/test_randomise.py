"taco.learning.randomise: what is varied, what stays aligned, what is not lost."
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from taco.base import ParameterError
from taco.data.prepare import NEEDS, Batch, collate, prepare
from taco.data.record import Record
from taco.learning.randomise import Randomisation, randomised
from taco.tasks.random import Draw

COLUMN = {name: i for i, name in enumerate(NEEDS)}


def discs(count=24, size=64, seed=0, colour=False) -> Batch:
    "Records whose image IS their label map: two classes of discs, drawn at 0.4 and 0.8 on 0."
    rng, rows = np.random.default_rng(seed), []
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        labels = np.zeros((size, size), np.uint8)
        for label in (1, 2):
            centre, radius = rng.uniform(.2, .8, 2), rng.uniform(.08, .2)
            labels[(y - centre[0])**2 + (x - centre[1])**2 < radius**2] = label
        channels = [labels * .4, labels * .1, 1 - labels * .4] if colour else [labels * .4] * 3
        image = np.stack(channels).astype(np.float32)
        rows.append(prepare(Record(image, semantic=labels, modality="CT"), size))
    return collate(rows)


GEOMETRY = Randomisation.only("zoom", "turn")


def test_off_is_the_identity():
    batch = discs()
    same = randomised(batch, Draw(torch.arange(len(batch))), how=Randomisation.off())
    for f in fields(Batch):
        after, before = (getattr(b, f.name) for b in (same, batch))
        if before.is_floating_point(): after, before = after.nan_to_num(-1.), before.nan_to_num(-1.)
        assert torch.equal(after, before), f.name
    none = randomised(batch, Draw(torch.arange(len(batch))), strength=0., how=replace(Randomisation(), turn=False))
    assert torch.allclose(none.image, batch.image, atol=1e-6)


def test_the_input_is_not_changed():
    batch = discs()
    before = batch.map(torch.clone)
    for how in (Randomisation(), Randomisation.without("zoom", "turn")):
        randomised(batch, Draw(torch.arange(len(batch))), how=how)
    for f in fields(Batch):
        assert torch.equal(getattr(batch, f.name).nan_to_num(), getattr(before, f.name).nan_to_num())


def test_image_and_labels_stay_aligned():
    batch = discs(64)
    moved = randomised(batch, Draw(torch.arange(64)), how=GEOMETRY)
    assert not torch.equal(moved.semantic, batch.semantic)
    wrong = ((moved.image[:, 0] / .4).round() != moved.semantic).float().mean((1, 2))
    assert wrong.max() < .04  # only the rims differ: one map is interpolated, the other is not
    # `prepare` drops specks of under four pixels
    whole = ((batch.instances > 0) == (batch.semantic > 0)).flatten(1).all(1)
    assert whole.sum() > 50 and torch.equal(moved.instances[whole] > 0, moved.semantic[whole] > 0)
    assert (moved.hull | (moved.semantic == 0)).all()


def test_turns_alone_are_exact():
    batch = discs(64)
    moved = randomised(batch, Draw(torch.arange(64)), how=Randomisation.only("turn"))
    turned = [t for k in range(4) for t in (batch.semantic.rot90(k, (1, 2)), batch.semantic.rot90(k, (1, 2)).flip(2))]
    which = torch.stack([(t == moved.semantic).flatten(1).all(1) for t in turned], 1)
    assert which.any(1).all() and which.any(0).all()  # each sample is one of the eight, and all eight occur
    assert torch.allclose(moved.image[:, 0], moved.semantic * .4, atol=1e-4)


def test_distances_grow_with_the_zoom():
    batch = discs(96)
    moved = randomised(batch, Draw(torch.arange(96)), how=GEOMETRY)
    deeper, checked = 0, 0
    for before, after, labels in zip(batch.distance, moved.distance, moved.semantic.numpy()):
        inside = labels > 0
        if any(rim.any() for rim in (inside[0], inside[-1], inside[:, 0], inside[:, -1])):
            continue  # the edge may lie outside the view
        exact = ndimage.distance_transform_edt(inside) / 64
        assert abs(after.numpy() - exact).max() < 1.8 / 64
        checked += 1
        deeper += after.max() > before.max() * 1.15
    assert checked > 8 and deeper > 4


def test_boxes_and_points_follow_their_objects():
    batch = discs(64)
    moved = randomised(batch, Draw(torch.arange(64)), how=GEOMETRY)
    boxes = 0
    for n in range(64):
        for box, number in zip(moved.boxes[n], range(1, 9)):
            if box.isnan().any(): continue
            x0, y0, x1, y1 = (box * 64).tolist()
            ys, xs = np.nonzero(moved.instances[n].numpy() == number)
            if not len(xs): continue
            boxes += 1
            found = np.array([xs.min(), xs.max() + 1, ys.min(), ys.max() + 1])
            assert abs(found - [x0, x1, y0, y1]).max() < 2
    assert boxes > 60
    assert ((moved.points >= 0) & (moved.points <= 1) | moved.points.isnan()).all()
    assert moved.points.isnan().sum() > batch.points.isnan().sum()  # some left the view


@pytest.mark.parametrize("need", ["semantic", "classes", "instances", "boxes", "points", "thick", "concave"])
def test_a_view_keeps_what_its_task_needs(need):
    batch = discs(200, seed=3)
    batch = batch[batch.can[:, COLUMN[need]]]
    needed = torch.zeros_like(batch.can)
    needed[:, [0, COLUMN[need]]] = True
    moved = randomised(batch, Draw(torch.arange(len(batch))), how=Randomisation(zoom=4), needed=needed)
    assert len(batch) > 20 and moved.can[:, COLUMN[need]].all()
    if need == "classes": assert all(len(np.unique(s)) > 2 for s in moved.semantic.numpy())
    if need == "instances": assert all(len(np.unique(s)) > 2 for s in moved.instances.numpy())
    if need == "boxes": assert (~moved.boxes.isnan()).any(2).any(1).all()


@pytest.mark.parametrize("need", NEEDS)
def test_turned_only_a_record_keeps_all_it_can(store, need):
    "The view that replaces a failed one must never fail itself, however close the record is to a limit."
    batch = store.batch(store.select(needs=[need])[:64])
    needed = torch.zeros_like(batch.can)
    needed[:, [0, COLUMN[need]]] = True
    for how in (Randomisation.only("turn"), Randomisation(zoom=4)):
        moved = randomised(batch, Draw(torch.arange(len(batch))), how=how, needed=needed)
        assert moved.can[:, COLUMN[need]].all()


def test_points_on_the_rim_stay():
    batch = discs(8)
    batch = replace(batch, points=torch.tensor([[0., 0.], [1., 1.], [0., 1.]]).expand(8, 3, 2).clone())
    turned = randomised(batch, Draw(torch.arange(8)), how=Randomisation.only("turn"))
    assert not turned.points.isnan().any()


def test_what_is_not_needed_may_be_lost():
    batch = discs(200)
    needed = torch.zeros_like(batch.can)
    needed[:, 0] = True
    moved = randomised(batch, Draw(torch.arange(200)), needed=needed)
    assert not moved.can[:, COLUMN["semantic"]].any()
    assert not moved.semantic.any() and moved.boxes.isnan().all()
    assert moved.can[:, 0].all()


@pytest.mark.parametrize("name", ["blend", "texture", "colour", "gamma", "contrast", "invert"])
def test_each_ingredient_works_alone_on_the_image_only(name):
    batch = discs(32, colour=True)
    changed = randomised(batch, Draw(torch.arange(32)), how=Randomisation.only(name))
    rows = (changed.image != batch.image).flatten(1).any(1)
    assert rows.float().mean() > .15 and changed.image.min() >= 0 and changed.image.max() <= 1
    for n in ("semantic", "instances", "hull", "distance"):
        assert torch.equal(getattr(changed, n), getattr(batch, n))


def test_grey_stays_nearly_grey_and_colour_stays():
    grey, colour = discs(100), discs(100, colour=True)
    spread = lambda image: (image.amax(1) - image.amin(1)).flatten(1)
    without_tint = randomised(grey, Draw(torch.arange(100)), how=Randomisation.without("blend"))
    assert (spread(without_tint.image).amax(1) < 1e-4).float().mean() > .5   # three in ten get a tint
    needed = colour.can.clone()
    assert needed[:, COLUMN["colour"]].all()
    vivid = randomised(colour, Draw(torch.arange(100)), needed=needed)
    assert vivid.can[:, COLUMN["colour"]].all()
    assert (spread(vivid.image) > 12 / 255).float().mean(1).min() > .1


def test_a_record_does_not_notice_its_neighbours():
    batch, how = discs(16), Randomisation.without("blend")
    together = randomised(batch, Draw(torch.arange(16)), how=how)
    for n in (0, 7, 15):
        alone = randomised(batch[n], Draw(torch.tensor([n])), how=how)
        assert torch.allclose(alone.image[0], together.image[n], atol=1e-5)
        assert torch.equal(alone.semantic[0], together.semantic[n])


@pytest.mark.parametrize("wrong", [dict(zoom=.5), dict(invert=2), dict(texture=-1)])
def test_impossible_randomisation(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): Randomisation(**wrong)


def test_unknown_ingredient_suggests():
    with pytest.raises(ParameterError, match="'texture'"): Randomisation.without("textur")
