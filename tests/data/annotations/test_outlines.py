"Which pixels an outline has: exact counts."

import numpy as np
import pytest

from taco.data.annotations.outlines import (
    Outline,
    area,
    draw_objects,
    extent,
    fill,
    from_runs,
    unpack_runs,
)


def rectangle(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


@pytest.mark.parametrize("box", [(10, 20, 40, 60), (0, 0, 80, 100), (79, 99, 80, 100), (3, 4, 5, 9)])
def test_a_rectangle_between_pixels_has_the_pixels_of_its_box(box):
    x0, y0, x1, y1 = box
    mask = fill([rectangle(*box)], (100, 80))
    want = np.zeros((100, 80), bool)
    want[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(mask, want)
    assert extent([rectangle(*box)]).tolist() == list(box) and area(rectangle(*box)) == want.sum()


def test_direction_and_a_repeated_first_corner_do_not_matter():
    square = rectangle(10, 20, 40, 60)
    for other in (square[::-1], np.vstack([square, square[:1]])):
        assert fill([other], (100, 80)).sum() == 1200


def test_parts_are_united_and_holes_cut_out():
    whole, inner, apart = rectangle(10, 20, 40, 60), rectangle(20, 30, 30, 50), rectangle(50, 0, 60, 9)
    assert fill([whole, inner, apart], (100, 80)).sum() == 1200 + 90
    ring = fill([whole, inner, apart], (100, 80), holes=True)
    assert ring.sum() == 1200 - 200 + 90 and not ring[40, 25] and ring[40, 35]
    assert fill([whole, rectangle(30, 40, 50, 70)], (100, 80)).sum() == 1200 + 600 - 200


def test_what_leaves_the_image_is_cut_and_what_holds_no_centre_keeps_one_pixel():
    assert fill([rectangle(-10, -10, 10, 10)], (30, 30)).sum() == 100
    thin = fill([np.array([[4.1, 7.1], [4.2, 7.1], [4.2, 7.2]])], (30, 30))
    assert thin.sum() == 1 and thin[7, 4]


def test_run_lengths_go_down_the_columns():
    mask = np.zeros((5, 4), bool)
    mask[1:3, 1] = mask[2:, 3] = True
    flat, runs = mask.T.ravel(), []
    value, count = False, 0
    for pixel in flat:
        if pixel != value:
            runs.append(count)
            value, count = pixel, 0
        count += 1
    runs.append(count)
    np.testing.assert_array_equal(from_runs(runs, (5, 4)), mask)
    outline = Outline(runs=runs, size=(5, 4))
    assert outline.box().tolist() == [1, 1, 4, 5] and outline.mask((5, 4)).sum() == 5
    for wrong in (runs[:-1], [-1, 21], [1.5, 18.5], [True, 19]):
        with pytest.raises(ValueError):
            from_runs(wrong, (5, 4))


def pack(runs):
    "As the COCO tools write run lengths."
    text = ""
    for n, value in enumerate(runs):
        value -= runs[n - 2] if n > 2 else 0
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def test_packed_run_lengths():
    rng = np.random.default_rng(3)
    for _ in range(100):
        runs = rng.integers(0, 5000, rng.integers(1, 15)).tolist()
        assert unpack_runs(pack(runs)) == runs
    for wrong in ("a b", "o"):
        with pytest.raises(ValueError):
            unpack_runs(wrong)


def test_order_and_numbers_of_objects():
    masks = [fill([rectangle(*box)], (10, 10)) for box in ((2, 2, 6, 6), (0, 0, 8, 8), (8, 8, 10, 10))]
    classes = np.array([2, 1, 3])
    semantic, instances = draw_objects(masks.__getitem__, classes, [], (10, 10))
    assert (semantic == 2).sum() == 0 and (semantic == 1).sum() == 64 and (instances == 3).sum() == 4
    semantic, instances = draw_objects(masks.__getitem__, classes, [1, 2, 3], (10, 10))
    assert (semantic == 2).sum() == 16 and (semantic == 1).sum() == 48
    assert (instances == 1).sum() == 16 and (instances == 2).sum() == 48
    semantic, instances = draw_objects(masks.__getitem__, classes, [], (10, 10), [True, False, True])
    assert (semantic == 1).sum() == 64 and not instances[semantic == 1].any()
    assert (instances == 2).sum() == 4
    semantic, _ = draw_objects(masks.__getitem__, np.array([0, 0, 3]), [], (10, 10))
    assert semantic.sum() == 12
