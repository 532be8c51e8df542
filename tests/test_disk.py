"Folders that change places, what killed processes leave, digests."

import os
import subprocess
import sys
import time

import pytest

from taco import disk
from taco.base import atomic
from taco.disk import REST, bytes_digest, exchange, file_digest, folder_digests, seal_of, sealed, sweep
from tests.crash import content, crash_points, rests


def write(folder, text):
    folder.mkdir()
    for name in ("a.txt", "b.txt", "manifest.json"):
        (folder / name).write_text(text)


def save(goal, text):
    with atomic(goal) as spare:
        write(spare, text)


@pytest.mark.parametrize("swap", [True, False], ids=["exchange", "aside"])
def test_a_folder_is_old_or_new_at_every_point(tmp_path, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(disk, "exchange", lambda one, other: False)
    goal, points, missing = tmp_path / "run", 0, 0

    def prepare():
        sweep(tmp_path)
        save(goal, "old")

    for _ in crash_points(lambda: save(goal, "new"), tmp_path, prepare):
        points += 1
        if not swap:  # the disk cannot exchange: there may be neither, until somebody looks
            missing += not goal.exists()
            sweep(tmp_path)
        files = content(goal)
        assert set(files) == {"a.txt", "b.txt", "manifest.json"} and set(files.values()) in ({b"old"}, {b"new"})
        save(goal, "new")
        assert set(content(goal).values()) == {b"new"} and rests(tmp_path) == []
    assert points >= 8 and missing == (not swap)


def test_a_file_is_old_or_new_at_every_point(tmp_path):
    goal = tmp_path / "done.json"

    def put(text):
        with atomic(goal) as spare:
            spare.write_text(text)

    for _ in crash_points(lambda: put("new"), tmp_path, lambda: put("old")):
        assert goal.read_text() in ("old", "new")
        put("new")
        assert os.listdir(tmp_path) == ["done.json"]


RACE = """
import sys
from taco.base import atomic
for k in range({times}):
    with atomic({goal!r}) as s:
        s.mkdir()
        for i in range(14): (s / f"{{i}}").write_text("1" * 1000)
"""


@pytest.mark.parametrize("times", [40, pytest.param(150, marks=pytest.mark.long)])
def test_two_processes_may_write_one_folder(tmp_path, times):
    code = RACE.format(goal=str(tmp_path / "x"), times=times)
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    seen = gone = 0
    while any(p.poll() is None for p in both):
        there = (tmp_path / "x").is_dir()
        gone += bool(seen) and not there
        seen += there
    assert [p.communicate()[1] for p in both] == ["", ""] and [p.returncode for p in both] == [0, 0]
    assert gone == 0 and len(content(tmp_path / "x")) == 14 and os.listdir(tmp_path) == ["x"]


def test_what_lives_is_left_and_what_died_is_swept(tmp_path):
    with atomic(tmp_path / "a.txt") as spare:
        spare.write_text("1")
        sweep(tmp_path)
        save(tmp_path / "other", "x")
        assert spare.read_text() == "1"
    rest = tmp_path / f".a-12345678{REST}"
    rest.mkdir()
    (rest / "half").write_text("")
    (tmp_path / ".mine").mkdir()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine", "a.txt", "other"]
    sweep(tmp_path / "nowhere")


def test_without_locks_only_what_is_old_is_swept(tmp_path, monkeypatch):
    def none(folder):
        raise OSError(95, "no locks")

    monkeypatch.setattr(disk, "_lock", none)
    rest = tmp_path / f".a-12345678{REST}"
    rest.mkdir()
    save(tmp_path / "other", "x")
    assert rest.is_dir()
    os.utime(rest, (time.time() - 7200,) * 2)
    save(tmp_path / "other", "y")
    assert os.listdir(tmp_path) == ["other"]


def test_exchange_says_what_went_wrong(tmp_path):
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "b")


def test_digests(tmp_path):
    save(tmp_path / "run", "text")
    (tmp_path / "run" / ".hidden").write_text("x")
    (tmp_path / "run" / "deep").mkdir()
    (tmp_path / "run" / "deep" / "c.npy").write_bytes(b"\0" * 70_000)
    digests = folder_digests(tmp_path / "run", without=["manifest.json"])
    assert list(digests) == ["a.txt", "b.txt", "deep/c.npy"]
    assert digests["deep/c.npy"] == bytes_digest(b"\0" * 70_000) == file_digest(tmp_path / "run/deep/c.npy")
    assert digests["deep/c.npy"].startswith("70000-") and digests["a.txt"] == digests["b.txt"]
    about = sealed({"b": 1, "a": (1, 2.5), 3: None, "digest": "an old one"})
    assert list(about)[-1] == "digest" and seal_of(about) == about["digest"]
    assert seal_of(about | {"b": 2}) != about["digest"]


def test_what_another_machine_writes_is_left_for_an_hour_whatever_locks_say(tmp_path):
    "A network disk may keep locks to each machine: then everybody gets every lock."
    other = "-h123456" if disk.HERE != "-h123456" else "-h654321"
    for name in (f".there-12345678{other}{REST}", f".here-12345678{disk.HERE}{REST}"): (tmp_path / name).mkdir()
    with atomic(tmp_path / "mine") as spare:
        assert spare.parent.name.endswith(disk.HERE + REST)
        spare.write_text("x")
    assert sorted(os.listdir(tmp_path)) == [f".there-12345678{other}{REST}", "mine"]
    os.utime(tmp_path / f".there-12345678{other}{REST}", (time.time() - 7200,) * 2)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["mine"]
