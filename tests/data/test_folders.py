"Folders and layouts: which one a card reads, by a rule that is told; and roots that are none."

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from taco.base import CardError, DataError
from taco.cli.data import data_app
from taco.data.card import data_folder
from taco.data.check import check, resolve, state_of
from taco.data.find import assign_splits, find, read
from taco.data.folders import check_root, named_folder
from taco.data.pack import pack
from taco.data.store import Part
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, make_card, told, write_pairs

PHANTOM = '\n[phantom]\nrecipe = "drive"\nsubjects = 2\n'
ANYWHERE = PAIRS.replace('"images/', '"**/images/').replace('"masks/', '"**/masks/')


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.delenv("TACO_DATA", raising=False)
    monkeypatch.delenv("TACO_LINKS", raising=False)


def keys(card, root, source="real") -> set[str]:
    return {r.key for r in read(card, root, source)}


# ---------------------------------------------------------------- which folder


@pytest.mark.parametrize("name", ["TOY", "Toy", "toy ", "tOy"])
def test_the_folder_of_a_card_may_be_spelt_in_capitals(tmp_path, name):
    write_pairs(tmp_path, 4)
    (tmp_path / "toy").rename(tmp_path / name)
    card = make_card(tmp_path)
    assert len(keys(card, tmp_path)) == 4 and find(card, tmp_path).folder == tmp_path / name


def test_two_spellings_of_a_folder_are_refused_and_the_exact_one_is_taken(tmp_path):
    for name in ("Toy", "TOY"):
        write_pairs(tmp_path / name, 2)
        (tmp_path / name / "toy").rename(tmp_path / name / "x")
    card = make_card(tmp_path)
    with pytest.raises(DataError) as error:
        find(card, tmp_path)
    told(error, "Two folders", "TOY, Toy", "Rename")
    write_pairs(tmp_path, 4)
    assert find(card, tmp_path).folder == tmp_path / "toy"


def test_a_folder_of_that_name_hides_the_neighbours(tmp_path):
    "As acdc beside acdc_h5: the neighbour's files fit, and are not this dataset's."
    write_pairs(tmp_path / "other", 6)
    (tmp_path / "other/toy").rename(tmp_path / "other/deep")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/notes.h5").touch()
    card = make_card(tmp_path, CARD + CLASSES + ANYWHERE + BY_SUBJECT)
    with pytest.raises(DataError) as error:
        find(card, tmp_path, "real")
    told(error, "holds none of its images", str(tmp_path / "toy"), "notes.h5")


def test_of_two_layouts_the_one_in_the_cards_own_folder_is_read(tmp_path):
    "The first layout of the card fits the neighbour only, the second one the card's own folder."
    write_pairs(tmp_path, 4)
    write_pairs(tmp_path / "toy_h5", 6)
    first = ANYWHERE.replace("images/*.{png,tif,bmp,gif,jpg}", "images/*_0[45].png")
    first = ANYWHERE.replace("**/images/*.", "**/toy/images/*.").replace("{png,tif,bmp,gif,jpg}", "png")
    card = make_card(tmp_path, CARD + CLASSES + first + 'layout = "first"\n' + PAIRS + BY_SUBJECT)
    found = find(card, tmp_path, "real")
    assert found.folder == tmp_path / "toy" and found.layout == "pairs" and len(found.items) == 4


def test_the_root_itself_is_told_and_other_cards_keep_their_folders(tmp_path):
    write_pairs(tmp_path / "root", 4)
    (tmp_path / "root/toy").rename(tmp_path / "root/chaos")
    write_pairs(tmp_path / "root", 6)
    (tmp_path / "root/toy").rename(tmp_path / "root/drive")  # the name of another card
    card = make_card(tmp_path, CARD + CLASSES + ANYWHERE + BY_SUBJECT)
    found = find(card, tmp_path / "root", "real")
    assert len(found.items) == 4 and all("/chaos/" in i.file for i in found.items)
    assert found.notes == ["No folder is named toy: the root itself was looked through, in chaos."]
    with pytest.raises(DataError):
        find(make_card(tmp_path, CARD + CLASSES + ANYWHERE + BY_SUBJECT + PHANTOM), tmp_path / "root")


def test_links_of_other_datasets_in_the_root_do_not_matter(tmp_path):
    write_pairs(tmp_path / "root", 4)
    (tmp_path / "root/toy").rename(tmp_path / "root/chaos")
    (tmp_path / "drive of somebody").mkdir()
    (tmp_path / "root/busi").symlink_to(tmp_path / "drive of somebody")
    card = make_card(tmp_path, CARD + CLASSES + ANYWHERE + BY_SUBJECT)
    assert len(find(card, tmp_path / "root", "real").items) == 4
    assert pack(card, tmp_path / "root", tmp_path / "out", 16, "real").is_dir()


def test_files_one_folder_deeper_are_found_and_told(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "toy").rename(tmp_path / "inner")
    (tmp_path / "toy").mkdir()
    (tmp_path / "inner").rename(tmp_path / "toy/Toy-1.0")
    (tmp_path / "toy/README").touch()
    found = find(make_card(tmp_path), tmp_path)
    assert len(found.items) == 4 and found.notes == [
        f"The files lie one folder deeper: {tmp_path}/toy/Toy-1.0."
    ]


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a/../../b"])
def test_a_card_cannot_point_out_of_the_root(tmp_path, folder):
    write_pairs(tmp_path, 2)
    with pytest.raises(CardError) as error:
        make_card(tmp_path, CARD + CLASSES + PAIRS + f'folder = "{folder}"\n' + BY_SUBJECT)
    told(error, "read.folder", folder, "none lies outside")


def test_an_archive_beside_the_folders_is_named(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/Toy.zip").touch()
    with pytest.raises(DataError) as error:
        find(make_card(tmp_path), tmp_path / "root", "real")
    told(error, "not there", "Unpack Toy.zip into toy/")


# ---------------------------------------------------------------- roots


def test_roots_that_are_none(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "data").mkdir()
    for root, words in (
        (tmp_path / "no/such", "does not exist"),
        (tmp_path / "file", "is a file"),
        (f"{tmp_path}/data ", "Without its spaces"),
        ("~nobody-of-this-name/data", "does not exist"),
        ("x" * 5000, "cannot be listed"),
        ("a\0b", "does not exist"),
    ):
        with pytest.raises(DataError) as error:
            check_root(root)
        told(error, words, "root")


@pytest.mark.parametrize("source", ["auto", "real", "mixed"])
def test_a_root_that_does_not_exist_is_never_answered_by_phantoms(tmp_path, monkeypatch, source):
    gone = tmp_path / "gone"
    for call in (find, read, resolve_and_check, packed):
        with pytest.raises(DataError) as error:
            list(call("drive", gone, source) or ())
        told(error, str(gone), "does not exist")
    monkeypatch.setenv("TACO_DATA", str(gone))
    with pytest.raises(DataError) as error:
        find("drive", None, source)
    told(error, str(gone), "does not exist")
    assert find("drive", None, "phantom").source == "phantom"


def resolve_and_check(name, root, source):
    check(name, root, source)


def packed(name, root, source):
    pack(name, root, Path(root).parent / "out", 16, source)


def test_an_empty_root_is_no_reason_for_phantoms(tmp_path):
    (tmp_path / "root").mkdir()
    for source in ("auto", "real"):
        with pytest.raises(DataError) as error:
            find("drive", tmp_path / "root", source)
        told(error, "not there", "an empty folder", "zenodo")
    assert find("drive", tmp_path / "root", "mixed").source == "phantom"
    assert find("drive").source == "phantom"  # nobody named a root
    assert find("skimage_cell", tmp_path / "root").source == "packaged"


def test_a_root_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pairs(tmp_path / "mine", 4)
    card = make_card(tmp_path)
    assert len(find(card, "~/mine").items) == 4
    monkeypatch.setenv("TACO_DATA", "~/mine")
    assert data_folder() == tmp_path / "mine" and len(find(card).items) == 4
    assert state_of(card)["state"] == "downloaded"


def test_a_root_that_may_not_be_read(tmp_path, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if str(path) == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError) as error:
        find("drive", tmp_path)
    told(error, "cannot be listed", "Permission denied")


def test_a_card_beside_its_files(tmp_path, monkeypatch):
    "Files right beside card.toml are the ones to pack, though the card has a phantom."
    write_pairs(tmp_path, 4)
    (tmp_path / "toy/card.toml").write_text(CARD + CLASSES + PAIRS + BY_SUBJECT + PHANTOM)
    for what in (tmp_path / "toy/card.toml", tmp_path / "toy"):
        named = resolve(what)
        assert named.source == "real" and len(find(named.card, named.root, "real").items) == 4
    monkeypatch.chdir(tmp_path / "toy")
    assert len(find(resolve("card.toml").card, resolve("card.toml").root, "real").items) == 4
    (tmp_path / "lonely").mkdir()
    (tmp_path / "lonely/toy.toml").write_text(CARD + CLASSES + PAIRS + BY_SUBJECT + PHANTOM)
    named = resolve(tmp_path / "lonely/toy.toml")  # nobody named a root: the phantom, which is said in bold
    assert find(named.card, named.root, named.source or "auto").source == "phantom"


# ---------------------------------------------------------------- at the command line


def run(*words, code: int) -> str:
    result = CliRunner().invoke(data_app, [str(w) for w in words])
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_commands_refuse_a_root_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("pack", "check", "show"):
        text = run(command, "drive", "--root", "no/such", code=2)
        assert "does not exist" in text and "no/such" in text
    assert not list(tmp_path.iterdir())
    text = run("pack", "drive", "--size", 16, "--subjects", 2, "--workers", 1, code=0)
    assert "phantom (drawn by a program, no real images)" in text
    (tmp_path / "root/x").mkdir(parents=True)
    text = run("pack", "drive", "--root", "root", "--size", 16, "--subjects", 2, "--workers", 1, code=2)
    assert "mixed" in text
    run("pack", "drive", "--root", "root", "--source", "mixed", "--size", 16, "--subjects", 2, "--workers", 1, code=0)


def test_names_too_long_for_the_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x" * 300, "x" * 300 + ".toml", "x" * 5000):
        for command in ("check", "pack", "show", "fetch"):
            run(command, name, code=2)


def test_named_folder_prefers_the_exact_name(tmp_path):
    for name in ("a", "A", "b"):
        (tmp_path / name).mkdir()
    assert named_folder(tmp_path, "a") == tmp_path / "a" and named_folder(tmp_path, "c") is None
    assert named_folder(tmp_path, "B") == tmp_path / "b"


# ---------------------------------------------------------------- the same photograph twice


def test_equal_files_are_packed_into_one_part_and_a_given_split_is_refused(tmp_path):
    write_pairs(tmp_path, 12, 1)
    for number in range(1, 12):  # the first photograph under twelve names, two of them links
        for kind in ("images", "masks"):
            first, again = (tmp_path / f"toy/{kind}/p{n:02d}_{n:02d}.png" for n in (0, number))
            again.unlink()
            if number == 1:
                again.symlink_to(first.name)
            elif number == 2:
                os.link(first, again)
            else:
                again.write_bytes(first.read_bytes())
    card = make_card(tmp_path)
    assert len(set(assign_splits(card, find(card, tmp_path).items, "real").values())) == 3
    assert [r.split for r in read(card, tmp_path)] == 12 * ["train"]
    table = Part(pack(card, tmp_path, tmp_path / "out", 16)).lines()
    assert set(table.split) == {"train"} and len(table) == 12
    assert set(check(card, tmp_path).records) == {"train"}
    fixed = 'fixed = {train = ["p0[0-5]*"], test = ["*"]}'
    text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace('rule = "subject"', f'rule = "fixed"\n{fixed}')
    with pytest.raises(DataError) as error:
        pack(make_card(tmp_path, text), tmp_path, tmp_path / "out2", 16)
    told(error, "One photograph lies in two parts", "split", 'rule = "subject"')
    with pytest.raises(DataError) as again:
        next(read(make_card(tmp_path, text), tmp_path))
    assert str(again.value) == str(error.value)
    assert str(error.value).splitlines()[0] in check(make_card(tmp_path, text), tmp_path).faults[0]


def test_empty_frames_are_no_photographs(tmp_path):
    write_pairs(tmp_path, 6, 1)
    for path in (tmp_path / "toy/images").iterdir():
        Image.fromarray(np.full((40, 48), 9, np.uint8)).save(path)
    table = Part(pack(make_card(tmp_path), tmp_path, tmp_path / "out", 16)).lines()
    assert {"train", "test"} <= set(table.split)
