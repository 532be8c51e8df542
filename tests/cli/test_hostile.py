"Every command, with what people and systems really do to it: it ends with a message and a status, never a traceback."

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from taco.base import TacoError
from taco.cli import main as door
from taco.cli.ending import STOPPED, of_system, status_of
from taco.cli.main import app, main
from tests.data.made import make_card, write_pairs
from tests.pairs import save_pairs

pytestmark = pytest.mark.long  # a campaign: it takes long and seldom breaks

COMMANDS = {
    "tasks": [],
    "experiments": [],
    "run": ["pack"],
    "publish": ["quick"],
    "metrics": ["nowhere"],
    "table": ["nowhere"],
    "doctor": ["nowhere"],
    "atlas": ["nowhere"],
    "ask": ["nowhere", "nowhere"],
    "demo": [],
    "compare": ["nowhere", "nowhere"],
    "place": ["nowhere"],
    "recommend": ["nowhere"],
    "judge": ["nowhere"],
    "together": ["nowhere"],
    "data list": [],
    "data fetch": ["drive"],
    "data new": ["nowhere"],
    "data check": ["nowhere"],
    "data pack": ["nowhere"],
    "data show": ["nowhere"],
}
BAD = [
    "/no/such/thing",
    "",
    ".",
    "..",
    "\udcff\udcfe",
    "a" * 300,
    "../../etc/passwd",
    "/dev/null",
    "[red]x[/]",
    "a\nb",
    "~x",
    "漢字",
    "-1",
    "*",
    "$(touch pwned)",
    "/proc/self/mem",
]


def end(words: list[str], capsys) -> tuple[int, str]:
    "Status and all output of a command, in this process."
    with pytest.raises(SystemExit) as left:
        main(words)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err, (words, (out + err)[-3000:])
    return left.value.code or 0, out + err


def named_commands() -> set[str]:
    "The commands that there are, with those of groups."
    own = {(c.name or c.callback.__name__.replace("_", "-")) for c in app.registered_commands}
    return own | {
        f"{g.name} {c.name or c.callback.__name__}"
        for g in app.registered_groups
        for c in g.typer_instance.registered_commands
    }


def test_no_command_is_forgotten_here():
    assert named_commands() == set(COMMANDS)


@pytest.mark.parametrize("command", [c for c, words in COMMANDS.items() if words and c not in ("run", "data fetch")])
@pytest.mark.parametrize("word", BAD)
def test_every_argument(command, word, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TACO_DATA", str(tmp_path / "absent"))
    if command == "data new":  # where . and .. hold no files
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
    out = {
        "data show": ["-o", str(tmp_path / "x.png")],
        "atlas": ["-o", str(tmp_path / "x.html")],
        "data pack": ["--out", str(tmp_path / "packed")],
        "data new": ["-o", str(tmp_path / "new.toml")],
        "place": ["--encoder", str(tmp_path)],
        "recommend": ["--encoder", str(tmp_path)],
        "together": ["--encoder", str(tmp_path)],
    }.get(command, [])
    for others in range(len(COMMANDS[command])):  # a command of several arguments is given the word as each of them
        words = [*COMMANDS[command][:others], word, *COMMANDS[command][others + 1:]]
        status, text = end([*command.split(), *out, "--", *words], capsys)
        assert status == 2 and "foresee" not in text, text
    assert not Path("pwned").exists()


@pytest.mark.parametrize("word", [w for w in BAD if w not in ("", ".", "..")])
def test_a_finished_run_is_asked_about_nothing_that_is_no_folder(word, capsys, tmp_path):
    for step in ("pack", "train", "embed"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "done.json").write_text("{}")
    status, text = end(["ask", "--", str(tmp_path), word], capsys)
    assert status == 2 and "foresee" not in text and ("datasets" in text or "too long" in text), text


# ── advice that works ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def toy(tmp_path, monkeypatch):
    "A folder with a dataset, its card, a file and an empty folder, where one stands."
    monkeypatch.delenv("TACO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "root", 4, 1)
    make_card(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    return tmp_path


ADVICE = [  # what was typed, what is said, and what was meant by the advice; None: another folder, which is not here
    ("data check toy.toml --root file", "The root is a file", "data check toy.toml --root root"),
    ("data check toy.toml --root nowhere", "does not exist", "data check toy.toml --root root"),
    ("data check toy.toml --root empty", "not there", "data check toy.toml --root root"),
    ("data check toy.toml --root root --sourc real", "--source", "data check toy.toml --root root --source real"),
    ("data check toy.toml --root root --source rael", "'real'", "data check toy.toml --root root --source real"),
    ("data chek toy.toml", "Did you mean 'check'", "data check toy.toml --root root -v"),
    ("data pack toy.toml --root root --out file", "A file lies where a folder is needed",
     "data pack toy.toml --root root --out packed --size 16"),
    ("data pack toy.toml --root root --size 2", "greater than or equal to 4",
     "data pack toy.toml --root root --size 4 --out packed"),
    ("data show toy.toml --root root -o x.xyz", ".png", "data show toy.toml --root root -o x.png"),
    ("data new file", "holds it", "data new root/toy -o new.toml"),
    ("data new empty", "Name the folder that holds them", "data new root/toy -o new.toml"),
    ("data new root/toy -o toy.toml", "Choose another with -o", "data new root/toy -o other.toml"),
    ("data new root/toy -o file/x.toml", "Move it away, or choose another place", "data new root/toy -o place/x.toml"),
    ("data new root/toy/masks", "Name the folder that holds both", "data new root/toy -o new.toml"),
    ("data show empty", "taco data new empty writes", None),
    ("place root --encoder empty", "--encoder runs/quick", None),
    ("ask empty root", "make reproduce makes runs/quick", None),
    ("publish quik", "No run of this profile", None),
    ("publish quick --runs nowhere", "--runs FOLDER", None),
    ("metrics file", "name another folder", None),
    ("doctor file", "Give the folder of a run", None),
]


@pytest.mark.parametrize("typed, said, advice", ADVICE)
def test_advice_that_is_followed_works(typed, said, advice, toy, capsys):
    status, text = end(typed.split(), capsys)
    assert status == 2 and said in text and "foresee" not in text, text
    if advice: assert end(advice.split(), capsys)[0] == 0, advice


@pytest.mark.parametrize("typed, said", [("publish quik", "Did you mean 'quick'"),
                                         ("run trian", "Did you mean 'train'"),
                                         ("run train --profile quik", "Did you mean 'quick'"),
                                         ("run train --profile quick -p stpes=3", "Did you mean 'steps'")])
def test_in_the_project_names_are_suggested(typed, said, root, capsys, monkeypatch):
    monkeypatch.chdir(root)
    status, text = end(typed.split(), capsys)
    assert status == 2 and said in text


@pytest.mark.parametrize("word", [w for w in BAD if w not in (".", "..")])
def test_every_name_of_an_experiment(word, capsys):
    status, text = end(["run", "--", word], capsys)
    assert status == 2 and "foresee" not in text


@pytest.mark.parametrize(
    "given, words",
    [
        (["-p", "datasets=[drive"], "not valid YAML"),
        (["-p", "datasets=*all"], "not valid YAML"),
        (["-p", "folder=a: b: c"], "not valid YAML"),
        (["-p", "seed=!!python/object/apply:os.system [touch pwned]"], "YAML"),
        (["-p", "seed=\x00"], "YAML"),
        (["-p", "seed=" + "[" * 3000], "not valid YAML"),
        (["-p", "seed=.nan"], "finite"),
        (["-p", "seed=.inf"], "finite"),
        (["-p", "print=3"], "no such parameter"),
        (["-p", "seed=1e3"], "wrong type"),
        (["-p", "datasets=[no, drive]"], "quotes"),
        (["-p", "datasets=[[drive]]"], "wrong type"),
        (["-p", "seed"], "NAME=VALUE"),
        (["-p", "folder=2024-01-01"], "wrong type"),
        (["-p", "=3"], "no such parameter"),
        (["-p", "folder="], "wrong type"),
        (["-p", "folder='.'"], "folder of its own"),
        (["-p", "folder='/'"], "folder of its own"),
        (["-p", "seed=null"], "wrong type"),
        (["-p", "folder=/dev/null/x"], "file"),
        (["-p", "folder=runs/" + "a" * 300], "too long"),
        (["-f", "/no/such.yaml"], "no such file"),
        (["-f", "/"], "cannot be read"),
        (["-f", "{list}"], "a list"),
        (["-f", "{bad}"], "not valid YAML"),
        (["-f", "{latin}"], "UTF-8"),
        (["-f", "{numbers}"], "no text"),
        (["--profile", "quik"], "Did you mean 'quick'"),
        (["--profile", "{list}"], "a list"),
        (["--profile", "{bad}"], "not valid"),
        (["--profile", "{circle}"], "based"),
        (["--profile", "{typo}"], "Did you mean 'train'"),
        (["--profile", "{wrong}"], "Did you mean 'subjects'"),
        (["--json", "{oops"], "not JSON"),
        (["--json", "[1]"], "names"),
    ],
)
def test_every_way_to_give_parameters(given, words, capsys, tmp_path):
    files = {
        "list": b"- a\n- b\n",
        "bad": b"a: [1\n",
        "latin": b"name: caf\xe9\n",
        "numbers": b"1: 2\n",
        "circle": f"base: {tmp_path}/circle.yaml\n".encode(),
        "typo": b"trian: {steps: 3}\n",
        "wrong": b"pack: {subject: 3}\n",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    given = [str(tmp_path / f"{w[1:-1]}.yaml") if w[:1] == "{" and w[-1:] == "}" else w for w in given]
    own = [] if "folder=" in " ".join(given) else ["-p", f"folder={tmp_path}/run"]
    status, text = end(["run", "pack", *given, *own], capsys)
    assert status == 2 and words in text and "foresee" not in text and not Path("pwned").exists()
    assert not (tmp_path / "run").exists()


def test_learning_rates_that_are_no_numbers_are_refused_at_once(capsys, tmp_path):
    for value in (".nan", "-.inf", "fast"):
        status, text = end(["run", "train", "-p", f"learning_rate={value}", "-p", f"folder={tmp_path}/run"], capsys)
        assert (
            status == 2 and "ParameterError" in text and "learning_rate" in text and not (tmp_path / "run").exists()
        )


@pytest.mark.parametrize(
    "words", [["experiments"], ["run", "pack"], ["run", "pack", "--profile", "quick"], ["publish", "quick"]]
)
def test_elsewhere_one_is_told_where_to_go(words, capsys, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    status, text = end(words, capsys)
    assert status == 2 and (
        "Change the folder first: cd" in text and str(root) in text or "No run of this profile" in text
    )


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(errno.ENOSPC, "No space left", "a.npy"), "disk is full"),
        (OSError(errno.EROFS, "Read-only", "a"), "read-only"),
        (PermissionError(errno.EACCES, "denied", "/data/a"), "permission"),
        (OSError(errno.ENAMETOOLONG, "long", "a"), "too long"),
        (MemoryError(), "memory"),
        (TacoError("No [red].", fix="Yes."), "fix:      Yes."),
        (ZeroDivisionError("by zero"), "foresee"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "foresee"),
        (RecursionError("deep"), "foresee"),
    ],
)
def test_whatever_happens_inside(error, words, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(door, "all_needs", fail)
    status, text = end(["experiments"], capsys)
    assert status == 2 and words in text


def test_interrupted_and_unheard(capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "all_needs", fail)
    assert end(["experiments"], capsys)[0] == 130

    def kill():
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert status_of(kill) == 143 and capsys.readouterr().err == f"{STOPPED}\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_file_is_in_the_message():
    assert "file:     b" in str(of_system(OSError(errno.EACCES, "denied", b"b")))
    assert "x" in str(of_system(OSError("x")))


# ── in a process of its own ───────────────────────────────────────────────────────────────────────────────────────────


CALL = [sys.executable, "-c", "from taco.cli.main import main; main()"]
PLAIN = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


@pytest.mark.parametrize(
    "env, words, shown",
    [
        (PLAIN, ["tasks"], b"deblurring"),
        (PLAIN, ["data", "list"], b"drive"),
        (PLAIN, ["experiments"], b"learning_rate"),
        (dict(PYTHONIOENCODING="latin-1"), ["tasks"], b"deblurring"),
        (dict(PYTHONIOENCODING="latin-1"), ["data", "list"], b"drive"),
        (dict(PYTHONIOENCODING="ascii:strict"), ["metrics", "figures/quick"], b"..."),
        (dict(HOME="/dev/null"), ["tasks"], b"shear"),
    ],
)
def test_terminals_and_homes(env, words, shown, root):
    done = subprocess.run(
        [*CALL, *words], cwd=root, env={**os.environ, "PYTHONPATH": str(root), **env}, capture_output=True
    )
    assert done.returncode == 0 and shown in done.stdout and b"Traceback" not in done.stderr, done.stderr[-2000:]


@pytest.mark.parametrize("seconds", [.5, 3, 6])
@pytest.mark.parametrize(
    "words", ["place pairs", "compare drive busi --subjects 12", "data pack drive busi --subjects 40"]
)
def test_ctrl_c_says_that_the_same_command_goes_on(words, seconds, root, tmp_path):
    "As a terminal sends it, to the command and all it has started; then the same command is typed again."
    images = np.random.default_rng(0).random((4, 3, 32, 32))
    save_pairs(tmp_path / "pairs", images, 1 - images)
    again = [*CALL, *words.split()]
    how = dict(cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(root)), stderr=subprocess.PIPE, text=True)
    going = subprocess.Popen(again, stdout=subprocess.PIPE, start_new_session=True, **how)
    try: going.wait(seconds)
    except subprocess.TimeoutExpired: os.killpg(going.pid, signal.SIGINT)
    said = going.communicate(timeout=60)[1]
    assert "Traceback" not in said and (going.returncode == 0 or (going.returncode, said) == (130, f"{STOPPED}\n"))
    if seconds == 3 and words[0] != "c": assert subprocess.run(again, stdout=subprocess.DEVNULL, **how).returncode == 0


def test_a_reader_that_goes_away(root):
    line = f"'{sys.executable}' -c 'from taco.cli.main import main; main()' experiments | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=root, env=dict(os.environ, PYTHONPATH=str(root)), capture_output=True, text=True
    )
    assert done.stdout.strip() and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def metric(value: float) -> dict:
    return dict(value=value, ci=[value - 0.01, value + 0.01], n=12, seeds=3, data="phantom")


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_numbers_are_shown_at_every_width(columns, tmp_path, root):
    name = "sequence_mmwhs_CT_dice_all_encoder_over_scratch_with_one_labelled_volume_of_many"
    (tmp_path / "metrics.json").write_text(json.dumps({name: metric(0.123), "b": metric(0.456)}))
    env = dict(os.environ, PYTHONPATH=str(root), COLUMNS=str(columns))
    for more in ([], ["--against", str(tmp_path)]):
        done = subprocess.run([*CALL, "metrics", str(tmp_path), *more], env=env, capture_output=True, text=True)
        assert done.returncode == 0
        assert "0.123" in done.stdout and "0.456" in done.stdout and done.stdout.count("0.123") == 1 + len(more) // 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": 1}', b'{"a": {"value": "x", "n": 1, "seeds": 1, "data": ""}}']
)
def test_metrics_that_are_damaged_are_named(content, tmp_path, capsys):
    (tmp_path / "metrics.json").write_bytes(content)
    status, text = end(["metrics", str(tmp_path)], capsys)
    assert status == 2 and "metrics.json" in text and "foresee" not in text
