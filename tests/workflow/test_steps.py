"What a signal to the steps of a profile does: the step that runs is told, once, and nothing further begins."

import signal
import subprocess
import sys
import time

import psutil
import pytest

STEP = """
import signal, sys, time
def leave(number, _):
    open("told", "a").write(f"{number} ")
    time.sleep(.5)  # keeps what it has
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, leave)
open("up", "w").write(str(__import__("os").getpid()))
time.sleep(100)
"""
RULES = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: open("waits", "a").write("x"))  # as Snakemake: it waits for what runs
done = subprocess.run([sys.executable, "-c", STEP, "from taco.cli.main import main; main()"])
open("ended", "w").write(str(done.returncode))
sys.exit(1 if done.returncode else 0)
"""
STEPS = """
import sys
from pathlib import Path
from taco.lock import lead, take
from tools.steps import follow
lead()
with take(Path.cwd()) as lock: sys.exit(follow([sys.executable, "-c", sys.argv[1]], lock))
"""


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(.02)


def begin(folder, root):
    rules = RULES.replace("STEP", repr(STEP))
    going = subprocess.Popen([sys.executable, "-c", STEPS, rules], cwd=folder, text=True, stderr=subprocess.PIPE,
                             env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"})
    until(lambda: (folder / "up").exists() and (folder / "up").read_text())
    return going


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_step_that_runs(tmp_path, root, number):
    going = begin(tmp_path, root)
    going.send_signal(number)
    said = going.communicate(timeout=60)[1]
    assert going.returncode == 128 + number, said
    assert said == f"Stopped by {number.name}; the same command goes on from here.\n"
    assert (tmp_path / "told").read_text() == f"{int(number)} " and (tmp_path / "waits").read_text() == "x"
    assert (tmp_path / "ended").read_text() == str(128 + number)
    assert not psutil.pid_exists(int((tmp_path / "up").read_text())) and not (tmp_path / ".lock").exists()


def test_the_lock_is_held_as_long_as_the_rules_run(tmp_path, root):
    from taco.lock import BusyError, take
    going = begin(tmp_path, root)
    going.kill()
    going.wait(60)
    with pytest.raises(BusyError): take(tmp_path)
    psutil.Process(int((tmp_path / "up").read_text())).terminate()
    until((tmp_path / "ended").exists)
    take(tmp_path, wait=30).release()


def test_the_word_by_which_a_step_is_known_stands_in_the_rules(root):
    from tools.steps import STEP as word
    assert f"'{word}'" in (root / "Snakefile").read_text()
