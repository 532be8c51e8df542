"A run that is stopped, doubled, fails or dies: statuses, sentences, and what it leaves."
import asyncio
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from taco.base import DiskError
from taco.lock import born, lives
from taco.workflow.execute import execute, short_place
from taco.workflow.parameters import ExperimentError
from taco.workflow.seal import finished

pytestmark = pytest.mark.long  # a campaign: it takes long and seldom breaks

PARAMETERS = """folder: str = "runs/tiny"  # where
how: str = "well"  # to end
needs_run: "Optional[str]" = None  # another"""
BODY = """import os, time
from pathlib import Path
from taco.workflow.run import Run
run = Run.begin("tiny", globals())
if how == "early": raise ValueError("before anything was written")"""
WORK = """(run.folder / "numbers.csv").write_text(how)
Path(run.folder, "pid").write_text(str(os.getpid()))
if how == "late": raise ValueError("after something was written")
if how == "die": os._exit(9)
if how == "wait":
    Path(run.folder, "waits").touch()
    time.sleep(100)"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with one tiny experiment."
    (tmp_path / "settings.ini").touch()
    (tmp_path / "nbs/experiments").mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata=dict(tags=["parameters"])),
             *map(nbformat.v4.new_code_cell, (BODY, WORK, "run.finish()"))]
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "nbs/experiments/tiny.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project, root, *words: str, **env: str) -> subprocess.Popen:
    call = [sys.executable, "-c", "from taco.cli.main import main; main()", "run", "tiny", *words]
    env = {**os.environ, "PYTHONPATH": str(root), **env}
    return subprocess.Popen(call, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(what, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(.05)


def test_what_was_there_survives_a_run_that_fails_before_it_writes(project):
    execute("tiny", echo=False)
    folder = project / "runs/tiny"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {"done.json", "executed.ipynb", "numbers.csv", "pid"} == set(before)
    assert list(json.loads(before["done.json"])["files"]) == ["executed.ipynb", "numbers.csv", "pid"]
    with pytest.raises(ExperimentError, match="finished run(.|\n)*taco run"):
        execute("tiny", dict(needs_run="runs/other"), echo=False)  # looked for first
    with pytest.raises(ExperimentError, match="before anything"): execute("tiny", dict(how="early"), echo=False)
    assert {n: (folder / n).read_bytes() for n in before} == before and (folder / "failed.ipynb").exists()
    with pytest.raises(ExperimentError, match="after something"): execute("tiny", dict(how="late"), echo=False)
    assert not (folder / "done.json").exists() and not list(folder.glob(".*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_named(project, monkeypatch, number):
    import papermill

    def full(_, running, *__, **___): raise OSError(number, os.strerror(number))

    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(DiskError) as error: execute("tiny", echo=False)
    assert error.value.file == project / "runs/tiny" and error.value.fix
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert execute("tiny", echo=False).exists()  # nothing is in its way


def test_a_process_that_dies_is_an_error_of_ours(project):
    with pytest.raises(ExperimentError, match="ended in the middle"): execute("tiny", dict(how="die"), echo=False)
    assert not list((project / "runs/tiny").glob(".*"))


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_with_its_status_and_one_sentence(project, root, number, status):
    going = run(project, root, "-p", "how=wait")
    until((project / "runs/tiny/waits").exists)
    second = run(project, root)  # beside it: refused by name
    assert second.wait(300) == 2 and f"process {going.pid} on" in second.stdout.read()
    going.send_signal(number)
    said = going.communicate(timeout=300)[0].strip().splitlines()
    assert going.returncode == status and len(said) == 1 and said[0].startswith(f"Stopped by {number.name}: ")
    kernel = int((project / "runs/tiny/pid").read_text())
    until(lambda: not lives(kernel, ""), 10)
    assert not list((project / "runs/tiny").glob(".*"))


@pytest.mark.parametrize("sign", [".lock", "running.ipynb"])
def test_before_the_first_cell_too_one_sentence_is_said(project, root, sign):
    going = run(project, root, "-p", "how=wait")
    until((project / "runs/tiny" / sign).exists)  # no kernel yet, or one that has not begun
    going.send_signal(signal.SIGTERM)
    said = going.communicate(timeout=300)[0].strip().splitlines()
    assert going.returncode == 143 and len(said) == 1 and said[0].startswith("Stopped"), said
    assert not list((project / "runs/tiny").glob(".*"))


@pytest.mark.parametrize("late", [False, True])
def test_what_falls_apart_after_a_signal_is_not_heard(project, capsys, monkeypatch, late):
    import papermill

    def end(_, running, *__, **___):
        try: signal.raise_signal(signal.SIGTERM)
        finally:
            asyncio.new_event_loop().call_exception_handler(dict(message="Task exception was never retrieved"))
            logging.lastResort.handle(logging.makeLogRecord(dict(msg="Kernel died", levelno=logging.ERROR)))
            print("Exception ignored in: <module>", file=sys.stderr)
        running.write_text("{}")

    child = subprocess.Popen(["sleep", "100"])
    monkeypatch.setattr(papermill, "execute_notebook", end)
    monkeypatch.setattr("taco.workflow.execute.kernels", lambda config: [child.pid] if late else [])
    stream, handler = sys.stderr, signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left: execute("tiny", echo=False)
    words = "it had just finished" if late else "what was kept lies in"
    said = capsys.readouterr().err.splitlines()
    assert left.value.code == 143 and len(said) == 1 and said[0].startswith(f"Stopped by SIGTERM: {words}")
    assert sys.stderr is stream and signal.getsignal(signal.SIGTERM) is handler
    child.kill()
    assert child.wait() == (-signal.SIGTERM if late else -signal.SIGKILL)


@pytest.mark.parametrize("times", [1, 2])
def test_after_the_last_cell_the_rest_is_done_first(project, capsys, monkeypatch, times):
    from taco.workflow import execute as chapter

    def late(folder, about):
        for _ in range(times): signal.raise_signal(signal.SIGINT)
        seal(folder, about)

    seal = chapter.seal
    monkeypatch.setattr(chapter, "seal", late)
    with pytest.raises(SystemExit) as left: execute("tiny", echo=False)
    words = "it had just finished, and the result lies" if times == 1 else "what was kept lies"  # in a hurry
    said, folder = capsys.readouterr().err.splitlines(), project / "runs/tiny"
    assert left.value.code == 130 and len(said) == 1 and said[0].startswith(f"Stopped by SIGINT: {words} in")
    assert (folder / "done.json").exists() == (times == 1) and not list(folder.glob(".*"))
    if times == 1: assert finished("runs/tiny", "tiny")["files"]


def test_kernel_and_command_end_with_whoever_leads(project, root):
    leader = subprocess.Popen(["sleep", "100"])
    going = run(project, root, "-p", "how=wait", TACO_LEADER=f"{leader.pid}:{born(leader.pid)}")
    until((project / "runs/tiny/waits").exists)
    leader.kill()
    leader.wait()
    assert going.wait(30) == 143
    going = run(project, root, "-p", "how=wait")
    (project / "runs/tiny/waits").unlink()
    until((project / "runs/tiny/waits").exists)
    kernel = int((project / "runs/tiny/pid").read_text())
    going.kill()
    going.wait()
    until(lambda: not lives(kernel, ""), 10)
    assert run(project, root).wait(300) == 0 and not list((project / "runs/tiny").glob(".*"))  # nothing is in its way


def test_a_deep_folder_for_temporary_files_is_no_obstacle(project, root, tmp_path):
    deep = tmp_path / ("t" * 110)
    deep.mkdir()
    done = run(project, root, TMPDIR=str(deep), HOME="/dev/null")
    assert done.wait(100) == 0, done.stdout.read()
    assert short_place(3) is None
