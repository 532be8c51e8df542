"Phantom stores that the tests of the atlas share."
from functools import cache

import pytest

from taco.data.pack import pack
from taco.data.store import Store


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    "(*names, subjects=…) → Store of phantoms at 32 px; each is packed once in a process."
    @cache
    def packed(*names: str, subjects: int) -> Store:
        out = tmp_path_factory.mktemp("phantoms")
        return Store.open([pack(name, out=out, size=32, source="phantom", subjects=subjects) for name in names])
    return packed
