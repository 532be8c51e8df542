"`taco data`: what it says and its exit codes, on shipped cards, on a card of one's own, and on a folder."

import hashlib
import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from taco.base import CardError, ParameterError
from taco.cli.data import data_app
from taco.data.card import load_card
from taco.data.check import check, counterpart, examples, overlay, phantom_and_real, resolve, state_of
from taco.data.pack import pack
from taco.data.store import Store, read_manifest
from tests.data.made import BY_SUBJECT, CARD, CLASSES, GIVEN, PAIRS, disc, make_card, write_pairs
from tests.data.spoiled import spoil


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    "Commands run in a folder of their own, without anybody's data."
    monkeypatch.delenv("TACO_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def run(*arguments, code: int = 0) -> str:
    result = CliRunner().invoke(data_app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def flat(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- list


def test_list_says_what_there_is_of_each(tmp_path):
    write_pairs(tmp_path / "root", 4, 1)
    (tmp_path / "root/toy").rename(tmp_path / "root/acdc")  # a folder that the card of acdc cannot read
    pack("drive", out="packed", size=16, subjects=3)
    rows = {
        r["name"]: r
        for r in json.loads(run("list", "--json", "--out", "packed", "--root", tmp_path / "root"))
    }
    assert rows["drive"]["state"] == "packed" and rows["drive"]["packed"] == [
        dict(folder="drive-phantom-16", source="phantom", size=16, records=3)
    ]
    assert (
        rows["acdc"]["state"] == "unreadable"
        and rows["busi"]["state"] == "phantom"
        and rows["pydicom_ct"]["state"] == "packaged"
    )
    assert (
        rows["busi"]["counts"] == dict(train=452, val=64, test=131)
        and rows["drive"]["fetch"]
        and not rows["acdc"]["fetch"]
    )
    text = run("list", "--out", "packed")
    assert "phantom-16" in text and "452/64/131" in text and all(name in text for name in rows)


def test_state_of_ones_own_card(tmp_path, monkeypatch):
    card = make_card(tmp_path)
    assert state_of(card)["state"] == "absent"  # neither files nor a phantom
    write_pairs(tmp_path, 4)
    assert state_of(card, tmp_path)["state"] == "downloaded"
    pack(card, tmp_path, tmp_path / "out", 16)
    assert state_of(card, tmp_path, tmp_path / "out")["state"] == "packed"
    monkeypatch.setenv("TACO_CARDS", str(tmp_path))
    assert "toy" in run("list")


# ---------------------------------------------------------------- what a name stands for


def test_a_folder_means_the_card_beside_it_or_says_how_to_get_one(tmp_path):
    write_pairs(tmp_path, 4)
    with pytest.raises(CardError, match="No card describes this folder") as caught:
        resolve("toy")
    assert "toy.toml beside it" in caught.value.expected
    assert caught.value.fix.split(" writes")[0] == "taco data new toy"
    run("new", "toy")  # the fix
    draft = tmp_path / "toy.toml"
    draft.write_text(draft.read_text().replace('modality = "?"', 'modality = "CT"'))
    for what in ("toy", "toy/", tmp_path / "toy"):
        target = resolve(what)
        assert target.card.name == "toy" and target.source == "real"
        assert sum(check(target.card, target.root, target.source).records.values()) == 4
    (tmp_path / "toy/card.toml").write_text(draft.read_text().replace('name = "toy"', 'name = "inside"'))
    assert resolve("toy").card.name == "inside"  # what lies in the folder is nearer than what lies beside it


def test_a_name_a_card_and_a_folder_mean_the_same(tmp_path, monkeypatch):
    write_pairs(tmp_path, 4)
    card = make_card(tmp_path)
    assert resolve("toy.toml").root == Path(".") and resolve(tmp_path / "toy.toml").card == card
    (tmp_path / "toy/card.toml").write_text(Path(card.path).read_text())
    for what, root in (
        ("toy.toml", None),
        (tmp_path / "toy", None),
        ("toy", None),
        ("toy", tmp_path),
    ):  # relative, absolute, and under the root
        target = resolve(what, root)
        found = check(target.card, target.root, target.source)
        assert found.ok and sum(found.records.values()) == 4, what
    (tmp_path / "toy/card.toml").rename(tmp_path / "toy/toy.toml")
    assert resolve(tmp_path / "toy").card.name == "toy"
    assert resolve("acdc", tmp_path).card.name == "acdc"
    (tmp_path / "data/drive").mkdir(parents=True)
    assert resolve(tmp_path / "data/drive").card.name == "drive"  # named like a known card
    with pytest.raises(CardError, match="Did you mean 'drive'"):
        resolve("drvie")
    with pytest.raises(CardError, match="no such card"):
        resolve("nowhere/card.toml")


# ---------------------------------------------------------------- fetch


def test_fetch_by_command(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/toy.bin").write_bytes(b"twelve bytes")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "shop"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256(b"twelve bytes").hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/toy.bin"
    row = f'\n[[files]]\nname = "toy.bin"\nurl = "{url}"\nsha256 = "{digest}"\n'
    make_card(tmp_path, CARD + CLASSES + PAIRS + BY_SUBJECT + row)
    assert (
        "there" in run("fetch", "toy.toml", "--root", "data")
        and (tmp_path / "data/toy/toy.bin").read_bytes() == b"twelve bytes"
    )
    server.shutdown()
    server.server_close()
    run("fetch", "toy.toml", "--root", "data", "--all")  # it is there; no server is needed
    text = flat(run("fetch", "toy.toml", "acdc", "skimage_cell", "nosuch", "--root", "data2", code=2))
    assert (
        "By hand" in text
        and "Register at" in text
        and "nothing is to be fetched" in text
        and "3 of 4 failed" in text
        and not (tmp_path / "data2").exists()
    )
    assert "TACO_DATA" in run("fetch", "drive", code=2)


# ---------------------------------------------------------------- check


def test_check_of_a_good_folder(tmp_path):
    write_pairs(tmp_path, 6)
    make_card(tmp_path)
    text = flat(run("check", "toy.toml", "-v"))
    assert text.count("1 record") == 6 and "all of it can be read" in text and "1 disc 6" in text
    found = json.loads(run("check", "toy.toml", "--json"))
    assert (
        found["ok"]
        and found["items"] == 6
        and sum(found["records"].values()) == 6
        and sum(found["subjects"].values()) == 6
    )
    assert (
        found["labels"]["1"]["pixels"] == sum(int(disc(n)[1].sum()) for n in range(6))
        and found["labels"]["0"]["records"] == 6
    )


@pytest.mark.parametrize(
    "fault",
    [
        "truncated image",
        "missing mask",
        "missing image",
        "other size",
        "undeclared label",
        "unreadable mask",
        "nan",
    ],
)
def test_check_names_every_bad_file_and_reads_the_rest(tmp_path, fault):
    write_pairs(tmp_path, 6)
    spoil(tmp_path / "toy", fault)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "toy/masks/p02_05.png")  # a second one
    make_card(tmp_path)
    found = json.loads(run("check", "toy.toml", "--json", code=2))
    bad = [f for f in found["files"] if not f["ok"]]
    assert (
        not found["ok"]
        and len(bad) == found["failed"] == 2
        and {Path(f["file"]).stem for f in bad} == {"p01_02", "p02_05"}
    )
    assert all("fix:" in f["reason"] for f in bad) and sum(found["records"].values()) == 4
    text = run("check", "toy.toml", code=2)
    assert "p01_02" in text and "p02_05" in text and "2 cannot be read" in text


def test_check_says_what_only_shows_in_the_whole(tmp_path):
    write_pairs(tmp_path, 4, 1)
    for kind in ("images", "masks"):
        for split in ("train", "test"):
            (tmp_path / "toy" / kind / split).mkdir()
        for path in sorted((tmp_path / "toy" / kind).glob("*.png")):
            path.rename(tmp_path / "toy" / kind / ("train" if path.name < "p02" else "test") / path.name)
        (tmp_path / "toy" / kind / "test/p02_02.png").rename(tmp_path / "toy" / kind / "test/p01_02.png")
    text = (
        CARD
        + CLASSES
        + '2 = "ring"\n'
        + PAIRS.replace("images/*", "images/*/*").replace("masks/*", "masks/*/*")
        + "subject = 're:/(p\\d+)_'\nsplit = 're:/(train|test)/'\n"
        + GIVEN
    )
    make_card(tmp_path, text)
    found = json.loads(run("check", "toy.toml", "--json", code=2))
    assert (
        "p01: " in found["faults"][0]
        and "more than one split" in found["faults"][0]
        and all(f["ok"] for f in found["files"])
    )
    assert found["notes"] == ["No image holds 2 (ring)."]
    assert "not usable as it is" in run("check", "toy.toml", code=2)


def test_check_of_packed_datasets(tmp_path):
    run("pack", "busi", "--size", 16, "--subjects", 2, "--source", "phantom", "--out", tmp_path)
    store = tmp_path / "busi-phantom-16"
    assert "2 records" in run("check", store) and json.loads(run("check", tmp_path, "--json"))["ok"]
    for name in ("semantic.npy", "table.csv", "manifest.json"):
        whole = (store / name).read_bytes()
        (store / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
        for place in (store, tmp_path): assert f"{store}/{name}" in run("check", place, code=2)
        (store / name).unlink()
        assert "missing" in run("check", store, code=2)
        (store / name).write_bytes(whole)


def test_check_of_nothing_tells_where_to_get_it(tmp_path):
    assert "Register at" in run("check", "acdc", "--root", tmp_path, code=2)
    assert "all of it can be read" in run("check", "skimage_cell") and "phantom" in run(
        "check", "nuset", "--source", "phantom"
    )
    (tmp_path / "toy.toml").write_text((CARD + CLASSES + PAIRS + BY_SUBJECT).replace('"pairs"', '"pears"'))
    assert "Did you mean 'pairs'" in run("check", "toy.toml", code=2)
    make_card_text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace(
        '"images/*.{png,tif,bmp,gif,jpg}"', '"re:images/(.png"'
    )
    (tmp_path / "toy.toml").write_text(make_card_text)
    assert "does not compile" in run("check", "toy.toml", code=2)


# ---------------------------------------------------------------- pack


def test_pack_goes_on_after_a_failure_and_says_what_was_left_out(tmp_path):
    write_pairs(tmp_path, 6)
    spoil(tmp_path / "toy", "missing mask")
    make_card(tmp_path)
    options = ("--size", 16, "--workers", 1, "--subjects", 4)
    text = flat(run("pack", "toy.toml", "drive", "nosuch", *options, code=2))
    assert "p01_02.png" in text and "drive-phantom-16" in text and "2 of 3 failed: toy.toml, nosuch" in text
    assert sorted(p.name for p in (tmp_path / "data/packed").iterdir()) == ["drive-phantom-16"]
    text = flat(run("pack", "toy.toml", "drive", *options, "--skip-bad"))
    assert (
        "left out The mask of an image is missing" in text
        and "p01_02.png" in text
        and text.count("was there") == 1
    )
    manifest = read_manifest(tmp_path / "data/packed/toy-real-16")
    assert len(manifest["skipped"]) == 1 and "p01_02.png" in manifest["skipped"][0]["file"]
    assert (
        len(Store.open([tmp_path / "data/packed/toy-real-16", tmp_path / "data/packed/drive-phantom-16"]))
        == manifest["records"] + 4
    )


def test_pack_of_a_folder_and_with_a_chosen_source(tmp_path):
    write_pairs(tmp_path, 4)
    card = make_card(tmp_path)
    Path(card.path).rename(tmp_path / "toy/card.toml")
    run("pack", "toy", "--size", 16, "--out", "out", "--workers", 2)
    assert read_manifest("out/toy-real-16")["records"] == 4
    run("pack", "drive", "--size", 16, "--out", "out", "--source", "phantom", "--subjects", 2, "--workers", 1)
    assert (
        "the files of this dataset are not there"
        in flat(run("pack", "drive", "--source", "real", "--out", "out", code=2)).lower()
    )
    assert sorted(os.listdir("out")) == ["drive-phantom-16", "toy-real-16"]


def test_packing_processes_follow_the_working_directory(tmp_path, monkeypatch):
    "joblib keeps its processes, in the directory where they started: a later relative path means the later directory."
    for name, count in (("first", 4), ("second", 6)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_pairs(Path("."), count)
        Path(make_card(Path(".")).path).rename("toy/card.toml")
        run("pack", "toy", "--size", 16, "--out", "out", "--workers", 2)
        assert read_manifest("out/toy-real-16")["records"] == count


# ---------------------------------------------------------------- show


def test_show_draws_what_there_is(tmp_path):
    assert "5 phantom" in run("show", "drive", "-o", "a.png", "--size", 48)
    assert "2 packaged" in run("show", "skimage_cell", "-o", "b.png", "--count", 2, "--size", 48)
    write_pairs(tmp_path, 4)
    make_card(tmp_path, CARD + CLASSES + PAIRS + BY_SUBJECT + '\n[phantom]\nrecipe = "nuset"\n')
    assert "2 real, 2 phantom" in run("show", "toy.toml", "-o", "c.png", "--count", 2, "--size", 48)
    assert (
        "2 real" in (text := run("show", "toy.toml", "-o", "d.png", "--count", 2, "--real", "--size", 48))
        and "phantom" not in text
    )
    assert "2 phantom" in run("show", "toy.toml", "-o", "e.png", "--count", 2, "--phantom", "--size", 48)
    heights = {name: Image.open(f"{name}.png").size[1] for name in "cde"}
    assert heights["c"] > 1.5 * heights["d"] and heights["d"] == heights["e"]
    assert np.asarray(Image.open("c.png")).std() > 10
    assert (
        "not there" in flat(run("show", "acdc", "--real", "-o", "f.png", code=2))
        and not Path("f.png").exists()
    )
    with pytest.raises(ParameterError, match="png"):
        run("show", "drive", "-o", "g.txt")


def test_labels_are_drawn_where_they_are(tmp_path):
    write_pairs(tmp_path, 1, 1)
    _, (record,) = examples(make_card(tmp_path), 1, tmp_path, "real", 40)
    drawn, plain = overlay(record, {1: (1.0, 0.0, 0.0)}), overlay(record, {})
    changed = np.abs(drawn - plain).sum(-1) > 1e-6
    np.testing.assert_array_equal(changed, record.semantic == 1)


def test_phantom_beside_real_takes_the_real_ones_when_they_are_there(tmp_path):
    write_pairs(tmp_path, 4)
    card = make_card(tmp_path, CARD + CLASSES + PAIRS + BY_SUBJECT + '\n[phantom]\nrecipe = "nuset"\n')
    assert (
        counterpart(card, tmp_path) == (card, "real") and counterpart(card) is None
    )  # no packaged fluorescence
    other, source = counterpart(load_card("drive"), tmp_path)
    assert source == "packaged" and other.modality == ["fundus photography"]
    titles = [
        ax.get_title("left")
        for ax in phantom_and_real([card, "drive", "nuset"], tmp_path, count=2, size=32).axes
    ]
    assert "real: toy" in titles and f"packaged: {other.name}" in titles and "no real image here" in titles


def test_the_real_extracts_stand_beside_their_phantoms(shared_data):
    folder = shared_data / "chase_db1"
    if not folder.is_dir():
        pytest.skip(f"no extract at {folder}")
    assert counterpart(load_card("chasedb1"), folder) == (load_card("chasedb1"), "real")
    assert json.loads(run("check", "chasedb1", "--root", folder, "--json"))["items"] == 28


# ---------------------------------------------------------------- as a program


def test_exit_codes_of_the_program(tmp_path):
    code = "from taco.cli.main import main\nmain()"
    program = lambda *a: subprocess.run(
        [sys.executable, "-c", code, "data", *a], capture_output=True, text=True, cwd=tmp_path
    )
    write_pairs(tmp_path, 2)
    make_card(tmp_path)
    assert program("check", "toy.toml").returncode == 0
    spoil_me = tmp_path / "toy/masks/p00_00.png"
    spoil_me.write_bytes(b"")
    done = program("check", "toy.toml")
    assert done.returncode == 2 and "p00_00.png" in done.stdout and "Traceback" not in done.stderr
    done = program("show", "drive", "-o", "x.txt")
    assert done.returncode == 2 and "ParameterError" in done.stderr and "Traceback" not in done.stderr


BOTH = """
import os, sys
import taco.data.check
from taco.cli.main import main
for flag in ("-v", "--json"):  # each a process of its own, forked when all is imported
    if not (child := os.fork()):
        os.dup2(os.open(flag, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        sys.argv = ["taco", "data", "check", "toy.toml", flag]
        main()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, flag
"""


@pytest.mark.long
def test_a_terminal_without_letters(tmp_path):
    "Latin-1, ASCII and no locale: everything is printed, as it can be, and JSON stays JSON."
    write_pairs(tmp_path, 2)
    text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace("disc", "größe … 漢")
    (tmp_path / "toy.toml").write_text(text, encoding="utf-8")
    odd = os.fsdecode(b"p\xfc_9.png")
    for kind in ("images", "masks"):
        (tmp_path / "toy" / kind / "p00_00.png").rename(tmp_path / "toy" / kind / odd)
    hostile = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    for settings in (hostile, dict(PYTHONIOENCODING="latin-1"), dict(PYTHONIOENCODING="utf-8")):
        both = [sys.executable, "-c", BOTH]
        done = subprocess.run(both, capture_output=True, cwd=tmp_path, env=os.environ | settings)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        said, found = ((tmp_path / name).read_bytes() for name in ("-v", "--json"))
        assert b"p\\xfc_9.png" in said and b"all of it can be read" in said
        found = json.loads(found.decode(settings.get("PYTHONIOENCODING", "ascii")))
        assert found["labels"]["1"]["name"] == "größe … 漢"


def test_list_is_whole_without_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(data_app, ["list"]).output.splitlines()
    card = load_card("abdomenus")
    (line,) = [x for x in lines if x.split()[:1] == ["abdomenus"]]
    assert card.licence in line


def test_a_title_that_looks_like_mathematics_is_drawn_as_it_is(tmp_path):
    write_pairs(tmp_path, 2)
    strange = r"from $100 to \\frac$ { x_1^2 $"
    text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace('"Toy"', f'"{strange}"')
    make_card(tmp_path, text.replace('"disc"', r'"[red]$x_$ & <b> $\\frac$"'))
    assert "2 real" in run("show", "toy.toml", "-o", "a.png", "--size", 48)
    assert np.asarray(Image.open("a.png")).std() > 10
    assert "[red]$x_$ & <b>" in run("check", "toy.toml")


def test_pack_and_show_say_what_was_not_read(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "toy/images/late.webp").write_bytes(b"x")
    make_card(tmp_path)
    for words in (
        ("pack", "toy.toml", "--size", 16, "--workers", 1),
        ("show", "toy.toml", "-o", "a.png", "--size", 32),
    ):
        assert "1 file left out, would fit with another ending: images/late.webp" in run(*words)


def test_a_folder_with_brackets_is_packed_from_arrays(tmp_path):
    "A name such as `set [v2] copy` is not taken for a row of a file."
    folder = tmp_path / "set [v2] copy"
    folder.mkdir()
    arrays = {}
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        drawn = [disc(n) for n in range(count)]
        arrays[f"{split}_images"] = np.stack([image for image, _ in drawn])
        arrays[f"{split}_label"] = np.stack([mask.astype(np.uint8) for _, mask in drawn])
    np.savez_compressed(folder / "toy_64.npz", **arrays)
    text = CARD + CLASSES + '\n[[read]]\nreader = "npz"\nfile = "toy_{size}.npz"\n' + GIVEN
    (folder / "card.toml").write_text(text)
    assert "6 items, all of it can be read" in run("check", folder)
    run("pack", folder, "--size", 16, "--out", "out", "--workers", 1)
    assert read_manifest("out/toy-real-16")["records"] == 6
    assert "was there" in run("pack", folder, "--size", 16, "--out", "out", "--workers", 1)


@pytest.mark.parametrize(
    "words, typed",  # whether the option itself is refused
    [
        ("pack drive --size 0", True), ("pack drive --subjects -1", True), ("pack drive --workers 0", True),
        ("show drive --count 0", True), ("show drive --size -4", True), ("fetch drive --size 0", True),
        ("pack drive --size 16 --subjects 2 --out file", False), ("show drive -o file/x.png --count 1", False),
        ("check drive --root file", False), ("pack ~nobody/x", False), ("check /", False),
        ("fetch drive --root file", False), ("new file", False), ("new nowhere", False),
    ],
)  # fmt: skip
def test_hostile_words_end_with_a_message(tmp_path, words, typed):
    (tmp_path / "file").touch()
    text = run(*words.split(), code=2)
    assert text.strip() and (typed or "fix:" in text or "expected:" in text)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").stat().st_size == 0
