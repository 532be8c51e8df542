"Patterns, identities and listings of files."

import os
import re
import unicodedata

import pytest

from taco.base import CardError, DataError
from taco.data.readers.files import (
    AWAY,
    COMPLETE,
    LOOP,
    compile_pattern,
    few,
    first_identity,
    identities,
    identity,
    lenient,
    list_files,
    look,
    matches,
    one_form,
    printable,
    text_of,
    tidy,
)


@pytest.mark.parametrize(
    "pattern, path, expected",
    [
        ("images/*.{png,jpg}", "images/007.jpg", "007"),
        ("images/*.png", "images/a/007.png", None),
        ("**/*.png", "a/b/c.png", "a/b//c"),
        ("**/*.png", "c.png", "c"),
        ("scan?_*.nii.gz", "scan3_x.nii.gz", "3/x"),
        ("fixed.csv", "fixed.csv", "fixed.csv"),
        (r"re:(?P<id>p\d+)_(\w+)\.png", "p12_left.png", "p12"),
        (r"re:(p\d+)_(\w+)\.png", "p12_left.png", "p12/left"),
    ],
)
def test_what_a_pattern_says_of_a_path(pattern, path, expected):
    match = compile_pattern(pattern).fullmatch(path)
    assert (identity(match) if match else None) == expected


def test_special_characters_in_a_glob_are_themselves():
    assert list(matches(["a+b (1).png", "aab (1).png"], "a+b (*).png")) == ["a+b (1).png"]


def test_the_first_group_is_the_image_and_the_rest_the_part():
    assert first_identity(compile_pattern("*/masks/*.png").fullmatch("a7/masks/3.png")) == "a7"
    assert first_identity(re.fullmatch(r"(x)?(y)", "y")) == "y"
    assert first_identity(re.fullmatch(r"(x)?(?P<id>y)", "xy")) == "y"


def test_two_files_of_one_identity_are_refused():
    with pytest.raises(CardError) as error:
        identities(["a/1.png", "b/1.png"], r"re:\w/(\d)\.png", "read.masks", "toy.toml")
    for part in ("toy.toml", "read.masks", "a/1.png and b/1.png: '1'"):
        assert part in str(error.value)


def test_hidden_files_are_left_out_and_the_rest_is_sorted(tmp_path):
    for name in ("b/1.png", "a.png", ".hidden.png", ".git/x.png", "__MACOSX/a.png", "b/.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_files(tmp_path) == ["a.png", "b/1.png"]
    with pytest.raises(DataError, match="cannot be listed"):
        list_files(tmp_path / "absent")


def test_names_for_tables_and_messages():
    assert tidy("/P1_left_") == "P1_left" and tidy("_") == "_"
    assert few([1, 2]) == "1, 2" and few([]) == ""
    assert few(range(13)).endswith("11 … (13 values)")


# ---------------------------------------------------------------- names, endings and links


def test_one_form_of_every_name():
    composed, apart = "Müller/é.png", unicodedata.normalize("NFD", "Müller/é.png")
    assert text_of(apart) == text_of("Müller\\é.png") == composed
    assert text_of(os.fsdecode(b"M\xfc.png")) == "M\\xfc.png" and text_of("a\nb\x07") == "a\\nb\\x07"
    assert printable("C:\\x") == "C:\\x" and text_of("plain/a b.png") == "plain/a b.png"
    assert one_form(one_form(os.fsdecode(b"M\xfc"))) == "M\\xfc"


def test_identities_do_not_depend_on_the_form_of_a_name():
    apart = unicodedata.normalize("NFD", "ü.png")
    assert identities(["img/ü.png"], "img/*.png", "x") == {"ü": "img/ü.png"}
    assert identities(["img/" + apart], "img/*.png", "x") == {"ü": "img/" + apart}  # the path stays what it is
    assert identities([apart], r"re:(ü)\.png", "x") == {"ü": apart}
    assert identities(["ü.png"], unicodedata.normalize("NFD", "re:(ü)") + r"\.png", "x") == {"ü": "ü.png"}
    with pytest.raises(CardError):
        identities(["ü.png", apart], "*.png", "x")


@pytest.mark.parametrize(
    "pattern, fits, fits_not",
    [
        ("*.png", ["a.png", "b.PNG", "c.Png"], ["d.jpg", "e.PNGX", "F"]),
        ("*.{jpg,tif}", ["a.JPG", "b.Tif"], ["c.TIFF"]),
        ("*.nii.gz", ["a.NII.GZ", "b.nii.GZ"], ["c.NII"]),
        (r"re:(\w+)\.nii(?:\.gz)?", ["a.NII.GZ", "b.Nii"], ["c.NIIX"]),
        ("*.PNG", ["a.png", "b.PNG"], ["c.jpg"]),
        ("*.NII.GZ", ["a.nii.gz", "b.NII.GZ"], []),
        ("Scan_*.DCM", ["Scan_1.dcm"], ["scan_1.dcm"]),
    ],
)
def test_endings_in_any_case(pattern, fits, fits_not):
    assert list(matches(fits + fits_not, pattern)) == fits


def test_a_pattern_that_tells_images_from_masks_by_capitals_still_does():
    files = ["a.PNG", "a.png", "b.PNG", "b.png"]
    assert list(matches(files, "*.PNG")) == ["a.PNG", "b.PNG"] and list(matches(files, "*.png")) == ["a.png", "b.png"]


def test_lists_are_whole_on_demand():
    token = COMPLETE.set(True)
    try:
        assert few(range(40)).endswith("38, 39")
    finally:
        COMPLETE.reset(token)
    assert few(range(40)).endswith("(40 values)")


def test_a_folder_under_two_names_is_listed_twice_and_matched_once(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/1.png", "a/b/2.png"):
        (tmp_path / name).touch()
    (tmp_path / "z").symlink_to("a")
    (tmp_path / "a/up").symlink_to("..")
    files, left = look(tmp_path)
    assert files == ["a/1.png", "a/b/2.png", "z/1.png", "z/b/2.png"]
    assert set(left) == {"a/up", "z/up"} and set(left.values()) == {LOOP}
    assert list(matches(files, "**/*.png")) == ["a/1.png", "a/b/2.png"]
    assert list(matches(files, "z/**/*.png")) == ["z/1.png", "z/b/2.png"]


def test_many_links_among_folders_end_soon(tmp_path):
    for n in range(12):
        (tmp_path / f"f{n}").mkdir()
        (tmp_path / f"f{n}/x.png").touch()
    for n in range(12):
        for m in range(12):
            (tmp_path / f"f{n}/to{m}").symlink_to(f"../f{m}")
    files = list_files(tmp_path)
    assert len(files) == 12 + 12 * 11 and len(matches(files, "**/x.png")) == 12


def test_links_out_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TACO_LINKS", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far/1.png").touch()
    (home / "one.png").symlink_to("../far/1.png")
    files = list_files(home)
    assert files == ["one.png"] and matches(files, "*.tif") == {}  # a stray link is nobody's business
    with pytest.raises(DataError, match="TACO_LINKS=allow"):
        matches(files, "*.png")
    (home / "sub").symlink_to(tmp_path / "far")
    with pytest.raises(DataError, match="leads out of the folder"):
        list_files(home)
    with lenient():
        assert look(home)[1] == {"sub": AWAY}
    monkeypatch.setenv("TACO_LINKS", "allow")
    assert list(matches(list_files(home), "**/*.png")) == ["one.png", "sub/1.png"]
    (tmp_path / "name").symlink_to(home)
    assert list_files(tmp_path / "name") == list_files(home)


@pytest.mark.parametrize("names, pattern, fix", [
    (["a/x.hdr", "a/x.img"], "*/*.{hdr,img}", 'exclude = "**/*.hdr"'),
    (["x_i.png", "y/x_i.png"], r"re:(?:.*/)?(?P<id>[^/]*)\.png", "Capture more of the path"),
    (["\u00fc.png", "u\u0308.png"], "*.png", "two Unicode forms"),
])
def test_two_files_of_one_identity_are_told_how_to_part(names, pattern, fix):
    with pytest.raises(CardError, match="same identity") as error:
        identities(names, pattern, "read.images")
    assert fix in error.value.fix
    if "exclude" in fix:  # followed
        left = [n for n in names if n not in matches(names, fix.split('"')[1])]
        assert list(identities(left, pattern, "read.images").values()) == ["a/x.img"]
