"The command line as a user meets it."
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from taco import __version__ as version
from taco.cli.ending import STOPPED
from taco.cli.main import app, main


def taco(*words: str) -> subprocess.CompletedProcess:
    "In a process of its own."
    call = [sys.executable, "-c", "from taco.cli.main import main; main()", *words]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


def test_help_names_every_command():
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for name in ("tasks", "experiments", "run", "data", "atlas", "place", "publish", "metrics"):
        assert name in shown.output


def test_the_version_and_what_the_machine_has(tmp_path, monkeypatch):
    told = CliRunner().invoke(app, ["--version"])
    assert told.exit_code == 0 and told.output == f"taco {version}\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_DATA", str(tmp_path / "nowhere"))
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 0
    for words in (f"taco          {version}", "torch         2", "comes with the package", "which is no folder",
                  "not here: they are notebooks", "can be written"):
        assert words in told.output


COMMANDS = [(("place",), "encoder"), (("atlas",), "thumbnail"), (("data", "pack"), "workers"), (("run",), "profile")]


@pytest.mark.parametrize("command, word", COMMANDS)
def test_every_command_has_its_own_help(command, word):
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0 and word in shown.output


def test_an_error_is_a_message_with_a_way_out_and_not_a_traceback(tmp_path):
    failed = taco("atlas", str(tmp_path / "no[where]"))  # brackets are not markup
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert "fix:" in failed.stderr and "no[where]" in failed.stderr


def test_a_wrong_option_is_a_usage_error():
    wrong = CliRunner().invoke(app, ["place", "somewhere", "--encodr", "x"])
    assert wrong.exit_code == 2 and "--encodr" in wrong.output


def test_help_starts_without_torch():
    code = "import sys, taco.cli.main; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == 0


EARLY = """import os, signal, sys
class Early:
    def find_spec(self, name, *_):
        if name == NAME: os.kill(os.getpid(), NUMBER)
sys.meta_path.insert(0, Early())
from taco.cli.main import main
main()"""


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("name", ["typer", "pandas", "torch"])  # the first, one in the midst, one of the command
def test_a_signal_while_modules_are_imported_is_one_sentence_and_a_status(name, number, status):
    code = EARLY.replace("NAME", repr(name)).replace("NUMBER", str(int(number)))
    done = subprocess.run([sys.executable, "-c", code, "tasks"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"{STOPPED}\n")


def test_who_imports_the_program_keeps_the_signals():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and main
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
