"taco.atlas.figures: names of encoders, and what is drawn where."
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from taco.atlas.figures import (
    ENCODERS,
    as_tasks,
    draw_gallery,
    draw_map,
    draw_neighbours,
    draw_sheet,
    encoder_look,
    encoder_title,
    gallery_pairs,
    ladder,
    sheet_images,
)
from taco.base import TaskError
from taco.data.store import Store
from taco.tasks.task import get_task

TWO = ["distance_map", "shear"]


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("acdc", "drive", subjects=6)


def test_names_stand_for_tasks():
    assert as_tasks(TWO) == [get_task(t) for t in TWO] == as_tasks(as_tasks(TWO))
    with pytest.raises(TaskError): as_tasks(["sheer"])


def test_the_ladder_goes_from_random_weights_to_taco():
    names = ["taco", "unheard_of", "image-contrast", "pixels", "taco_dataset", "pca", "random", "clip-biomedclip"]
    assert ladder(names) == [
        "random", "pixels", "pca", "clip-biomedclip", "unheard_of", "image-contrast", "taco_dataset", "taco"]
    assert encoder_title("image-contrast") == encoder_title("image_contrast") == "image contrast"
    assert encoder_title("clip-canvas") == "CLIP, canvas" and encoder_look("unheard_of").title == "unheard of"
    colours = [look.colour for name, look in ENCODERS.items() if name.startswith("taco")]
    assert len(set(colours)) == len(colours) == 5


def test_the_gallery_shows_one_image_of_a_dataset_where_it_can(store):
    pairs = gallery_pairs(store, [*TWO, "deblurring"], ["acdc", "drive"])
    assert ("distance_map", "acdc") in pairs and ("distance_map", "drive") not in pairs  # too thin
    again = gallery_pairs(store, ["shear"], ["drive"])["shear", "drive"]
    assert np.array_equal(again[0], pairs["shear", "drive"][0]) and pairs["shear", "drive"][0].shape == (3, 32, 32)
    figure = draw_gallery(pairs, TWO, [("acdc", "one"), ("drive", "two")])
    assert sum(bool(ax.images) for ax in figure.axes) == 2 * 3 and len(figure.axes) == 2 * 4
    plt.close(figure)


def test_the_sheet_shows_different_subjects(store):
    images = sheet_images(store, "drive", 4)
    assert images.shape == (4, 3, 32, 32) and len({image.tobytes() for image in images}) == 4
    figure = draw_sheet(dict(drive=images, few=images[:1]), dict(drive="fundus", few="fundus"))
    assert sum(bool(ax.images) for ax in figure.axes) == 5
    plt.close(figure)


def test_the_map_numbers_the_tasks_that_are_there():
    table = pd.DataFrame(dict(task="shear", family="transformation", dataset=["p", "q"], modality="CT"))
    figure = draw_map(np.eye(2), table, TWO)
    numbers = [t.get_text() for t in figure.axes[0].texts]
    names = [t.get_text() for t in figure.axes[1].texts]
    assert numbers == ["2"] and names == ["1", "distance map", "2", "shear"]
    plt.close(figure)


def test_neighbours_are_sorted_by_the_first_encoder():
    overall = dict(taco=(.9, (.8, .95)), random=(.4, (.3, .5)))
    per_task = dict(taco=dict(distance_map=.9, shear=.2), random=dict(distance_map=.1))
    figure = draw_neighbours(overall, per_task, TWO, 1 / 2)
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["TaCo", "random weights"]
    top, bottom = left.get_ylim()[::-1]
    assert top < 0 < 1 < bottom  # the first encoder is the uppermost
    assert [t.get_text() for t in right.get_yticklabels()] == ["shear", "distance map"]
    plt.close(figure)
