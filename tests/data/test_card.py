"Cards: what they must say, and what is said about one that does not."

from pathlib import Path

import pytest

from taco.base import CardError, ParameterError
from taco.data.card import data_folder, digest, list_cards, load_card, parse_card
from taco.data.find import check_readers
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, make_card, told


def test_every_shipped_card_loads_and_can_be_read_from_something():
    from taco.data.phantoms.catalogue import PHANTOMS

    names = list_cards()
    assert len(names) >= 25
    for name in names:
        card = load_card(name)
        check_readers(card)
        assert card.phantom.get("recipe") in PHANTOMS or any(
            t["reader"] == "packaged" for t in card.read
        ), name
        assert all(len(f.get("md5", "0" * 32)) == 32 for f in card.files), name
        if card.phantom:  # the stand-in has no class that the real one lacks
            assert set(PHANTOMS[card.phantom["recipe"]].classes) <= set(card.classes), name


@pytest.mark.parametrize(
    "change, field, hint",
    [
        (("title = ", "titel = "), "titel", "title"),
        (
            ('"fluorescence microscopy"', '"flourescence microscopy"'),
            "modality",
            "fluorescence microscopy",
        ),
        (("channels = 1", "channels = 2"), "channels", "1 or 3"),
        (("channels = 1", 'channels = "one"'), "channels", "int"),
        (('1 = "disc"', 'disc = "disc"'), "classes", "1 … 255"),
        (('"images/*.{png,tif,bmp,gif,jpg}"', '"re:images/(.png"'), "read.images", "unterminated"),
        (('rule = "subject"', 'rule = "subjects"'), "split.rule", "subject"),
        (('rule = "subject"', 'rule = "fixed"'), "split.fixed", "train, val, test"),
        (
            ('rule = "subject"', 'rule = "subject"\nfractions = {train = 0.9, test = 0.2}'),
            "split.fractions",
            "1",
        ),
        (('title = "Toy"', 'title = "Toy'), "TOML", "line"),
        (('licence = "none"\n', ""), "licence", "Add it"),
    ],
)
def test_a_bad_card_names_itself_and_the_field(tmp_path, change, field, hint):
    text = (CARD + CLASSES + PAIRS + BY_SUBJECT).replace(*change)
    with pytest.raises(CardError) as error:
        make_card(tmp_path, text)
    told(error, "toy.toml", field, hint)


def test_a_card_of_ones_own_is_found_by_name(tmp_path, monkeypatch):
    make_card(tmp_path)
    monkeypatch.setenv("TACO_CARDS", str(tmp_path))
    assert load_card("toy").title == "Toy" and "toy" in list_cards()


def test_digest_changes_with_content_only(tmp_path):
    text = CARD + CLASSES + PAIRS + BY_SUBJECT
    card = parse_card(text, "a.toml")
    assert digest(card) == digest(parse_card("# a remark\n" + text, "b.toml"))
    assert digest(card) != digest(parse_card(text.replace("255 = 1", "128 = 1"), "a.toml"))


def test_cards_of_a_study_are_found_and_a_misspelt_one_is_refused(tmp_path, monkeypatch):
    assert len(list_cards("medsegbench")) == 35 and "acdc" not in list_cards("medsegbench")
    with pytest.raises(CardError) as error:
        list_cards("medsegbank")
    told(error, "study", "medsegbench")
    make_card(tmp_path, 'study = "mine"\n' + CARD + CLASSES + PAIRS + BY_SUBJECT)
    monkeypatch.setenv("TACO_CARDS", str(tmp_path))
    assert list_cards("mine") == ["toy"]


def test_the_data_folder_is_given_or_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("TACO_DATA", raising=False)
    assert data_folder() is None and data_folder("here") == Path("here")
    with pytest.raises(ParameterError, match="TACO_DATA"):
        data_folder(required=True)
    monkeypatch.setenv("TACO_DATA", str(tmp_path / "mine"))
    assert (
        data_folder() == data_folder(required=True) == tmp_path / "mine"
        and not (tmp_path / "mine").exists()
    )
    assert data_folder(tmp_path) == tmp_path
