"Tasks in files of one's own: found here, by commands, by experiments and in processes that are started later."
import os
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import taco
from taco.base import ParameterError, TaskError
from taco.cli.main import app
from taco.tasks.catalogue import ALL_TASKS, OWN, own_modules, own_tasks, use_modules
from taco.tasks.task import TASKS, get_task
from taco.workflow.parameters import check_parameters, declared_parameters, known_experiments

MINE = '''
import taco

@taco.task("generative", amount=taco.Uniform(.1, .5))
def {name}(batch, draw, amount):
    "Darker by a share."
    return batch.image * (1 - amount.view(-1, 1, 1, 1)), batch.image
'''


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    before = dict(TASKS)
    monkeypatch.delenv(OWN, raising=False)
    yield
    TASKS.clear()
    TASKS.update(before)


def written(folder, name="lightening", text=MINE):
    file = folder / f"{name}.py"
    file.write_text(text.format(name=name))
    return file


def test_a_task_of_ones_own_is_as_good_as_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    digest = use_modules(["lightening.py"])
    assert own_tasks() == ["lightening"] and own_modules() == [str(tmp_path / "lightening.py")]
    pair = taco.get_task("lightening").on((torch.ones(3, 20, 20) * .5).numpy(), side=20, amount=.2)
    assert pair.output.getpixel((4, 4)) == (128, 128, 128) and pair.input.getpixel((4, 4)) == (102, 102, 102)
    assert use_modules(["lightening.py"]) == digest and own_modules() == [str(tmp_path / "lightening.py")]
    (tmp_path / "lightening.py").write_text(MINE.format(name="lightening") + "\n# changed\n")
    assert use_modules(["lightening.py"]) != digest


def test_processes_that_are_started_later_know_it_too(tmp_path):
    use_modules([written(tmp_path)])
    code = "from taco.tasks.catalogue import own_tasks; print(own_tasks())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert told.stdout.strip() == "['lightening']"


@pytest.mark.parametrize(("name", "text", "words"), [
    ("deblurring", MINE, "already"),
    ("broken", "1 / 0", "ZeroDivisionError"),
    ("unfinished", MINE + "\nraise SystemExit", "fails|already|SystemExit"),
    ("no_python", "def", "SyntaxError")])
def test_a_bad_file_leaves_the_tasks_as_they_were(tmp_path, name, text, words):
    before = dict(TASKS)
    with pytest.raises((TaskError, SystemExit), match=words if name != "unfinished" else None):
        use_modules([written(tmp_path, name, text)])
    assert before == TASKS and own_modules() == [] and get_task("deblurring").function.__module__.startswith("taco.")


@pytest.mark.parametrize("name", ["nowhere.py", ".", "tasks.txt"])
def test_an_absent_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.txt").touch()
    with pytest.raises(TaskError, match="no such file of tasks"): use_modules([name])


def test_commands_and_experiments_take_it(tmp_path):
    file = written(tmp_path)
    told = CliRunner().invoke(app, ["--modules", str(file), "tasks"], env=dict(COLUMNS="300"))
    assert told.exit_code == 0 and "Darker by a share." in told.output and ALL_TASKS[0] in told.output
    for name in known_experiments():
        check_parameters(declared_parameters(name), dict(modules=[str(file)]))
        with pytest.raises(ParameterError, match="modules"):
            check_parameters(declared_parameters(name), dict(modules=3))
