"Instruments reach in from the border; organs, tools and the black frame carry their own numbers."
import numpy as np
from scipy import ndimage

from taco.data.phantoms import surgery  # noqa: F401  its recipes enter the register
from taco.data.phantoms.phantom import PHANTOMS, make_subject

SIZE = 96
CLASSES = PHANTOMS["m2caiseg"].classes
NUMBER = {name: number for number, name in CLASSES.items()}
TOOLS = ("grasper", "bipolar", "hook", "scissors", "clipper", "irrigator")


def test_classes_are_numbered_as_in_the_dataset():
    assert list(CLASSES) == list(range(1, 19))
    assert [CLASSES[k] for k in (1, 7, 10, 11, 12, 18)] == [
        "grasper", "specimen-bag", "liver", "gall-bladder", "fat", "black"]


def test_every_piece_of_a_robotic_instrument_reaches_the_border():
    for i in range(10):
        parts, count = ndimage.label(make_subject("robotool", i, SIZE)[0].semantic > 0, np.ones((3, 3)))
        border = {*parts[0], *parts[-1], *parts[:, 0], *parts[:, -1]} - {0}
        large = {k for k in range(1, count + 1) if (parts == k).sum() > .01 * SIZE**2}
        assert count and large <= border


def test_each_operation_shows_liver_fat_and_one_or_two_tools_in_a_black_frame():
    for i in range(20):
        record = make_subject("m2caiseg", i, SIZE)[0]
        seen = {CLASSES[k] for k in np.unique(record.semantic) if k}
        assert {"liver", "fat", "black"} <= seen and 1 <= len(seen & set(TOOLS)) <= 2
        frame = record.semantic == NUMBER["black"]
        assert frame[0, 0] and frame[-1, -1] and record.image[:, frame].mean() < .1


def test_the_liver_hangs_above_the_fat_and_is_darker():
    for i in range(12):
        record = make_subject("m2caiseg", i, SIZE)[0]
        liver, fat = (record.semantic == NUMBER[name] for name in ("liver", "fat"))
        assert np.nonzero(liver)[0].mean() < np.nonzero(fat)[0].mean()
        assert record.image[:, liver].mean() < record.image[:, fat].mean()


def test_rare_things_come_in_a_few_pictures_each():
    labels = [make_subject("m2caiseg", i, 48)[0].semantic for i in range(80)]
    for name in ("specimen-bag", "trocars", "clip", "artery", "bile", "blood"):
        share = np.mean([(label == NUMBER[name]).any() for label in labels])
        assert .05 < share < .5, f"{name}: {share:.2f}"
