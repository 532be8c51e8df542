"Options that need files of their own: for every reader that admits one, a small folder that it reads otherwise."

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.data.formats.stack import series_scan
from tests.data.formats.dicoms import dicom
from tests.data.made import HEAD
from tests.data.readers.toys import TOYS, grey, marked, outcome, save

PICTURES = "pairs instances channels crops voc table yolo coco polygons".split()
MARKS = PICTURES[4:]
DRAWS = HEAD.replace('annotation = "boxes"', 'annotation = ["boxes", "semantic"]')
SCENES: dict = {}  # (reader, option) → (makes the folder and gives the lines of the card, further lines, the option)


def scene(reader: str, option: str, value, make=None, more=None, head: str = HEAD):
    SCENES[reader, option] = make or TOYS[reader], more or {}, value, head


def images(folder: Path) -> list[Path]:
    "The image files of a toy."
    found = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".png", ".jpg")]
    return [p for p in found if p.parent.name not in ("masks", "colour")]


def with_images(reader: str, rewrite, ending: str = ""):
    "The toy with its images written in another way, and named so in its tables."

    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        for path in images(folder):
            pixels = np.asarray(Image.open(path))
            path.unlink()
            rewrite(path.with_suffix(ending or path.suffix), pixels)
            if not ending:
                continue
            lines["images"] = lines["images"].replace(path.suffix, ending)
            for table in (*folder.glob("*.csv"), *folder.glob("*.json")):
                table.write_text(table.read_text().replace(path.name, path.stem + ending))
        return lines

    return make


def two_pages(path: Path, pixels: np.ndarray):
    tifffile.imwrite(path, np.stack([pixels, pixels[::-1]]), photometric="minisblack")


def upside_down(path: Path, pixels: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(path, format="PNG", exif=exif)


for name in PICTURES:
    scene(name, "page", 1, with_images(name, two_pages))
    scene(name, "orientation", "stored", with_images(name, upside_down))


def dented(folder: Path) -> dict:
    "The pairs with a class in two places."
    lines = TOYS["pairs"](folder)
    for path in (folder / "masks").iterdir():
        mask = np.zeros((60, 80), np.uint8)
        mask[10:14, 10:14], mask[40:44, 50:54] = 1, 1
        Image.fromarray(mask).save(path)
    return lines


scene("pairs", "outlines", "convex", dented)


# ---------------------------------------------------------------- what is missing


def bare(reader: str):
    "The toy with an image more, that nobody annotated."

    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        first = images(folder)[0]
        if reader == "instances":
            save(folder / "c1/image.png", grey(3))
        else:
            save(first.with_name("c1" + first.suffix), grey(3))
        return lines

    return make


def headless(reader: str):
    "The toy without one of its images."

    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        if reader == "coco":
            content = json.loads((folder / "all.json").read_text())
            content["images"].append(dict(id=9, file_name="gone.png", width=80, height=60))
            (folder / "all.json").write_text(json.dumps(content))
        else:
            images(folder)[0].unlink()
        return lines

    return make


for name in PICTURES:
    scene(name, "unlabelled", "keep", bare(name))
for name in ("crops", *MARKS):
    scene(name, "absent_images", "skip", headless(name))


def bare_row(folder: Path) -> dict:
    lines = TOYS["crops"](folder)
    with open(folder / "where.csv", "a") as file:
        file.write("a1.jpg,,red,0,0\n")
    return lines


scene("crops", "without_mask", "skip", bare_row)


# ---------------------------------------------------------------- text


def recoded(reader: str, encoding: str, old: str = "", new: str = ""):
    "The toy with its annotations in another encoding."

    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        for path in folder.rglob("*"):
            if path.suffix in (".csv", ".xml", ".json", ".txt"):
                path.write_bytes(path.read_text().replace(old or "\0", new).encode(encoding))
        return lines

    return make


NORSE = {"classes": {"røed": 1, "white": 2, "blue": 3}}
for name in ("crops", "voc", "table", "coco"):
    scene(name, "encoding", "cp1252", recoded(name, "cp1252", "red", "røed"), NORSE)
for name in ("yolo", "polygons"):
    scene(name, "encoding", "utf-16-le", recoded(name, "utf-16-le"))
OUTSIDE = {
    "voc": ("<xmax>30<", "<xmax>90<"),
    "table": ("10,12,30,32", "10,12,90,32"),
    "yolo": ("0 0.2", "0 0.05"),
    "coco": ("10, 12, 20, 20", "10, 12, 90, 20"),
    "polygons": ("30 32", "90 32"),
}
for name, (old, new) in OUTSIDE.items():
    scene(name, "clip", True, recoded(name, "utf-8", old, new))


def object_twice(reader: str):
    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        for path in folder.rglob("*"):
            text = path.read_text() if path.suffix in (".csv", ".xml", ".json", ".txt") else ""
            if reader == "voc" and text:
                thing = text[text.index("<object>") : text.index("</object>") + 9]
                path.write_text(text.replace(thing, thing * 2))
            elif reader == "coco" and text:
                content = json.loads(text)
                content["annotations"].append(content["annotations"][0] | dict(id=77))
                path.write_text(json.dumps(content))
            elif reader == "polygons" and text:
                path.write_text(text + "\n" + text)
            elif text:
                path.write_text(text + text.splitlines()[-1] + "\n")
        return lines

    return make


for name in MARKS:
    scene(name, "duplicates", "skip", object_twice(name))


def decimals(folder: Path) -> dict:
    text = "kind;x0;y0;x1;y1\nred;10,5;12;30;32\n"
    return marked(folder, "table", "csv", text) | dict(
        columns={n: n for n in ("x0", "y0", "x1", "y1")} | {"class": "kind"}, separator=";"
    )


scene("table", "decimal", ",", decimals)


# ---------------------------------------------------------------- values of masks


def recoloured(reader: str):
    "The toy with masks in colour."

    def make(folder: Path) -> dict:
        lines = TOYS[reader](folder)
        for path in folder.rglob("masks/*.png"):
            mask = np.asarray(Image.open(path))
            save(path, np.stack([mask * (mask > 1), mask * 0, mask * 0], -1))
        return lines

    return make


def unknown(folder: Path) -> dict:
    lines = TOYS["channels"](folder)
    for path in folder.glob("masks/*.tif"):
        planes = tifffile.imread(path)
        planes[50:, 50:] = 77
        tifffile.imwrite(path, planes)
    return lines


for name in ("pairs", "volumes", "hdf5", "npz"):
    scene(name, "ignore", 3, more={"values": {0: 0, 1: 1, 2: 2}})
scene("crops", "ignore", 200)
scene("instances", "ignore", 1)
scene("channels", "ignore", 77, unknown)
scene("instances", "colours", {"#000000": 0, "#ff0000": 1}, recoloured("instances"))
scene("crops", "colours", {"#c80000": 0}, recoloured("crops"))
for name in ("channels", "crops"):
    scene(name, "values", {0: 0, 200: 0} if name == "channels" else {200: 0})
    scene(name, "tolerance", 20, more={"values": {0: 0, 190: 1}})


# ---------------------------------------------------------------- objects


def polygons_of_voc(folder: Path) -> dict:
    def thing(name, shift):
        points = [(shift, 10), (shift + 20, 10), (shift + 20, 30), (shift, 30)]
        corners = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(points, 1))
        box = f"<xmin>{shift}</xmin><ymin>10</ymin><xmax>{shift + 20}</xmax><ymax>30</ymax>"
        return f"<object><name>{name}</name><bndbox>{box}</bndbox><polygon>{corners}</polygon></object>"

    text = f"<annotation>{thing('red', 10)}{thing('white', 20)}</annotation>"
    return marked(folder, "voc", "xml", text)


def polygons_of_yolo(folder: Path) -> dict:
    text = "0 .1 .1 .5 .1 .5 .5 .1 .5\n1 .3 .3 .7 .3 .7 .7 .3 .7\n"
    return marked(folder, "yolo", "txt", text) | dict(classes={0: 1, 1: 2})


def polygons_of_coco(folder: Path) -> dict:
    lines = TOYS["coco"](folder)
    content = json.loads((folder / "all.json").read_text())
    for n, note in enumerate(content["annotations"]):
        x, y = 10 + 8 * n, 12 + 8 * n
        note["segmentation"] = [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]]
        note["bbox"] = [x, y, 20, 20]
    (folder / "all.json").write_text(json.dumps(content))
    return lines


def boxes_elsewhere(folder: Path) -> dict:
    lines = polygons_of_coco(folder)
    text = (folder / "all.json").read_text().replace('"bbox": [10, 12', '"bbox": [40, 12')
    (folder / "all.json").write_text(text)
    return lines


RED_ON_TOP, BOTH = [2, 1], {"classes": {"red": 1, "white": 2, "blue": 0}}
scene("voc", "order", RED_ON_TOP, polygons_of_voc, BOTH, DRAWS)
scene("yolo", "order", RED_ON_TOP, polygons_of_yolo, head=DRAWS)
scene("coco", "order", RED_ON_TOP, polygons_of_coco, BOTH, DRAWS)
scene("polygons", "order", [3, 2, 1], head=DRAWS)
scene("coco", "boxes", "segmentation", boxes_elsewhere)
scene(
    "voc", "difficult", "skip", recoded("voc", "utf-8", "<name>red</name>", "<name>red</name><difficult>1</difficult>")
)


def rows_with_points(folder: Path) -> dict:
    return marked(folder, "yolo", "txt", "0 .5 .5 .4 .4 .4 .4 .6 .6\n") | dict(classes={0: 1})


scene("yolo", "rows", "keypoints2", rows_with_points)


# ---------------------------------------------------------------- outlines


def contours(text: str, *more: tuple[str, object]):
    return lambda folder: marked(folder, "polygons", "txt", text) | {"class": 1} | dict(more)


SQUARE = "10 12\n30 12\n30 32\n10 32\n"
scene("polygons", "images", "re:(a1).png")
scene("polygons", "annotations", {"red": "*_r.txt"})
scene("polygons", "class", 2, contours(SQUARE, ("class", None)))
scene("polygons", "first", 1)
scene("polygons", "corners", "centres")
scene("polygons", "columns", {"x": 1, "y": 0}, contours(SQUARE))
scene("polygons", "separator", ";", contours(SQUARE.replace(" ", ";")))
scene("polygons", "header", True, contours("x y\n" + SQUARE))
scene("polygons", "decimal", ",", contours(SQUARE.replace("30 12", "30,5 12")))
scene("polygons", "holes", True, contours(SQUARE + "\n15 17\n25 17\n25 27\n15 27\n"), head=DRAWS)


# ---------------------------------------------------------------- DICOM


def labelled_series(healthy: bool):
    "The toy with label volumes: little in each slice, one full; nothing in that of b if it is `healthy`."

    def make(folder: Path) -> dict:
        lines = TOYS["dicom"](folder)
        for name in ("a1", "b1"):
            scan = series_scan(sorted((folder / name).iterdir()))
            labels = np.zeros(scan.voxels.shape[:3], np.uint8)
            if not (healthy and name == "b1"):
                labels[2:4, 2:4], labels[:, :, 2] = 1, 1
            nibabel.save(nibabel.Nifti1Image(labels, scan.affine), folder / f"{name}_label.nii.gz")
        return lines | dict(masks="*_label.nii.gz")

    return make


def films(folder: Path) -> dict:
    "Images without a pixel size, and masks of 0 and 2."
    for name in ("a1", "b1"):
        dicom(folder / f"{name}_img.dcm", grey(ord(name[0])))
        save(folder / f"{name}_seg.png", np.uint8(2) * (grey(5) > 100))
    return dict(reader="dicom", images="*_img.dcm", masks="*_seg.png")


scene("dicom", "healthy", "skip", labelled_series(True))
scene("dicom", "foreground", 0.4, labelled_series(False))
scene("dicom", "spacing", [0.3, 0.4], films)
scene("dicom", "tolerance", 1, films, {"values": {0: 0, 1: 1}})
scene("dicom", "values", {0: 0, 2: 1}, films)
scene("dicom", "threshold", 0, films)


@pytest.mark.parametrize("reader, option", SCENES, ids=str)
def test_an_option_changes_what_is_read_of_its_own_files(tmp_path, reader, option):
    make, more, value, head = SCENES[reader, option]
    (tmp_path / "toy").mkdir()
    base = make(tmp_path / "toy") | more
    plain, changed = outcome(base, tmp_path, head), outcome(base | {option: value}, tmp_path, head)
    assert plain != changed, plain
    assert any(isinstance(part, list) for part in changed[2:]), changed  # a record: not one error for another
    assert "no such option" not in str(plain + changed) and "cannot use this value" not in str(plain + changed)
