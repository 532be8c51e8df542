"Packing that is killed before each of its file operations, loses its files, its disk, or its parent."

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from taco.base import DataError, StoreError, TacoError
from taco.data import pack as packing
from taco.data.pack import pack
from taco.data.store import Store, read_manifest, verify
from tests.crash import content, crash_points, rests
from tests.data.made import make_card, write_pairs

pytestmark = pytest.mark.long  # a campaign: it takes long and seldom breaks


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("stale", [True, False])
def test_old_or_new_at_every_point(tmp_path, every, stale):
    out, points = tmp_path / "out", 0
    call = lambda seed: pack("wbc", out=out, size=16, subjects=3, source="phantom", seed=seed)
    folder = call(1)
    new, new_key = content(folder), read_manifest(folder)["key"]
    shutil.rmtree(out)
    old_key = read_manifest(call(0))["key"]

    def prepare():
        shutil.rmtree(out)
        out.mkdir()
        if stale:
            call(0)

    for _ in crash_points(lambda: call(1), out, prepare, every):
        points += 1
        if stale:
            assert verify(folder)["key"] in (old_key, new_key) and len(Store.open([folder]).table) == 3
        elif folder.exists():
            assert verify(folder)["key"] == new_key
        assert call(1) == folder and content(folder) == new and os.listdir(out) == [folder.name] and not rests(out)
    assert points >= 20 // every


# ---------------------------------------------------------------- files that go away


def test_a_folder_that_vanishes_is_no_bad_file(tmp_path, monkeypatch):
    write_pairs(tmp_path, 8)
    card, out, home = make_card(tmp_path), tmp_path / "out", tmp_path / "toy"
    prepare, done = packing.prepare, []

    def vanish(record, *more):
        done.append(record.key)
        if len(done) == 4:
            home.rename(tmp_path / "away")
        return prepare(record, *more)

    monkeypatch.setattr(packing, "prepare", vanish)
    with pytest.raises(DataError, match="the folder is gone") as error:
        pack(card, tmp_path, out, 16, skip_bad=True)
    assert "fix:" in str(error.value) and os.listdir(out) == []
    monkeypatch.setattr(packing, "prepare", prepare)
    (tmp_path / "away").rename(home)
    assert read_manifest(pack(card, tmp_path, out, 16, skip_bad=True))["records"] == 8


def test_a_file_that_vanishes_is_no_bad_file(tmp_path, monkeypatch):
    write_pairs(tmp_path, 8)
    card, prepare, done = make_card(tmp_path), packing.prepare, []

    def vanish(record, *more):
        done.append(record.key)
        if len(done) == 3:
            (tmp_path / "toy/masks/p02_01.png").unlink(missing_ok=True)
            next((tmp_path / "toy/images").glob("p0[3-9]*")).unlink()
        return prepare(record, *more)

    monkeypatch.setattr(packing, "prepare", vanish)
    with pytest.raises(DataError, match="gone"):
        pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True)
    assert os.listdir(tmp_path / "out") == []


def test_what_can_be_read_after_all_was_not_bad(tmp_path, monkeypatch):
    "A disk that is away for a moment: everything is there again before the end."
    write_pairs(tmp_path, 8)
    card, prepare, done = make_card(tmp_path), packing.prepare, []

    def hiccup(record, *more):
        done.append(record.key)
        if len(done) == 3:
            raise DataError("An image cannot be read.", file=record.file, fix="Look.")
        return prepare(record, *more)

    monkeypatch.setattr(packing, "prepare", hiccup)
    with pytest.raises(DataError, match="could not be used, and can be now"):
        pack(card, tmp_path, tmp_path / "out", 16, skip_bad=True)
    assert os.listdir(tmp_path / "out") == []


def test_a_store_with_gaps_that_need_not_be_is_not_fresh(tmp_path, monkeypatch):
    write_pairs(tmp_path, 8)
    card, out = make_card(tmp_path), tmp_path / "out"
    monkeypatch.setattr(packing, "_check_left_out", lambda *_: None)
    work, done = packing._work, []

    def hiccup(*arguments):
        done.append(1)
        return DataError("No.", fix="None.") if len(done) == 3 else work(*arguments)

    monkeypatch.setattr(packing, "_work", hiccup)
    assert read_manifest(pack(card, tmp_path, out, 16, skip_bad=True))["records"] == 7
    assert read_manifest(pack(card, tmp_path, out, 16, skip_bad=True))["records"] == 8


def test_bad_files_that_stay_bad_are_left_out_and_fresh(tmp_path):
    write_pairs(tmp_path, 8)
    (tmp_path / "toy/images/p01_02.png").write_bytes(b"no image")
    card, out = make_card(tmp_path), tmp_path / "out"
    folder = pack(card, tmp_path, out, 16, skip_bad=True)
    written = (folder / "manifest.json").stat().st_mtime_ns
    assert read_manifest(folder)["records"] == 7
    pack(card, tmp_path, out, 16, skip_bad=True)
    assert (folder / "manifest.json").stat().st_mtime_ns == written


# ---------------------------------------------------------------- processes and disks

WORK = """
import sys, time
from taco.data import pack as packing
packing.pack("drive", out=sys.argv[1], size=24, subjects=2000, source="phantom", workers=2)
"""


def test_the_workers_of_a_killed_packing_end_at_once(tmp_path):
    parent = psutil.Popen([sys.executable, "-c", WORK, str(tmp_path)], stderr=subprocess.DEVNULL)
    stop, workers = time.time() + 120, []
    named = lambda process: "LokyProcess" in " ".join(process.cmdline())
    while time.time() < stop and sum(map(named, workers)) < 2:
        workers = parent.children(recursive=True)
        time.sleep(0.05)
    assert parent.is_running() and len(workers) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    ended = lambda process: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    stop = time.time() + 20  # they may not have begun to run Python yet, on a machine that is busy
    while time.time() < stop and not all(map(ended, workers)):
        time.sleep(0.05)
    assert [w.cmdline() for w in workers if not ended(w)] == []
    pack("drive", out=tmp_path, size=24, subjects=2, source="phantom")
    assert os.listdir(tmp_path) == ["drive-phantom-24"]


def test_a_worker_that_is_killed_is_said(tmp_path, monkeypatch):
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def die(*_):
        raise TerminatedWorkerError("A worker process was unexpectedly terminated.")
        yield

    folder = pack("wbc", out=tmp_path, size=16, subjects=3, source="phantom")
    before = content(folder)
    monkeypatch.setattr(packing, "_results", die)
    with pytest.raises(TacoError, match="was killed") as error:
        pack("wbc", out=tmp_path, size=16, subjects=4, source="phantom")
    assert "fewer workers" in error.value.fix and content(folder) == before and os.listdir(tmp_path) == [folder.name]


def test_a_read_only_disk_is_said_and_a_fresh_store_is_used(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(out)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        call = dict(out=out, size=16, source="phantom")
        folder = pack("wbc", subjects=3, **call)
        with pytest.raises(StoreError, match="The disk is full"):
            pack("wbc", subjects=120, **call)
        assert read_manifest(folder)["records"] == 3 and os.listdir(out) == [folder.name]
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        assert pack("wbc", subjects=3, **call) == folder
        with pytest.raises(StoreError, match="read-only") as error:
            pack("wbc", subjects=4, **call)
        assert "fix:" in str(error.value) and read_manifest(folder)["records"] == 3
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)
