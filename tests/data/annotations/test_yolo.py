"What a YOLO row is, by the count of its numbers."

import numpy as np
import pytest

from taco.base import DataError
from taco.data.annotations.yolo import read_names, read_rows
from tests.data.made import told


def rows_of(tmp_path, text, *options):
    path = tmp_path / "a.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_rows(path, *options)


@pytest.mark.parametrize(
    "text, kind, box",
    [
        ("1 .5 .6 .2 .4", "boxes", [0.4, 0.4, 0.6, 0.8]),
        ("1 .5 .6 .2 .4 0.93", "boxes", [0.4, 0.4, 0.6, 0.8]),
        ("1.0 .5 .6 .2 .4 1e-3\r\n", "boxes", [0.4, 0.4, 0.6, 0.8]),
        ("\ufeff1 .4 .4 .6 .4 .6 .8 .4 .8", "polygons", [0.4, 0.4, 0.6, 0.8]),
        ("1 .5 .3 .7 .5 .5 .7 .3 .5", "polygons", [0.3, 0.3, 0.7, 0.7]),
        ("1 .1 .1 .2 .1 .2 .2", "polygons", [0.1, 0.1, 0.2, 0.2]),
        ("1 .1 .1 .2 .1 .2 .2 .1 .3 .05 .2", "polygons", [0.05, 0.1, 0.2, 0.3]),
    ],
)
def test_rows_are_told_apart_by_their_counts(tmp_path, text, kind, box):
    (row,) = rows_of(tmp_path, text)
    assert row.kind == kind and row.word == "1"
    np.testing.assert_allclose(row.box, box)


@pytest.mark.parametrize(
    "text",
    [
        "1 .5 .5 .4 .4 .6 .6",  # a triangle, or a box with a key point
        "1 .5 .5 .4 .4 .4 .4 .6 .6",
        "1 .5 .5 .4 .4 .4 .4 2 .6 .6 2",
        "1 .5 .5 .4 .4 .4 .4 1 .6 .6 1",
        "1 .5 .5 .4 .4 .6 .6 1",  # with confidence, or visible
        "1 .5 .5 .4 .4 .4 .4 1 .6 .6 1 .5 .5 1",
    ],
)
def test_rows_that_may_be_two_things_are_refused_until_the_card_says(tmp_path, text):
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, text)
    told(error, "more than one way", "line 1", 'rows = "polygons"')
    (row,) = rows_of(tmp_path, text, "polygons")
    assert row.kind == "polygons"


def test_key_points(tmp_path):
    text = "0 .5 .5 .4 .4 .4 .4 2 .6 .6 1 0 0 0\n"
    (row,) = rows_of(tmp_path, text, "keypoints3")
    np.testing.assert_allclose(row.box, [0.3, 0.3, 0.7, 0.7])
    np.testing.assert_allclose(row.points, [[0.4, 0.4], [0.6, 0.6]])
    (row,) = rows_of(tmp_path, "0 .5 .5 .4 .4 .4 .4 .6 .6\n", "keypoints2")
    np.testing.assert_allclose(row.points, [[0.4, 0.4], [0.6, 0.6]])
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, "0 .5 .5 .4 .4\n", "keypoints3")
    told(error, "not what the card says")
    with pytest.raises(DataError):
        rows_of(tmp_path, "0 .1 .1 .2 .1 .2 .2\n", "boxes")


@pytest.mark.parametrize(
    "text, parts",
    [
        ("0 40 22 20 20", ("outside", "pixels", "units")),
        ("0 10 10 60 10 60 60 10 60", ("outside", "pixels")),
        ("0 .5 .5 .2", ("too few", "line 1")),
        ("0 .5 .5 .2 0_1", ("not a number", "line 1")),
        ("\n\n0 .5 .5 .2 nan", ("not a number", "line 3")),
        ("0,.5,.5,.2,.2", ("too few numbers", "line 1")),
        ("0 0,5 0,5 0,2 0,2", ("not a number", "decimal point")),
        ("0 .5 .5 .2 .2 -1.57", ("no confidence", "corners")),
        ("0 .5 .5 .2 .2 45", ("no confidence",)),
        ("0 .5 .5 .2 .2 .9 7 8 9", ("line 1",)),
    ],
)
def test_rows_that_are_nothing(tmp_path, text, parts):
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, text)
    told(error, "a.txt", *parts)


def test_blank_files_have_no_rows(tmp_path):
    assert rows_of(tmp_path, "") == rows_of(tmp_path, "\n \r\n\t\n") == []


@pytest.mark.parametrize(
    "name, text, want",
    [
        ("classes.txt", "cell\nnucleus\n\n", {"0": "cell", "1": "nucleus"}),
        ("obj.names", "\ufeffcell\r\nnucleus\r\n", {"0": "cell", "1": "nucleus"}),
        ("data.yaml", "train: x\nnc: 2\nnames: [cell, nucleus]\n", {"0": "cell", "1": "nucleus"}),
        ("data.yml", "names:\n  0: cell\n  3: nucleus\n", {"0": "cell", "3": "nucleus"}),
        ("data.yaml", "names: {'1': cell, '2': nucleus}\n", {"1": "cell", "2": "nucleus"}),
    ],
)
def test_lists_of_names(tmp_path, name, text, want):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name).names == want


@pytest.mark.parametrize(
    "name, text, part",
    [
        ("classes.txt", "cell\n\nnucleus\n", "line 2"),
        ("obj.data", "classes = 2\nnames = obj.names\n", "no list"),
        ("data.yaml", "nc: 3\nnames: [cell, nucleus]\n", "nc 3, 2 names"),
        ("data.yaml", "train: x\n", "names no classes"),
        ("data.yaml", "names: {cell: 0}\n", "names no classes"),
        ("data.yaml", "names: [cell", "not valid YAML"),
        ("data.yaml", "- cell\n", "names no classes"),
    ],
)
def test_lists_that_are_none(tmp_path, name, text, part):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        read_names(tmp_path / name)
    told(error, name, part)


def test_the_list_says_how_many_numbers_a_key_point_has(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [cell]\nkpt_shape: [17, 3]\n")
    assert read_names(tmp_path / "data.yaml").keypoint_width == 3


def test_class_numbers_of_any_length(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{word} .5 .5 .2 .2\n" for word in ("007", "1.0", "0", "9" * 5000)))
    assert [row.word for row in read_rows(tmp_path / "a.txt")] == ["7", "1", "0", "9" * 5000]
