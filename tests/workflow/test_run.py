"A run: what it opens, what it says when that is absent, and what it leaves."
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

from taco.base import StoreError
from taco.disk import file_digest
from taco.lock import PARENT
from taco.workflow.doctor import examine_run
from taco.workflow.execute import execute
from taco.workflow.parameters import ExperimentError, declared_parameters, known_experiments
from taco.workflow.run import Run
from taco.workflow.seal import (
    DONE,
    content_key,
    faults,
    finished,
    known_encoders,
    lies_in,
    peak_memory,
    stand_in,
)
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


# ── opened by a person, before anything ran ───────────────────────────────────────────────────────────────────────────


# What every experiment says when somebody opens it and runs it as it is: it reads the embeddings that come with taco,
# it needs these steps of the profile smoke, or it reads no run at all.
SHIPPED, NOTHING = "pretrained", ""
OPENED = dict.fromkeys("blending datasets encoders map neighbours similarity".split(), SHIPPED)
OPENED |= dict.fromkeys("pack sequence_ssl ums_rep".split(), NOTHING)
OPENED |= dict.fromkeys("gallery image_contrast train".split(), "pack")
OPENED |= dict.fromkeys(
    "affinity breadth embed failures further grouping left_out relations sources".split(), "pack train")
OPENED |= dict(generalisation="pack train embed", real="pack train embed", alterations="pack train embed map")


@pytest.fixture
def project(tmp_path, root, monkeypatch):
    "The experiments in a folder of their own, where nothing has run."
    for name in ("nbs/experiments", "profiles"): shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "settings.ini", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def defaults(name: str) -> dict:
    return {n: p.default for n, p in declared_parameters(name).items()}


def test_every_experiment_is_in_the_table(): assert set(OPENED) == set(known_experiments())


@pytest.mark.parametrize("name", OPENED)
def test_what_an_experiment_says_that_is_opened_before_anything_ran(name, project, capsys):
    if OPENED[name] in (SHIPPED, NOTHING):
        others, said = stand_in(name, defaults(name)), capsys.readouterr().out
        expected = dict(embed_run="pretrained/embed", folder=f"runs/shipped/{name}") if OPENED[name] else {}
        assert others == expected and said.count("\n") == len(expected) // 2
        assert not expected or "runs/smoke/embed" in said and "comes with taco" in said
    else:
        with pytest.raises(ExperimentError, match="more than comes with taco") as error: stand_in(name, defaults(name))
        assert error.value.fix == "Run first: " + " && ".join(
            f"taco run {step} --profile smoke" for step in OPENED[name].split())


def test_a_run_opened_by_hand_tells_what_it_has_read(project, capsys):
    namespace = defaults("map") | {"In": ["", "folder: str = 'runs/smoke/map'"]}
    run = Run.begin("map", namespace)
    assert run.folder == project / "runs/shipped/map" and not (project / "runs/smoke").exists()
    assert namespace["embed_run"] == "pretrained/embed"  # what the next cells read
    bank, queries = run.embeddings(namespace["embed_run"])
    assert len(bank) > 3000 and len(queries) == 2048 and run.state("pretrained/embed").parent == run.folder
    run.finish()
    done = finished("runs/shipped/map", "map")
    digest = file_digest(lies_in("pretrained/embed") / DONE)
    assert done["needs"] == {"pretrained/embed": digest} and done["parameters"]["embed_run"] == "pretrained/embed"
    assert [f.words for f in examine_run(run.folder) if f.wrong] == []


@pytest.mark.parametrize("how", ["papermill", "taco run", "a script", "another folder"])
def test_whoever_names_an_absent_run_is_refused(how, project, monkeypatch):
    namespace = defaults("map") | {"In": ["", "embed_run: str = 'runs/smoke/embed'\nk: int = 3"]}
    if how == "papermill": namespace["In"] += ["# Parameters\nembed_run = 'runs/smoke/embed'\n"]
    if how == "taco run": monkeypatch.setenv(PARENT, "1")
    if how == "a script": del namespace["In"]
    if how == "another folder": namespace["embed_run"] = "runs/mine/embed"
    with pytest.raises(ExperimentError, match="finished run(.|\n)*taco run embed"): Run.begin("map", namespace)
    assert not (project / "runs").exists()


def test_a_run_that_is_there_is_read_and_none_beside_it(project):
    (project / "runs/smoke/embed").mkdir(parents=True)
    (project / "runs/smoke/embed" / DONE).write_text("{}")
    assert stand_in("map", defaults("map")) == {}
    with pytest.raises(ExperimentError, match="pack_run, train_run, map_run"):
        stand_in("alterations", defaults("alterations"))


def test_encoders_that_are_not_shipped_are_named_and_those_of_a_run_are_refused(capsys):
    assert known_encoders(dict(taco=0), ["taco", "random"], "encoders", "pretrained/embed") == ["taco"]
    assert "left out: random" in capsys.readouterr().out
    with pytest.raises(ExperimentError, match="no such encoder"):
        known_encoders(dict(taco=0), ["taco", "random"], "encoders", "runs/smoke/embed")


def test_what_comes_with_the_package_is_sealed():
    for step in ("train", "embed", "map"):
        done = finished(f"pretrained/{step}", step)
        assert done["experiment"] == step and faults(lies_in(f"pretrained/{step}"), done) == {}
    assert finished("pretrained/train", "train")["code"] in (lies_in("pretrained") / "README.md").read_text()
    assert Run("map", Path(), {}).places("pretrained/map").shape == (2048, 2)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, needs in OPENED.items() if needs == SHIPPED])
def test_an_analysis_that_is_opened_runs_to_its_end(name, project):
    book = nbformat.read(project / f"nbs/experiments/{name}.ipynb", 4)
    where = dict(metadata=dict(path=str(project / "nbs/experiments")))
    NotebookClient(book, timeout=900, kernel_name="python3", resources=where).execute()
    outputs = [o for c in book.cells for o in c.get("outputs", [])]
    shown = [o for o in outputs if "image/png" in o.get("data", {})]
    done = finished(f"runs/shipped/{name}", name)
    assert len(shown) == len(done["figures"]) >= 1 and done["metrics"] and list(done["needs"]) == ["pretrained/embed"]
