"Patterns, identities and listings of files."

import re

import pytest

from taco.base import CardError, DataError
from taco.data.readers.files import (
    compile_pattern,
    few,
    first_identity,
    identities,
    identity,
    list_files,
    matches,
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
