import pytest

from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store
from taco.transfer.sequences.volumes import Volumes, load_volumes


@pytest.fixture(scope="session")
def hearts(tmp_path_factory) -> Volumes:
    folder = tmp_path_factory.mktemp("hearts")
    return load_volumes(Store.open(pack(load_card("mmwhs"), out=folder, size=32, source="phantom", subjects=12)))
