"Boxes and points in four formats: what is read, and what is said about bad input. Made files only."

import numpy as np
import pytest

from taco.base import CardError, DataError
from taco.data.find import read
from taco.data.prepare import fit_square, prepare
from taco.data.record import Record
from tests.data.made import (
    BOXES,
    FORMATS,
    HEAD,
    HEIGHT,
    POINTS,
    VOC,
    WIDTH,
    YOLO,
    card_of,
    coco,
    picture,
    refused,
    table,
    told,
    voc,
    write,
    yolo,
)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_boxes(tmp_path, form):
    card, name, text = FORMATS[form]
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, text())
    (record,) = read(card_of(card), tmp_path)
    np.testing.assert_allclose(
        record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [b[1:] for b in BOXES], atol=1e-3
    )
    assert (
        record.boxes.dtype == np.float32
        and record.box_classes.tolist() == [1, 2]
        and record.semantic is None
        and record.key == "a"
    )
    assert "boxes" in prepare(record, 64).can and "points" in prepare(record, 64).can


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "fault, boxes, parts",
    [
        (
            "undeclared class",
            [*BOXES, ("blue", 1, 1, 5, 5)],
            ("classes", "expected", "with 0 for objects to leave out"),
        ),
        ("outside", [("red", 60, 12, 90, 32)], ("outside", "80 × 60", "clip")),
        ("negative", [("red", 30, 12, 10, 32)], ("positive width", "order of the columns")),
    ],
)
def test_bad_boxes_are_named_with_their_place(tmp_path, form, fault, boxes, parts):
    lines, name, text = FORMATS[form]
    if fault == "undeclared class" and form != "yolo":
        lines += "classes = {red = 1, white = 2}\n"
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, text(boxes))
    place = {"voc": "object", "yolo": "line", "coco": "annotation", "table": "line"}[form]
    refused(DataError, card_of(lines), tmp_path, name, place, *parts)


@pytest.mark.parametrize("form", FORMATS)
def test_boxes_that_stick_out_may_be_clipped_and_classes_left_out(tmp_path, form):
    lines, name, text = FORMATS[form]
    lines = (
        lines.replace("classes = {0 = 1, 1 = 2}\n", "")
        + "clip = true\n"
        + (
            "classes = {0 = 1, 1 = 0, 2 = 3}\n"
            if form == "yolo"
            else "classes = {red = 1, white = 0, blue = 3}\n"
        )
    )
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, text([("red", 60, 12, 90, 32), *BOXES[1:], ("blue", 82, 5, 95, 9)]))
    (record,) = read(card_of(lines), tmp_path)
    np.testing.assert_allclose(
        record.boxes, [[60 / WIDTH, 12 / HEIGHT, 1, 32 / HEIGHT]], atol=1e-4
    )  # the blue one lay wholly outside
    assert record.box_classes.tolist() == [1]


@pytest.mark.parametrize("form", FORMATS)
def test_missing_images_and_annotations_are_errors_unless_the_card_allows_them(tmp_path, form):
    lines, name, text = FORMATS[form]
    picture(tmp_path / "toy/a.png")
    picture(tmp_path / "toy/b.png")
    write(tmp_path, name, text())
    refused(
        DataError,
        card_of(lines),
        tmp_path,
        "b.png",
        "annotation of an image is missing",
        'unlabelled = "empty"',
    )
    records = list(read(card_of(lines + 'unlabelled = "empty"\n'), tmp_path))
    assert [len(r.boxes) for r in records] == [2, 0]
    (tmp_path / "toy/a.png").unlink()
    lenient = lines + 'unlabelled = "empty"\n'
    refused(
        DataError,
        card_of(lenient),
        tmp_path,
        "image of an annotation is missing",
        'absent_images = "skip"',
    )
    assert [r.key for r in read(card_of(lenient + 'absent_images = "skip"\n'), tmp_path)] == ["b"]


@pytest.mark.parametrize(
    "form, name, text, parts",
    [
        ("voc", "a.xml", "<annotation><object>", ("a.xml", "not valid XML", "ParseError")),
        (
            "voc",
            "a.xml",
            voc([("red", 1, 1, "five", 5)]),
            ("a.xml", "not a number", "five", "object 1, red"),
        ),
        (
            "voc",
            "a.xml",
            "<annotation><object><name>red</name></object></annotation>",
            ("a.xml", "bndbox", "None"),
        ),
        (
            "voc",
            "a.xml",
            voc(size=(60, 80)),
            ("a.xml", "another size", "80 × 60 pixels", "60 × 80"),
        ),
        ("coco", "all.json", '{"images": [', ("all.json", "not valid JSON")),
        (
            "coco",
            "all.json",
            '{"images": [], "annotations": []}',
            ("all.json", "does not keep to COCO", "categories"),
        ),
        (
            "coco",
            "all.json",
            coco(annotations=[dict(id=1, image_id=9, category_id=10, bbox=[1, 1, 2, 2])]),
            ("all.json", "KeyError: 9", "image_id"),
        ),
        (
            "coco",
            "all.json",
            coco(annotations=[dict(id=3, image_id=1, category_id=10, bbox=[1, 1, 2])]),
            ("all.json", "bbox", "annotation 3"),
        ),
        (
            "coco",
            "all.json",
            coco(annotations=[dict(id=3, image_id=1, category_id=77, bbox=[1, 1, 2, 2])]),
            ("'77' (annotation 3)",),
        ),
        ("yolo", "a.txt", "0 .5 .5 .2\n", ("a.txt", "too few numbers", "line 1")),
        ("yolo", "a.txt", "0 .5 .5 .2 .2\n1 .5 .5 x .1\n", ("a.txt", "not a number", "line 2")),
        (
            "yolo",
            "a.txt",
            "0 .5 .5 .2 .2\n0 .5 .5 .2 .2 .9 7 8\n",
            ("a.txt", "of no kind", "line 2"),
        ),
        ("yolo", "a.txt", "0 40 22 20 20\n", ("a.txt", "outside", "units")),
        ("table", "all.csv", "file;kind;x0;y0;x1;y1\n", ("all.csv", "columns.image", "separator")),
        ("table", "all.csv", table().replace("12", "nan"), ("all.csv", "not a number", "line 2")),
    ],
)
def test_malformed_files_are_named(tmp_path, form, name, text, parts):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, text)
    refused(DataError, card_of(FORMATS[form][0]), tmp_path, *parts)


@pytest.mark.parametrize(
    "columns, text",
    [
        ("{x = 1, y = 2, w = 3, h = 4}", "a 10 12 20 20"),
        ("{cx = 1, cy = 2, w = 3, h = 4}", "a 20 22 20 20"),
        ("{x0 = 1, y0 = 2, x1 = 3, y1 = 4}", "a 10 12 30 32"),
    ],
)
@pytest.mark.parametrize("units", ["pixels", "fractions"])
def test_ways_to_write_a_box(tmp_path, columns, text, units):
    picture(tmp_path / "toy/a.png")
    if units == "fractions":
        text = "a " + " ".join(
            str(int(v) / s) for v, s in zip(text.split()[1:], (WIDTH, HEIGHT) * 2)
        )
    write(tmp_path, "a.txt", text + "\n")
    lines = (
        f'reader = "table"\nimages = "*.png"\nannotations = "*.txt"\ncolumns = {columns}\n'
        f'separator = "space"\nheader = false\nunits = "{units}"\nclass = 3\n'
    )
    (record,) = read(card_of(lines), tmp_path)
    np.testing.assert_allclose(
        record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [[10, 12, 30, 32]], atol=1e-4
    )
    assert record.box_classes.tolist() == [3]


def test_pixels_counted_from_one_or_from_zero(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.xml", voc([("red", 0, 0, WIDTH, HEIGHT)]))
    (record,) = read(card_of(VOC), tmp_path)
    assert record.boxes.tolist() == [[0, 0, 1, 1]]
    write(tmp_path, "a.xml", voc([("red", -1, -1, WIDTH, HEIGHT)]))  # a tool that writes from 0
    refused(DataError, card_of(VOC), tmp_path, "outside", "first")
    assert next(read(card_of(VOC + "first = 0\n"), tmp_path)).boxes.tolist() == [[0, 0, 1, 1]]


def test_points_are_pixel_centres(tmp_path):
    picture(tmp_path / "toy/a.png")
    picture(tmp_path / "toy/b.png")
    write(tmp_path, "a.txt", "0 0 1\n79 59 2\n")
    write(tmp_path, "b.txt", "")
    a, b = read(card_of(POINTS), tmp_path)
    np.testing.assert_allclose(a.points * [WIDTH, HEIGHT], [[0.5, 0.5], [79.5, 59.5]], atol=1e-4)
    assert a.point_classes.tolist() == [1, 2] and a.boxes is None and b.points.shape == (0, 2)
    write(tmp_path, "b.txt", "59 79 1\n")
    refused(
        DataError,
        card_of(POINTS),
        tmp_path,
        "b.txt",
        "A point lies outside",
        "line 1",
        "order of x and y",
    )


def test_yolo_names(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", yolo())
    write(tmp_path, "obj.names", "red\nwhite\n")
    lines = YOLO.replace("classes = {0 = 1, 1 = 2}", 'names = "obj.names"')
    assert next(read(card_of(lines), tmp_path)).box_classes.tolist() == [1, 2]
    write(tmp_path, "obj.names", "red\ngreen\n")
    refused(DataError, card_of(lines), tmp_path, "obj.names", "'green' (line 2)")
    (tmp_path / "toy/obj.names").unlink()
    refused(DataError, card_of(lines), tmp_path, "obj.names", "list of class names")


def test_a_square_keeps_boxes_with_their_classes(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.xml", voc([("red", 0, 0, 9, 9), *BOXES[1:]]))
    square = fit_square(
        next(read(card_of(VOC), tmp_path)), 32
    )  # the first lies in the margin that a square view cuts off
    assert len(square.boxes) == 1 and square.box_classes.tolist() == [2]
    with pytest.raises(DataError, match="one class"):
        Record(square.image, boxes=square.boxes, box_classes=np.array([1, 2]))


CELL = (
    "<object><name>red</name>{}<bndbox><xmin>11</xmin><ymin>13</ymin>"
    "<xmax>30</xmax><ymax>32</ymax></bndbox></object>"
)


@pytest.mark.parametrize(
    "head, name", [("gb2312", "gb2312"), ("utf8", "utf-8"), ("utf-16", "utf-16"), ("big5", "big5")]
)
def test_voc_in_the_encodings_of_the_world(tmp_path, head, name):
    picture(tmp_path / "toy/a.png")
    text = f'<?xml version="1.0" encoding="{head}"?>' + voc([("中", 10, 12, 30, 32)])
    write(tmp_path, "a.xml", "").write_bytes(text.encode(name))
    (record,) = read(card_of(VOC + 'classes = {"中" = 2}\n'), tmp_path)
    assert record.box_classes.tolist() == [2]
    np.testing.assert_allclose(record.boxes, [[0.125, 0.2, 0.375, 32 / 60]])


def test_difficult_objects_are_kept_or_left_out(tmp_path):
    picture(tmp_path / "toy/a.png")
    hard = CELL.format("<difficult>1</difficult>").replace("<xmin>11", "<xmin>12")
    write(tmp_path, "a.xml", f"<annotation>{CELL.format('<difficult>0</difficult>')}{hard}</annotation>")
    assert len(next(read(card_of(VOC), tmp_path)).boxes) == 2
    assert len(next(read(card_of(VOC + 'difficult = "skip"\n'), tmp_path)).boxes) == 1


def test_voc_polygons_become_masks_where_the_card_asks(tmp_path):
    picture(tmp_path / "toy/a.png")
    square = enumerate([(11, 13), (30, 13), (30, 32), (11, 32)], 1)
    corners = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in square)
    write(tmp_path, "a.xml", f"<annotation>{CELL.format(f'<polygon>{corners}</polygon>')}</annotation>")
    (record,) = read(card_of(VOC, HEAD.replace('"boxes"', '["boxes", "semantic"]')), tmp_path)
    assert (record.semantic[12:32, 10:30] == 1).all() and (record.semantic == 1).sum() == 400
    assert next(read(card_of(VOC), tmp_path)).semantic is None


def test_the_advice_for_boxes_outside_works(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.xml", voc([("red", -1, -1, 30, 32)]))
    refused(DataError, card_of(VOC), tmp_path, "Declare first = 0 if the file counts from 0")
    np.testing.assert_allclose(next(read(card_of(VOC + "first = 0\n"), tmp_path)).boxes, [[0, 0, 0.375, 32 / 60]])


def test_one_mark_twice(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", "5 5 1\n5 5 2\n5 5 1\n")
    refused(DataError, card_of(POINTS), tmp_path, "stands twice", "line 1 and line 3")
    assert len(next(read(card_of(POINTS + 'duplicates = "skip"\n'), tmp_path)).points) == 2
    assert len(next(read(card_of(POINTS + 'duplicates = "keep"\n'), tmp_path)).points) == 3


def test_centres_counted_from_one_keep_their_width(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", "1 1 1 1\n2.5 2.5 4 4\n")
    lines = (
        'reader = "table"\nimages = "*.png"\nannotations = "*.txt"\nseparator = "space"\nheader = false\nclass = 1\n'
        "columns = {cx = 0, cy = 1, w = 2, h = 3}\nfirst = 1\n"
    )
    boxes = next(read(card_of(lines), tmp_path)).boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    np.testing.assert_allclose(boxes, [[0, 0, 1, 1], [0, 0, 4, 4]], atol=1e-4)


@pytest.mark.parametrize(
    "lines, parts",
    [
        (POINTS.replace(", class = 2", ""), ("no class", "class = ")),
        (POINTS.replace(", class = 2", "") + "class = 9\n", ("read.class", "9")),
        (POINTS + "class = 1\n", ("contradict", "read.class")),
        (POINTS + 'units = "fractions"\nfirst = 1\n', ("contradict", "read.first")),
        (POINTS + 'units = "mm"\n', ("read.units", "mm", "pixels, fractions")),
        (POINTS.replace("{x = 0, y = 1, class = 2}", '["x"]'), ("read.columns", "['x']", "a table")),
        (POINTS.replace('"space"', '"; "'), ("one sign", "separator")),
    ],
)
def test_cards_of_tables_that_contradict_themselves(tmp_path, lines, parts):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", "5 5 1\n")
    with pytest.raises(CardError) as error:  # when the card is loaded, or when the reader begins
        list(read(card_of(lines), tmp_path))
    told(error, *parts)
