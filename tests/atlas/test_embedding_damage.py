"Embeddings that were spoilt, or are saved anew while somebody reads."

import os
import shutil

import numpy as np
import pandas as pd
import pytest

from taco.atlas.embedding import Embeddings
from taco.base import StoreError
from tests.crash import crash_points
from tests.spoil import FEW, MANY, unnoticed


def made(seed: int = 0, rows: int = 24) -> Embeddings:
    rng = np.random.default_rng(seed)
    words = lambda *known: rng.choice(known, rows)
    table = pd.DataFrame(dict(
        task=words("shear", "deblurring"), record=rng.integers(0, 99, rows), split=words("train", "test"),
        subject=words("007", "12"), key=words("a/1", "b/2"), seed=rng.integers(0, 2**31, rows)))
    return Embeddings(table, {name: rng.normal(size=(rows, 8)).astype(np.float32) for name in ("taco", "pixels")})


def same(one: Embeddings, other: Embeddings) -> bool:
    return one.table.equals(other.table) and one.vectors.keys() == other.vectors.keys() and all(
        np.array_equal(one[n], other[n]) for n in one.vectors)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["pairs.csv", "taco.npy", "pixels.npy", "manifest.json"])
def test_no_damage_is_silent(tmp_path, name, count):
    made().save(tmp_path / "e")
    before = Embeddings.load(tmp_path / "e")
    assert before.table["subject"].isin(["007", "12"]).all()
    silent, odd, counts = unnoticed(tmp_path / "e" / name, lambda: Embeddings.load(tmp_path / "e"),
                                    lambda now: same(now, before), count)
    assert silent == [] and odd == [], (silent, odd)
    assert counts["refused"] > counts["harmless"]
    (tmp_path / "e" / name).unlink()
    with pytest.raises(StoreError, match="embed"): Embeddings.load(tmp_path / "e")


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_old_or_new_at_every_point(tmp_path, every):
    old, new, folder = made(0), made(1), tmp_path / "e"
    for _ in crash_points(lambda: new.save(folder), tmp_path, lambda: old.save(folder), every):
        found = Embeddings.load(folder)
        assert same(found, old) or same(found, new)
        new.save(folder)
        assert same(Embeddings.load(folder), new) and os.listdir(tmp_path) == ["e"]


def test_a_reader_beside_a_writer_sees_one_of_them(tmp_path):
    both, folder = [made(0), made(1, 30)], tmp_path / "e"
    both[0].save(folder)
    child = os.fork()
    if not child:
        try:
            for n in range(60): both[n % 2].save(folder)
            os._exit(0)
        finally: os._exit(1)
    seen = [0, 0]
    while not (status := os.waitpid(child, os.WNOHANG))[0]:
        found = Embeddings.load(folder)
        seen[len(found) == 30] += 1
        assert same(found, both[len(found) == 30])
    assert status[1] == 0 and min(seen) > 0


def test_what_is_open_stays(tmp_path):
    made(0).save(tmp_path / "e")
    found = Embeddings.load(tmp_path / "e")
    made(1).save(tmp_path / "e")
    assert same(found, made(0))
    shutil.rmtree(tmp_path / "e")
    assert same(found, made(0))
