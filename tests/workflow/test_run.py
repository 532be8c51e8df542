"A run: what it opens, what it says when that is absent, and what it leaves."
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from taco.base import StoreError
from taco.workflow.execute import execute
from taco.workflow.parameters import ExperimentError
from taco.workflow.run import Run
from taco.workflow.seal import content_key, finished, peak_memory
from tests.spoil import FEW, MANY, unnoticed


def test_missing_input_says_what_to_run(tmp_path):
    with pytest.raises(ExperimentError, match="taco run pack"):
        execute("train", dict(folder=str(tmp_path / "train"), pack_run=str(tmp_path / "pack")), echo=False)


def test_a_metric_says_what_data_it_came_from(tmp_path):
    run = Run("map", tmp_path, {})
    with pytest.raises(ExperimentError, match="data"): run.metric("x", 1, n=1, seeds=1, data="invented")
    run.count(pd.DataFrame(dict(record=[0, 0, 1], source=["real", "real", "phantom"])))
    run.metric("x", 1, n=1, seeds=1)
    assert run.metrics["x"]["data"] == "phantom+real" and run.data == dict(real=1, phantom=1)


def test_a_figure_is_saved_once_and_referred_to(tmp_path, capsys):
    run = Run("map", tmp_path, {})
    run.figure(Figure(), "fig2_map", "A caption.")
    run.finish()
    assert (tmp_path / "fig2_map.png").exists()
    assert finished(tmp_path, "map")["figures"] == {"fig2_map": {"caption": "A caption."}}


def test_a_run_says_what_memory_it_took(tmp_path):
    "Its own, and that of a process it has started, whether that lives or has ended."
    code = "block = bytearray(b'1' * (700 << 20)); print('made', flush=True); import sys; sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    living = peak_memory()
    process.communicate()
    ended = peak_memory()
    assert living["largest"] >= 700 and ended["largest"] >= 700 and living["own"] > 20
    run = Run("map", tmp_path, {})
    run.finish()
    said = finished(tmp_path, "map")["memory"]
    assert said["own"] >= ended["own"] and said["largest"] >= 700


def test_parts_that_are_there_are_not_made_again(tmp_path):
    run, asked = Run("embed", tmp_path, {}), []
    def make(names):
        asked.append(list(names))
        return {name: np.full(2, len(asked)) for name in names}
    files = dict(a="a-0", b="b-0")
    first = run.parts(tmp_path / "state", files, make, beside=["c"])
    assert list(first) == ["a", "b", "c"] and asked == [["a", "b", "c"]]
    (tmp_path / "state/b-0.npy.json").unlink()  # stopped between the two
    again = run.parts(tmp_path / "state", files, make, beside=["c"])
    assert {name: values[0] for name, values in again.items()} == dict(a=1, b=2, c=2) and asked[1] == ["b", "c"]
    assert run.parts(tmp_path / "state", files, make)["b"][0] == 2 and len(asked) == 2
    assert sorted(f.name for f in (tmp_path / "state").iterdir()) == [
        "a-0.npy", "a-0.npy.json", "b-0.npy", "b-0.npy.json"]


def test_state_depends_on_parameters_and_inputs_and_on_no_folder(tmp_path):
    def pack(name: str, image: str):
        store = tmp_path / name / "stores/a"
        store.mkdir(parents=True)
        (store / "manifest.json").write_text(json.dumps(dict(key=name, files={"image.npy": image})))
        (tmp_path / name / "stores.txt").write_text("a")
        (tmp_path / name / "done.json").write_text("{}")
        return tmp_path / name
    one, same, other = pack("one", "k"), pack("same", "k"), pack("other", "l")
    assert content_key(one) == content_key(same) != content_key(other)
    run = Run("train", tmp_path, dict(folder="x", pack_run="runs/a", steps=3))
    states = [run.state(folder, free=("pack_run",)).name for folder in (one, same, other)]
    assert states[0] == states[1] != states[2]
    for name in (*states, "state-old"): (tmp_path / name).mkdir(exist_ok=True)
    run.keep_only(tmp_path / states[2])
    assert [f.name for f in tmp_path.glob("state-*")] == [states[2]]


def test_a_map_of_another_encoder_is_not_taken_for_ours(tmp_path):
    np.savez(tmp_path / "coordinates.npz", umap=np.ones((3, 2), np.float32), tsne=np.zeros((3, 2), np.float32))
    (tmp_path / "done.json").write_text(json.dumps(dict(parameters=dict(encoder="pixels"))))
    run = Run("alterations", tmp_path, {})
    assert run.places(tmp_path, "pixels").tolist() == [[1, 1]] * 3
    with pytest.raises(ExperimentError, match="encoder=taco"): run.places(tmp_path)


def test_embeddings_leave_a_device_of_ones_own_alone(tmp_path):
    from taco.atlas.embedding import Embeddings
    columns = dict(record=[0, 1], source="phantom", split=["train", "test"], subject=["a", "b"], key=["0", "1"])
    table = pd.DataFrame(columns)
    Embeddings(table, dict(taco=np.eye(2, dtype=np.float32))).save(tmp_path / "embeddings")
    (tmp_path / "done.json").write_text(json.dumps(dict(device="cuda")))
    for parameters, device in ((dict(), "cuda"), (dict(device="cpu"), "cpu")):
        run = Run("alterations", tmp_path, parameters)
        bank, queries = run.embeddings(tmp_path)
        assert (run.device, len(bank), len(queries), run.data) == (device, 1, 1, dict(phantom=1))


def test_where_a_folder_lay_is_forgotten(tmp_path):
    run = Run("real", tmp_path, dict(data="/somewhere/of/mine/scans", cards=None))
    run.forget_where("data", "cards")
    assert run.parameters == dict(data="scans", cards=None)


def test_numbers_of_a_stopped_run_are_taken_up_and_a_damaged_part_is_named(tmp_path):
    "What was made now and what was kept are the same, pairs as lists and values that are no numbers included."
    (tmp_path / "embed/embeddings").mkdir(parents=True)
    done, calls = tmp_path / "embed/done.json", []
    done.write_text("{}")
    run = Run("encoders", tmp_path / "run", dict(folder="x", k=5))
    state = run.state(tmp_path / "embed")
    def made() -> dict:
        calls.append(1)
        return dict(knn=dict(value=np.float64(1 / 3), ci=(0.1, float("nan")), n=3))
    both = [run.kept(state, "taco", made) for _ in range(2)]
    assert len(calls) == 1 and repr(both[0]) == repr(both[1])
    assert repr(both[0]) == repr(dict(knn=dict(value=1 / 3, ci=[0.1, float("nan")], n=3)))
    done.write_text('{"other": 1}')  # embedded again
    assert run.state(tmp_path / "embed") != state
    file = state / "taco.json"
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(StoreError, match="taco.json") as error: run.kept(state, "taco", made)
    assert "Delete it" in str(error.value)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["taco.npy", "taco.npy.json"])
def test_no_damage_of_a_part_is_silent(tmp_path, name, count):
    run = Run("embed", tmp_path, {})
    vectors, made = np.random.default_rng(0).normal(size=(20, 8)), []
    make = lambda: made.append(1) or vectors
    read = lambda: run.part(tmp_path, "taco", make)
    read()
    silent, odd, counts = unnoticed(tmp_path / name, read, lambda now: np.array_equal(now, vectors), count)
    assert silent == [] and odd == [] and len(made) == 1 and counts["refused"] > 2 * count
    (tmp_path / name).unlink()  # as the error says
    assert np.array_equal(read(), vectors) and len(made) == 2


def test_a_run_needs_no_git(tmp_path, monkeypatch):
    from taco.workflow.seal import git_commit
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == "unknown"
