"Text tables: encodings, separators, columns by name, and the images that their words mean."

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from taco.base import CardError, DataError
from taco.data.find import read
from tests.data.made import BOXES, COCO, HEIGHT, TABLE, WIDTH, card_of, coco, picture, refused, table, write

WANT = [[10, 12, 30, 32], [44, 20, 72, 50]]


def boxes(tmp_path, content, more="", name="all.csv"):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, "").write_bytes(content if isinstance(content, bytes) else content.encode())
    (record,) = read(card_of(TABLE + more), tmp_path)
    return np.round(record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], 3).tolist()


@pytest.mark.parametrize(
    "content, more",
    [
        (table().encode("utf-8-sig"), ""),
        (table().encode("utf-16"), ""),
        (table().encode("utf-16-le"), 'encoding = "utf-16-le"\n'),
        (table().replace("\n", "\r\n"), ""),
        (table().replace("\n", "\r"), ""),
        (table().replace(",", ";"), 'separator = ";"\n'),
        (table().replace(",", "\t"), 'separator = "tab"\n'),
        (table().replace(",", "\t"), 'separator = "\\t"\n'),
        (table().replace(",", "  "), 'separator = "space"\n'),
        (table().replace(",", ", "), ""),
        (table().replace("\n", "\n\n"), ""),
        (table().replace("\n", ",\n"), ""),
        (table().replace("a.png", '"a.png"').replace("red", '"red"'), ""),
        (table().replace("12", "12,0").replace(",", ";").replace("12;0", "12,0"), 'separator = ";"\ndecimal = ","\n'),
        ("y1,x1,y0,x0,kind,note,file\n32,30,12,10,red,\"a, b\",a\n50,72,20,44,white,,a\n", ""),
        (table().replace("a.png", r"C:\scans\a.png"), ""),
        ("sep=,\r\n" + table(), ""),
        ("sep=;\n" + table().replace(",", ";"), 'separator = ";"\n'),
        (table().replace("a.png", "./sub/a.png"), ""),
    ],
)
def test_ways_to_write_one_table(tmp_path, content, more):
    assert boxes(tmp_path, content, more) == WANT


@pytest.mark.parametrize(
    "content, parts",
    [
        (table().replace(",", ";"), ("no such column", "separator = ';'")),
        (table().replace(",", "\t"), ("no such column", "separator = '\\t'")),
        (table().replace("file,kind,x0,y0", "file,kind,x0,x0"), ("Two columns have one name", "x0")),
        (table() + "a.png,red,1,2,3,4,5\n", ("longer than the first", "7 cells in line 4")),
        ("sep=,\n" + table() + "a.png,red,1,2,3,4,5\n", ("longer than the first", "7 cells in line 5")),
        ("# made by a program\n" + table(), ("longer than the first", "lines above the header")),
        ("sep=;\n" + table().replace(",", ";"), ("another separator", "separator = ';'")),
        (table() + "a.png, big,red,1,2,3,4\n", ("longer than the first", "line 4")),
        (table() + 'a.png,"red,1,2,3,4\n', ("cannot be read", "quotes")),
        (table() + "a.png,red,1,2,3\n", ("not a number", "line 4")),
        (table() + "\n\na.png,red,1,2,,4\n", ("not a number", "line 6")),
        (table() + "a.png,red,1,2,NaN,4\n", ("not a number", "NaN")),
        (table() + "a.png,red,1,2,inf,4\n", ("not a number",)),
        (table() + "a.png,red,1,2,1_0,14\n", ("not a number",)),
        (table() + 'a.png,red,1,2,"3,5",4\n', ("not a number", 'decimal = ","')),
        (table() + "a.png,,1,2,3,4\n", ("classes", "''", "line 4")),
        (table() + "a.png,red,3,2,1,4\n", ("positive width", "line 4")),
        (table() + "a.png,red,3,2,3,4\n", ("positive width",)),
        (table() + "a.png,red,70,2,81,4\n", ("outside", "line 4")),
        (table() + "b.png,red,1,2,3,4\n", ("image of an annotation is missing", "line 4")),
        (b"PK\x03\x04rest", ("Excel",)),
        (b"\xd0\xcf\x11\xe0rest", ("Excel",)),
        (table([("r\xe9", 1, 1, 5, 5)]).encode("latin-1"), ("line 2", "encoding = ", "UTF-8")),
    ],
)
def test_tables_that_would_be_read_wrongly(tmp_path, content, parts):
    with pytest.raises(DataError) as error:
        boxes(tmp_path, content)
    for part in ("all.csv", *parts):
        assert part in str(error.value), (part, str(error.value))
    assert "again" not in error.value.fix


def test_the_advice_for_another_encoding_works(tmp_path):
    content = table().replace("red", "r\xe9").encode("cp1252")
    more = 'classes = {"r\xe9" = 1, white = 2}\n'
    assert boxes(tmp_path, content, more + 'encoding = "cp1252"\n') == WANT


POSITIONS = (
    'reader = "table"\nimages = "*.png"\nannotations = "all.csv"\nheader = {}\n'
    "columns = {{image = 0, class = 1, x0 = 2, y0 = 3, x1 = 4, y1 = 5}}\n"
)


def test_a_header_is_neither_lost_nor_invented(tmp_path):
    picture(tmp_path / "toy/a.png")
    rows = table().split("\n", 1)[1]
    write(tmp_path, "all.csv", rows)
    assert len(next(read(card_of(POSITIONS.format("false")), tmp_path)).boxes) == len(BOXES)
    refused(DataError, card_of(POSITIONS.format("true")), tmp_path, "a number where a name", "header = false")
    write(tmp_path, "all.csv", table())
    assert len(next(read(card_of(POSITIONS.format("true")), tmp_path)).boxes) == len(BOXES)
    refused(DataError, card_of(POSITIONS.format("false")), tmp_path, "image of an annotation is missing", "line 1")


def test_two_images_of_one_name_are_refused(tmp_path):
    for place in ("x", "y"):
        picture(tmp_path / f"toy/{place}/a.png")
    write(tmp_path, "all.json", coco())
    refused(CardError, card_of(COCO), tmp_path, "Two images have the name", "x/a.png and y/a.png")
    write(tmp_path, "all.json", coco(images=[dict(id=1, file_name="y/a.png")]))
    records = {
        Path(r.file).parent.name: r
        for r in read(card_of(COCO + 'unlabelled = "empty"\n'), tmp_path)
    }
    assert len(records["y"].boxes) == 2 and len(records["x"].boxes) == 0


def test_two_images_of_one_stem(tmp_path):
    lines = TABLE.replace('"*.png"', '"re:.*\\\\.(?:png|jpg)"') + 'unlabelled = "empty"\n'
    for name in ("a.png", "a.jpg"):
        picture(tmp_path / "toy" / name)
    write(tmp_path, "all.csv", table().replace("a.png", "a"))
    refused(CardError, card_of(lines), tmp_path, "Two images have the name", "'a'")
    write(tmp_path, "all.csv", table())
    assert {r.file[-3:]: len(r.boxes) for r in read(card_of(lines), tmp_path)} == {"png": 2, "jpg": 0}


def test_accents_in_one_letter_or_two(tmp_path):
    picture(tmp_path / "toy" / unicodedata.normalize("NFD", "ä.png"))
    write(tmp_path, "all.csv", table().replace("a.png", unicodedata.normalize("NFC", "ä.png")))
    assert len(next(read(card_of(TABLE), tmp_path)).boxes) == 2


@pytest.mark.parametrize("word", ["a.PNG", "toy\\\\a.Png", "./a.png", "a"])
def test_an_ending_in_other_letters(tmp_path, word):
    assert boxes(tmp_path, table().replace("a.png", word)) == WANT


def test_fractions_are_not_taken_for_pixels(tmp_path):
    parts = "file,kind,x0,y0,x1,y1\na.png,red,0.125,0.2,0.375,0.5\n"
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "all.csv", parts)
    refused(DataError, card_of(TABLE), tmp_path, "look like fractions", "line 2", 'units = "fractions"')
    assert boxes(tmp_path, parts, 'units = "fractions"\n') == [[10, 12, 30, 30]]
    assert boxes(tmp_path, parts, 'units = "pixels"\n') == [[0.125, 0.2, 0.375, 0.5]]
    whole = parts.replace("0.125,0.2,0.375,0.5", "0,0,1,1")
    assert boxes(tmp_path, whole) == [[0, 0, 1, 1]]
    note = dict(id=1, image_id=1, category_id=10, bbox=[0.125, 0.2, 0.25, 0.3])
    write(tmp_path, "all.json", coco(annotations=[note]))
    refused(DataError, card_of(COCO), tmp_path, "look like fractions", "Multiply them by width and height")
