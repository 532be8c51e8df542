"Cards: what they must say, and what is said about one that does not."

from pathlib import Path

import pytest

from taco.base import CardError, ParameterError
from taco.data.card import cards_table, data_folder, digest, list_cards, load_card, parse_card
from taco.data.find import check_readers
from tests.data.made import BY_SUBJECT, CARD, CLASSES, PAIRS, make_card, told

REAL_ONLY = {"hc18", "la2018", "lgg_flair", "msd_hippocampus"}  # no recipe draws these alone


def test_every_shipped_card_loads_and_can_be_read_from_something():
    from taco.data.phantoms.catalogue import PHANTOMS

    names = list_cards()
    assert len(names) >= 25
    for name in names:
        card = load_card(name)
        check_readers(card)
        if name in REAL_ONLY:
            assert not card.phantom and card.access and "no phantom" in card.note, name
            continue
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
        (('licence = "none"', 'licence = "none"\norigin = "the ISIC archive"'), "origin", "letters"),
        (('licence = "none"', 'licence = "none"\norigin = ""'), "origin", "letters"),
        (('licence = "none"', 'licence = "none"\norigin = 7'), "origin", "str"),
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


def test_a_file_of_aliases_beside_cards_is_none(tmp_path, monkeypatch):
    make_card(tmp_path)
    (tmp_path / "folders.toml").write_text('chase_db1 = "chasedb1"\n')
    monkeypatch.setenv("TACO_CARDS", str(tmp_path))
    names = list_cards()
    assert "toy" in names and "drive" in names and "folders" not in names
    assert set(cards_table().index) == set(names)


def test_an_unknown_name_is_told_where_cards_may_lie():
    with pytest.raises(CardError) as error:
        load_card("hc81")
    told(error, "hc81", "TACO_CARDS", "path")


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


@pytest.mark.parametrize(
    "names",
    [
        ("isic2016", "isic2018"),
        ("covidquex", "covid19radio", "covid_cxr_seg"),
        ("acdc", "acdc_h5"),
        ("hc18", "hc18_fetal_us"),
        ("msd_hippocampus", "msd_hippocampus_more"),
    ],
)
def test_cards_of_one_source_say_one_origin_and_others_another(names, monkeypatch):
    monkeypatch.setenv("TACO_CARDS", str(Path(__file__).parents[1] / "cards"))
    origins = {n: load_card(n).origin for n in list_cards()}
    (origin,) = {origins[n] for n in names}
    assert {n for n, o in origins.items() if o == origin} == set(names)


def test_a_card_that_says_no_origin_is_one_of_its_own(tmp_path):
    card = make_card(tmp_path)
    assert card.origin == card.name == "toy"


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


BASE = CARD + '\n[classes]\n1 = "disc"\n2 = "cup"\n' + PAIRS + BY_SUBJECT
VALUES = "values = {0 = 0, 255 = 1}"


@pytest.mark.parametrize(
    "line, field, found",
    [
        ("values = {0 = 0, 2 = 7}", "read.values", "2 = 7"),
        ("values = {0 = 0, 2 = 300}", "read.values", "2 = 300"),
        ('values = {0 = 0, 2 = "b"}', "read.values", "'b'"),
        ('values = {0 = 0, "1-3" = 1}', "read.values", "1-3"),
        ("values = {1 = 1, 01 = 2}", "read.values", "1 and 01"),
        ("values = {0.5 = 1}", "read.values", "{5 = 1}"),
        ("values = {1 = true}", "read.values", "true"),
        ('values = "nonzeros"', "read.values", "nonzeros"),
        ("values = {}", "read.values", "{}"),
        ('threshold = "127"', "read.threshold", "'127'"),
        ("threshold = true", "read.threshold", "true"),
        ("threshold = nan", "read.threshold", "nan"),
        ("tolerance = -1", "read.tolerance", "-1"),
        ('colours = {"ff0000" = 1}', "read.colours", "ff0000"),
        ('colours = {"#ff00" = 1}', "read.colours", "#ff00"),
        ('colours = {"#ff0000" = 3}', "read.colours", "#ff0000 = 3"),
        ('colours = {"#ff0000" = 1, "#FF0000" = 2}', "read.colours", "#FF0000"),
        ("spacing = [0, 1]", "read.spacing", "[0, 1]"),
        ("spacing = [-0.5, 0.5]", "read.spacing", "[-0.5, 0.5]"),
        ("spacing = 0.5", "read.spacing", "0.5"),
        ("spacing = [1, 1, 2]", "read.spacing", "[1, 1, 2]"),
        ("spacing = [inf, 1]", "read.spacing", "inf"),
        ("window = [240, -160]", "read.window", "[240, -160]"),
        ("window = [100, 100]", "read.window", "[100, 100]"),
        ("window = 100", "read.window", "100"),
        ("percentiles = [99, 1]", "read.percentiles", "[99, 1]"),
        ("percentiles = [-1, 50]", "read.percentiles", "[-1, 50]"),
        ("percentiles = [1, 101]", "read.percentiles", "[1, 101]"),
        ("window = [0, 1]\npercentiles = [1, 99]", "read.percentiles", "window and percentiles"),
        ('threshold = 1\nvalues = "nonzero"', "read.threshold", "values and threshold"),
        ("threshold = 1\ntolerance = 1", "read.tolerance", "threshold and tolerance"),
        ('splits = {a = "train"}', "read.splits", "train"),
        ('split = "(a)"\nsplits = {a = "training"}', "read.splits", "training"),
        ("axis = 1", "read.axis", "1"),
        ("tresh = 1", "read.tresh", "1"),
        ("objects = 1", "read.objects", "1"),
        ('modality = "CTT"', "read.modality", "CTT"),
        ('folder = "../secret"', "read.folder", "../secret"),
        ('folder = "/etc"', "read.folder", "/etc"),
        ('exclude = "a\\\\b.png"', "read.exclude", "a\\b"),
        ('subject = "*_x"', "read.subject", "*_x"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_when_the_card_is_loaded(
    tmp_path, line, field, found
):
    with pytest.raises(CardError) as error:
        make_card(tmp_path, BASE.replace(VALUES, line))
    message = told(error, "toy.toml", field, found)
    assert error.value.expected and error.value.fix, message


def test_options_that_are_right_are_taken_as_they_are(tmp_path):
    for line in (
        "values = {0 = 0, 255 = 2}",
        'values = "nonzero"',
        "threshold = 12.5",
        "window = [-160, 240]",
    ):
        make_card(tmp_path, BASE.replace(VALUES, line))
    card = make_card(
        tmp_path, BASE.replace(VALUES, "percentiles = [0, 100]\ntolerance = 0\nspacing = [1, 0.5]")
    )
    assert card.read[0]["spacing"] == [1, 0.5]


def test_the_fix_of_a_refused_value_works(tmp_path):
    "Name the class, or use one that is there: both are followed."
    with pytest.raises(CardError, match=r"Name 7 under \[classes\]"):
        make_card(tmp_path, BASE.replace(VALUES, "values = {0 = 0, 2 = 7}"))
    text = BASE.replace(VALUES, "values = {0 = 0, 2 = 7}").replace('2 = "cup"', '7 = "cup"')
    assert make_card(tmp_path, text).read[0]["values"] == {"0": 0, "2": 7}


@pytest.mark.parametrize(
    "change, field, hint",
    [
        (('2 = "cup"', '2 = "disc"'), "classes", "one name"),
        (('2 = "cup"', '01 = "cup"'), "classes", "01"),
        (('2 = "cup"', '"²" = "cup"'), "classes", "²"),
        (('2 = "cup"', "2 = 3"), "classes", "2 = 3"),
        (('2 = "cup"', '2 = ""'), "classes", "no name"),
        (('2 = "cup"', '256 = "cup"'), "classes", "256"),
        (
            ('rule = "subject"', 'rule = "subject"\nfractions = {train = "all"}'),
            "split.fractions",
            "all",
        ),
        (('rule = "subject"', 'rule = "subject"\nfractions = {}'), "split.fractions", "{}"),
        (('rule = "subject"', 'rule = "fixed"\nfixed = ["a"]'), "split.fixed", "'a'"),
        (('rule = "subject"', 'rule = "fixed"\nfixed = {test = "05"}'), "split.fixed.test", "05"),
        (('title = "Toy"', 'title = "Toy"\ncounts = {train = -1}'), "counts.train", "-1"),
        (('title = "Toy"', 'title = "Toy"\ncounts = {train = "many"}'), "counts.train", "many"),
        (("[split]", '[[files]]\nname = "../x"\nurl = "u"\n[split]'), "files.name", "../x"),
        (("[split]", "[[files]]\nname = 3\nurl = 4\n[split]"), "files", "name, url"),
        (
            ("[split]", '[phantom]\nrecipe = "drive"\nsubjects = true\n[split]'),
            "phantom.subjects",
            "true",
        ),
        (("[split]", '[phantom]\nrecipe = "drive"\noptions = 3\n[split]'), "phantom.options", "3"),
        (("channels = 1", "channels = 1.0"), "channels", "int"),
        (('title = "Toy"', "title = " + "[" * 5000), "TOML", "line named"),
        (('title = "Toy"', 'title = "Toy"\nnote = ' + "9" * 5000), "TOML", "line named"),
        (('title = "Toy"', 'title = "T\0y"'), "TOML", "line 2"),
    ],
)
def test_a_field_that_cannot_be_meant_is_refused(tmp_path, change, field, hint):
    with pytest.raises(CardError) as error:
        make_card(tmp_path, BASE.replace(*change))
    told(error, "toy.toml", field, hint)


def test_cards_of_other_editors(tmp_path):
    path, text = (
        tmp_path / "toy.toml",
        BASE.replace('title = "Toy"', 'title = "Müller, from $100 to $200"'),
    )
    for content in (
        text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
    ):
        path.write_bytes(content)
        assert load_card(path).title == "Müller, from $100 to $200" and load_card(path).classes == {
            1: "disc",
            2: "cup",
        }
    for content, found in (
        (text.encode("latin-1"), "byte 0xfc in line 2"),
        (text.encode("utf-16"), "UTF-16"),
    ):
        path.write_bytes(content)
        with pytest.raises(CardError) as error:
            load_card(path)
        told(error, "toy.toml", "UTF-8", found, "iconv")
    source = "LATIN1"
    path.write_bytes(text.encode("latin-1").decode(source).encode("utf-8"))  # what the fix says
    assert load_card(path).title.startswith("Müller")


def test_what_is_no_card_at_all(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    for name, what in (
        ("folder.toml", "a folder"),
        ("none.toml", "no such card"),
        ("a" * 300 + ".toml", "cannot be read"),
    ):
        with pytest.raises(CardError, match=what):
            load_card(tmp_path / name)
    for name in ("a" * 300, "no/such", "nul\0.toml", "", "nul\0"):
        with pytest.raises(CardError):
            load_card(name)


def test_two_folders_of_cards_may_not_hold_one_name(tmp_path, monkeypatch):
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        make_card(tmp_path / name)
    monkeypatch.setenv("TACO_CARDS", f"{tmp_path / 'mine'}:{tmp_path / 'yours'}")
    with pytest.raises(CardError) as error:
        load_card("toy")
    told(error, "mine", "yours", "TACO_CARDS")
    assert load_card(tmp_path / "mine/toy.toml").name == "toy"  # what the fix says
    monkeypatch.setenv("TACO_CARDS", f"{tmp_path / 'mine'}:{tmp_path / 'mine'}")
    assert load_card("toy").name == "toy"
    monkeypatch.setenv("TACO_CARDS", str(tmp_path / "absent"))
    with pytest.raises(CardError, match="does not exist"):
        load_card("drive")


def test_a_read_has_a_modality_of_its_card(tmp_path):
    text = CARD + CLASSES + PAIRS + 'modality = "MR"\n' + BY_SUBJECT
    with pytest.raises(CardError) as error:
        load_card(make_card(tmp_path, text))
    told(error, "read.modality", "MR", "fluorescence microscopy", "Add 'MR'")
    both = text.replace('"fluorescence microscopy"', '["fluorescence microscopy", "MR"]')
    assert load_card(make_card(tmp_path, both)).read[0]["modality"] == "MR"


@pytest.mark.parametrize("options, found", [
    ("values = {0 = 0, 255 = 1}\nignore = [7, 255]", "255"),
    ('colours = {"#000000" = 0, "#FF0000" = 1}\nignore = "#ff0000"', "#ff0000"),
])
def test_a_value_is_no_class_and_unknown_at_once(tmp_path, options, found):
    text = CARD + CLASSES + PAIRS.replace("values = {0 = 0, 255 = 1}", options) + BY_SUBJECT
    with pytest.raises(CardError) as error:
        load_card(make_card(tmp_path, text))
    told(error, "read.ignore", found, f"Take {found} from ignore")
    card = load_card(make_card(tmp_path, text.replace("255 = 1}", "1 = 1}").replace('"#FF0000" = 1', '"#FF0001" = 1')))
    assert card.read[0]["ignore"]  # the fix
