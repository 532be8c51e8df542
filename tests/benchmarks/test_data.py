"The benchmark of the data room measures what it says, in small."

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import bench, data
from taco.data.pack import pack
from taco.data.store import Store


def test_an_enlarged_store_is_the_same_rows_over_again(tmp_path):
    small = pack("monusac", out=tmp_path, size=24, subjects=3, source="phantom")
    large = Store.open([data.enlarge(small, tmp_path / "large", 4)])
    store = Store.open([small])
    assert len(large) == 4 * len(store) and large.table.key.is_unique and large.table.subject.nunique() == 12
    again = large.batch(np.arange(len(store)) + 2 * len(store))
    for name, value in vars(store.batch(range(len(store)))).items():
        torch.testing.assert_close(getattr(again, name), value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.long
def test_packing_reading_and_opening_in_small(tmp_path):
    card = data.write_files(tmp_path / "root", 8, 64)
    folder, rates = data.packing(card, tmp_path / "root", tmp_path, 24)
    assert len(Store.open([folder])) == 8 and min(rates.values()) > 0
    read = data.reading(card, tmp_path / "root", folder, 24, 16, 0.3)
    assert (
        read["ratio"]["files_and_maps"] > 3 and read["ratio"]["files"] > 1
    )  # far from what is measured, but the right way round
    opened = data.opening(folder, tmp_path, 3, times=2, repeats=2)
    assert opened["stores"] == 3 and opened["images"] == 48 and opened["ms"] > 0
    held = dict(
        images=[8, 80],
        store_mb=[1.0, 10.0],
        resident_mb=[1.0, 1.0],
        peak_mb=[1.0, 1.0],
        own_mb=[1.0, 1.0],
        more_percent=dict(resident=0.0, peak=0.0, own=0.0),
    )
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(
        data.show(
            dict(
                size=24,
                data="phantom",
                packing_images_per_s=rates,
                reading=read,
                memory=held,
                films=held,
                opening=opened,
            )
        )
    )
    shown = console.export_text()
    assert "films of 80 images" in shown and "opening 3 stores" in shown and "data" in bench.SECTIONS


@pytest.mark.long
def test_memory_of_a_real_process(tmp_path):
    small = pack("drive", out=tmp_path, size=24, subjects=12, source="phantom")
    held = data.memory(small, data.enlarge(small, tmp_path / "large", 10), steps=1)
    assert (
        held["images"] == [12, 120] and 50 < held["own_mb"][0] < held["resident_mb"][0] <= held["peak_mb"][0]
    )
    assert held["more_percent"]["resident"] < 25


@pytest.mark.long
def test_films_are_read_in_flat_memory(tmp_path):
    held = data.film_memory(tmp_path, 2000, steps=2)
    assert held["images"] == [200, 2000] and held["more_percent"]["own"] < 15


@pytest.mark.long
def test_a_loop_that_fails_is_not_a_measurement(tmp_path):
    with pytest.raises(RuntimeError, match="no packed dataset"):
        data.memory(tmp_path / "a", tmp_path / "b", 1)
