"Experiments: what runs, what does not run again, and how failure reads."
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from taco.base import ParameterError
from taco.experiment import ExperimentError, execute, load_profile, plan

ROOT = Path(__file__).resolve().parent.parent


def project(folder: Path, *, experiments: bool = True) -> Path:
    "A copy of the parts that run, in its own folder."
    shutil.copytree(ROOT / "taco", folder / "taco", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    if experiments: shutil.copytree(ROOT / "nbs/experiments", folder / "nbs/experiments", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("Snakefile", "settings.ini"): shutil.copy(ROOT / name, folder / name)
    return folder


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    import os
    env = dict(os.environ, PYTHONPATH=str(folder), MPLBACKEND="agg")
    call = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", "--rerun-triggers", "params", "input", "mtime", *words]
    return subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=1500)


def jobs(folder: Path) -> set[str]:
    "Names of the rules that a dry run would run."
    text = snakemake(folder, "-n", "--quiet", "host", "--config", "profile=smoke").stdout
    return {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))} - {"all"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    "The whole smoke profile, run once from nothing."
    folder = project(tmp_path_factory.mktemp("smoke"))
    done = snakemake(folder, "--config", "profile=smoke")
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def edit(path: Path, change) -> None:
    nb = nbformat.read(path, 4)
    change(nb)
    nbformat.write(nb, path)


def test_smoke_profile_runs_and_publishes(smoke):
    from taco.experiment import publish
    names = [p.stem for p in (smoke / "nbs/experiments").glob("*.ipynb")]
    folders = {f.parent.name: f.parent for f in sorted((smoke / "runs/smoke").glob("*/done.json"))}
    assert set(names) < set(folders) and {"train_classes", "train_without", "pack_unseen"} <= set(folders)
    metrics = publish(folders, smoke / "figures/smoke")
    assert {"task_knn_heldout_images", "task_knn_heldout_images_random", "task_knn_heldout_images_pixels"} <= set(metrics)
    assert {"encoders_task_knn_unseen_datasets_taco", "failure_auroc_typicality_classes", "generalisation_unseen_tasks", "loop_closure_rotation",
            "task_knn_real_unseen", "train_loss_last", "train_classes_train_loss_last"} <= set(metrics)
    assert metrics["encoders_task_knn_seen_datasets_taco"]["seeds"] == 2
    for name, metric in metrics.items():
        assert {"value", "ci", "n", "seeds", "data"} <= set(metric), name
        assert set(metric["data"].split("+")) <= {"phantom", "packaged", "real"}, name
    manifest = json.loads((smoke / "figures/smoke/manifest.json").read_text())
    for figure in ("fig1_gallery", "fig2_map", "fig3_similarity", "fig4_encoders", "fig5_blending", "fig6_datasets", "fig7_alterations", "fig8_failures",
                   "fig9_generalisation", "fig10_ums_rep", "fig11_sequences"):
        assert (smoke / f"figures/smoke/{figure}.png").stat().st_size > 5000
        assert (smoke / f"figures/smoke/{figure}.svg").read_text()[:200].count("svg")
        assert {"notebook", "parameters", "commit", "data", "versions", "device", "seconds", "caption"} <= set(manifest[figure])
    page = (smoke / "figures/smoke/README.md").read_text()
    assert all(f"({figure}.png)" in page and manifest[figure]["caption"] in page for figure in manifest if figure != "runs")
    for name in names:
        text = (smoke / f"figures/smoke/executed/{name}.ipynb").read_text()
        assert str(smoke) not in text, "an executed notebook names a folder of this machine"


def test_an_absent_encoder_is_named_and_not_an_error(smoke):
    absent = json.loads((smoke / "runs/smoke/embed/absent.json").read_text())
    assert list(absent) == ["clip"] and "nowhere" in absent["clip"]
    assert "clip" in (smoke / "runs/smoke/encoders/executed.ipynb").read_text()


def test_parts_run_their_own_experiments_and_nothing_else(tmp_path):
    "`make reproduce` is TaCo's; the two transfer studies need nothing of it."
    folder = project(tmp_path)
    def part(name):
        text = snakemake(folder, "-n", name, "--quiet", "host", "--config", "profile=quick").stdout
        return {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))} - {name}
    parts = {name: part(name) for name in ("taco", "unified", "sequences", "all")}
    assert parts["unified"] == {"ums_rep"} and all(step.startswith("sequence") for step in parts["sequences"]) and "sequence_ssl" in parts["sequences"]
    assert "train" in parts["taco"] and parts["all"] == parts["taco"] | parts["unified"] | parts["sequences"]
    assert not parts["taco"] & (parts["unified"] | parts["sequences"])


def test_publishing_one_part_keeps_the_others(smoke, tmp_path):
    from taco.experiment import publish
    folders = {name: smoke / "runs/smoke" / name for name in ("ums_rep", "similarity", "map")}
    publish(folders, tmp_path)
    before = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("metrics", "manifest")}
    publish({"ums_rep": folders["ums_rep"]}, tmp_path, keep=["ums_rep", "similarity"])  # map is no step of the profile any more
    after = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("metrics", "manifest")}
    assert after["metrics"] == {k: v for k, v in before["metrics"].items() if v["experiment"] != "map"}
    assert set(after["manifest"]["runs"]) == {"ums_rep", "similarity"}
    assert set(before["manifest"]) - set(after["manifest"]) == {k for k, v in before["manifest"].items() if v.get("step") == "map"} != set()


def test_steps_that_take_every_core_run_alone(smoke):
    "Snakemake from 9.10 on counted a job that was the only one ready as using no cores; two trainings at once then stalled each other."
    whole = ("pack", "train", "image_contrast", "embed", "failures", "alterations", "ums_rep", "sequence_ssl")
    steps = [(f.stat().st_mtime, json.loads(f.read_text())) for f in (smoke / "runs/smoke").glob("*/done.json")]
    spans = sorted((end - done["seconds"], end, done["experiment"]) for end, done in steps if done["experiment"] in whole)
    assert len(spans) >= len(whole)
    assert all(start >= end - .5 for (_, end, _), (start, _, _) in zip(spans, spans[1:])), spans


def test_nothing_runs_twice(smoke):
    assert jobs(smoke) == set()


def test_saving_a_notebook_runs_nothing(smoke):
    path = smoke / "nbs/experiments/train.ipynb"
    edit(path, lambda nb: nb.cells.insert(0, nbformat.v4.new_markdown_cell("A remark.")))
    assert jobs(smoke) == set()


def test_code_change_runs_what_depends_on_it(smoke):
    path = smoke / "nbs/experiments/similarity.ipynb"
    before = path.read_text()
    edit(path, lambda nb: nb.cells.append(nbformat.v4.new_code_cell("1 + 1")))
    assert jobs(smoke) == {"similarity"}
    path.write_text(before)
    module = smoke / "taco/learning/loss.py"
    before = module.read_text()
    module.write_text(before + "\nCHANGED = True\n")
    everything = {f.parent.name for f in (smoke / "runs/smoke").glob("*/done.json")}
    assert jobs(smoke) == everything - {"pack", "pack_unseen", "gallery"}
    module.write_text(before)
    assert jobs(smoke) == set()


def test_parameter_change_runs_what_depends_on_it(smoke):
    profile = smoke / "profiles/smoke.yaml"
    before = profile.read_text()
    profile.write_text(before + "\nmap: {min_dist: 0.4}\n")
    assert jobs(smoke) == {"map", "alterations"}
    profile.write_text(before)


def test_plain_papermill_call_checks_parameters_too(tmp_path):
    "Without our runner: the notebook itself refuses what papermill only warns about."
    call = [sys.executable, "-m", "papermill", "nbs/experiments/map.ipynb", str(tmp_path / "out.ipynb"), "-p", "folder", str(tmp_path), "-p", "neigbours", "5"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0 and "Did you mean 'neighbours'?" in done.stderr


@pytest.mark.parametrize("given, words", [(dict(stepps=3), "Did you mean 'steps'?"), (dict(steps="many"), "int")])
def test_unknown_or_mistyped_parameter_is_refused_before_anything_runs(given, words, tmp_path):
    with pytest.raises(ParameterError, match=".*") as error: execute("train", dict(given, folder=str(tmp_path / "run")))
    assert words in str(error.value) and "train.ipynb" in str(error.value) and not (tmp_path / "run").exists()


def test_typo_in_a_profile_is_found_before_anything_runs():
    with pytest.raises(ParameterError, match="temperature") as error:
        plan(dict(name="mine", train=dict(temperatur=.1)), "train", dict(train="runs/mine/train"))
    assert "profiles/mine.yaml, section train" in str(error.value)
    with pytest.raises(ExperimentError, match="Did you mean 'quick'"): load_profile("quik")


def test_failed_notebook_keeps_what_it_had(tmp_path):
    (tmp_path / "settings.ini").touch()
    cells = [nbformat.v4.new_code_cell(f'folder: str = "{tmp_path / "run"}"', metadata=dict(tags=["parameters"])),
             nbformat.v4.new_code_cell("import sys\nprint('so far so good'); print('a warning', file=sys.stderr)"),
             nbformat.v4.new_code_cell("answer = 41\nanswer / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name="python3", display_name="python3", language="python"))), tmp_path / "broken.ipynb")
    with pytest.raises(ExperimentError) as error: execute(tmp_path / "broken.ipynb", echo=False)
    assert "answer = 41" in str(error.value) and "ZeroDivisionError" in str(error.value)
    assert "so far so good" in (tmp_path / "run/executed.ipynb").read_text()
    assert "a warning" in (tmp_path / "run/stderr.txt").read_text()
    assert not (tmp_path / "run/done.json").exists()


def test_missing_input_says_what_to_run(tmp_path):
    with pytest.raises(ExperimentError, match="taco run pack"):
        execute("train", dict(folder=str(tmp_path / "train"), pack=str(tmp_path / "pack")), echo=False)
