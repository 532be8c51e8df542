"The register: what a recipe declares, how subjects are named, what is refused, and how they are shown."
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from taco.base import CardError
from taco.data.phantoms.catalogue import PHANTOMS, find_phantom, make_subject
from taco.data.phantoms.phantom import draw_row, draw_subjects, label_picture, phantom, photo, stack


@pytest.fixture
def dots():
    "A recipe of two bright dots, for the time of a test."
    @phantom(modality="MR", classes={1: "dot"}, anatomy="toy", instances=True)
    def dots(rng, size, bright=1.):
        image, label = np.zeros((2, size, size))
        for number, column in enumerate((size // 4, 3 * size // 4), 1):
            label[size // 2, column] = number
        image[label > 0] = bright * rng.uniform(.5, 1)
        return photo(image, label > 0, label, fov=100)
    yield "dots"
    del PHANTOMS["dots"]


def test_spacing_follows_the_size():
    small, large = (make_subject("acdc", 1, size)[0].spacing for size in (64, 128))
    assert small[0] == pytest.approx(2 * large[0]) and small[0] > 1


def test_unknown_recipe_and_option_suggest_the_nearest():
    with pytest.raises(CardError, match="mosmedplus"): make_subject("mosmedpus", 0, 64)
    with pytest.raises(CardError, match="appearance"): make_subject("mmwhs", 0, 64, apearance="MR")
    assert find_phantom("drive").anatomy == "retina"


def test_a_recipe_of_ones_own(dots):
    assert find_phantom(dots).options == ["bright"]
    record, = make_subject(dots, 3, 32, dataset="mine", bright=.5)
    assert (record.key, record.dataset, record.modality) == ("dots-0003", "mine", "MR")
    assert record.spacing == (100 / 32, 100 / 32) and record.instances.max() == 2


def test_an_unknown_modality_is_refused_and_registers_nothing():
    with pytest.raises(CardError, match="ultrasound"):
        phantom(modality="ultrasond", classes={}, anatomy="")
    assert set(PHANTOMS) == {p.make.__name__ for p in PHANTOMS.values()}


def test_the_same_number_is_the_same_patient_and_another_seed_is_another(dots):
    images = [make_subject(dots, i, 32, seed=s)[0].image.max() for i, s in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert images[0] == images[1] and len(set(images)) == 3


def test_slices_are_numbered_and_their_keys_say_so():
    slices = stack(np.zeros((3, 8, 8)), np.zeros((3, 8, 8), int))
    assert [r.slice for r in slices] == [0, 1, 2]
    assert [r.key for r in make_subject("epfl", 0, 32, slices=3)] == [f"epfl-0000-{i:03d}" for i in range(3)]


@pytest.fixture
def frames():
    "A recipe of two frames of a film, for the time of a test."
    @phantom(modality="ultrasound", classes={1: "dot"}, anatomy="toy")
    def frames(rng, size):
        made = [photo(np.full((size, size), rng.uniform()), np.zeros((size, size), int)) for _ in range(2)]
        return [replace(record, key=key) for (record,), key in zip(made, ("ED", "ES"))]
    yield "frames"
    del PHANTOMS["frames"]


def test_photographs_of_one_subject_have_keys_of_their_own(frames):
    records = make_subject(frames, 7, 16)
    assert [r.key for r in records] == ["frames-0007-ED", "frames-0007-ES"]
    assert {r.subject for r in records} == {"frames-0007"} and {r.slice for r in records} == {None}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_images_are_drawn_subject_by_subject(frames, count):
    figure = draw_subjects(frames, 16, count=count)
    shown = [float(ax.images[0].get_array().mean()) for ax in figure.axes[:count]]
    made = [float(r.image.mean()) for i in range(2) for r in make_subject(frames, i, 16)]
    assert shown == pytest.approx(made[:count])
    plt.close(figure)


def test_pictures_are_cut_to_black_and_white_and_softened_by_half_a_pixel():
    image = np.zeros((9, 9))
    image[4, 4] = 9.
    (sharp,), (soft,) = (photo(image, image > 0, psf=p) for p in (0, .5))
    assert sharp.image.max() == 1 and .3 < soft.image.max() < 1 and soft.image.sum() == pytest.approx(1, abs=.02)


def test_objects_have_colours_of_their_own_where_they_are_known(dots):
    record, = make_subject(dots, 0, 32)
    colours = label_picture(record)
    assert colours.shape == (32, 32, 3) and not colours[record.semantic == 0].any()
    assert len(np.unique(colours[record.semantic > 0], axis=0)) == 2


@pytest.mark.parametrize("recipe", ["dots", "acdc"])
def test_subjects_or_slices_are_drawn_with_their_labels_below(recipe, dots):
    figure = draw_subjects(recipe, 32, count=3)
    assert len(figure.axes) == 6 and all(len(ax.images) == 1 for ax in figure.axes)
    plt.close(figure)


def test_a_row_shows_grey_and_coloured_pictures():
    figure = draw_row(np.zeros((8, 8)), np.zeros((3, 8, 8)), titles=("grey", "coloured"), width=2)
    assert [ax.get_title() for ax in figure.axes] == ["grey", "coloured"]
    assert [ax.images[0].get_array().ndim for ax in figure.axes] == [2, 3]
    plt.close(figure)
