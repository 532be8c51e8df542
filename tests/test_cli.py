"The command line as a user meets it: in a process of its own."
import subprocess
import sys

import pytest


def taco(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "from taco.cli import main; main()", *words], capture_output=True, text=True, timeout=120)


def test_help_names_every_command():
    shown = taco("--help")
    assert shown.returncode == 0
    for name in ("tasks", "experiments", "run", "data", "atlas", "place", "publish", "metrics"):
        assert name in shown.stdout


@pytest.mark.parametrize("command, word", [(("place",), "--encoder"), (("atlas",), "--thumbnail"), (("data", "pack"), "--workers"), (("run",), "--profile")])
def test_every_command_has_its_own_help(command, word):
    shown = taco(*command, "--help")
    assert shown.returncode == 0 and word in shown.stdout


def test_an_error_is_a_message_with_a_way_out_and_not_a_traceback(tmp_path):
    for words in (("place", str(tmp_path / "no[where]")), ("atlas", str(tmp_path)), ("metrics", str(tmp_path))):
        failed = taco(*words)
        assert failed.returncode == 2 and "Traceback" not in failed.stderr and "fix:" in failed.stderr, failed.stderr
    assert "no[where]" in taco("place", str(tmp_path / "no[where]")).stderr  # brackets are not markup


def test_a_wrong_option_is_a_usage_error():
    wrong = taco("place", "somewhere", "--encodr", "x")
    assert wrong.returncode == 2 and "--encodr" in wrong.stderr and "Traceback" not in wrong.stderr
