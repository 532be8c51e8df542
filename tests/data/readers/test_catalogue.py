"The register of readers."

from taco.data.card import load_card
from taco.data.find import check_readers
from taco.data.readers.source import READERS


def test_the_readers_are_known():
    check_readers(load_card("acdc"))
    assert {"voc", "coco", "yolo", "table", "hdf5", "channels", "crops"} <= set(READERS)
    assert all("attributes" in r.options for name, r in READERS.items() if name != "packaged")


def test_registered_readers_have_options():
    assert {"npz", "pairs", "instances", "volumes", "packaged"} <= set(READERS)
