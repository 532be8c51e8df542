"Finding: which source, which items, which split, and what is said when there is nothing to read."

import errno
import os

import pytest

from taco.base import CardError, DataError, TacoError
from taco.data.card import FRACTIONS, SPLITS, list_cards, load_card
from taco.data.find import assign_splits, divide, find, read
from tests.data.made import BY_SUBJECT, CARD, CLASSES, GIVEN, PAIRS, make_card, told, write_pairs


@pytest.mark.parametrize(
    "change, field",
    [
        (('reader = "pairs"', 'reader = "pears"'), "read.reader"),
        (("values = ", "value = "), "read.value"),
    ],
)
def test_an_unknown_reader_or_option_suggests_the_right_one(tmp_path, change, field):
    with pytest.raises(CardError) as error:
        find(make_card(tmp_path, (CARD + CLASSES + PAIRS + BY_SUBJECT).replace(*change)), tmp_path)
    told(error, "toy.toml", field, "Did you mean")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(CardError, match="chasedb1"):
        load_card("chase_db1")
    with pytest.raises(DataError, match="phantom"):
        find("drive", source="fantom")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 57])
def test_divide_gives_every_subject_one_part_and_both_ends_something(count):
    parts = divide([f"s{i}" for i in range(count)], FRACTIONS)
    sizes = [list(parts.values()).count(s) for s in SPLITS]
    assert sum(sizes) == count and (count == 1 or (sizes[0] > 0 and sizes[2] > 0))
    assert parts == divide([f"s{i}" for i in reversed(range(count))], FRACTIONS)


def test_another_seed_divides_otherwise():
    names = [f"s{i}" for i in range(40)]
    assert divide(names, seed=0) != divide(names, seed=1)


def test_records_of_a_subject_stay_together(tmp_path):
    write_pairs(tmp_path, 24, 3)
    card = make_card(
        tmp_path,
        (CARD + CLASSES + PAIRS + BY_SUBJECT).replace("[split]", "").replace('rule = "subject"', "")
        + "subject = 're:(p\\d+)_'\n"
        + BY_SUBJECT,
    )
    seen: dict[str, set] = {}
    for record in read(card, tmp_path):
        seen.setdefault(record.subject, set()).add(record.split)
    assert (
        len(seen) == 8
        and all(len(s) == 1 for s in seen.values())
        and {"train", "test"} <= set.union(*seen.values())
    )


def test_a_subject_in_two_given_splits_is_refused(tmp_path):
    write_pairs(tmp_path, 4, 1)
    folder = tmp_path / "toy"
    for kind in ("images", "masks"):
        for split in ("train", "test"):
            (folder / kind / split).mkdir()
        for path in sorted((folder / kind).glob("*.png")):
            path.rename(folder / kind / ("train" if path.name < "p02" else "test") / path.name)
        (folder / kind / "test" / "p02_02.png").rename(folder / kind / "test" / "p01_02.png")
    text = (
        CARD
        + CLASSES
        + PAIRS.replace("images/*", "images/*/*").replace("masks/*", "masks/*/*")
        + "subject = 're:/(p\\d+)_'\nsplit = 're:/(train|test)/'\n"
        + GIVEN
    )
    with pytest.raises(DataError) as error:
        list(read(make_card(tmp_path, text), tmp_path))
    told(error, "p01", "subject", "train", "test")


def test_fixed_split_by_names(tmp_path):
    write_pairs(tmp_path, 6, 1)
    text = (
        CARD
        + CLASSES
        + PAIRS
        + '\n[split]\nrule = "fixed"\nfixed = {train = ["p0[0-3]*"], test = ["p04*"]}\n'
    )
    card = make_card(tmp_path, text)
    with pytest.raises(CardError) as error:
        list(read(card, tmp_path))
    told(error, "toy.toml", "split.fixed", "p05")
    card = make_card(tmp_path, text.replace('"p04*"', '"p0[45]*"'))
    assert sorted(r.split for r in read(card, tmp_path)) == ["test"] * 2 + ["train"] * 4


def test_a_folder_that_fits_no_pattern_is_an_error_and_no_phantom(tmp_path):
    text = CARD + CLASSES + PAIRS + BY_SUBJECT + '\n[phantom]\nrecipe = "drive"\nsubjects = 2\n'
    card = make_card(tmp_path, text)
    assert find(card).source == "phantom"
    assert find(card, tmp_path, "phantom").source == find(card, tmp_path, "mixed").source == "phantom"
    with pytest.raises(DataError) as error:
        find(card, tmp_path)  # a root was named, and the dataset is not there
    told(error, str(tmp_path), "not there", "ask for phantoms")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError) as error:
        find(card, tmp_path)
    told(error, str(tmp_path / "toy"), "read", "readme.txt", "images/*")


def test_a_given_split_that_nothing_tells_is_refused(tmp_path):
    write_pairs(tmp_path, 12)
    text = CARD + CLASSES + PAIRS
    for source in ("real", "auto", "mixed"):
        with pytest.raises(CardError) as error:
            find(make_card(tmp_path, text + GIVEN), tmp_path, source)
        told(error, "toy.toml", "split.rule", "no split in pairs", "split = ", 'rule = "subject"')
    card = make_card(tmp_path, text + BY_SUBJECT)  # what it advises
    assert {r.split for r in read(card, tmp_path)} == {"train", "val", "test"}
    told_by_name = "split = 're:/(p0[0-3])_'\n"
    told_by_name += 'splits = {p00 = "train", p01 = "train", p02 = "val", p03 = "test"}\n'
    with pytest.raises(CardError) as error:  # p04 and p05 are in no part, and the pattern was to find it
        find(make_card(tmp_path, text + told_by_name + GIVEN), tmp_path)
    told(error, "toy.toml", "read.split", "p04")


def test_files_without_a_part_are_divided_beside_those_that_have_one(tmp_path):
    write_pairs(tmp_path, 20)
    of = "\n[[read]]\nreader = \"pairs\"\nvalues = {{0 = 0, 255 = 1}}\nsubject = 're:(p\\d+)_'\n"
    of += "images = 're:images/({0}_\\d+).png'\nmasks = 're:masks/({0}_\\d+).png'\n"
    told_of = "split = 're:/p0(\\d)_'\nsplits = {0 = \"test\", 1 = \"test\", 2 = \"val\"}\n"
    card = make_card(tmp_path, CARD + CLASSES + of.format("p0[0-2]") + told_of + of.format("p0[3-9]") + GIVEN)
    parts = {r.subject: r.split for r in read(card, tmp_path)}
    assert [parts.pop(f"p0{n}") for n in range(3)] == ["test", "test", "val"]
    assert parts == divide(list(parts)) and set(parts.values()) >= {"train", "test"}


def test_real_files_that_nobody_placed_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("TACO_DATA", raising=False)
    card = make_card(tmp_path)
    for source in ("real", "auto"):
        with pytest.raises(TacoError) as error:
            find(card, None, source)
        told(error, "--root", "TACO_DATA", card.homepage)


def test_absent_files_tell_where_they_come_from(tmp_path):
    with pytest.raises(DataError) as error:
        find("drive", tmp_path, "real")
    told(error, str(tmp_path), "drive", "zenodo.org")
    with pytest.raises(DataError) as error:
        find("acdc", tmp_path, "real")
    told(error, "Register")
    with pytest.raises(DataError):
        find("drive", tmp_path, "packaged")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    write_pairs(tmp_path, 2)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("masks"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # chmod would not stop an administrator
    with pytest.raises(DataError) as error:
        find(make_card(tmp_path), tmp_path)
    told(error, str(tmp_path / "toy" / "masks"), "Permission denied")


def test_packaged_images_are_one_subject_in_one_split():
    seen = {}
    for name in list_cards():
        card = load_card(name)
        if (
            any(t["reader"] == "packaged" for t in card.read) and name != "nilearn_mni152"
        ):  # that one is read in its chapter
            found = find(card)
            assert found.source == "packaged"
            splits = assign_splits(card, found.items, "packaged")
            assert len(splits) == 1
            seen[name] = set(splits.values()).pop()
    assert set(seen.values()) == {"train", "test"}


def test_a_subject_that_the_fixed_split_names_twice(tmp_path):
    write_pairs(tmp_path, 4, 1)
    fixed = 'fixed = {train = ["p0[0-2]*"], test = ["p02*", "p03*"]}\n'
    text = CARD + CLASSES + PAIRS + '\n[split]\nrule = "fixed"\n' + fixed
    with pytest.raises(CardError) as error:
        list(read(make_card(tmp_path, text), tmp_path))
    told(error, "toy.toml", "split.fixed", "p02", "train, test", "Narrow")
    for fixed in ('{train = ["p0[01]*"], test = ["p02*", "p03*"]}', '{train = ["*"], test = ["p0[23]*"]}'):
        card = make_card(tmp_path, text.split("fixed = {")[0] + "fixed = " + fixed + "\n")
        assert {r.subject[:3]: r.split for r in read(card, tmp_path)} == dict(
            p00="train", p01="train", p02="test", p03="test")
