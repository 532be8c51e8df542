"Bits that turned over, files that were cut, and stores that are packed again while they are read."

import os
import pickle
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import StoreError
from taco.data.pack import pack
from taco.data.store import Part, Store, read_manifest, verify
from tests.spoil import FEW, MANY, unnoticed

FILES = """boxes boxes_start can centreline distance hull image instances modality points points_start semantic
split sums""".split()
FILES = [*(f"{name}.npy" for name in FILES), "table.csv", "manifest.json"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack("wbc", out=tmp_path_factory.mktemp("packed"), size=16, subjects=12, source="phantom")


def everything(folder):
    store = Store.open([folder])
    return vars(store.batch(range(len(store)))), store.table, store.split, store.parts[0].manifest


def same(one, other) -> bool:
    arrays = all(torch.equal(a.nan_to_num(-7), b.nan_to_num(-7)) for a, b in zip(one[0].values(), other[0].values()))
    return arrays and one[1].equals(other[1]) and np.array_equal(one[2], other[2]) and one[3] == other[3]


def test_the_files_of_a_store_are_all_listed(packed):
    assert sorted(FILES) == sorted(p.name for p in packed.iterdir())
    assert sorted(read_manifest(packed)["files"]) == sorted(set(FILES) - {"manifest.json"})


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FILES)
def test_no_damage_is_silent(packed, tmp_path, name, count):
    folder = shutil.copytree(packed, tmp_path / packed.name)
    before = everything(folder)
    silent, odd, counts = unnoticed(folder / name, lambda: everything(folder), lambda now: same(now, before), count)
    assert silent == [] and odd == [], (silent, odd)
    assert counts["refused"] > counts["harmless"] and same(everything(folder), before)


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_damaged_is_packed_again(tmp_path, name):
    call = dict(out=tmp_path, size=16, subjects=4, source="phantom")
    file = pack("wbc", **call) / name
    before = file.read_bytes()
    for spoilt in (before[:-1] + bytes([before[-1] ^ 1]), before[: len(before) // 2], b"", b"\0" * len(before), None):
        if spoilt is None:
            file.unlink()
        else:
            file.write_bytes(spoilt)
        if name != "manifest.json" or spoilt != before[:-1] + bytes([before[-1] ^ 1]):
            with pytest.raises(StoreError, match="again|There is no"):
                verify(file.parent)
        assert pack("wbc", **call) == file.parent and file.read_bytes() == before


def test_a_row_is_compared_once_and_then_trusted(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / packed.name)
    store = Store.open([folder])
    store.batch([0, 1])
    data = bytearray((folder / "image.npy").read_bytes())
    data[-5] ^= 4  # of the last record
    (folder / "image.npy").write_bytes(data)
    store = Store.open([folder])
    store.batch(range(len(store) - 1))
    with pytest.raises(StoreError, match="record 11") as error:
        store.batch([3, 11, 11])
    assert str(error.value.file).endswith("image.npy") and "Pack it again" in error.value.fix
    assert store.parts[0].compared["image"].tolist() == [True] * 11 + [False]


def test_a_cut_table_is_not_fresh(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / packed.name)
    table = folder / "table.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])  # the last line is gone
    with pytest.raises(StoreError, match="table.csv"):
        Store.open([folder])
    pack("wbc", out=tmp_path, size=16, subjects=12, source="phantom")
    assert table.read_bytes() == whole


def test_an_open_store_is_one_store_when_it_is_packed_again(tmp_path):
    call = dict(out=tmp_path, size=16, subjects=6, source="phantom")
    folder = pack("wbc", **call)
    old, sent = Store.open([folder]), pickle.dumps(Store.open([folder]))
    images = old.batch(range(6)).image
    pack("wbc", **call | dict(seed=3))
    assert torch.equal(old.batch(range(6)).image, images)  # still mapped
    with pytest.raises(StoreError, match="packed again since"):
        _ = old.table
    with pytest.raises(StoreError, match="packed again since"):
        pickle.loads(sent)
    assert len(Store.open([folder]).table) == 6


def repack(out, times: int) -> int:
    "Pack two seeds in turn, in a process of its own; its number."
    child = os.fork()
    if child:
        return child
    try:
        for n in range(times):
            pack("wbc", out=out, size=16, subjects=4 + n % 2, seed=n % 2, source="phantom")
        os._exit(0)
    finally:
        os._exit(1)


def test_a_reader_beside_a_packer_never_sees_a_mixture(tmp_path):
    def read() -> tuple:
        store = Store.open([folder])
        batch = store.batch(range(len(store)))
        keys = pd.util.hash_pandas_object(store.table.drop(columns="file"), index=False).sum()
        return batch.image.double().sum().item(), tuple(store.split), int(keys), len(store)

    known, folder = set(), None
    for seed in (1, 0):
        folder = pack("wbc", out=tmp_path, size=16, subjects=4 + seed, seed=seed, source="phantom")
        known.add(read())
    assert len(known) == 2
    other, status, seen, late = repack(tmp_path, 30), (0, 0), [], 0
    while not (status := os.waitpid(other, os.WNOHANG))[0]:
        try:
            seen.append(read())
        except StoreError as error:
            assert "packed again since" in str(error)  # between opening it and asking for its table
            late += 1
        time.sleep(0.001)
    assert status[1] == 0 and set(seen) <= known and len(seen) > 20 > late


def test_the_seal_is_of_all_that_the_manifest_says(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / packed.name)
    file = folder / "manifest.json"
    text = file.read_text()
    for name, was, now in (("source", '"phantom"', '"real"'), ("records", 12, 11), ("seed", 0, 1)):
        old, new = (f'"{name}": {value}' for value in (was, now))
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises(StoreError, match="not as it was written"):
            Part(folder)
