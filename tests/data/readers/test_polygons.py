"Objects with outlines: boxes, and masks where the card asks, with exact counts of pixels."

import json
import pickle

import numpy as np
import pytest

from taco.base import CardError, DataError
from taco.data.find import find, read
from tests.data.made import HEAD, HEIGHT, WIDTH, card_of, picture, refused, told, write

ALL = HEAD.replace('annotation = "boxes"', 'annotation = ["boxes", "semantic", "instances", "points"]')
NAMELESS = HEAD.replace('[classes]\n1 = "red"\n2 = "white"\n3 = "blue"\n', "[classes]\n")
SQUARE = [[10, 12], [30, 12], [30, 32], [10, 32]]
TRIANGLE = [[44, 20], [72, 20], [72, 50]]
YOLO = 'reader = "yolo"\nimages = "*.png"\nannotations = "*.txt"\n'
COCO = 'reader = "coco"\nimages = "*.png"\nannotations = "all.json"\n'
SHAPES = 'reader = "polygons"\nimages = "*.png"\nannotations = "*.json"\n'


def row(number, corners):
    return f"{number} " + " ".join(f"{x / WIDTH:.8f} {y / HEIGHT:.8f}" for x, y in corners) + "\n"


def one(tmp_path, lines, head=ALL):
    (record,) = read(card_of(lines, head), tmp_path, "real")
    return record


def pixels(record):
    return np.round(record.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], 3).tolist()


def triangle():
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (x >= 44) & (x <= 72) & (y >= 20) & ((y - 20) * 28 <= (x - 44) * 30)


def right(record):
    "Whether the square of 400 pixels and the triangle are where they belong."
    assert pixels(record) == [[10, 12, 30, 32], [44, 20, 72, 50]]
    assert record.box_classes.tolist() == [1, 2]
    want = np.zeros((HEIGHT, WIDTH), int)
    want[12:32, 10:30] = 1
    want[triangle()] = 2
    np.testing.assert_array_equal(record.semantic, want)
    np.testing.assert_array_equal(record.instances, want)


def note(**changes):
    objects = [
        dict(id=1, image_id=7, category_id=0, bbox=[10, 12, 20, 20]),
        dict(id=2, image_id=7, category_id=90, bbox=[44, 20, 28, 30]),
    ]
    for thing, corners in zip(objects, (SQUARE, TRIANGLE)):
        thing["segmentation"] = [np.ravel(corners).tolist()]
    return dict(
        images=[dict(id=7, file_name="a.png", width=WIDTH, height=HEIGHT)],
        categories=[dict(id=0, name="red"), dict(id=90, name="white")],
        annotations=objects,
    ) | changes


def coco(tmp_path, edit=lambda j: None, name="all.json"):
    content = note()
    edit(content)
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, json.dumps(content))


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt", "obj.names"])
def test_yolo_polygons_with_names_from_the_list_of_the_dataset(tmp_path, names):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", row(2, SQUARE) + row(0, TRIANGLE))
    listed = ["white", "blue", "red"]
    write(tmp_path, names, f"names: {listed}" if names == "data.yaml" else "\n".join(listed))
    right(one(tmp_path, YOLO + f'names = "{names}"\n'))
    right(one(tmp_path, YOLO))  # it is the only list


def test_yolo_numbers_without_a_meaning_are_refused(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", row(1, SQUARE))
    refused(CardError, card_of(YOLO), tmp_path, "no meaning", "names", "classes = {0 = 1")
    write(tmp_path, "classes.txt", "red\nwhite")
    write(tmp_path, "obj.names", "white\nred")
    refused(CardError, card_of(YOLO), tmp_path, "classes.txt, obj.names")
    write(tmp_path, "obj.names", "red\nwhite")
    assert one(tmp_path, YOLO, HEAD).box_classes.tolist() == [2]  # two lists that say the same
    (tmp_path / "toy/obj.names").unlink()
    assert one(tmp_path, YOLO, HEAD).box_classes.tolist() == [2]  # counted from 0


@pytest.mark.parametrize(
    "names, text, parts",
    [
        ("red\nwhite", "2 .5 .5 .2 .2", ("no name in the list", "'2' (line 1)")),
        ("red\nwhite", "-1 .5 .5 .2 .2", ("'-1' (line 1)",)),
        ("red\nwhite", "red .5 .5 .2 .2", ("'red' (line 1)",)),
        ("red\ngreen", "0 .5 .5 .2 .2", ("'green' (line 2)", "classes.txt")),
    ],
)
def test_yolo_numbers_out_of_range(tmp_path, names, text, parts):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", text)
    write(tmp_path, "classes.txt", names)
    refused(DataError, card_of(YOLO), tmp_path, *parts)


def test_a_card_without_classes_takes_the_list_as_it_is(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", row(2, SQUARE) + row(0, TRIANGLE))
    write(tmp_path, "data.yaml", "names: [white, blue, red]")
    assert one(tmp_path, YOLO, NAMELESS).box_classes.tolist() == [3, 1]
    coco(tmp_path)
    assert one(tmp_path, COCO, NAMELESS).box_classes.tolist() == [1, 2]


def test_names_lie_in_the_folder(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", row(0, SQUARE))
    (tmp_path / "secret.txt").write_text("red")
    for name in ("../secret.txt", str(tmp_path / "secret.txt")):
        with pytest.raises(CardError) as error:
            card_of(YOLO + f'names = "{name}"\n')
        told(error, "read.names", name, "none lies outside")


def test_yolo_boxes_are_no_masks(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", "0 .5 .5 .2 .2")
    lines = YOLO + "classes = {0 = 1}\n"
    refused(DataError, card_of(lines, ALL), tmp_path, "a box and no outline", "line 1", 'annotation = "boxes"')
    assert pixels(one(tmp_path, lines, HEAD)) == [[32, 24, 48, 36]]
    write(tmp_path, "a.txt", "")
    record = one(tmp_path, lines)
    assert not record.semantic.any() and len(record.boxes) == 0 and len(record.points) == 0


def test_yolo_key_points(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", "0 .5 .5 .4 .4 .4 .4 2 .6 .6 1 0 0 0\n")
    write(tmp_path, "data.yaml", "names: [red]\nkpt_shape: [3, 3]\n")
    head = HEAD.replace('annotation = "boxes"', 'annotation = ["boxes", "points"]')
    record = one(tmp_path, YOLO, head)
    np.testing.assert_allclose(record.points, [[0.4, 0.4], [0.6, 0.6]])
    assert record.point_classes.tolist() == [1, 1]
    np.testing.assert_allclose(record.boxes, [[0.3, 0.3, 0.7, 0.7]])
    with pytest.raises(CardError) as error:
        card_of(YOLO + 'rows = "pose"\n')
    told(error, "read.rows", "keypoints3")


@pytest.mark.parametrize("lines, name", [(YOLO + "classes = {0 = 1}\n", "a.txt"), (COCO, "all.json")])
def test_the_same_object_twice(tmp_path, lines, name):
    coco(tmp_path, lambda j: j.update(annotations=[j["annotations"][0], dict(j["annotations"][0], id=5)]))
    write(tmp_path, "a.txt", row(0, SQUARE) * 2)
    refused(DataError, card_of(lines, ALL), tmp_path, "stands twice", name, 'duplicates = "skip"')
    record = one(tmp_path, lines + 'duplicates = "skip"\n')
    assert len(record.boxes) == 1 and record.instances.max() == 1 and (record.semantic == 1).sum() == 400
    assert len(one(tmp_path, lines + 'duplicates = "keep"\n').boxes) == 2


def test_images_without_labels_and_labels_without_images(tmp_path):
    lines = YOLO + "classes = {0 = 1}\n"
    picture(tmp_path / "toy/a.png")
    picture(tmp_path / "toy/b.png")
    write(tmp_path, "a.txt", row(0, SQUARE))
    write(tmp_path, "c.txt", row(0, SQUARE))
    write(tmp_path, "classes.txt", "red")  # no label file of an image called classes
    refused(DataError, card_of(lines), tmp_path, "b.png", "annotation of an image is missing")
    lines += 'absent_images = "skip"\n'
    assert len(find(card_of(lines + 'unlabelled = "skip"\n'), tmp_path, "real").items) == 1
    a, b = read(card_of(lines + 'unlabelled = "keep"\n', ALL), tmp_path, "real")
    assert len(a.boxes) == 1 and b.boxes is None and b.semantic is None
    a, b = read(card_of(lines + 'unlabelled = "empty"\n', ALL), tmp_path, "real")
    assert len(b.boxes) == 0 and b.semantic.shape == (HEIGHT, WIDTH) and not b.semantic.any()


def runs_of(mask):
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return runs[:-1] if runs[-1] == 0 else runs


def test_coco_polygons_and_run_lengths_are_the_same_masks(tmp_path):
    coco(tmp_path)
    right(one(tmp_path, COCO))

    def packed(content):
        for thing, mask in zip(content["annotations"], (np.zeros((HEIGHT, WIDTH), bool), triangle())):
            if not mask.any():
                mask[12:32, 10:30] = True
            thing["segmentation"] = dict(counts=runs_of(mask), size=[HEIGHT, WIDTH])

    coco(tmp_path, packed)
    right(one(tmp_path, COCO))


def test_a_crowd_is_drawn_and_is_no_object(tmp_path):
    def crowd(content):
        content["annotations"][1].update(
            iscrowd=1, segmentation=dict(counts=runs_of(triangle()), size=[HEIGHT, WIDTH])
        )

    coco(tmp_path, crowd)
    record = one(tmp_path, COCO)
    assert pixels(record) == [[10, 12, 30, 32]] and record.instances.max() == 1
    assert (record.semantic == 2).sum() == triangle().sum() and not record.instances[triangle()].any()
    assert one(tmp_path, COCO, HEAD).box_classes.tolist() == [1]


@pytest.mark.parametrize("word", ["0", "1", "false", 2, [1]])
def test_whether_it_is_a_crowd_must_be_said_in_numbers(tmp_path, word):
    coco(tmp_path, lambda content: content["annotations"][1].update(iscrowd=word))
    refused(DataError, card_of(COCO, ALL), tmp_path, "iscrowd", repr(word), "0 or 1")


def test_the_drawing_order_is_that_of_the_card(tmp_path):
    def over(content):
        content["annotations"][0].update(bbox=[44, 20, 10, 30], segmentation=[[44, 20, 54, 20, 54, 50, 44, 50]])
        content["annotations"].reverse()

    coco(tmp_path, over)
    assert (one(tmp_path, COCO).semantic == 1).sum() == 300
    top = one(tmp_path, COCO + "order = [1, 3, 2]\n")
    assert (top.semantic == 2).sum() == triangle().sum()
    refused(CardError, card_of(COCO + "order = [1]\n", ALL), tmp_path, "order")


@pytest.mark.parametrize(
    "edit, parts",
    [
        (lambda j: j["annotations"][0].update(category_id=1), ("does not list", "'1' (annotation 1)", "90 white")),
        (lambda j: j["annotations"][0].update(category_id="0"), ("does not list",)),
        (lambda j: j["annotations"][0].pop("category_id"), ("does not list", "'None'")),
        (lambda j: j["annotations"][0].update(bbox=[10, 12, 30, 32]), ("two places", "annotation 1")),
        (lambda j: j["annotations"][0].update(segmentation=[[50, 10, 70, 10, 70, 30]]), ("two places",)),
        (lambda j: j["annotations"][0].update(segmentation=[[10, 12, 30, 12]]), ("no area",)),
        (lambda j: j["annotations"][0].update(segmentation=[[10, 12, 30, 12, 20, 12]]), ("no area",)),
        (lambda j: j["annotations"][0].update(segmentation=[10, 12, 30, 12, 30, 32]), ("into a list",)),
        (lambda j: j["annotations"][0].update(segmentation=[]), ("a box and no outline",)),
        (lambda j: j["annotations"][0].update(segmentation=dict(counts=[5], size=[1, 4])), ("do not fill",)),
        (lambda j: j["annotations"][0].update(segmentation=dict(counts=[0, 4740], size=[60, 79]), bbox=[0, 0, 79, 60]),
         ("not of the image's size",)),
        (lambda j: j["annotations"][0].update(bbox=[10, 12, float("nan"), 20]), ("not a number",)),
        (lambda j: j["annotations"][0].update(bbox=[10, 12, 10**400, 20]), ("not a number",)),
        (lambda j: j["annotations"][0].update(bbox=[70, 12, 20, 20], segmentation=[[70, 12, 90, 12, 90, 32]]),
         ("outside",)),
        (lambda j: j["images"].append(dict(id=7, file_name="b.png")), ("one number", "7")),
        (lambda j: j["categories"].append(dict(id=0, name="blue")), ("one number", "0")),
        (lambda j: j["images"][0].update(height="tall"), ("not a number", "tall")),
        (lambda j: j["images"][0].update(file_name=7), ("file_name is no text",)),
        (lambda j: j.update(annotations={"a": 1}), ("does not keep to COCO",)),
        (lambda j: j.update(annotations=[dict(image_id=7, segments_info=[])]), ("panoptic",)),
        (lambda j: j["images"][0].update(height=WIDTH, width=HEIGHT), ("another size",)),
    ],
)
def test_coco_that_contradicts_itself(tmp_path, edit, parts):
    coco(tmp_path, edit)
    refused(DataError, card_of(COCO, ALL), tmp_path, "all.json", *parts)


def test_which_of_box_and_outline_counts(tmp_path):
    coco(tmp_path, lambda j: j["annotations"][0].update(bbox=[10, 12, 30, 32]))
    assert pixels(one(tmp_path, COCO + 'boxes = "segmentation"\n'))[0] == [10, 12, 30, 32]
    assert pixels(one(tmp_path, COCO + 'boxes = "bbox"\n'))[0] == [10, 12, 40, 44]
    with pytest.raises(CardError) as error:
        card_of(COCO + 'boxes = "both"\n')
    told(error, "read.boxes", "bbox, segmentation")


def test_a_number_that_is_not_listed_may_be_declared(tmp_path):
    coco(tmp_path, lambda j: j["annotations"][0].update(category_id=5))
    record = one(tmp_path, COCO + "classes = {5 = 1, white = 2, red = 0}\n")
    right(record)


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.png", r"images\a.png", r"C:\Users\me\a.png", "./x/a.png", "a"])
def test_coco_names_and_encodings(tmp_path, form, name):
    coco(tmp_path, lambda j: j["images"][0].update(file_name=name))
    path = tmp_path / "toy/all.json"
    path.write_bytes(path.read_text().encode(form))
    right(one(tmp_path, COCO))


def test_coco_in_another_encoding(tmp_path):
    coco(tmp_path, lambda j: j["categories"][0].update(name="röt"))
    path = tmp_path / "toy/all.json"
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode("latin-1"))
    lines = COCO + 'classes = {"röt" = 1, white = 2}\n'
    refused(DataError, card_of(lines), tmp_path, "all.json", "encoding = ")
    right(one(tmp_path, lines + 'encoding = "latin-1"\n'))


def test_coco_key_points_are_pixels(tmp_path):
    def pose(content):
        content["annotations"][0].update(keypoints=[0, 0, 0, 12, 14, 2, 79, 59, 1], num_keypoints=2)

    coco(tmp_path, pose)
    record = one(tmp_path, COCO)
    np.testing.assert_allclose(record.points * [WIDTH, HEIGHT], [[12.5, 14.5], [79.5, 59.5]], atol=1e-4)
    assert record.point_classes.tolist() == [1, 1]
    coco(tmp_path, lambda j: j["annotations"][0].update(keypoints=[1, 1, 2], num_keypoints=3))
    refused(DataError, card_of(COCO, ALL), tmp_path, "keypoints", "annotation 1")


def labelme(**changes):
    shapes = [
        dict(label="red", points=[[30, 32], [10, 12]], shape_type="rectangle"),
        dict(label="white", points=TRIANGLE, shape_type="polygon"),
    ]
    return dict(version="5.0", shapes=shapes, imageHeight=HEIGHT, imageWidth=WIDTH) | changes


def geojson(rings, name="red"):
    geometry = dict(type="Polygon", coordinates=rings)
    return dict(type="Feature", geometry=geometry, properties=dict(classification=dict(name=name)))


def test_labelme_and_geojson(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.json", json.dumps(labelme()))
    right(one(tmp_path, SHAPES))
    features = [geojson([SQUARE + SQUARE[:1]]), geojson([TRIANGLE], "white")]
    write(tmp_path, "a.json", json.dumps(dict(type="FeatureCollection", features=features)))
    right(one(tmp_path, SHAPES))
    hole = [[15, 15], [20, 15], [20, 20], [15, 20]]
    write(tmp_path, "a.json", json.dumps(dict(type="FeatureCollection", features=[geojson([SQUARE, hole])])))
    record = one(tmp_path, SHAPES)
    assert (record.semantic == 1).sum() == 400 - 25 and record.semantic[17, 17] == 0


def test_a_class_for_all_and_one_for_each_contradict(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.json", json.dumps(labelme()))
    refused(CardError, card_of(SHAPES + "class = 1\n", ALL), tmp_path, "read.class", "Remove class")


def test_corners_and_first_hold_for_json_too(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.json", json.dumps(labelme()))
    record = one(tmp_path, SHAPES + 'corners = "centres"\n')
    assert (record.semantic == 1).sum() == 21 * 21 and record.semantic[12, 10] == 1
    record = one(tmp_path, SHAPES + "first = 1\n")
    assert (record.semantic == 1).sum() == 400 and record.semantic[11, 9] == 1


def test_what_reads_one_image_of_coco_is_small(tmp_path):
    def many(content):
        content["images"] += [dict(id=n, file_name=f"b{n}.png") for n in range(100, 400)]

    coco(tmp_path, many)
    items = find(card_of(COCO + 'absent_images = "skip"\n'), tmp_path, "real").items
    assert len(items) == 1 and len(pickle.dumps(items[0])) < 6000


def test_points_groups_and_circles_of_labelme(tmp_path):
    picture(tmp_path / "toy/a.png")
    shapes = [
        dict(label="red", points=[[0, 0], [4, 4]], shape_type="rectangle", group_id=3),
        dict(label="red", points=[[10, 0], [14, 4]], shape_type="rectangle", group_id=3),
        dict(label="white", points=[[40, 30], [50, 30]], shape_type="circle"),
        dict(label="blue", points=[[20.5, 40.5]], shape_type="point"),
    ]
    write(tmp_path, "a.json", json.dumps(labelme(shapes=shapes)))
    record = one(tmp_path, SHAPES)
    assert pixels(record)[0] == [0, 0, 14, 4] and (record.instances == 1).sum() == 32
    assert abs((record.semantic == 2).sum() - np.pi * 100) < 6
    np.testing.assert_allclose(record.points * [WIDTH, HEIGHT], [[20.5, 40.5]], atol=1e-4)
    refused(DataError, card_of(SHAPES), tmp_path, "A shape is a point", "shape 4")
    assert len(one(tmp_path, SHAPES + "classes = {red = 1, white = 2, blue = 0}\n", HEAD).boxes) == 2


@pytest.mark.parametrize(
    "content, parts",
    [
        (labelme(imageHeight=61), ("another size", "61 × 80")),
        (labelme(shapes=[dict(label="red", points=TRIANGLE[:2], shape_type="line")]), ("no area that taco draws",)),
        (labelme(shapes=[dict(label="red", points=TRIANGLE[:2])]), ("no area",)),
        (labelme(shapes=[dict(label="green", points=TRIANGLE)]), ("'green'", "shape 1")),
        (labelme(shapes=[dict(label="red", points=[[70, 20], [90, 20], [90, 30]])]), ("outside",)),
        (labelme(shapes=[dict(label="red", points="abc")]), ("no list of points",)),
        (dict(a=1), ("neither labelme nor GeoJSON",)),
        (dict(features=[dict(geometry=dict(type="LineString", coordinates=SQUARE))]), ("no area", "LineString")),
    ],
)
def test_shapes_that_cannot_be_drawn(tmp_path, content, parts):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.json", json.dumps(content))
    refused(DataError, card_of(SHAPES, ALL), tmp_path, "a.json", *parts)


def text(corners, sign=" "):
    return "".join(f"{x}{sign}{y}\n" for x, y in corners)


CONTOURS = 'reader = "polygons"\nimages = "*.png"\nannotations = {red = "*_endo.txt", white = "*_epi.txt"}\n'
LARGE = [[5, 5], [45, 5], [45, 45], [5, 45]]


def test_contours_a_class_a_file_drawn_in_the_order_of_the_card(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a_endo.txt", text(SQUARE))
    write(tmp_path, "a_epi.txt", text(LARGE))
    assert (one(tmp_path, CONTOURS).semantic == 2).sum() == 1600
    record = one(tmp_path, CONTOURS + "order = [3, 2, 1]\n")
    assert (record.semantic == 1).sum() == 400 and (record.semantic == 2).sum() == 1200
    assert sorted(record.box_classes.tolist()) == [1, 2]
    (tmp_path / "toy/a_endo.txt").unlink()  # an apical slice without a cavity
    assert (one(tmp_path, CONTOURS).semantic == 2).sum() == 1600
    (tmp_path / "toy/a_epi.txt").unlink()
    refused(DataError, card_of(CONTOURS, ALL), tmp_path, "annotation of an image is missing")


CONTOUR = 'reader = "polygons"\nimages = "*.png"\nannotations = "*.txt"\nclass = 1\n'


@pytest.mark.parametrize(
    "options, content, count",
    [
        ("", text(SQUARE), 400),
        ("", text(SQUARE) + "\n" + text(TRIANGLE), 400 + int(triangle().sum())),
        ("holes = true", text(LARGE) + "\n" + text(SQUARE), 1600 - 400),
        ('corners = "centres"', text(SQUARE), 21 * 21),
        ('corners = "centres"\nfirst = 1', text([[x + 1, y + 1] for x, y in SQUARE]), 21 * 21),
        ("first = 1", text([[x + 1, y + 1] for x, y in SQUARE]), 400),
        ('separator = ";"\ndecimal = ","', text(SQUARE, ",0;") .replace("\n", ",0\n"), 400),
        ('separator = ","\nheader = true\ncolumns = {x = "col", y = "row"}',
         "row,col\n" + "".join(f"{y},{x}\n" for x, y in SQUARE), 400),
        ('separator = "tab"\nheader = true\ncolumns = {object = "id", x = "x", y = "y"}',
         "id\tx\ty\n" + "".join(f"{n}\t{x}\t{y}\n" for n, c in ((1, SQUARE), (2, LARGE)) for x, y in c), 1600),
    ],
)
def test_ways_to_write_a_contour(tmp_path, options, content, count):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", content)
    assert (one(tmp_path, CONTOUR + options + "\n").semantic == 1).sum() == count


@pytest.mark.parametrize(
    "content, parts",
    [
        (text(SQUARE[:2]), ("no area", "line 1")),
        ("10 x\n", ("not a number", "line 1")),
        ("10\n12\n", ("no such column",)),
        (text([[x + 60, y] for x, y in SQUARE]), ("outside",)),
    ],
)
def test_contours_that_are_none(tmp_path, content, parts):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", content)
    refused(DataError, card_of(CONTOUR, ALL), tmp_path, "a.txt", *parts)


def test_contours_need_a_class(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "a.txt", text(SQUARE))
    refused(CardError, card_of(CONTOUR.replace("class = 1\n", ""), ALL), tmp_path, "no class", "class = ")
    with pytest.raises(CardError) as error:
        card_of(CONTOUR.replace("class = 1", "class = 9"), ALL)
    told(error, "read.class", "9", "1 (red)")
    lines = CONTOURS.replace("red", "green")
    refused(DataError, card_of(lines, ALL), tmp_path, "'green'")


@pytest.mark.parametrize("name", ["a.svg", "a.xml", "a.roi", "a.zip"])
def test_other_outlines_are_refused_by_name(tmp_path, name):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, name, "<svg/>")
    refused(DataError, card_of(CONTOUR.replace("*.txt", name.replace("a.", "*.")), ALL), tmp_path, name, "labelme")


def test_outlines_that_stick_out_may_be_cut(tmp_path):
    picture(tmp_path / "toy/a.png")
    corner = dict(label="red", points=[[70, 50], [90, 50], [90, 70], [70, 70]])
    write(tmp_path, "a.json", json.dumps(labelme(shapes=[corner])))
    record = one(tmp_path, SHAPES + "clip = true\n")
    assert pixels(record) == [[70, 50, 80, 60]] and (record.semantic == 1).sum() == 100


def test_coco_is_sent_to_its_own_reader(tmp_path):
    picture(tmp_path / "toy/a.png")
    write(tmp_path, "all.json", json.dumps(note()))
    refused(CardError, card_of(SHAPES, ALL), tmp_path, "This file is COCO", "all.json", 'reader = "coco"')
    record = one(tmp_path, COCO)  # the fix
    assert (record.semantic == 1).sum() == 400
