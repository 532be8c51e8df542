"Many machines: a step and a dataset are jobs of their own, and what they leave is what one machine leaves."
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from taco.data.collection import contents
from taco.data.pack import pack
from taco.data.store import read_manifest
from taco.workflow.parameters import declared_parameters
from tests.crash import content
from tests.test_nothing_changed import metrics_digest
from tools import slurm
from tools.pack_one import names_of, pack_one

ROOT = Path(__file__).resolve().parent.parent.parent


def project(folder: Path) -> Path:
    "A copy of the parts that run, in its own folder."
    for name in ("taco", "profiles", "nbs/experiments", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("Snakefile", "settings.ini"): shutil.copy(ROOT / name, folder / name)
    return folder


def planned(folder: Path, *words: str, path: str = "") -> dict[str, int]:
    "Rule → number of its jobs, as a dry run says."
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), path]))
    call = [sys.executable, "-m", "snakemake", "-n", "--quiet", "host", *words]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.partition("Job stats:")[2].partition("total")[0].splitlines()[3:]
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.strip()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    return project(tmp_path_factory.mktemp("machines"))


@pytest.mark.long
def test_39_datasets_and_5_seeds_are_as_many_jobs(copy):
    cards = sorted(p.stem for p in (ROOT / "taco/data/cards").glob("*.toml") if p.stem != "folders")[:39]
    seeds = {f"train_seed{k}": dict(experiment="train", seed=k) for k in range(5)}
    profile = dict(only=["pack", *seeds], pack=dict(datasets=cards), **seeds)
    (copy / "profiles/many.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    jobs = planned(copy, "--cores", "40", "--configfile", "profiles/slurm/steps.yaml", "--config", "profile=many")
    assert jobs.pop("pack_dataset") == 39 and jobs == dict.fromkeys(["all", "pack", *seeds], 1)
    here = planned(copy, "--cores", "2", "--config", "profile=many")
    assert "pack_dataset" not in here and here == dict.fromkeys(["all", "pack", *seeds], 1)  # as before


def test_what_jobs_ask_for_is_known_to_the_profile():
    from taco.workflow.parameters import known_experiments
    for name in ("slurm", "kubernetes"):
        asked = yaml.safe_load((ROOT / f"profiles/{name}/steps.yaml").read_text())
        assert set(asked["steps"]) <= {"all", *known_experiments()} and asked["spread"] is True
        assert all(type(n) is int for about in asked["steps"].values() for n in about.values())
        assert asked["steps"]["all"].keys() >= {"cores", "memory"}


def test_datasets_packed_apart_are_those_packed_together(tmp_path):
    given = dict(folder=str(tmp_path / "apart"), datasets=["drive", "busi", "skimage_ihc"], size=32, subjects=4)
    assert names_of(given) == given["datasets"]
    for name in reversed(given["datasets"]):
        folder = pack_one(name, given)["folder"]
        together = pack(name, out=tmp_path / "together", size=32, subjects=4)
        assert folder == together.name and content(tmp_path / "apart/stores" / folder) == content(together)
    with pytest.raises(Exception, match="Did you mean 'drive'"): pack_one("driv", given)


def test_of_a_folder_of_datasets_each_job_takes_its_own(tmp_path):
    data = tmp_path / "data"
    for name in ("cellnuclei", "hc18"): (data / name).mkdir(parents=True)
    given = dict(folder=str(tmp_path / "run"), data=str(data), cards=str(ROOT / "tests/cards"))
    assert sorted(names_of(given)) == ["cellnuclei", "hc18"]
    told = [pack_one(name, given | dict(held_out=["hc18"])) for name in ("cellnuclei", "hc18")]
    assert "failed" in told[0] and told[1] == dict(left="held out")  # nothing lies in it: the step says so, too


@pytest.mark.long
@pytest.mark.parametrize("name, plugins", [
    ("slurm", ["snakemake_executor_plugin_slurm"]),
    ("kubernetes", ["snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_fs"])])
def test_a_profile_of_a_cluster_is_planned(copy, name, plugins):
    if absent := [p for p in plugins if not importlib.util.find_spec(p)]: pytest.skip(f"{absent} are not installed")
    places = {str(Path(str(importlib.util.find_spec(p).origin)).parent.parent) for p in plugins}
    jobs = planned(copy, "--workflow-profile", f"profiles/{name}", "--config", "profile=smoke",
                   path=os.pathsep.join(places))
    datasets = declared_parameters("pack")["datasets"].default
    assert jobs["pack_dataset"] == len(datasets) and jobs["half0_seed1"] == jobs["train"] == 1


@pytest.mark.long
def test_the_smoke_profile_through_slurm_is_the_local_one(tmp_path, known_digests):
    if why := slurm.absent(): pytest.skip(f"Slurm cannot be had: {why}")
    folder = project(tmp_path / "project")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), str(slurm.plugin())]))
    words = [sys.executable, "-m", "tools.slurm", "smoke", "--quiet", "host", "rules"]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    runs = {f.parent.name: f.parent for f in (folder / "runs/smoke").glob("*/done.json")}
    assert {step: metrics_digest(run) for step, run in runs.items()} == known_digests["smoke"]
    for store in (runs["pack"] / "stores").iterdir():
        name = json.loads((store / "manifest.json").read_text())["name"]
        given = {n: declared_parameters("pack")[n].default for n in ("size", "subjects")}
        assert contents(read_manifest(pack(name, out=tmp_path / "here", **given))) == contents(read_manifest(store))
