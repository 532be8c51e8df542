"Running: what runs, what does not run again, and how failure reads."
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from taco.workflow.execute import execute
from taco.workflow.parameters import ExperimentError
from taco.workflow.publish import publish

ROOT = Path(__file__).resolve().parent.parent.parent
WHOLE = ("pack", "ums_rep", "sequence_ssl", "affinity", "grouping")


def project(folder: Path) -> Path:
    "A copy of the parts that run, in its own folder."
    shutil.copytree(ROOT / "taco", folder / "taco", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "nbs/experiments", folder / "nbs/experiments", ignore=ignored)
    for name in ("Snakefile", "settings.ini"): shutil.copy(ROOT / name, folder / name)
    return folder


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    env = dict(os.environ, PYTHONPATH=str(folder), MPLBACKEND="agg")
    call = [sys.executable, "-m", "snakemake", "--cores", "2"]
    call += ["--rerun-triggers", "params", "input", "mtime", *words]
    return subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=1500)


def rules(text: str) -> set[str]:
    "Names of the rules that a dry run prints."
    return {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))}


def jobs(folder: Path) -> set[str]:
    "Names of the rules that a dry run would run."
    return rules(snakemake(folder, "-n", "--quiet", "host", "--config", "profile=smoke").stdout) - {"all"}


def edit(path: Path, change) -> None:
    nb = nbformat.read(path, 4)
    change(nb)
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    "The whole smoke profile, run once from nothing."
    folder = project(tmp_path_factory.mktemp("smoke"))
    done = snakemake(folder, "--config", "profile=smoke")
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def runs_of(folder: Path) -> dict[str, Path]:
    "Step → folder of its finished run."
    return {f.parent.name: f.parent for f in sorted((folder / "runs/smoke").glob("*/done.json"))}


def test_smoke_profile_runs_and_publishes(smoke):
    names = [p.stem for p in (smoke / "nbs/experiments").glob("*.ipynb")]
    folders = runs_of(smoke)
    assert set(names) < set(folders) and {"train_classes", "train_without", "pack_unseen"} <= set(folders)
    metrics = publish(folders, smoke / "figures/smoke")
    expected = """task_knn_heldout_images task_knn_heldout_images_random task_knn_heldout_images_pixels
        encoders_task_knn_unseen_datasets_taco failure_auroc_typicality_classes generalisation_unseen_tasks
        readable_rotation alterations_readable task_knn_real_unseen train_loss_last train_classes_train_loss_last"""
    assert set(expected.split()) <= set(metrics)
    assert metrics["encoders_task_knn_seen_datasets_taco"]["seeds"] == 2
    for name, metric in metrics.items():
        assert {"value", "ci", "n", "seeds", "data"} <= set(metric), name
        assert set(metric["data"].split("+")) <= {"phantom", "packaged", "real"}, name


FIGURES = """fig1_gallery fig2_map fig3_similarity fig4_encoders fig5_blending fig6_datasets fig7_alterations
    fig8_failures fig9_generalisation fig10_ums_rep fig11_sequences""".split()
PROVENANCE = "notebook parameters commit data versions device seconds caption".split()


def test_every_figure_has_its_provenance_and_its_place_on_the_page(smoke):
    target = smoke / "figures/smoke"
    publish(runs_of(smoke), target)
    manifest, page = json.loads((target / "manifest.json").read_text()), (target / "README.md").read_text()
    for figure in FIGURES:
        assert (target / f"{figure}.png").stat().st_size > 4000
        assert set(PROVENANCE) <= set(manifest[figure])
    assert (target / "fig3_similarity.svg").read_text()[:200].count("svg")
    assert all(f"({figure}.png)" in page for figure in manifest if figure != "runs")
    assert all(about["caption"] in page for figure, about in manifest.items() if figure != "runs")


def test_executed_notebooks_refer_to_figures_and_name_no_folder(smoke):
    target = smoke / "figures/smoke"
    publish(runs_of(smoke), target)
    for notebook in (target / "executed").glob("*.ipynb"):
        assert str(smoke) not in notebook.read_text(), "an executed notebook names a folder of this machine"
    shown = (target / "executed/map.ipynb").read_text()
    assert "](../fig2_map.png)" in shown and "image/png" not in shown


def test_smoke_metrics_are_what_they_were(smoke, known_digests):
    "Timings aside, to the last digit; see tests/test_nothing_changed.py."
    from tests.test_nothing_changed import metrics_digest
    assert {step: metrics_digest(folder) for step, folder in runs_of(smoke).items()} == known_digests["smoke"]


def test_an_absent_encoder_is_named_and_not_an_error(smoke):
    absent = json.loads((smoke / "runs/smoke/embed/absent.json").read_text())
    assert list(absent) == ["clip"] and "nowhere" in absent["clip"]
    assert "clip" in (smoke / "runs/smoke/encoders/executed.ipynb").read_text()


def test_publishing_one_part_keeps_the_others(smoke, tmp_path):
    def read() -> dict: return {n: json.loads((tmp_path / f"{n}.json").read_text()) for n in ("metrics", "manifest")}
    folders = {name: smoke / "runs/smoke" / name for name in ("ums_rep", "similarity", "map")}
    publish(folders, tmp_path)
    before = read()
    publish({"ums_rep": folders["ums_rep"]}, tmp_path, keep=["ums_rep", "similarity"])  # map is no step any more
    after = read()
    assert after["metrics"] == {k: v for k, v in before["metrics"].items() if v["experiment"] != "map"}
    assert set(after["manifest"]["runs"]) == {"ums_rep", "similarity"}
    of_map = {k for k, v in before["manifest"].items() if v.get("step") == "map"}
    assert set(before["manifest"]) - set(after["manifest"]) == of_map != set()


def test_steps_that_take_every_core_run_alone(smoke):
    "Snakemake from 9.10 on counted a job that was the only one ready as using no cores. Of others two run at a time."
    steps = [(f.stat().st_mtime, json.loads(f.read_text())) for f in (smoke / "runs/smoke").glob("*/done.json")]
    spans = [(end - d["seconds"], end, d["experiment"]) for end, d in steps]
    whole = [span for span in spans if span[2] in WHOLE]
    assert {name for *_, name in whole} == set(WHOLE)

    def beside(start: float, end: float) -> list[str]:
        "What ran at one moment or another of a span, but for half a second at either end."
        return [name for first, last, name in spans if first < end - .5 and last > start + .5]

    for start, end, name in whole: assert beside(start, end) == [name]
    for start, *_ in spans: assert len(beside(start + .5, start + 1.6)) <= 2


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
    without_it = {"pack", "pack_unseen", "gallery", "ums_rep"}  # losses of its own; the third's rivals use this one
    found = jobs(smoke)
    module.write_text(before)
    assert found == set(runs_of(smoke)) - without_it
    assert jobs(smoke) == set()


def test_parameter_change_runs_what_depends_on_it(smoke):
    profile = smoke / "profiles/smoke.yaml"
    before = profile.read_text()
    profile.write_text(before + "\nmap: {min_dist: 0.4}\n")
    found = jobs(smoke)
    profile.write_text(before)
    assert found == {"map", "alterations"}


def test_parts_run_their_own_experiments_and_nothing_else(tmp_path):
    "`make reproduce` is TaCo's; the two transfer studies need nothing of it, figure 12 its encoder."
    told = snakemake(project(tmp_path), "--rulegraph", "dot", "--config", "profile=quick", "--",
                     "taco", "unified", "sequences", "transfer", "all").stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', told))
    edges = [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", told)]
    def part(name):
        before = {a for a, b in edges if b == name}
        return before.union(*map(part, before))
    parts = {name: part(name) for name in ("taco", "unified", "sequences", "transfer", "all")}
    assert parts["unified"] == {"ums_rep"} and parts["sequences"] == {"sequence_ssl"}
    assert "affinity" not in parts["taco"] and parts["transfer"] == {"pack", "train", "affinity", "grouping"}
    assert "train" in parts["taco"] and parts["all"] == set().union(*(parts[name] for name in parts if name != "all"))
    assert not parts["taco"] & (parts["unified"] | parts["sequences"])


def test_failed_notebook_keeps_what_it_had(tmp_path):
    (tmp_path / "settings.ini").touch()
    folder = f'folder: str = "{tmp_path / "run"}"'
    sources = ["import sys\nprint('so far so good')\nprint('a warning', file=sys.stderr)", "answer = 41\nanswer / 0"]
    cells = [nbformat.v4.new_code_cell(folder, metadata=dict(tags=["parameters"])),
             *map(nbformat.v4.new_code_cell, sources)]
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "broken.ipynb")
    with pytest.raises(ExperimentError) as error: execute(tmp_path / "broken.ipynb", echo=False)
    assert "answer = 41" in str(error.value) and "ZeroDivisionError" in str(error.value)
    assert "so far so good" in (tmp_path / "run/executed.ipynb").read_text()
    assert "a warning" in (tmp_path / "run/stderr.txt").read_text()
    assert not (tmp_path / "run/done.json").exists()
