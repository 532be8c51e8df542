"A store that all tests of learning share."
import pytest

from taco.data.pack import pack
from taco.data.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    "Three small phantom datasets: slices of volumes, one colour image a subject, bright objects."
    out = tmp_path_factory.mktemp("packed")
    names = ("acdc", "monusac", "busi")
    return Store.open([pack(name, out=out, size=32, source="phantom", subjects=6) for name in names])
