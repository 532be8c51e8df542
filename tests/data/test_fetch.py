"Downloads: what arrives is what the card promised, whole, in its folder; or an error says how to do it by hand."

import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile
from pathlib import Path

import pytest

from taco.base import CardError, DataError, ParameterError
from taco.data import fetch as module
from taco.data.card import data_folder, load_card
from taco.data.fetch import choose_files, fetch, unpack, unpacked_name
from tests.crash import crash_points
from tests.shop import BODY, Shop, toy


@pytest.fixture
def shop():
    server = Shop().open()
    yield server
    server.shutdown()
    server.server_close()


def everything(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_good_download_is_whole_and_is_not_repeated(shop, tmp_path):
    (path,) = fetch(toy(shop.row()), tmp_path / "data", progress=False)
    assert (
        path == tmp_path / "data/toy/toy_128.npz"
        and path.read_bytes() == BODY
        and everything(tmp_path / "data") == ["toy", "toy/toy_128.npz"]
    )
    before = path.stat().st_mtime_ns
    assert (
        fetch(toy(shop.row()), tmp_path / "data", progress=False) == [path]
        and path.stat().st_mtime_ns == before
        and shop.asked == 1
    )


def test_md5_is_enough_and_the_bar_is_drawn(shop, tmp_path, capsys):
    row = shop.row(md5=hashlib.md5(BODY).hexdigest())
    row.pop("sha256")
    (path,) = fetch(toy(row), tmp_path)
    assert path.read_bytes() == BODY and "toy_128.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    "manners, word", [("cut", "url"), ("cut, length not said", "sha256"), ("gone", "404")]
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do_by_hand(
    shop, tmp_path, manners, word
):
    shop.manners = manners
    row = shop.row()
    with pytest.raises(DataError) as error:
        fetch(toy(row), tmp_path / "data", progress=False)
    for part in (word, "By hand", row["url"], str(tmp_path / "data/toy"), row["sha256"]):
        assert part in str(error.value)
    assert everything(tmp_path) == []
    shop.manners = "good"
    assert fetch(toy(row), tmp_path / "data", progress=False)[0].read_bytes() == BODY


def test_no_server_at_all(shop, tmp_path):
    row = shop.row(url="http://127.0.0.1:9/toy_128.npz")
    with pytest.raises(DataError, match="By hand"):
        fetch(toy(row), tmp_path, progress=False)
    assert everything(tmp_path) == []


def test_another_file_behind_the_address_is_refused(shop, tmp_path):
    with pytest.raises(DataError) as error:
        fetch(toy(shop.row(sha256="0" * 64)), tmp_path, progress=False)
    assert (
        hashlib.sha256(BODY).hexdigest() in str(error.value)
        and "0" * 64 in str(error.value)
        and everything(tmp_path) == []
    )


def test_another_file_on_the_disk_is_named_and_left_alone(shop, tmp_path):
    path = tmp_path / "toy/toy_128.npz"
    path.parent.mkdir()
    path.write_bytes(BODY[:1000])
    with pytest.raises(DataError) as error:
        fetch(toy(shop.row()), tmp_path, progress=False)
    for part in (
        str(path),
        hashlib.sha256(BODY[:1000]).hexdigest(),
        hashlib.sha256(BODY).hexdigest(),
        "Delete it",
    ):
        assert part in str(error.value)
    assert path.read_bytes() == BODY[:1000] and shop.asked == 0


@pytest.mark.long
def test_killed_in_the_middle_of_a_slow_download_then_started_again(shop, tmp_path):
    shop.manners, row = "slow", shop.row()
    code = f"""
from dataclasses import replace
from taco.data.card import load_card
from taco.data.fetch import fetch
fetch(replace(load_card('drive'), name='toy', files=[{row!r}]), {str(tmp_path)!r}, progress=False)
"""
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        stop = time.time() + 60
        while not any(p.stat().st_size > 0 for p in tmp_path.glob("toy/.*.part")):
            assert child.poll() is None and time.time() < stop, "the download did not begin"
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (
        not (tmp_path / "toy/toy_128.npz").exists() and len(list(tmp_path.glob("toy/.*.part"))) == 1
    )
    shop.manners = "good"
    assert fetch(toy(row), tmp_path, progress=False)[0].read_bytes() == BODY
    assert everything(tmp_path) == [
        "toy",
        "toy/toy_128.npz",
    ]  # the rest of the dead process is gone


def test_what_was_killed_when_all_was_there_is_swept_by_the_next(shop, tmp_path):
    "Between the last rename and the end of the hidden folder that a picture's archive was unpacked in."
    shop.files["pictures.zip"] = packed("zip", {"1.png": b"one"})
    card, points = toy(shop.row("pictures.zip")), 0
    call = lambda: fetch(card, tmp_path / "data", progress=False)
    for _ in crash_points(call, tmp_path, lambda: shutil.rmtree(tmp_path / "data", ignore_errors=True)):
        points += 1
        call()
        assert everything(tmp_path / "data") == ["toy", "toy/pictures", "toy/pictures.zip", "toy/pictures/1.png"]
    assert points >= 8


def test_a_full_disk_is_said_and_leaves_nothing(shop, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Download, "write", full)
    with pytest.raises(DataError, match="disk is full"):
        fetch(toy(shop.row()), tmp_path, progress=False)
    assert everything(tmp_path) == []


# ---------------------------------------------------------------- archives


def packed(kind: str, members: dict[str, bytes]) -> bytes:
    box = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(box, "w") as z:
            for name, content in members.items():
                z.writestr(name, content)
    else:
        with tarfile.open(fileobj=box, mode="w:gz") as t:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                t.addfile(entry, io.BytesIO(content))
    return box.getvalue()


@pytest.mark.parametrize(
    "kind, name", [("zip", "pictures.zip"), ("tar", "pictures.tar.gz"), ("tar", "pictures.tgz")]
)
def test_archives_are_unpacked_beside_themselves(shop, tmp_path, kind, name):
    shop.files[name] = packed(kind, {"images/1.png": b"one", "masks/1.png": b"two"})
    assert (
        fetch(toy(shop.row(name)), tmp_path, progress=False) == [tmp_path / "toy/pictures"]
        and unpacked_name(name) == "pictures"
    )
    assert (tmp_path / "toy/pictures/masks/1.png").read_bytes() == b"two"
    for file in sorted((tmp_path / "toy/pictures").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (tmp_path / "toy/pictures").rmdir()
    fetch(toy(shop.row(name)), tmp_path, progress=False)
    assert (
        tmp_path / "toy/pictures/images/1.png"
    ).exists() and shop.asked == 1  # unpacked again, not downloaded again


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "a/../../outside.txt",
        "/tmp/outside.txt",
        "..\\outside.txt",
        "C:\\outside.txt",
    ],
)
def test_members_that_lead_outside_are_refused_before_anything_is_written(tmp_path, kind, name):
    archive = tmp_path / f"bad.{'zip' if kind == 'zip' else 'tar.gz'}"
    archive.write_bytes(packed(kind, {"fine.txt": b"fine", name: b"not fine"}))
    with pytest.raises(DataError) as error:
        unpack(archive, tmp_path / "in/bad")
    assert (
        "outside" in str(error.value)
        and archive.name in str(error.value)
        and not (tmp_path / "in/bad").exists()
    )
    assert not list(tmp_path.rglob("outside.txt")) and not list(tmp_path.rglob("fine.txt"))


def test_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as z:
        entry = zipfile.ZipInfo("images")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        z.writestr(entry, "/etc")
    for name, kind in (
        ("sym.tar", tarfile.SYMTYPE),
        ("hard.tar", tarfile.LNKTYPE),
        ("device.tar", tarfile.CHRTYPE),
    ):
        with tarfile.open(tmp_path / name, "w") as t:
            entry = tarfile.TarInfo("images")
            entry.type, entry.linkname = kind, "/etc/passwd"
            t.addfile(entry)
    for name in ("link.zip", "sym.tar", "hard.tar", "device.tar"):
        with pytest.raises(DataError, match="link or a device"):
            unpack(tmp_path / name, tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_damaged_archive_leaves_nothing(tmp_path, kind):
    archive, whole = (
        tmp_path / f"bad.{'zip' if kind == 'zip' else 'tar.gz'}",
        packed(kind, {f"{i}.bin": os.urandom(3000) for i in range(5)}),
    )
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "in")
    assert everything(tmp_path) == [archive.name]


def test_an_archive_that_is_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    (tmp_path / "big.zip").write_bytes(packed("zip", {"zeros": bytes(10_000)}))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("U", (), dict(free=9_000)))
    with pytest.raises(DataError, match="cannot hold"):
        unpack(tmp_path / "big.zip", tmp_path / "in")


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_that_cannot_be_laid_out_is_named_and_leaves_nothing(kind, tmp_path):
    "A file that is a folder as well: what the system says of it is about the archive, not about the disk."
    file = tmp_path / f"a.{kind}"
    file.write_bytes(packed(kind, {"a": b"1", "a/b": b"2"}))
    with pytest.raises(DataError, match="cannot be unpacked") as error: unpack(file, tmp_path / "out")
    assert f"a.{kind}" in str(error.value) and everything(tmp_path) == [f"a.{kind}"]


def test_an_archive_that_holds_far_more_than_it_can_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MUCH", 10**6)
    for kind in ("zip", "tar.gz"):
        file = tmp_path / f"a.{kind}"
        file.write_bytes(packed(kind, {"zeros": bytes(10**7)}))
        if kind == "zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as held: held.writestr("zeros", bytes(10**7))
        with pytest.raises(DataError, match="far more than it can") as error: unpack(file, tmp_path / "out")
        assert f"a.{kind}" in str(error.value) and not (tmp_path / "out").exists()
        file.write_bytes(packed(kind, {"noise": os.urandom(3 * 10**6)}))
        assert (unpack(file, tmp_path / "out") / "noise").stat().st_size == 3 * 10**6
        shutil.rmtree(tmp_path / "out")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"(?s)cannot be unpacked.*a\.zip"): unpack(tmp_path / "a.zip", tmp_path / "out")


def test_files_by_name_and_by_size():
    card = load_card("drive")
    names = lambda **how: [row["name"] for row in choose_files(card, **how)]
    assert names() == ["drive_128.npz", "drive_256.npz"] and names(size=64) == names(size=128) == [
        "drive_128.npz"
    ]
    assert names(size=129) == names(size=4000) == ["drive_256.npz"] and names(
        files=["drive_256.npz"], size=64
    ) == ["drive_256.npz"]
    with pytest.raises(DataError, match="drive_128.npz"):
        names(files=["drive_127.npz"])


@pytest.mark.parametrize(
    "change, field",
    [
        (dict(name="../toy.npz"), "files.name"),
        (dict(name=".toy.npz"), "files.name"),
        (dict(url="file:///etc/passwd"), "files.url"),
        (dict(sha256=""), "files.md5"),
        (dict(sha256="12345"), "files.md5"),
    ],
)
def test_rows_that_are_not_safe_or_cannot_be_verified_are_refused(shop, tmp_path, change, field):
    with pytest.raises(CardError, match=field):
        fetch(toy(shop.row() | change), tmp_path, progress=False)
    assert shop.asked == 0 and everything(tmp_path) == []


def test_every_shipped_card_can_be_asked_for():
    from taco.data.card import list_cards

    with_files = [name for name in list_cards() if choose_files(load_card(name))]
    assert len(with_files) >= 30


def test_a_dataset_with_a_door_says_where_it_is(tmp_path):
    with pytest.raises(DataError) as error:
        fetch("acdc", tmp_path / "data")
    assert (
        "Register at" in str(error.value)
        and str(tmp_path / "data/acdc") in str(error.value)
        and everything(tmp_path) == []
    )
    assert fetch("skimage_retina", tmp_path / "data") == []


def test_the_root(tmp_path, monkeypatch):
    monkeypatch.delenv("TACO_DATA", raising=False)
    with pytest.raises(ParameterError, match="TACO_DATA"):
        fetch("drive")
    monkeypatch.setenv("TACO_DATA", str(tmp_path / "mine"))
    assert (
        data_folder(required=True) == tmp_path / "mine"
        and data_folder(tmp_path) == tmp_path
        and not (tmp_path / "mine").exists()
    )


# ---------------------------------------------------------------- names that become one


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "one, two",
    [
        ("train/a.png", "train/A.PNG"),
        ("Images/1.png", "images/1.png"),
        ("./a.png", "a.png"),
        ("ü.png", unicodedata.normalize("NFD", "ü.png")),
        ("img/a.png", "img\\a.png"),
    ],
)
def test_members_that_become_one_file_are_refused(tmp_path, kind, one, two):
    archive = tmp_path / f"twice.{'zip' if kind == 'zip' else 'tar.gz'}"
    archive.write_bytes(packed(kind, {"fine.txt": b"fine", one: b"1", two: b"2"}))
    with pytest.raises(DataError) as error:
        unpack(archive, tmp_path / "in")
    assert "become one file" in str(error.value) and archive.name in str(error.value)
    assert everything(tmp_path) == [archive.name]


def test_an_ending_in_capitals_is_an_archive_all_the_same(shop, tmp_path):
    shop.files["Pictures.ZIP"] = packed("zip", {"images/1.png": b"one"})
    assert unpacked_name("Pictures.ZIP") == "Pictures" and unpacked_name(".ZIP") is None
    (folder,) = fetch(toy(shop.row("Pictures.ZIP")), tmp_path, progress=False)
    assert folder.name == "Pictures" and (folder / "images/1.png").read_bytes() == b"one"
    assert (tmp_path / "toy/Pictures.ZIP").read_bytes() == shop.files["Pictures.ZIP"]


@pytest.mark.parametrize("other", ["PICTURES.zip", "pictures.tar.gz", "pictures"])
def test_two_downloads_to_one_place_are_refused(shop, tmp_path, other):
    shop.files |= {"pictures.zip": packed("zip", {"1.png": b"one"}), other: packed("tar", {"2.png": b"two"})}
    with pytest.raises(CardError, match="go to one place"):
        fetch(toy(shop.row("pictures.zip"), shop.row(other)), tmp_path, progress=False)
    assert not (tmp_path / "toy").exists() and shop.asked == 0


def test_a_root_that_is_a_file_is_said(shop, tmp_path):
    (tmp_path / "root").write_bytes(b"a file")
    with pytest.raises(DataError) as error:
        fetch(toy(shop.row()), tmp_path / "root", progress=False)
    assert "cannot be written" in str(error.value) and "fix:" in str(error.value)
    assert (tmp_path / "root").read_bytes() == b"a file"
