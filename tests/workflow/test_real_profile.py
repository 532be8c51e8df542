"A profile on a folder of real datasets: from files to published figures, with what is absent or broken named."
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_collection import named
from tests.workflow.test_execute import project, snakemake

THREE = """description: three small folders, one of which stays out of training, and a broken one
open: [data, cards]
only: [pack, pack_unseen, train, train_seed1, one, one_seed1, sources, breadth]
pack: {size: 32, subjects: null, held_out: [spots, nobody]}
pack_unseen: {experiment: pack, part: held out, apart_from: "{pack}"}
train: {steps: 4}
train_seed1: {experiment: train, seed: 1}
one: {experiment: train, drawn: 1}
one_seed1: {experiment: train, drawn: 1, seed: 1}
sources: {seeds: ["{train_seed1}"], phantoms: ["{one}", "{one_seed1}"], unseen: "{pack_unseen}"}
breadth: {fewer_datasets: ["{one}", "{one_seed1}"], unseen: "{pack_unseen}"}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    "The project after the run."
    place = tmp_path_factory.mktemp("three")
    folder, data = project(place / "project"), place / "somebodys_data"
    (folder / "profiles/three.yaml").write_text(THREE)
    for name in ("spots", "dots", "blobs", "broken"): named(data, name, count=8)
    for file in (data / "broken").glob("*.png"): file.write_bytes(b"no picture")
    (data / "notes").mkdir()
    ran = snakemake(folder, "--config", "profile=three", f"data={data}")
    assert ran.returncode == 0, ran.stderr[-6000:]
    return folder


def told(folder: Path, step: str) -> dict:
    return json.loads((folder / f"runs/three/{step}/done.json").read_text())


@pytest.mark.long
def test_each_dataset_is_on_its_side_and_real(done):
    packed = lambda step: (done / f"runs/three/{step}/stores.txt").read_text().split()
    assert packed("pack") == ["blobs-real-32", "dots-real-32"] and packed("pack_unseen") == ["spots-real-32"]
    metrics = told(done, "sources")["metrics"]
    assert {m["data"] for m in metrics.values()} == {"real"}
    assert {metrics[f"images_{name}"]["part"] for name in ("blobs", "dots")} == {"trained on"}
    assert metrics["images_spots"]["part"] == "never seen" and metrics["images_spots"]["value"] == 8
    for group in ("heldout_images", "unseen_datasets"):
        for arm in ("real", "phantoms"): assert metrics[f"task_knn_{group}_{arm}"]["seeds"] == 2
        assert {f"task_knn_{group}_real_statistics_{how}" for how in ("lda", "trees")} <= set(metrics)
    real, less = (metrics[f"task_knn_unseen_datasets_{arm}"]["value"] for arm in ("real", "phantoms"))
    assert metrics["phantom_to_real_gap"]["value"] == pytest.approx(real - less, abs=2e-5)


@pytest.mark.long
def test_fewer_datasets_are_counted(done):
    metrics = told(done, "breadth")["metrics"]
    assert metrics["breadth_train"]["datasets"] == 2 and metrics["breadth_one"]["datasets"] == 1
    assert metrics["datasets_needed_for_0.90"]["reached"] is False or metrics["datasets_needed_for_0.90"]["value"] <= 2
    low, high = metrics["gain_per_doubling_datasets"]["ci"]
    assert low <= metrics["gain_per_doubling_datasets"]["value"] <= high


@pytest.mark.long
def test_what_is_broken_is_named_and_nothing_tells_where_the_data_lie(done):
    assert list(told(done, "pack")["troubles"]) == ["broken cannot be read"]
    call = [sys.executable, "-c", "from taco.cli.main import main; main()", "publish", "three"]
    ran = subprocess.run(call, cwd=done, env=dict(os.environ, PYTHONPATH=str(done)), capture_output=True, text=True)
    assert ran.returncode == 1 and "broken cannot be read" in ran.stdout, ran.stdout + ran.stderr
    published = (done / "figures/three").rglob("*")
    texts = [file.read_text() for file in published if file.suffix in (".json", ".md", ".ipynb")]
    assert len(texts) > 8 and not any(str(done.parent) in text for text in texts)
    manifest = json.loads((done / "figures/three/manifest.json").read_text())
    assert "somebodys_data/broken/0.png" in manifest["runs"]["pack"]["troubles"]["broken cannot be read"]
    assert "| never seen | t | 8 |" in (done / "figures/three/README.md").read_text()
