"Growth in small: slopes of known growth, a search in a process of its own, a picture."

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks import history, scale
from taco.base import ParameterError
from taco.data.pack import pack
from taco.data.store import Store


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_is_the_power_of_growth(power):
    sizes = [1, 2, 4, 8, 16]
    assert scale.slope(sizes, [0.3 * n**power for n in sizes]) == pytest.approx(power, abs=0.01)
    # what is paid once hides in small sizes; the larger half tells
    assert scale.slope(sizes, [0.001 + n**power for n in sizes]) == pytest.approx(power, abs=0.02)


def test_rows_are_unit_vectors_in_files(tmp_path):
    scale.embeddings(tmp_path, 70, 5, 8)
    bank, queries = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("bank", "queries"))
    assert bank.shape == (70, 8) and queries.shape == (5, 8) and bank.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, atol=1e-5)


def test_a_search_in_its_own_process_finds_the_nearest(tmp_path):
    scale.embeddings(tmp_path, 400, 7, 8)
    found = scale.search(tmp_path, 3, "ours", 1)
    bank, queries = np.load(tmp_path / "bank.npy"), np.load(tmp_path / "queries.npy")
    assert np.array_equal(np.load(tmp_path / "ours.npy"), np.argsort(-(queries @ bank.T), 1)[:, :3])
    assert 0.1 < found["peak_gib"] < 2 and found["seconds"] >= 0


def test_growth_and_its_picture_and_the_table(tmp_path):
    grown = scale.growth(tmp_path, 16, (1, 2), (1, 2), (20, 40))
    assert set(grown) == {"tasks", "datasets", "images"} and all(len(g["seconds"]) == 2 for g in grown.values())
    search = dict(seconds=1.0, cpu_s=1.0, built_s=0.0, peak_gib=0.5)
    result = dict(
        neighbours=dict(bank=400, queries=7, width=8, k=3, threads=1, ours=search),
        embedding=dict(pairs_per_s=10, million_minutes=1.0, million_gib=1.5),
        growth=grown,
        goal_gib=4.0,
    )
    scale.draw(result, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(scale.show(result))
    text = console.export_text()
    assert "peak 0.50 GiB" in text and "1.5 GiB" in text and "faiss" not in text
    result["neighbours"]["faiss"] = search | dict(recall=1.0, ours_takes_times=1.6)
    console.print(scale.show(result))
    assert "by faiss" in (text := console.export_text()) and "1.60 times" in text


def test_embedding_tells_what_a_million_would_take(tmp_path):
    store = Store.open([pack("drive", out=tmp_path, size=16, source="phantom", subjects=4)])
    found = scale.embedding(store, 30)
    assert 0 < found["pairs"] <= 30 and found["million_gib"] > 1e6 * 4 * 64 / 2**30
    assert found["million_minutes"] == pytest.approx(1e6 / found["pairs_per_s"] / 60, rel=0.1)


@pytest.mark.skipif(not scale.FASTER, reason="faiss is not installed")
def test_faiss_finds_the_same(tmp_path):
    found = scale.million(500, 8, 16, 4, scale.FASTER, 1)
    assert found["faiss"]["recall"] > 0.99 and found["faiss"]["ours_takes_times"] >= 0


def measured(version: str, ratio: float) -> dict:
    "What `latest.json` holds, as far as the history reads it."
    neighbours = {"0": dict(loop=700.0, of_bound=0.9), "2": dict(of_best_fixed=0.85), "1": dict(of_best_fixed=0.95)}
    tasks = dict(a=dict(ratio_to_kornia={"8": 2.0}), b=dict(ratio_to_kornia={"8": 4.0}), c={})
    found = dict(
        tasks=dict(batches=[8], tasks=tasks, median_ratio={"8": ratio}),
        loop=dict(encoders=dict(small=dict(neighbours=neighbours))),
        data=dict(packing_images_per_s={"1": 100.0, "2": 190.0}, reading=dict(images_per_s=dict(store=30000))),
        scale=dict(
            embedding=dict(pairs_per_s=1500),
            neighbours=dict(ours=dict(seconds=40.0, peak_gib=1.2)),
            growth=dict(tasks=dict(slope=0.9), datasets=dict(slope=0.1), images=dict(slope=0.2)),
        ),
    )
    of = dict(commit="abc1234", versions=dict(taco=version))
    return {name: part | dict(provenance=of, others=0.1) for name, part in found.items()}


def test_the_history_has_one_row_a_version(tmp_path):
    file = tmp_path / "history.csv"
    history.keep(measured("1.0", 9.0), file)
    history.keep(measured("1.1", 10.0), file)
    table = history.keep(measured("1.1", 11.0), file)
    assert list(table["version"]) == ["1.0", "1.1"] and list(table["tasks_times_one_by_one"]) == ["9.0", "11.0"]
    last = table.iloc[1]
    assert last["tasks_times_kornia"] == "3.0" and last["loop_of_best_fixed_busy"] == "0.85"
    assert (
        last["slope_tasks"] == "0.9"
        and int(last["cores"]) > 0
        and last["commit"] == "abc1234"
        and "/" not in last["machine"]
    )


def test_a_history_of_two_commits_is_refused(tmp_path):
    found = measured("1.0", 9.0)
    found["loop"]["provenance"] = found["loop"]["provenance"] | dict(commit="older")
    with pytest.raises(ParameterError, match="loop of older"):
        history.keep(found, tmp_path / "history.csv")
    assert not list(tmp_path.iterdir())


def test_a_history_of_half_a_measurement_is_refused(tmp_path):
    found = measured("1.0", 9.0)
    del found["loop"]
    with pytest.raises(ParameterError, match="loop"):
        history.keep(found, tmp_path / "history.csv")
