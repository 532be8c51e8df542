"Parameters: what is refused, and before anything runs."
import json
import subprocess
import sys

import nbformat
import pytest

from taco.base import ParameterError
from taco.workflow.execute import execute
from taco.workflow.parameters import (
    ExperimentError,
    all_needs,
    find_experiment,
    links,
    parameters_cell,
    project_root,
    read_parameters,
)


def test_plain_papermill_call_checks_parameters_too(tmp_path, root):
    "Without our runner: the notebook itself refuses what papermill only warns about."
    call = [sys.executable, "-m", "papermill", "nbs/experiments/map.ipynb", str(tmp_path / "out.ipynb")]
    given = ["-p", "folder", str(tmp_path), "-p", "neigbours", "5"]
    done = subprocess.run(call + given, cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0 and "Did you mean 'neighbours'?" in done.stderr


@pytest.mark.parametrize("given, words", [(dict(stepps=3), "Did you mean 'steps'?"), (dict(steps="many"), "int")])
def test_unknown_or_mistyped_parameter_is_refused_before_anything_runs(given, words, tmp_path):
    with pytest.raises(ParameterError, match=".*") as error:
        execute("train", dict(given, folder=str(tmp_path / "run")))
    assert words in str(error.value) and "train.ipynb" in str(error.value) and not (tmp_path / "run").exists()


def test_needs_are_those_of_the_declared_run_folders():
    "One place says which experiment needs which: the defaults of their parameters."
    needs = all_needs()
    assert needs["alterations"] == ["pack", "train", "embed", "map"] and needs["ums_rep"] == needs["pack"] == []
    for name in needs:
        for parameter, other in links(name).items():
            assert parameter == f"{other}_run", f"{name}: {parameter} names the run of {other}"


def test_a_notebook_without_parameters_is_named(tmp_path):
    file = tmp_path / "plain.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")]), file)
    with pytest.raises(ExperimentError, match=r"plain\.ipynb"): parameters_cell(file)
    with pytest.raises(ExperimentError, match="Did you mean 'train'"): find_experiment("trian")


@pytest.mark.parametrize("source", [
    "steps: int = " + "-" * 10_000 + "1", "steps: int = " + "1+" * 5000 + "1", ".".join(["a"] * 5000) + " = 1",
    "steps: list = " + "[" * 1000 + "]" * 1000, "steps: int = 3\0", "steps: int = " + "9" * 10_000,
    "steps: int = __import__('os').getpid()", "steps: str = '\ud800'",
])
def test_parameters_that_are_no_plain_values_are_refused(source):
    with pytest.raises(ExperimentError, match=r"mine\.ipynb"): read_parameters(source, "mine.ipynb")


@pytest.mark.parametrize("change", [dict(source=7), dict(source=None), dict(metadata=dict(tags="parameters")),
                                    dict(metadata=dict(tags=None)), dict(metadata=[])])
def test_cells_that_are_none_are_refused(change, tmp_path):
    cell = dict(cell_type="code", metadata=dict(tags=["parameters"]), source="steps: int = 3", outputs=[])
    book = dict(nbformat=4, nbformat_minor=4, metadata={}, cells=[cell | change])
    (tmp_path / "mine.ipynb").write_text(json.dumps(book))
    try: read_parameters(parameters_cell(tmp_path / "mine.ipynb"), tmp_path / "mine.ipynb")
    except ExperimentError as error: assert "mine.ipynb" in str(error)
    else: assert change["source"] is not None


def test_the_root_is_found_from_below(root):
    assert project_root(root / "nbs/experiments") == root
