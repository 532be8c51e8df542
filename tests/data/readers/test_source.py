"What a reader is given, and cards that cannot work, whatever their reader."

import pickle
from pathlib import Path

import numpy as np
import pytest

from taco.base import CardError, DataError
from taco.data.find import read
from taco.data.readers.masks import read_pairs  # noqa: F401
from taco.data.readers.source import READERS, Source, example_card, failing
from tests.data.made import (
    CHANNELS,
    CROPS,
    HDF5,
    POINTS,
    VOC,
    card_of,
    picture,
    told,
    voc,
    write,
)


@pytest.mark.parametrize(
    "lines, field, part",
    [
        (VOC.replace('annotations = "*.xml"\n', ""), "read.annotations", "needs this field"),
        (VOC + "classes = {red = 9}\n", "read.classes", "red = 9"),
        (POINTS.replace("header = false\n", ""), "read.header", "true or false"),
        (POINTS.replace("x = 0, y = 1", "x = 0, z = 1"), "read.columns", "x0 y0 x1 y1"),
        (CHANNELS + "order = [1]\n", "read.order", "[1, 2]"),
        (CHANNELS.replace("0 = 1,", "first = 1,"), "read.channels", "number of a channel from 0"),
        (CROPS.replace('top = "top", ', ""), "read.columns", "image, mask, class, top, left"),
        (HDF5.replace('image = "image"\n', ""), "read.image", "needs this field"),
        (VOC + "attributes = 3\n", "read.attributes", "a table"),
        (
            VOC + 'attributes = {tb = {pattern = "_(.)", tabel = "x"}}\n',
            "read.attributes.tb",
            "no such option",
        ),
        (
            VOC + 'attributes = {tb = {table = "x.csv"}}\n',
            "read.attributes.tb",
            "table, row and column",
        ),
        (VOC + 'attributes = {"t b" = {pattern = "_(.)"}}\n', "read.attributes.t b", "proper name"),
        (VOC + 'attributes = {tb = {pattern = "_(."}}\n', "read.attributes.tb", "does not compile"),
        (
            VOC + 'subject = {table = "x.csv", row = 0, column = 1}\n',
            "read.subject.header",
            "Declare header",
        ),
    ],
)
def test_cards_that_cannot_work_name_the_field(tmp_path, lines, field, part):
    picture(tmp_path / "toy/a.png")
    picture(tmp_path / "toy/images/a.png")
    write(tmp_path, "a.xml", voc())
    write(tmp_path, "a.txt", "1 1 1\n")
    with pytest.raises(CardError) as error:
        list(read(card_of(lines), tmp_path, "real"))
    told(error, "toy.toml", field, part)


def source_of(lines: str, folder: Path = Path("toy")) -> Source:
    "A source of the first [[read]] of an example card."
    card = example_card("[[read]]\n" + lines)
    return Source(card, card.read[0], folder)


def test_a_source_and_its_items_go_to_another_process(tmp_path):
    picture(tmp_path / "a.png")
    source = source_of('reader = "pairs"\nimages = "*.png"\n', tmp_path)
    assert pickle.loads(pickle.dumps(source)) == source
    item, *_ = READERS["pairs"].items(source)
    record, again = item.load()[0], pickle.loads(pickle.dumps(item)).load()[0]
    np.testing.assert_array_equal(record.image, again.image)
    assert (record.dataset, record.key, record.modality) == ("toy", "a", "light microscopy")


def test_options_are_changed_in_a_copy():
    source = source_of('reader = "pairs"\nimages = "*.png"\nwindow = [0, 10]\n')
    other = source.changed(window=[5, 6], axis=1).without("images")
    assert source.option("window") == [0, 10] and "axis" not in source and "images" in source
    assert other.scale == dict(window=[5, 6], percentiles=None) and "images" not in other
    assert other.grey_range(np.zeros((2, 2))) == (5, 6)


def test_an_item_that_fails_raises_its_own_error_each_time():
    error = DataError("Gone.", file="a.png", field="image", found=1, expected=2, fix="Look.")
    item = pickle.loads(pickle.dumps(failing("a.png", "a", error)))
    assert item.fails
    for _ in range(2):
        with pytest.raises(DataError) as raised:
            item.load()
        assert str(raised.value) == str(error) and raised.value.expected == 2


def test_subjects_and_splits_stand_in_paths():
    source = source_of(r"""reader = "hdf5"
        subject = 're:(p\d)_'
        split = "(training|test)"
        splits = {training = "train"}
    """)
    item = source.item("training/p1_x.h5", "x", list, "scan/image")
    assert (item.subject, item.split) == ("p1", "train") and item.file.endswith("[scan/image]")
    with pytest.raises(CardError, match="subject pattern does not fit"):
        source.subject("training/x.h5", "x")
    with pytest.raises(CardError, match="belongs to no split"):
        source.split("p1_x.h5")


def test_a_record_has_the_pixel_size_of_its_card_unless_told_otherwise():
    source = source_of('reader = "pairs"\nspacing = [0.5, 0.25]\n').changed(modality="MR")
    image = np.zeros((1, 4, 4), np.float32)
    record = source.record(image, "/a_", "a.png")
    assert (record.key, record.spacing, record.modality) == ("a", (0.5, 0.25), "MR")
    other = source.record(image, "a", "a.png", key="b_", spacing=None)
    assert (other.key, other.spacing) == ("b_", None)
