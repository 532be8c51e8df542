"Shapes: one anatomy at every size, areas as computed, cells that keep their distance."
import numpy as np
import pytest

from taco.data.phantoms.shapes import (
    amounts,
    around,
    blob,
    blur,
    cover,
    draw_curves,
    draw_labels,
    ellipsoid,
    fill_polygon,
    grid,
    layer,
    outline,
    pack_discs,
    smooth_noise,
    stamp,
    tissue,
    tube,
    vessel_tree,
    voronoi,
    warp,
    white,
)


def make_rng(seed: int = 0): return np.random.default_rng(seed)


@pytest.mark.parametrize("field", [white, smooth_noise, tissue])
def test_noise_of_any_size_costs_the_same_draws(field):
    after = []
    for size in (16, 64, 200):
        rng = make_rng()
        field(rng, (size, size))
        after.append(rng.random())
    assert len(set(after)) == 1


@pytest.mark.parametrize("field", [smooth_noise, tissue])
def test_fields_have_unit_variance_and_are_the_same_at_every_size(field):
    fields = [field(make_rng(i), (96, 96)) for i in range(40)]
    assert .7 < np.std(fields) < 1.3
    small, large = (smooth_noise(make_rng(), (n, n), 4) for n in (32, 96))
    assert np.allclose(small, large[1::3, 1::3], atol=1e-4)


def test_a_superellipse_lies_between_ellipse_and_rectangle():
    y, x = grid(200)
    areas = [(blob(y, x, (.5, .5), (.2, .3), 0, None, power) < 0).mean() for power in (2, 3, 8)]
    assert areas == sorted(areas) and areas[0] == pytest.approx(np.pi * .06, abs=.002) and areas[2] < .24


def test_a_turn_by_ninety_degrees_swaps_the_radii():
    y, x = grid(100)
    turned, swapped = blob(y, x, (.4, .5), (.1, .3), 90), blob(y, x, (.4, .5), (.3, .1))
    assert np.array_equal(turned < 0, swapped < 0)


def test_an_outline_is_closed_and_wobbles_about_one():
    edge = outline(make_rng(), .1)
    assert edge.shape == (1024,) and abs(edge[0] - edge[-1]) < .01 and abs(np.log(edge).mean()) < .01


def test_a_stamp_is_a_blob_painted_in_its_window():
    y, x = grid(96)
    edge = outline(make_rng(3), .15)
    image, mask = np.zeros((96, 96), np.float32), np.zeros((96, 96), int)
    stamp(image, (.4, .7), (.1, .2), 1., 30, edge, 2.5, mask=mask)
    whole = blob(y, x, (.4, .7), (.1, .2), 30, edge, 2.5)
    assert np.array_equal(mask > 0, whole < 0) and np.allclose(image, cover(whole), atol=1e-5)


def test_a_window_beyond_the_border_is_empty():
    for centre in ((-1, .5), (.5, 2)):
        place, y, x = around(centre, .1, 64)
        assert np.zeros((64, 64))[place].size == 0 == y.size * x.size


def test_blur_keeps_the_mean_and_below_a_pixel_does_nothing():
    image = make_rng().random((50, 50)).astype(np.float32)
    assert blur(image, .001) is image
    assert blur(image, .05).std() < .1 and blur(image, .05).mean() == pytest.approx(image.mean(), abs=.01)


def test_thin_lines_have_partial_coverage_and_labels_their_number():
    line = np.array([(.5, .1), (.5, .9)])
    area = [draw_curves([line], [.004], size).mean() for size in (64, 256)]
    assert area[0] == pytest.approx(area[1], rel=.35) and draw_curves([line], [.004], 64).max() < 1
    labels = draw_labels([line, line[::-1, ::-1]], [.1, .1], [3, 7], 64)
    assert set(np.unique(labels)) == {0, 3, 7} and labels[32, 32] == 7, "the later one wins"


def test_a_polygon_has_its_area():
    square = np.array([(.25, .25), (.25, .75), (.75, .75), (.75, .25)])
    assert fill_polygon(square, 64).mean() == pytest.approx(.25, abs=.01)


def test_a_tree_thins_out_and_every_branch_begins_on_another():
    curves, widths = vessel_tree(make_rng(), (.9, .5), -np.pi / 2, .04, .3, thinnest=.008)
    points = np.concatenate(curves)
    assert widths[0] == .04 == max(widths) and min(widths) > .008 and len(curves) > 5
    for n, curve in enumerate(curves[1:], 1):
        before = np.concatenate(curves[:n])
        assert np.abs(before - curve[0]).sum(1).min() < 1e-9
    assert ((points > -.6) & (points < 1.6)).all()


def test_solids_have_their_volumes():
    zyx = grid(80, 80)
    ball, rod = ellipsoid(zyx, (.5, .5, .5), (.3, .2, .1)), tube(zyx, [(.2, .5, .5), (.8, .5, .5)], .1)
    assert (ball < 0).mean() == pytest.approx(4 / 3 * np.pi * .006, rel=.02)
    assert (rod < 0).mean() == pytest.approx(np.pi * .006 + 4 / 3 * np.pi * .001, rel=.05)


def test_cells_of_a_layer_keep_their_distance_and_stay_where_they_may_lie():
    where = np.zeros((64, 64), bool)
    where[:, :32] = True
    radii = make_rng(1).uniform(.02, .05, 200)
    centres, kept = pack_discs(make_rng(2), radii, 1.2, where)
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 9 * np.eye(len(centres))
    assert (apart >= 1.2 * (radii[kept][:, None] + radii[kept]) - 1e-9).all()
    assert len(centres) > 20 and centres[:, 1].max() < .52
    instances, depth, centres = layer(make_rng(), 64, .05, .5, where=where)
    assert instances.max() <= len(centres) and ((depth > 0) == (instances > 0)).all() and depth.max() <= 1


def test_each_cell_has_one_amount_of_dye():
    instances = layer(make_rng(), 64, .06, .5)[0]
    dye = amounts(make_rng(), instances, .5)
    assert (dye[instances == 0] == 0).all()
    assert all(len(np.unique(dye[instances == i])) == 1 for i in np.unique(instances))


def test_each_point_belongs_to_its_nearest_site():
    y, x = grid(40)
    sites = make_rng().random((12, 2))
    index, wall = voronoi(y, x, sites)
    distance = np.hypot(y[..., None] - sites[:, 0], x[..., None] - sites[:, 1])
    assert np.array_equal(index, distance.argmin(-1)) and (wall >= -1e-6).all()


def test_warping_moves_by_about_the_amount():
    y, x = grid(64)
    moved = np.stack([warp(make_rng(i), [y, x], .02)[0] - y for i in range(30)])
    assert .015 < moved.std() < .025
