"Made datasets that the tests of readers and of finding share, and the cards that go with them."

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taco.base import DataError
from taco.data.card import load_card, parse_card
from taco.data.find import find, read

HEAD = """name = "toy"
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
"""
WIDTH, HEIGHT = 80, 60
BOXES = [("red", 10, 12, 30, 32), ("white", 44, 20, 72, 50)]  # pixel edges
VOC = 'reader = "voc"\nimages = "*.png"\nannotations = "*.xml"\n'
YOLO = 'reader = "yolo"\nimages = "*.png"\nannotations = "*.txt"\nclasses = {0 = 1, 1 = 2}\n'
COCO = 'reader = "coco"\nimages = "**/*.png"\nannotations = "all.json"\n'
TABLE = (
    'reader = "table"\nimages = "*.png"\nannotations = "all.csv"\n'
    'columns = {image = "file", x0 = "x0", y0 = "y0", x1 = "x1", y1 = "y1", class = "kind"}\n'
)
POINTS = (
    'reader = "table"\nimages = "*.png"\nannotations = "*.txt"\n'
    'columns = {x = 0, y = 1, class = 2}\nseparator = "space"\nheader = false\n'
)
CHANNELS = 'reader = "channels"\nimages = "images/*.png"\nmasks = "masks/*.tif"\nchannels = {0 = 1, 1 = 2, 2 = 0}\n'
CROPS = (
    'reader = "crops"\nimages = "*.jpg"\ntable = "where.csv"\nclasses = {lung = 1, heart = 2, box = 0}\n'
    'columns = {image = "image", mask = "mask", class = "class", top = "top", left = "left"}\n'
)


HDF5 = 'reader = "hdf5"\nfiles = "*.h5"\nimage = "image"\nlabel = "label"\n'


def card_of(read_table: str, head: str = HEAD):
    return parse_card(f"{head}[[read]]\n{read_table}", "toy.toml")


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(len(path.name)).integers(0, 255, (height, width)).astype(np.uint8)
    ).save(path)


def write(root: Path, name: str, text: str) -> Path:
    path = root / "toy" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(boxes=BOXES, size=(WIDTH, HEIGHT)) -> str:
    things = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in boxes
    )
    shape = f"<width>{size[0]}</width><height>{size[1]}</height><depth>1</depth>"
    return f"<annotation><size>{shape}</size>{things}</annotation>"


def yolo(boxes=BOXES) -> str:
    return "".join(
        f"{['red', 'white', 'blue'].index(n)} {(a + c) / 2 / WIDTH:.6f} {(b + d) / 2 / HEIGHT:.6f} "
        f"{(c - a) / WIDTH:.6f} {(d - b) / HEIGHT:.6f}\n"
        for n, a, b, c, d in boxes
    )


def coco(boxes=BOXES, **changes) -> str:
    things = [
        dict(
            id=n,
            image_id=1,
            category_id=10 + ["red", "white", "blue"].index(b[0]),
            bbox=[b[1], b[2], b[3] - b[1], b[4] - b[2]],
        )
        for n, b in enumerate(boxes, 1)
    ]
    return json.dumps(
        dict(
            images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)],
            annotations=things,
            categories=[dict(id=10 + n, name=w) for n, w in enumerate(["red", "white", "blue"])],
        )
        | changes
    )


def table(boxes=BOXES) -> str:
    return "file,kind,x0,y0,x1,y1\n" + "".join(
        f"a.png,{n},{a},{b},{c},{d}\n" for n, a, b, c, d in boxes
    )


FORMATS = {
    "voc": (VOC, "a.xml", voc),
    "yolo": (YOLO, "a.txt", yolo),
    "coco": (COCO, "all.json", coco),
    "table": (TABLE, "all.csv", table),
}


def refused(kind, card, root: Path, *parts: str, source: str = "real") -> str:
    "The message with which reading fails, after checking that it names these parts."
    with pytest.raises(kind) as error:
        list(read(card, root, source))
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in: {error.value}"
    return str(error.value)


def failures(card, root) -> list:
    errors = []
    for item in find(card, root, "real").items:
        try:
            item.load()
        except DataError as error:
            errors.append(error)
    return errors


def films(root: Path, *names: str) -> None:
    for name in names:
        picture(root / f"toy/{name}.png")
        write(root, f"{name}.xml", voc())


CARD = """name = "toy"
title = "Toy"
modality = "fluorescence microscopy"
anatomy = "cells"
annotation = "semantic"
channels = 1
labels_from = "drawn by the test"
licence = "none"
permits = "tests"
citation = "none"
homepage = "https://example.org"
"""
CLASSES = '\n[classes]\n1 = "disc"\n'
PAIRS = (
    '\n[[read]]\nreader = "pairs"\nimages = "images/*.{png,tif,bmp,gif,jpg}"\n'
    'masks = "masks/*.{png,tif,bmp,gif}"\nvalues = {0 = 0, 255 = 1}\n'
)
NPZ = '\n[[read]]\nreader = "npz"\nfile = "toy_{size}.npz"\n'
BY_SUBJECT = '\n[split]\nrule = "subject"\n'
GIVEN = '\n[split]\nrule = "given"\n'


def make_card(tmp_path: Path, text: str = CARD + CLASSES + PAIRS + BY_SUBJECT):
    path = tmp_path / "toy.toml"
    path.write_text(text)
    return load_card(path)


def disc(number: int, height: int = 40, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    "A noisy image with a disc, and the disc."
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    mask = (x - rng.integers(14, width - 14)) ** 2 + (
        y - rng.integers(14, height - 14)
    ) ** 2 < rng.integers(6, 12) ** 2
    return (60 + 120 * mask + rng.integers(0, 30, mask.shape)).astype(np.uint8), mask


def write_pairs(root: Path, count: int = 12, per_subject: int = 2) -> Path:
    "A folder of PNG pairs, named subject_number."
    for kind in ("images", "masks"):
        (root / "toy" / kind).mkdir(parents=True)
    for n in range(count):
        image, mask = disc(n)
        name = f"p{n // per_subject:02d}_{n:02d}.png"
        Image.fromarray(image).save(root / "toy" / "images" / name)
        Image.fromarray((mask * 255).astype(np.uint8)).save(root / "toy" / "masks" / name)
    return root


def told(error, *parts: str) -> str:
    "The message of an error, after checking that it names these parts."
    for part in parts:
        assert part in str(error.value), f"{part!r} is not in: {error.value}"
    return str(error.value)
