"`taco data check` on folders with something wrong: each is read and counted, or the trouble is named."

import json
import os
import unicodedata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from taco.cli.data import data_app
from tests.data.made import BY_SUBJECT, CARD, CLASSES, GIVEN, disc

PAIRS = '\n[[read]]\nreader = "pairs"\nimages = "{images}"\nmasks = "{masks}"\nvalues = {{0 = 0, 255 = 1}}\n'
FLAT = PAIRS.format(images="*_img.png", masks="*_mask.png")
DEEP = PAIRS.format(images="**/*_img.png", masks="**/*_mask.png")
SPLIT = DEEP + "split = 're:(train|test)/'\nsubject = 're:([^/]*/\\w)_'\n"
FOLDERS = PAIRS.format(images="img/*.png", masks="mask/*.png")
VOLUMES = '\n[[read]]\nreader = "volumes"\nimages = "*_image.nii"\nmasks = "*_label.nii"\n'
TWO = FLAT + 'layout = "plain"\n' + FLAT.replace("_img", "_photo") + 'layout = "photographs"\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("TACO_DATA", raising=False)
    monkeypatch.delenv("TACO_LINKS", raising=False)
    monkeypatch.chdir(tmp_path)


def pair(folder: Path, image: str, mask: str, number: int = 0) -> None:
    pixels, drawn = disc(number)
    for name, array in ((image, pixels), (mask, drawn.astype(np.uint8) * 255)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            Image.fromarray(array).save(file, "JPEG" if ".jp" in name.lower() else "PNG")


def pairs(folder: Path, *names: str, end: str = "png") -> None:
    for n, name in enumerate(names):
        pair(folder, f"{name}_img.{end}", f"{name}_mask.png", n)


def volume(folder: Path, name: str, some: bool, number: int) -> None:
    voxels = np.random.default_rng(number).integers(0, 99, (16, 16, 5)).astype(np.int16)
    labels = np.zeros(voxels.shape, np.uint8)
    labels[4:9, 4:9, 2] = some
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"{name}_image.nii")
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"{name}_label.nii")


def capitals(folder):
    pairs(folder, "a", "c")
    pair(folder, "b_img.PNG", "b_mask.Png", 5)


def another_ending(folder):
    pairs(folder, "a", "b")
    pair(folder, "c_img.jpeg", "c_mask.png", 5)
    (folder / "c_mask.png").unlink()


def archive(folder):
    pairs(folder, "a", "b")
    (folder / "site2.zip").write_bytes(b"PK")


def unpacked_archive(folder):
    archive(folder)
    (folder / "site2").mkdir()
    (folder / "site2/notes.md").write_text("of the archive")


def only_an_archive(folder):
    (folder / "toy.tar.gz").write_bytes(b"x")


def dicoms(folder):
    pairs(folder, "a", "b")
    for n in range(4):
        (folder / f"scan{n}.dcm").write_bytes(b"\0" * 128 + b"DICM")


def texts(folder):
    pairs(folder, "a", "b")
    for name in ("README.md", "LICENSE", "ages.csv"):
        (folder / name).write_text("text")


def system(folder):
    pairs(folder, "a", "b")
    for name in ("._a_img.png", "Thumbs.db", ".DS_Store", "desktop.ini", "__MACOSX/._a_img.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")


def empty_file(folder):
    pairs(folder, "a", "b")
    (folder / "c_img.png").touch()
    (folder / "c_mask.png").touch()


def stray_empty(folder):
    pairs(folder, "a", "b")
    (folder / "c.dat").touch()


def loop(folder):
    pairs(folder / "site1", "a", "b", "c")
    (folder / "site1/all").symlink_to("..")


def two_loops(folder):
    pairs(folder / "site1", "a", "b", "c")
    (folder / "site1/up").symlink_to("..")
    (folder / "site1/here").symlink_to(".")


def above(folder):
    pairs(folder, "a", "b", "c")
    (folder / "up").symlink_to("../..")


def ring(folder):
    pairs(folder / "x", "a", "b", "c")
    (folder / "y").mkdir()
    (folder / "x/to").symlink_to("../y")
    (folder / "y/to").symlink_to("../x")


def second_name(folder):
    pairs(folder / "site1", "a", "b", "c")
    (folder / "latest").symlink_to("site1")


def outside(folder):
    pairs(folder / "site1", "a", "b")
    pairs(folder.parent / "elsewhere", "s", "t")
    (folder / "site2").symlink_to(folder.parent / "elsewhere")


def outside_file(folder):
    pairs(folder, "a", "b")
    pairs(folder.parent / "elsewhere", "s")
    for kind in ("img", "mask"):
        (folder / f"s_{kind}.png").symlink_to(folder.parent / f"elsewhere/s_{kind}.png")


def outside_stray(folder):
    pairs(folder, "a", "b")
    (folder.parent / "notes.dat").write_text("mine")
    (folder / "notes.dat").symlink_to(folder.parent / "notes.dat")


def nowhere(folder):
    pairs(folder, "a", "b")
    (folder / "c_img.png").symlink_to("gone.png")
    (folder / "c_mask.png").symlink_to("gone.png")


def copied(folder):
    pairs(folder / "train", "a", "b", "c")
    pair(folder, "test/d_img.png", "test/d_mask.png", 9)
    (folder / "test/e_img.png").write_bytes((folder / "train/a_img.png").read_bytes())
    (folder / "test/e_mask.png").write_bytes((folder / "train/a_mask.png").read_bytes())


def hard_links(folder):
    pairs(folder / "train", "a", "b", "c")
    (folder / "test").mkdir()
    for kind in ("img", "mask"):
        os.link(folder / f"train/a_{kind}.png", folder / f"test/z_{kind}.png")


def soft_links(folder):
    pairs(folder / "train", "a", "b", "c")
    (folder / "test").mkdir()
    for kind in ("img", "mask"):
        (folder / f"test/z_{kind}.png").symlink_to(f"../train/a_{kind}.png")


def two_forms(folder):
    name = "Müller é"
    pair(folder, f"img/{unicodedata.normalize('NFD', name)}.png", f"mask/{name}.png")
    pair(folder, "img/b.png", "mask/b.png", 1)


def no_text(folder):
    name = os.fsdecode(b"M\xfcller")
    pair(folder, f"img/{name}.png", f"mask/{name}.png")


def odd_names(folder):
    names = ("a b", "it's", 'say "hi"', "set [v2] copy", "100 %20", "-rf", "two\nlines", "漢字", "x" * 240)
    for n, name in enumerate(names):
        pair(folder, f"img/{name}.png", f"mask/{name}.png", n)


def of_windows(folder):
    pairs(folder, "a")
    pair(folder, "img\\b_img.png", "img\\b_mask.png", 1)


def healthy(folder):
    volume(folder, "sick", True, 0)
    volume(folder, "healthy", False, 1)


def two_layouts(folder):
    pairs(folder, "a", "b")
    pair(folder, "c_photo.png", "c_mask.png", 4)
    (folder / "c_mask.png").rename(folder / "c_drawn.png")


def pipe(folder):
    pairs(folder, "a", "b")
    os.mkfifo(folder / "c_img.png")


def deeper(folder):
    pairs(folder / "toy-v1", "a", "b")


def nothing(folder):
    pass


# name: (what makes the folder, how it is read, rule, exit code, words of the text, parts of the counts)
CASES = {
    "endings in capitals": (capitals, FLAT, BY_SUBJECT, 0, "3 items, all of it", dict(read=6, left_out=0)),
    "another ending": (another_ending, FLAT, BY_SUBJECT, 0, "another ending: c_img.jpeg", dict(read=4, left_out=1)),
    "an archive": (archive, FLAT, BY_SUBJECT, 0, "not unpacked: site2.zip", dict(read=4, left_out=1)),
    "an archive beside its folder": (unpacked_archive, FLAT, BY_SUBJECT, 0, "all of it", dict(read=4, left_out=2)),
    "nothing but an archive": (only_an_archive, FLAT, BY_SUBJECT, 2, "Unpack toy.tar.gz", None),
    "other files": (dicoms, FLAT, BY_SUBJECT, 0, "4 files left out, fit no pattern (.dcm)", dict(left_out=4)),
    "texts": (texts, FLAT, BY_SUBJECT, 0, "all of it can be read", dict(read=4, left_out=3)),
    "files of the system": (system, FLAT, BY_SUBJECT, 0, "all of it can be read", dict(read=4, left_out=5)),
    "an empty image": (empty_file, FLAT, BY_SUBJECT, 2, "c_img.png", dict(read=6)),
    "an empty file": (stray_empty, FLAT, BY_SUBJECT, 0, "empty files (0 bytes): c.dat", dict(left_out=1)),
    "a link to the parent": (loop, DEEP, BY_SUBJECT, 0, "folder that holds them: site1/all", dict(read=6, left_out=1)),
    "links .. and .": (two_loops, DEEP, BY_SUBJECT, 0, "3 items", dict(read=6, left_out=2)),
    "a link above the folder": (above, DEEP, BY_SUBJECT, 0, "3 items", dict(read=6, left_out=1)),
    "a ring of links": (ring, DEEP, BY_SUBJECT, 0, "3 items", dict(read=6)),
    "a second name": (second_name, DEEP, BY_SUBJECT, 0, "are listed already: latest/", dict(read=6, left_out=6)),
    "a folder outside": (outside, DEEP, BY_SUBJECT, 2, "TACO_LINKS=allow", None),
    "a file outside": (outside_file, FLAT, BY_SUBJECT, 2, "leads out of the folder", None),
    "a stray link outside": (outside_stray, FLAT, BY_SUBJECT, 0, "by a link: notes.dat", dict(read=4, left_out=1)),
    "a link to nowhere": (nowhere, FLAT, BY_SUBJECT, 2, "c_img.png", None),
    "one photograph in two parts": (copied, SPLIT, GIVEN, 2, "lies in two parts of the split", dict(read=10)),
    "one photograph twice": (copied, DEEP, BY_SUBJECT, 0, "1 photograph under several names", dict(read=10)),
    "hard links in two parts": (hard_links, SPLIT, GIVEN, 2, "lies in two parts of the split", dict(read=8)),
    "links in two parts": (soft_links, SPLIT, GIVEN, 2, "lies in two parts of the split", dict(read=8)),
    "two forms of one name": (two_forms, FOLDERS, BY_SUBJECT, 0, "2 items, all of it", dict(read=4)),
    "a name that is no text": (no_text, FOLDERS, BY_SUBJECT, 0, "1 items, all of it", dict(read=2)),
    "odd names": (odd_names, FOLDERS, BY_SUBJECT, 0, "9 items, all of it", dict(read=18)),
    "slashes of Windows": (of_windows, DEEP, BY_SUBJECT, 0, "2 items, all of it", dict(read=4)),
    "two layouts": (two_layouts, TWO, BY_SUBJECT, 0, "The one that stands first in the card is read: plain", None),
    "a pipe": (pipe, FLAT, BY_SUBJECT, 0, "neither files nor folders: c_img.png", dict(read=4, left_out=1)),
    "one folder deeper": (deeper, FLAT, BY_SUBJECT, 0, "one folder deeper", dict(read=4)),
    "an empty folder": (nothing, FLAT, BY_SUBJECT, 2, "holds none of its images", None),
}  # fmt: skip


def check(*options: str, code: int) -> str:
    result = CliRunner().invoke(data_app, ["check", "toy.toml", *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("name", CASES)
def test_check_reads_or_names_it(tmp_path, name):
    make, table, rule, code, words, counts = CASES[name]
    (tmp_path / "toy").mkdir()
    make(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + table + rule)
    text = check(code=code)
    assert words in text
    if counts is None:
        return
    found = json.loads(check("--json", code=code))["counts"]
    assert {k: found[k] for k in counts} == counts
    assert found["seen"] == found["read"] + found["left_out"]
    assert sum(row["files"] for row in found["why"]) == found["left_out"]
    if "all of it" not in words:
        assert "all of it can be read" not in text or all(row["rightly"] for row in found["why"])


def test_healthy_volumes_are_kept_or_named(tmp_path):
    (tmp_path / "toy").mkdir()
    healthy(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(CARD.replace("fluorescence microscopy", "MR") + CLASSES + VOLUMES + BY_SUBJECT)
    found = json.loads(check("--json", code=0))
    counts = found["counts"]
    of = {Path(f["file"]).name: f for f in found["files"]}
    if of["healthy_image.nii"]["records"]:
        assert counts["healthy"] >= of["healthy_image.nii"]["records"] and counts["without_records"] == 0
    else:
        assert counts["items_without_records"] == [str(Path("toy/healthy_image.nii"))]
        assert not of["healthy_image.nii"]["ok"]
        assert "all of it" not in check(code=0)


def test_unlabelled_images_are_counted(tmp_path):
    pairs(tmp_path / "toy", "a", "b")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FLAT.split("masks")[0] + BY_SUBJECT)
    found = json.loads(check("--json", code=0))["counts"]
    assert found["unlabelled"] == 2 and found["healthy"] == 0 and found["left_out"] == 2
    assert "2 records without any label" in check(code=0)


def test_an_image_that_another_one_hides_is_named(tmp_path):
    "Two endings of one name: the one that the card means is read, the other is counted."
    pairs(tmp_path / "toy", "a", "b")
    pair(tmp_path / "toy", "a_img.PNG", "a_mask.png", 7)
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FLAT + BY_SUBJECT)
    text = check(code=0)
    assert "a_img.PNG" in text and "all of it can be read" not in text


def test_all_names_with_v(tmp_path):
    dicoms(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FLAT + BY_SUBJECT)
    assert "scan3.dcm" not in check(code=0) and "scan3.dcm" in check("-v", code=0)


def test_lists_of_values_are_whole_with_v(tmp_path):
    pairs(tmp_path / "toy", "a", "b")
    values = np.arange(40, dtype=np.uint8).repeat(48).reshape(40, 48)
    Image.fromarray(values).save(tmp_path / "toy/a_mask.png")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FLAT + BY_SUBJECT)
    short, whole = check(code=2), check("-v", code=2)
    assert "values)" in short and "37, 38, 39" not in short
    assert "37, 38, 39" in whole


def test_an_allowed_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    outside(tmp_path / "toy")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + DEEP + BY_SUBJECT)
    assert "TACO_LINKS=allow" in check(code=2)
    monkeypatch.setenv("TACO_LINKS", "allow")  # as the message says
    assert "4 items, all of it can be read" in check(code=0)


def test_a_link_that_is_the_folder_itself_is_ordinary(tmp_path):
    pairs(tmp_path / "drive 2/here", "a", "b")
    (tmp_path / "toy").symlink_to(tmp_path / "drive 2/here")
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FLAT + BY_SUBJECT)
    assert "2 items, all of it can be read" in check(code=0)


def test_paths_are_not_broken_without_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / ("a long name of a folder " * 6).strip()
    pairs(folder / "toy", "a", "b")
    (folder / "toy/a_mask.png").unlink()
    (folder / "toy.toml").write_text(CARD + CLASSES + FLAT + BY_SUBJECT)
    result = CliRunner().invoke(data_app, ["check", str(folder / "toy.toml")])
    assert str(folder / "toy/a_img.png") in result.output


def test_masks_in_another_folder_are_counted_too(tmp_path):
    "One folder deeper, and in a root that is nobody's: the folder of the masks belongs to the dataset as well."
    for place in ("toy/toy-v1", "root"):
        for n, name in enumerate("ab"):
            pair(tmp_path / place, f"img/{name}.png", f"mask/{name}.png", n)
    (tmp_path / "root/drive").mkdir()
    (tmp_path / "root/drive/x.png").touch()
    (tmp_path / "toy.toml").write_text(CARD + CLASSES + FOLDERS + BY_SUBJECT)
    for options in ((), ("--root", "root")):
        found = json.loads(check("--json", *options, code=0))
        assert found["counts"]["read"] == found["counts"]["seen"] == 4, options
