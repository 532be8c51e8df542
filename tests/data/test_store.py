"The store: batches, choosing, and what cannot be opened."

import json
import pickle

import pytest
import torch

from taco.base import StoreError
from taco.data.card import load_card
from taco.data.find import read
from taco.data.pack import pack
from taco.data.prepare import NEEDS, collate, prepare
from taco.data.store import Part, Store, describe
from tests.data.made import make_card, write_pairs


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    "Two packed datasets: written pairs and a phantom."
    place = tmp_path_factory.mktemp("packed")
    write_pairs(place, 12)
    card = make_card(place)
    return place, [
        pack(card, place, place / "out", 32),
        pack("wbc", None, place / "out", 32, subjects=6),
    ]


def test_a_batch_equals_the_collated_records(packed):
    place, folders = packed
    store = Store.open(folders)
    direct = [prepare(r, 32) for r in read(load_card(place / "toy.toml"), place)] + [
        prepare(r, 32) for r in read("wbc", size=32, subjects=6)
    ]
    assert len(store) == len(direct) == 18 and store.datasets == ["toy", "wbc"]
    index = [17, 3, 3, 0, 12, 11, 15]
    for name, tensor in vars(store.batch(index)).items():
        torch.testing.assert_close(
            tensor,
            getattr(collate([direct[i] for i in index]), name),
            rtol=0,
            atol=0,
            equal_nan=True,
        )
    assert store.batch(torch.tensor([5])).image.shape == (1, 3, 32, 32)


def test_rows_are_compared_with_their_checksums_once(packed, monkeypatch):
    store = Store.open(packed[1])
    everything = range(len(store))
    first = store.batch(everything)
    def again(*_): raise AssertionError("compared again")
    monkeypatch.setattr(Part, "compare", again)
    for a, b in zip(vars(first).values(), vars(store.batch(everything)).values()):
        assert torch.equal(torch.nan_to_num(a.float()), torch.nan_to_num(b.float()))


def test_table_select_and_describe(packed):
    store = Store.open(packed[1])
    table = store.table
    assert list(table.dataset.unique()) == ["toy", "wbc"] and set(table.source) == {
        "real",
        "phantom",
    }
    assert (
        table.subject[0] == "p00_00"
        and set(NEEDS) <= set(table.columns)
        and table[list(NEEDS)].dtypes.eq(bool).all()
    )
    train, test = store.select("train"), store.select("test")
    assert set(table.subject[train]).isdisjoint(table.subject[test]) and len(train) and len(test)
    colour = store.select(needs="colour classes", dataset="wbc")
    assert (table.dataset[colour] == "wbc").all() and store.can[colour][
        :, list(NEEDS).index("colour")
    ].all()
    with pytest.raises(StoreError, match="train"):
        store.select("trian")
    with pytest.raises(StoreError, match="wbc"):
        store.select(dataset="wcb")
    summary = describe(store)
    assert (
        summary.loc["wbc", "source"] == "phantom"
        and summary.train.sum() == len(train)
        and "wbc" in store._repr_html_()
    )


def test_a_store_goes_to_another_process(packed):
    store = Store.open(packed[1])
    again = pickle.loads(pickle.dumps(store))
    torch.testing.assert_close(again.batch([1, 14]).image, store.batch([1, 14]).image)


def test_positions_outside_are_refused(packed):
    store = Store.open(packed[1])
    for bad in ([18], [-1], []):
        with pytest.raises(StoreError, match="0 … 17"):
            store.batch(bad)


def test_stores_that_cannot_be_opened(packed, tmp_path):
    place, folders = packed
    with pytest.raises(StoreError, match="empty list"):
        Store.open([])
    with pytest.raises(StoreError, match="nowhere"):
        Store.open([tmp_path / "nowhere"])
    other = pack(load_card(place / "toy.toml"), place, tmp_path, 16)
    with pytest.raises(StoreError, match="size"):
        Store.open([folders[0], other])
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"pack_version": -1}))
    with pytest.raises(StoreError, match="pack_version"):
        Store.open([other])
    (other / "manifest.json").write_text(json.dumps(manifest))
    (other / "image.npy").write_bytes((other / "image.npy").read_bytes()[:1000])
    with pytest.raises(StoreError, match="damaged"):
        Store.open([other])
    (other / "manifest.json").unlink()
    with pytest.raises(StoreError, match="manifest"):
        Store.open([other])
