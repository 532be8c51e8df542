"Readers of boxes, points, channels, crops and HDF5, and attributes: what they read, and what they say about bad input. Made files only."
import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import CardError, DataError, StoreError
from taco.data.annotations import overlaps, read_planes
from taco.data.card import load_card, parse_card
from taco.data.readers import READERS, check_readers, find, read
from taco.data.record import Record, fit_square, prepare
from taco.data.store import Store, pack

HEAD = '''name = "toy"
title = "Toy"
modality = "light microscopy"
anatomy = "cells"
annotation = "boxes"
channels = 1
labels_from = "drawn by the test"
licence = "none"
permits = "tests"
citation = "none"
homepage = "https://example.org"
[classes]
1 = "red"
2 = "white"
3 = "blue"
[split]
rule = "subject"
'''
WIDTH, HEIGHT = 80, 60
BOXES = [("red", 10, 12, 30, 32), ("white", 44, 20, 72, 50)]  # pixel edges
VOC = 'reader = "voc"\nimages = "*.png"\nannotations = "*.xml"\n'
YOLO = 'reader = "yolo"\nimages = "*.png"\nannotations = "*.txt"\nclasses = {0 = 1, 1 = 2}\n'
COCO = 'reader = "coco"\nimages = "**/*.png"\nannotations = "all.json"\n'
TABLE = 'reader = "table"\nimages = "*.png"\nannotations = "all.csv"\ncolumns = {image = "file", x0 = "x0", y0 = "y0", x1 = "x1", y1 = "y1", class = "kind"}\n'
POINTS = 'reader = "table"\nimages = "*.png"\nannotations = "*.txt"\ncolumns = {x = 0, y = 1, class = 2}\nseparator = "space"\nheader = false\n'
CHANNELS = 'reader = "channels"\nimages = "images/*.png"\nmasks = "masks/*.tif"\nchannels = {0 = 1, 1 = 2, 2 = 0}\n'
CROPS = ('reader = "crops"\nimages = "*.jpg"\ntable = "where.csv"\nclasses = {lung = 1, heart = 2, box = 0}\n'
         'columns = {image = "image", mask = "mask", class = "class", top = "top", left = "left"}\n')
HDF5 = 'reader = "hdf5"\nfiles = "*.h5"\nimage = "image"\nlabel = "label"\n'


def card_of(read_table: str, head: str = HEAD):
    return parse_card(f"{head}[[read]]\n{read_table}", "toy.toml")


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 255, (height, width)).astype(np.uint8)).save(path)


def write(root: Path, name: str, text: str) -> Path:
    path = root / "toy" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(boxes=BOXES, size=(WIDTH, HEIGHT)) -> str:
    things = "".join(f"<object><name>{n}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>" for n, a, b, c, d in boxes)
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height><depth>1</depth></size>{things}</annotation>"


def yolo(boxes=BOXES) -> str:
    return "".join(f"{'red white blue'.split().index(n)} {(a + c) / 2 / WIDTH:.6f} {(b + d) / 2 / HEIGHT:.6f} {(c - a) / WIDTH:.6f} {(d - b) / HEIGHT:.6f}\n" for n, a, b, c, d in boxes)


def coco(boxes=BOXES, **changes) -> str:
    things = [dict(id=n, image_id=1, category_id=10 + "red white blue".split().index(b[0]), bbox=[b[1], b[2], b[3] - b[1], b[4] - b[2]]) for n, b in enumerate(boxes, 1)]
    return json.dumps(dict(images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)], annotations=things,
                           categories=[dict(id=10 + n, name=w) for n, w in enumerate("red white blue".split())]) | changes)


def table(boxes=BOXES) -> str:
    return "file,kind,x0,y0,x1,y1\n" + "".join(f"a.png,{n},{a},{b},{c},{d}\n" for n, a, b, c, d in boxes)


FORMATS = {"voc": (VOC, "a.xml", voc), "yolo": (YOLO, "a.txt", yolo), "coco": (COCO, "all.json", coco), "table": (TABLE, "all.csv", table)}


def refused(kind, card, root: Path, *parts: str, source: str = "real") -> str:
    "The message with which reading fails, after checking that it names these parts."
    with pytest.raises(kind) as error:
        list(read(card, root, source))
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in: {error.value}"
    return str(error.value)


# ---------------------------------------------------------------- boxes and points

@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_boxes(tmp_path, form):
    card, name, text = FORMATS[form]
    picture(tmp_path / "toy/a.png"); write(tmp_path, name, text())
    record, = read(card_of(card), tmp_path)
    np.testing.assert_allclose(record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [b[1:] for b in BOXES], atol=1e-3)
    assert record.boxes.dtype == np.float32 and record.box_classes.tolist() == [1, 2] and record.semantic is None and record.key == "a"
    assert "boxes" in prepare(record, 64).can and "points" in prepare(record, 64).can


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("fault, boxes, parts", [
    ("undeclared class", [*BOXES, ("blue", 1, 1, 5, 5)], ("classes", "expected", "with 0 for objects to leave out")),
    ("outside", [("red", 60, 12, 90, 32)], ("outside", "80 × 60", "clip")),
    ("negative", [("red", 30, 12, 10, 32)], ("positive width", "order of the columns"))])
def test_bad_boxes_are_named_with_their_place(tmp_path, form, fault, boxes, parts):
    lines, name, text = FORMATS[form]
    if fault == "undeclared class" and form != "yolo": lines += "classes = {red = 1, white = 2}\n"
    picture(tmp_path / "toy/a.png"); write(tmp_path, name, text(boxes))
    place = {"voc": "object", "yolo": "line", "coco": "annotation", "table": "line"}[form]
    refused(DataError, card_of(lines), tmp_path, name, place, *parts)


@pytest.mark.parametrize("form", FORMATS)
def test_boxes_that_stick_out_may_be_clipped_and_classes_left_out(tmp_path, form):
    lines, name, text = FORMATS[form]
    lines = lines.replace("classes = {0 = 1, 1 = 2}\n", "") + "clip = true\n" + ("classes = {0 = 1, 1 = 0, 2 = 3}\n" if form == "yolo" else "classes = {red = 1, white = 0, blue = 3}\n")
    picture(tmp_path / "toy/a.png"); write(tmp_path, name, text([("red", 60, 12, 90, 32), *BOXES[1:], ("blue", 82, 5, 95, 9)]))
    record, = read(card_of(lines), tmp_path)
    np.testing.assert_allclose(record.boxes, [[60 / WIDTH, 12 / HEIGHT, 1, 32 / HEIGHT]], atol=1e-4)  # the blue one lay wholly outside
    assert record.box_classes.tolist() == [1]


@pytest.mark.parametrize("form", FORMATS)
def test_missing_images_and_annotations_are_errors_unless_the_card_allows_them(tmp_path, form):
    lines, name, text = FORMATS[form]
    picture(tmp_path / "toy/a.png"); picture(tmp_path / "toy/b.png"); write(tmp_path, name, text())
    refused(DataError, card_of(lines), tmp_path, "b.png", "annotation of an image is missing", 'unlabelled = "empty"')
    records = list(read(card_of(lines + 'unlabelled = "empty"\n'), tmp_path))
    assert [len(r.boxes) for r in records] == [2, 0]
    (tmp_path / "toy/a.png").unlink()
    lenient = lines + 'unlabelled = "empty"\n'
    refused(DataError, card_of(lenient), tmp_path, "image of an annotation is missing", 'absent_images = "skip"')
    assert [r.key for r in read(card_of(lenient + 'absent_images = "skip"\n'), tmp_path)] == ["b"]


@pytest.mark.parametrize("form, name, text, parts", [
    ("voc", "a.xml", "<annotation><object>", ("a.xml", "not valid XML", "ParseError")),
    ("voc", "a.xml", voc([("red", 1, 1, "five", 5)]), ("a.xml", "not a number", "five", "object 1, red")),
    ("voc", "a.xml", "<annotation><object><name>red</name></object></annotation>", ("a.xml", "bndbox", "None")),
    ("voc", "a.xml", voc(size=(60, 80)), ("a.xml", "another size", "80 × 60 pixels", "60 × 80")),
    ("coco", "all.json", '{"images": [', ("all.json", "not valid JSON")),
    ("coco", "all.json", '{"images": [], "annotations": []}', ("all.json", "does not keep to COCO", "categories")),
    ("coco", "all.json", coco(annotations=[dict(id=1, image_id=9, category_id=10, bbox=[1, 1, 2, 2])]), ("all.json", "KeyError: 9", "image_id")),
    ("coco", "all.json", coco(annotations=[dict(id=3, image_id=1, category_id=10, bbox=[1, 1, 2])]), ("all.json", "bbox", "annotation 3")),
    ("coco", "all.json", coco(annotations=[dict(id=3, image_id=1, category_id=77, bbox=[1, 1, 2, 2])]), ("'77' (annotation 3)",)),
    ("yolo", "a.txt", "0 .5 .5 .2\n", ("a.txt", "no such column", "columns.h")),
    ("yolo", "a.txt", "0 .5 .5 .2 .2\n1 .5 .5 .2\n", ("a.txt", "not a number", "line 2")),
    ("yolo", "a.txt", "0 .5 .5 .2 .2\n0 .5 .5 .2 .2 .9 7 8\n", ("a.txt", "table cannot be read", "line 2")),
    ("yolo", "a.txt", "0 40 22 20 20\n", ("a.txt", "outside", "units")),
    ("table", "all.csv", "file;kind;x0;y0;x1;y1\n", ("all.csv", "columns.image", "separator")),
    ("table", "all.csv", table().replace("12", "nan"), ("all.csv", "not a number", "line 2")),
])
def test_malformed_files_are_named(tmp_path, form, name, text, parts):
    picture(tmp_path / "toy/a.png"); write(tmp_path, name, text)
    refused(DataError, card_of(FORMATS[form][0]), tmp_path, *parts)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    picture(tmp_path / "toy/a.png"); write(tmp_path, "all.csv", "").write_bytes(table([("ré", 1, 1, 5, 5)]).encode("latin-1"))
    refused(DataError, card_of(TABLE), tmp_path, "all.csv", "UTF-8")


@pytest.mark.parametrize("columns, text", [("{x = 1, y = 2, w = 3, h = 4}", "a 10 12 20 20"), ("{cx = 1, cy = 2, w = 3, h = 4}", "a 20 22 20 20"),
                                           ("{x0 = 1, y0 = 2, x1 = 3, y1 = 4}", "a 10 12 30 32")])
@pytest.mark.parametrize("units", ["pixels", "fractions"])
def test_ways_to_write_a_box(tmp_path, columns, text, units):
    picture(tmp_path / "toy/a.png")
    if units == "fractions": text = "a " + " ".join(str(int(v) / s) for v, s in zip(text.split()[1:], (WIDTH, HEIGHT) * 2))
    write(tmp_path, "a.txt", text + "\n")
    record, = read(card_of(f'reader = "table"\nimages = "*.png"\nannotations = "*.txt"\ncolumns = {columns}\nseparator = "space"\nheader = false\nunits = "{units}"\nclass = 3\n'), tmp_path)
    np.testing.assert_allclose(record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], [[10, 12, 30, 32]], atol=1e-4)
    assert record.box_classes.tolist() == [3]


def test_pixels_counted_from_one_or_from_zero(tmp_path):
    picture(tmp_path / "toy/a.png"); write(tmp_path, "a.xml", voc([("red", 0, 0, WIDTH, HEIGHT)]))
    record, = read(card_of(VOC), tmp_path)
    assert record.boxes.tolist() == [[0, 0, 1, 1]]
    write(tmp_path, "a.xml", voc([("red", -1, -1, WIDTH, HEIGHT)]))   # a tool that writes from 0
    refused(DataError, card_of(VOC), tmp_path, "outside", "first")
    assert next(read(card_of(VOC + "first = 0\n"), tmp_path)).boxes.tolist() == [[0, 0, 1, 1]]


def test_points_are_pixel_centres(tmp_path):
    picture(tmp_path / "toy/a.png"); picture(tmp_path / "toy/b.png")
    write(tmp_path, "a.txt", "0 0 1\n79 59 2\n"); write(tmp_path, "b.txt", "")
    a, b = read(card_of(POINTS), tmp_path)
    np.testing.assert_allclose(a.points * [WIDTH, HEIGHT], [[.5, .5], [79.5, 59.5]], atol=1e-4)
    assert a.point_classes.tolist() == [1, 2] and a.boxes is None and b.points.shape == (0, 2)
    write(tmp_path, "b.txt", "59 79 1\n")
    refused(DataError, card_of(POINTS), tmp_path, "b.txt", "A point lies outside", "line 1", "order of x and y")


def test_yolo_names(tmp_path):
    picture(tmp_path / "toy/a.png"); write(tmp_path, "a.txt", yolo()); write(tmp_path, "obj.names", "red\nwhite\n")
    lines = YOLO.replace("classes = {0 = 1, 1 = 2}", 'names = "obj.names"')
    assert next(read(card_of(lines), tmp_path)).box_classes.tolist() == [1, 2]
    write(tmp_path, "obj.names", "red\ngreen\n")
    refused(DataError, card_of(lines), tmp_path, "obj.names", "'green' (line 2)")
    (tmp_path / "toy/obj.names").unlink()
    refused(DataError, card_of(lines), tmp_path, "obj.names", "list of class names")


def test_two_images_of_one_name_are_refused(tmp_path):
    for place in ("x", "y"): picture(tmp_path / f"toy/{place}/a.png")
    write(tmp_path, "all.json", coco())
    refused(CardError, card_of(COCO), tmp_path, "Two images have the name", "x/a.png and y/a.png")
    write(tmp_path, "all.json", coco(images=[dict(id=1, file_name="y/a.png")]))
    records = {Path(r.file).parent.name: r for r in read(card_of(COCO + 'unlabelled = "empty"\n'), tmp_path)}
    assert len(records["y"].boxes) == 2 and len(records["x"].boxes) == 0


@pytest.mark.parametrize("lines, field, part", [
    (VOC.replace('annotations = "*.xml"\n', ""), "read.annotations", "needs this field"),
    (VOC + "classes = {red = 9}\n", "read.classes", "red = 9"),
    (POINTS.replace("header = false\n", ""), "read.header", "true or false"),
    (POINTS.replace("x = 0, y = 1", "x = 0, z = 1"), "read.columns", "x0 y0 x1 y1"),
    (CHANNELS + "order = [1]\n", "read.order", "[1, 2]"),
    (CHANNELS.replace("0 = 1,", "first = 1,"), "read.channels", "Count channels from 0"),
    (CROPS.replace('top = "top", ', ""), "read.columns", "image, mask, class, top, left"),
    (HDF5.replace('image = "image"\n', ""), "read.image", "needs this field"),
    (VOC + "attributes = 3\n", "read.attributes", "pattern"),
    (VOC + 'attributes = {tb = {pattern = "_(.)", tabel = "x"}}\n', "read.attributes.tb", "no such option"),
    (VOC + 'attributes = {tb = {table = "x.csv"}}\n', "read.attributes.tb", "table, row and column"),
    (VOC + 'attributes = {"t b" = {pattern = "_(.)"}}\n', "read.attributes.t b", "proper name"),
    (VOC + 'attributes = {tb = {pattern = "_(."}}\n', "read.attributes.tb", "does not compile"),
    (VOC + 'subject = {table = "x.csv", row = 0, column = 1}\n', "read.subject.header", "Declare header"),
])
def test_cards_that_cannot_work_name_the_field(tmp_path, lines, field, part):
    picture(tmp_path / "toy/a.png"); picture(tmp_path / "toy/images/a.png"); write(tmp_path, "a.xml", voc()); write(tmp_path, "a.txt", "1 1 1\n")
    refused(CardError, card_of(lines), tmp_path, "toy.toml", field, part)


def test_a_square_keeps_boxes_with_their_classes(tmp_path):
    picture(tmp_path / "toy/a.png"); write(tmp_path, "a.xml", voc([("red", 0, 0, 9, 9), *BOXES[1:]]))
    square = fit_square(next(read(card_of(VOC), tmp_path)), 32)     # the first lies in the margin that a square view cuts off
    assert len(square.boxes) == 1 and square.box_classes.tolist() == [2]
    with pytest.raises(DataError, match="one class"):
        Record(square.image, boxes=square.boxes, box_classes=np.array([1, 2]))


# ---------------------------------------------------------------- channels

def discs() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([np.hypot(x - 30, y - 30) < 12, np.hypot(x - 40, y - 30) < 12, np.zeros(x.shape, bool)], -1)


@pytest.mark.parametrize("kind", ["interleaved", "pages", "lzw"])
def test_channels_overlap_in_the_order_of_the_card(tmp_path, kind):
    picture(tmp_path / "toy/images/a.png"); (tmp_path / "toy/masks").mkdir()
    path, planes = tmp_path / "toy/masks/a.tif", discs()
    pixels = (planes * 255).astype(np.uint8)
    if kind == "lzw": Image.fromarray(pixels).save(path, compression="tiff_lzw")
    elif kind == "pages": tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="minisblack")
    else: tifffile.imwrite(path, pixels, photometric="rgb")
    for order, top in (("", 2), ("order = [2, 1]\n", 1)):
        record, = read(card_of(CHANNELS + order), tmp_path)
        both = planes[..., 0] & planes[..., 1]
        assert (record.semantic[both] == top).all() and both.any() and set(np.unique(record.semantic)) == {0, 1, 2}
        np.testing.assert_array_equal(record.semantic > 0, planes.any(-1))
    assert overlaps(planes)[0, 1] == both.sum() and overlaps(planes)[0, 0] == planes[..., 0].sum()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_bad_channels(tmp_path):
    picture(tmp_path / "toy/images/a.png"); (tmp_path / "toy/masks").mkdir()
    path = tmp_path / "toy/masks/a.tif"
    planes = (discs() * 255).astype(np.uint8)
    tifffile.imwrite(path, np.dstack([planes, planes[..., 0]]), photometric="rgb", extrasamples=["unspecified"])
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "4 channels, not empty: 0, 1, 3", "Declare all")
    tifffile.imwrite(path, planes[..., 0], photometric="minisblack")
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "1 channels", "0, 1, 2")
    tifffile.imwrite(path, planes[:, ::2], photometric="rgb")
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "size of its image", "60 × 40")
    path.write_bytes(path.read_bytes()[:40])
    refused(DataError, card_of(CHANNELS), tmp_path, "a.tif", "cannot be read")
    path.unlink()
    refused(DataError, card_of(CHANNELS), tmp_path, "a.png", "mask of an image is missing")
    path.write_bytes(b""); picture(tmp_path / "toy/images/b.png"); (tmp_path / "toy/images/a.png").unlink()
    message = [str(e) for e in failures(card_of(CHANNELS), tmp_path)]
    assert len(message) == 2 and any("a.tif" in m and "image of a mask is missing" in m for m in message)
    with pytest.raises(DataError, match="cannot be read"): read_planes(path)


def failures(card, root) -> list:
    errors = []
    for item in find(card, root, "real").items:
        try: item.load()
        except DataError as error: errors.append(error)
    return errors


# ---------------------------------------------------------------- crops

ROWS = "image,mask,class,top,left\nfilm.jpg,masks/1.png,lung,10,20\nfilm.jpg,masks/2.png,heart,15,25\n"


def crops(root: Path, rows: str = ROWS) -> None:
    picture(root / "toy/film.jpg"); write(root, "where.csv", rows); (root / "toy/masks").mkdir(exist_ok=True)
    crop = np.zeros((20, 30, 4), np.uint8); crop[2:18, 3:27, 1] = 200; crop[..., 3] = 255   # alpha everywhere
    Image.fromarray(crop).save(root / "toy/masks/1.png"); Image.fromarray(crop[:10, :10, 1]).save(root / "toy/masks/2.png")


def test_crops_go_where_the_table_says(tmp_path):
    crops(tmp_path)
    record, = read(card_of(CROPS), tmp_path)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[12:28, 23:47] = 1; expected[17:25, 28:35] = 2
    np.testing.assert_array_equal(record.semantic, expected)
    record, = read(card_of(CROPS + "order = [2, 1]\n"), tmp_path)
    expected[12:28, 23:47] = 1
    np.testing.assert_array_equal(record.semantic, expected)


@pytest.mark.parametrize("rows, parts", [
    (ROWS.replace("10,20", "45,20"), ("where.csv", "does not fit", "20 × 30 at row 45, column 20 (line 2", "60 × 80")),
    (ROWS.replace("10,20", "-1,20"), ("does not fit", "row -1")),
    (ROWS.replace("10,20", "ten,20"), ("not a number", "ten, 20 (line 2)")),
    (ROWS.replace("heart", "liver"), ("'liver' (line 3)", "lung, heart, box")),
    (ROWS.replace("2.png", "3.png"), ("masks/3.png", "missing")),
    (ROWS.replace("masks/2.png", ""), ("names no mask", "line 3: heart of film.jpg", "without_mask")),
    (ROWS + "other.jpg,masks/1.png,lung,0,0\n", ("line 4", "'other.jpg'", "absent_images")),
    (ROWS.replace("film.jpg", "other.jpg"), ("film.jpg", "annotation of an image is missing")),
    (ROWS.replace("top", "row"), ("columns.top", "no such column")),
])
def test_bad_crops(tmp_path, rows, parts):
    crops(tmp_path, rows)
    refused(DataError, card_of(CROPS), tmp_path, *parts)


def test_crops_may_be_left_out_where_the_card_says_so(tmp_path):
    crops(tmp_path, ROWS.replace("masks/2.png", "").replace("lung", "box") + "other.jpg,masks/1.png,lung,0,0\n")
    record, = read(card_of(CROPS + 'without_mask = "skip"\nabsent_images = "skip"\n'), tmp_path)
    assert not record.semantic.any()


# ---------------------------------------------------------------- HDF5

def h5(path: Path, arrays: dict, **attributes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items(): file[name] = array
        for name, value in attributes.items(): file.attrs[name] = value


def volume() -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros((6, 20, 30), np.uint8)
    label[2:5, 5:12, 8:20] = [[[1]], [[2]], [[3]]]
    return np.random.default_rng(0).random(label.shape).astype(np.float32), label


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_by_axis_foreground_and_spacing(tmp_path, axis):
    image, label = volume()
    sizes = [.7, .9]; sizes.insert(axis, 5)
    h5(tmp_path / "toy/p1_f1.h5", dict(image=np.moveaxis(image, 0, axis), label=np.moveaxis(label, 0, axis)), size=sizes)
    lines = HDF5 + f'axis = {axis}\nspacing = "size"\nsubject = "re:(p[0-9]+)_"\n'
    records = list(read(card_of(lines), tmp_path))
    assert [r.slice for r in records] == [2, 3, 4] and [r.key for r in records] == ["p1_f1-002", "p1_f1-003", "p1_f1-004"]
    assert records[0].subject == "p1" and records[0].spacing == (.7, .9)
    for r in records:
        np.testing.assert_array_equal(r.semantic, label[r.slice]); np.testing.assert_allclose(r.image[0], image[r.slice], atol=1e-6)
    assert [r.slice for r in read(card_of(lines + 'slices = "all"\nevery = 2\n'), tmp_path)] == [0, 2, 4]


def test_one_file_with_many_volumes_and_slices_in_files(tmp_path):
    image, label = volume()
    h5(tmp_path / "toy/all.h5", {f"patient{n}/{part}/{what}": a for n in (1, 2) for part in ("ed", "es") for what, a in (("image", image), ("label", label))} | {"info": np.arange(3)})
    lines = HDF5.replace('"image"', '''"re:(patient\\\\d)/(e.)/image"''').replace('"label"', '''"re:(patient\\\\d)/(e.)/label"''') + "subject = 're:/(patient\\d)/'\nspacing = [1.5, 1.25]\n"
    found = find(card_of(lines), tmp_path)
    assert len(found.items) == 4 and {i.subject for i in found.items} == {"patient1", "patient2"}
    records = list(read(card_of(lines), tmp_path))
    assert len(records) == 12 and records[0].key == "patient1/ed-002" and records[0].spacing == (1.5, 1.25)
    pickle.loads(pickle.dumps(found.items[0].load))()
    folder = tmp_path / "slices"
    for k in range(6): h5(folder / f"toy/p1_slice_{k}.h5", dict(image=image[k], label=label[k]))
    records = list(read(card_of(HDF5 + "slice = 're:slice_(\\d)'\n"), folder))
    assert [(r.key, r.slice) for r in records] == [("p1_slice_2", 2), ("p1_slice_3", 3), ("p1_slice_4", 4)]


def test_colour_slices(tmp_path):
    image, label = volume()
    h5(tmp_path / "toy/a.h5", dict(image=np.stack([image] * 3, -1), label=label))
    records = list(read(card_of(HDF5, HEAD.replace("channels = 1", "channels = 3")), tmp_path))
    assert [r.image.shape for r in records] == [(3, 20, 30)] * 3


@pytest.mark.parametrize("fault, parts", [
    ("no key", ("a.h5", "label", "no such array", "image, mask")), ("shapes", ("a.h5", "one shape", "(6, 20, 30), label (6, 20, 29)")), ("no file", ("a.h5", "cannot be read", "complete HDF5")),
    ("four axes", ("a.h5", "(2, 6, 20, 30)")), ("class", ("a.h5[label]", "0, 1, 2, 3, 9", "Declare 9")), ("nan", ("a.h5", "1 NaN")),
    ("spacing", ("a.h5", "does not tell its pixel size", "no attributes")), ("no number", ("a.h5", "no pixel size", "[0.0, 1.0]")), ("pattern", ("a.h5", "no such array", "scan/image"))])
def test_bad_hdf5(tmp_path, fault, parts):
    image, label = volume()
    lines, arrays = HDF5, dict(image=image, label=label)
    if fault == "no key": arrays["mask"] = arrays.pop("label")
    if fault == "shapes": arrays["label"] = label[..., :-1]
    if fault == "four axes": arrays["image"] = np.stack([image] * 2)
    if fault == "class": label[0, 0, 0] = 9
    if fault == "nan": image[0, 0, 0] = np.nan
    if fault == "spacing": lines += 'spacing = "voxel"\n'
    if fault == "no number": lines += "spacing = [0, 1]\n"
    if fault == "pattern": lines = lines.replace('image = "image"', 'image = "*/scan/image"')
    h5(tmp_path / "toy/a.h5", arrays)
    if fault == "no file": (tmp_path / "toy/a.h5").write_bytes(b"not HDF5")
    refused(DataError, card_of(lines), tmp_path, *parts)


# ---------------------------------------------------------------- attributes

def films(root: Path, *names: str) -> None:
    for name in names: picture(root / f"toy/{name}.png"); write(root, f"{name}.xml", voc())


@pytest.mark.parametrize("name, images, masks", [("montgomery", "CXR_png/MCUCXR_000{}_{}.png", ("ManualMask/leftMask/MCUCXR_000{}_{}.png", "ManualMask/rightMask/MCUCXR_000{}_{}.png")),
                                                 ("shenzhen", "CXR_png/CHNCXR_000{}_{}.png", ("masks/CHNCXR_000{}_{}_mask.png",))])
def test_tuberculosis_stands_in_the_file_name(tmp_path, name, images, masks):
    for n, sick in ((1, 0), (2, 1), (3, 1), (4, 0)):
        picture(tmp_path / name / images.format(n, sick))
        for place, mask in enumerate(masks):
            path = tmp_path / name / mask.format(n, sick); path.parent.mkdir(parents=True, exist_ok=True)
            lung = np.zeros((HEIGHT, WIDTH), np.uint8); lung[10:50, 10 + 40 * place:30 + 40 * place] = 255
            Image.fromarray(lung).save(path)
    records = list(read(name, tmp_path, "real"))
    assert [r.attributes for r in records] == [{"tuberculosis": v} for v in (0, 1, 1, 0)]
    store = Store.open(pack(name, tmp_path, tmp_path / "out", 32, source="real", workers=2))
    assert store.attribute("tuberculosis").tolist() == [int(key[-1]) for key in store.table.key]
    with pytest.raises(StoreError, match="tuberculosis"): store.attribute("tuberclosis")


def test_melanoma_stands_in_the_challenge_table(tmp_path):
    for n in (0, 1, 2):
        picture(tmp_path / f"isic2016/P/ISIC_000000{n}.jpg"); picture(tmp_path / f"isic2016/P/ISIC_000000{n}_Segmentation.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8); mask[20:40, 20:40] = 255
        Image.fromarray(mask).save(tmp_path / f"isic2016/P/ISIC_000000{n}_Segmentation.png")
    note = tmp_path / "isic2016/ISBI2016_ISIC_Part3B_Training_GroundTruth.csv"
    note.write_text("ISIC_0000000,benign\nISIC_0000001,malignant\nISIC_0000002,\n")
    records = list(read("isic2016", tmp_path, "real"))
    assert [r.attributes for r in records] == [{"melanoma": 0}, {"melanoma": 1}, {}]  # an empty cell is unknown
    note.write_text("ISIC_0000000,benign\nISIC_0000001,unsure\nISIC_0000002,benign\n")
    refused(DataError, load_card("isic2016"), tmp_path, "melanoma", "'unsure'", "benign, malignant")
    note.write_text("ISIC_0000000,benign\nISIC_0000002,benign\n")
    refused(DataError, load_card("isic2016"), tmp_path, "GroundTruth.csv", "no row", "ISIC_0000001")
    note.write_text("ISIC_0000000,benign\nISIC_0000000,malignant\n")
    refused(DataError, load_card("isic2016"), tmp_path, "two things of one image", "line 2")


def test_folders_tables_and_types(tmp_path):
    films(tmp_path, "benign_1", "malign_2")
    write(tmp_path, "ages.csv", "name;age;grade;site\nbenign_1;41;2.5;back\nmalign_2;;3.;7a\n")
    lines = VOC + '''attributes = {kind = {pattern = '(benign|malign)_'}, age = {table = "ages.csv", row = "name", column = "age", separator = ";"}, grade = {table = "ages.csv", row = "name", column = "grade", separator = ";"}, site = {table = "ages.csv", row = "name", column = "site", separator = ";"}}\n'''
    assert [r.attributes for r in read(card_of(lines), tmp_path)] == [dict(kind="benign", age=41, grade=2.5, site="back"), dict(kind="malign", grade=3., site="7a")]
    refused(DataError, card_of(VOC + "attributes = {kind = {pattern = '(benign)_'}}\n"), tmp_path, "kind", "malign_2.png", "does not fit")
    refused(DataError, card_of(VOC + 'attributes = {age = {table = "age.csv", row = "name", column = "age"}}\n'), tmp_path, "table of attributes is missing", "optional = true")


def test_one_bad_attribute_is_one_failed_item(tmp_path):
    films(tmp_path, "a", "b", "c"); write(tmp_path, "ages.csv", "name,age\na,4\nc,5\n")
    card = card_of(VOC + 'attributes = {age = {table = "ages.csv", row = "name", column = "age"}}\n')
    with pytest.raises(DataError, match="no row"): pack(card, tmp_path, tmp_path / "out", 32)
    store = Store.open(pack(card, tmp_path, tmp_path / "out", 32, skip_bad=True))
    assert len(store) == 2 and store.parts[0].manifest["skipped"][0]["file"].endswith("b.png") and sorted(store.attribute("age")) == [4, 5]
    assert [json.loads(a) for a in store.table["attributes"]] == [{"age": 4}, {"age": 5}]
    write(tmp_path, "ages.csv", "name,age\na,4\nb,4\nc,6\n")                 # a changed table makes the store stale
    assert len(Store.open(pack(card, tmp_path, tmp_path / "out", 32))) == 3


def test_a_subject_that_only_a_table_knows(tmp_path):
    films(tmp_path, "a", "b", "c", "d"); write(tmp_path, "who.csv", "file,patient\na,7\nb,7\nc,8\n")
    card = card_of(VOC + 'subject = {table = "who.csv", row = "file", column = "patient"}\n')
    assert [i.subject for i in find(card, tmp_path).items] == ["7", "7", "8", "d"]
    error, = failures(card, tmp_path)
    assert "no row" in str(error) and "subject" in str(error)


@pytest.mark.parametrize("attributes, part", [({"a b": 1}, "proper name"), ({"a": None}, "one number or word"), ({"a": float("nan")}, "one number or word"), ({"a": [1]}, "one number or word")])
def test_attributes_of_a_record_are_names_and_scalars(attributes, part):
    with pytest.raises(DataError, match=part): Record(np.zeros((1, 4, 4), np.float32), attributes=attributes)
    assert Record(np.zeros((1, 4, 4), np.float32)).attributes == {}


def test_the_readers_are_known():
    check_readers(load_card("acdc"))
    assert {"voc", "coco", "yolo", "table", "hdf5", "channels", "crops"} <= set(READERS)
    assert all("attributes" in r.options for r in READERS.values())
