"`taco place` and `taco atlas`: from a run's folder to a placed task and to a page."
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from taco.atlas.embedding import Embeddings, plan_pairs
from taco.base import DataError, ParameterError, StoreError, TacoError
from taco.cli.atlas import ask_command, atlas_command, place_command
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task
from taco.workflow.page import write_atlas
from tests.made_run import make_run, store_of, told, vectors_of
from tests.pairs import SIZE, pairs_of, save_pairs
from tests.trained import train_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path: return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def page(run) -> Path:
    return write_atlas(run, run / "atlas.html")


# ---------------------------------------------------------------- a page from a run


def test_page_of_a_profile(run, page):
    data, pairs = told(page), Embeddings.load(run / "embed/embeddings")
    assert list(data["maps"]) == ["UMAP", "t-SNE"] and data["encoder"] == "TaCo"
    assert data["columns"][0]["names"] == [
        get_task(t).title for t in ALL_TASKS if t in set(pairs.table["task"])
    ]
    assert (
        np.abs(np.array(data["maps"]["UMAP"]["x"])).max() <= 1
        and data["record"] == pairs.table["record"].tolist()
    )
    assert {p["alteration"] for p in data["paths"]["items"]} == {0, 1}
    start = data["paths"]["items"][0]["maps"]["UMAP"][0]
    assert start == [data["maps"]["UMAP"]["x"][0], data["maps"]["UMAP"]["y"][0]], (
        "a path lies in the frame of the points"
    )


def test_page_of_an_embed_run_alone(run, tmp_path):
    shutil.copytree(run / "embed", tmp_path / "mine")
    data = told(write_atlas(tmp_path / "mine", tmp_path / "a.html", limit=40))
    assert (
        list(data["maps"]) == ["UMAP"]
        and len(data["subject"]) == 40
        and data["paths"]["items"] == []
    )


def test_unseen_datasets_and_a_moved_folder(run, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "map")
    pack("isic2018", source="phantom", size=32, subjects=8, out=folder / "strangers/stores")
    (folder / "strangers/stores.txt").write_text("isic2018-phantom-32")
    (folder / "strangers/done.json").write_text(json.dumps(dict(parameters={})))
    (folder / "embed/done.json").write_text(
        json.dumps(dict(parameters=dict(pack_run="elsewhere/pack", unseen="elsewhere/strangers")))
    )
    known = Embeddings.load(run / "embed/embeddings")
    length = len(
        store_of(run)
    )
    strange = plan_pairs(
        Store.open([folder / "strangers/stores/isic2018-phantom-32"]), ["deblurring"], "test", 2
    )
    table = pd.concat(
        [known.table, strange.assign(record=strange["record"] + length)], ignore_index=True
    )
    Embeddings(table, dict(taco=vectors_of(table))).save(folder / "embed/embeddings")
    said = []
    data = told(write_atlas(folder, tmp_path / "a.html", say=said.append))
    assert (
        "isic2018" in data["columns"][2]["names"]
        and len(data["subject"]) == len(table)
        and "computing UMAP" in said[0]
    )


def test_map_of_another_encoder_is_not_used(run, tmp_path):
    assert list(told(write_atlas(run, tmp_path / "a.html", encoder="pixels"))["maps"]) == ["UMAP"]


def test_bad_runs(run, tmp_path):
    with pytest.raises(StoreError, match="taco run embed"):
        write_atlas(tmp_path, tmp_path / "a.html")
    with pytest.raises(StoreError, match="no such folder"):
        write_atlas(tmp_path / "absent", tmp_path / "a.html")
    with pytest.raises(TacoError, match="Did you mean 'pixels'"):
        write_atlas(run, tmp_path / "a.html", encoder="pixel")
    with pytest.raises(ParameterError, match="limit"):
        write_atlas(run, tmp_path / "a.html", limit=0)
    with pytest.raises(ParameterError, match="is a folder"): write_atlas(run, tmp_path)
    shutil.copytree(run, tmp_path / "short")
    np.savez(tmp_path / "short/map/coordinates.npz", umap=np.zeros((5, 2)))
    with pytest.raises(StoreError, match="coordinates.npz[^$]*5 points"):
        write_atlas(tmp_path / "short", tmp_path / "a.html")
    pairs = Embeddings.load(run / "embed/embeddings")
    Embeddings(pairs.table.assign(key="other"), pairs.vectors).save(
        tmp_path / "short/embed/embeddings"
    )
    with pytest.raises(StoreError, match="packed data does not belong"):
        write_atlas(tmp_path / "short", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_the_command_atlas(run, tmp_path):
    app = typer.Typer()
    app.command()(atlas_command)
    done = CliRunner().invoke(app, [str(run), "-o", str(tmp_path / "x.html"), "--limit", "30"])
    assert (
        done.exit_code == 0
        and (tmp_path / "x.html").stat().st_size > 20_000
        and "MB" in done.output
    )


# ---------------------------------------------------------------- a placed task


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Store, Path]:
    "Packed phantoms and a run trained on them."
    out = tmp_path_factory.mktemp("packed")
    names = ("acdc", "busi", "kvasir")
    store = Store.open(
        [pack(name, out=out, size=SIZE, source="phantom", subjects=12) for name in names]
    )
    return store, train_run(store, tmp_path_factory.mktemp("run"))


def test_the_command_place(trained, tmp_path):
    store, run = trained
    app = typer.Typer()
    app.command()(place_command)
    save_pairs(tmp_path / "pairs", *pairs_of(store, "intensity_inversion"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        done = CliRunner().invoke(
            app,
            [
                str(tmp_path / "pairs"),
                "--encoder",
                str(run),
                "--out",
                str(tmp_path / "out"),
                "--device",
                "cpu",
            ],
        )
    assert done.exit_code == 0, done.output
    assert (
        "intensity_inversion" in done.output
        and "held-out pairs" in " ".join(done.output.split())
        and (tmp_path / "out/map.png").exists()
    )
    assert "Families" in done.output and not any(name in done.output for name in ("dataset", *store.datasets))
    save_pairs(tmp_path / "turned", *pairs_of(store, "horizontal_flip"))
    folders = [str(tmp_path / name) for name in ("pairs", "turned")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        how = ["--encoder", str(run), "--out", str(tmp_path / "both"), "--device", "cpu"]
        both = CliRunner().invoke(app, [*folders, *how])
    assert both.exit_code == 0 and "turned: Nearest tasks" in both.output and "Families" not in both.output
    assert "yours: turned" in (tmp_path / "both/map.html").read_text()
    for wrong, kind in (
        (["--words", "same,same"], ParameterError),
        (["--encoder", str(tmp_path)], StoreError),
        (["--fit", "squeeze"], DataError),
    ):
        done = CliRunner().invoke(app, [str(tmp_path / "pairs"), "--encoder", str(run), *wrong])
        assert isinstance(done.exception, kind), done.output


# ---------------------------------------------------------------- asked about real data


def test_what_comes_with_taco_is_asked_without_its_images(tmp_path, monkeypatch):
    from taco.workflow import execute
    class Enough(Exception): "That was to be known."
    asked = []
    def watched(notebook, given):
        asked.append(given)
        raise Enough
    monkeypatch.setattr(execute, "execute", watched)
    with pytest.raises(Enough): ask_command(Path("pretrained"), tmp_path)
    (given,) = asked
    assert given["pack_run"] is None and given["embed_run"] == "pretrained/embed" and given["data"] == str(tmp_path)
    with pytest.raises(ParameterError, match="no pack/done.json"): ask_command(tmp_path / "run", tmp_path)


@pytest.mark.long
def test_the_experiment_answers_without_rivals(tmp_path):
    from taco.workflow.execute import execute
    from taco.workflow.parameters import find_experiment
    execute(find_experiment("real"), dict(
        folder=str(tmp_path / "real"), pack_run=None, train_run="pretrained/train", embed_run="pretrained/embed",
        packaged=["skimage_retina", "skimage_cell"], per_cell=2, traces="hidden", draws=50))
    metrics = json.loads((tmp_path / "real/done.json").read_text())["metrics"]
    assert .4 < metrics["task_knn_real_unseen"]["value"] <= 1
    assert not any("statistics" in name or "pixels" in name for name in metrics)
