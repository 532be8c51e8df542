"Every option of every reader changes what is read: the table of declarations, gone through row by row."

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from taco.base import TacoError
from taco.data.card import parse_card
from taco.data.draft import toml
from taco.data.find import find
from taco.data.formats.stack import write_series
from taco.data.options import NEEDED, OPTIONS, known_readers, options_of
from taco.data.readers.catalogue import READERS
from taco.data.readers.source import COMMON
from tests.data.made import HEAD, coco, voc, yolo

H, W = 60, 80


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 200, (H, W)).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pairs(folder: Path) -> dict:
    mask = np.zeros((H, W), np.uint8)
    mask[10:30, 10:30], mask[35:50, 40:70], mask[0, 0] = 1, 2, 3
    for name in ("a1", "b1"):
        save(folder / f"images/{name}.png", grey(ord(name[0])))
        save(folder / f"masks/{name}.png", mask)
    colour = np.zeros((H, W, 3), np.uint8)
    colour[5:9, 5:9] = 255, 0, 0
    for name in ("a1", "b1"):
        save(folder / f"colour/{name}.png", colour)
    return dict(reader="pairs", images="images/*.png", masks="masks/*.png")


def instances(folder: Path) -> dict:
    for name in ("a1", "b1"):
        save(folder / f"{name}/image.png", grey(ord(name[0])))
        for n in range(2):
            mask = np.zeros((H, W), np.uint8)
            mask[10 * n : 10 * n + 8, 5:20] = 255
            mask[50, 50] = 1
            save(folder / f"{name}/masks/{n}.png", mask)
    return dict(reader="instances", images="*/image.png", objects="re:([^/]+)/masks/[^/]+")


def channels(folder: Path) -> dict:
    planes = np.zeros((H, W, 3), np.uint8)
    planes[5:30, 5:30, 0], planes[20:40, 20:40, 1] = 200, 200
    for name in ("a1", "b1"):
        save(folder / f"images/{name}.png", grey(ord(name[0])))
        (folder / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"masks/{name}.tif", planes)
    lines = dict(reader="channels", images="images/*.png", masks="masks/*.tif")
    return lines | dict(channels={0: 1, 1: 2, 2: 0})


def crops(folder: Path) -> dict:
    rows = ["image,mask,class,top,left"]
    for name in ("a1", "b1"):
        save(folder / f"{name}.jpg", grey(ord(name[0])))
        for n, word in enumerate(("red", "white")):
            crop = np.full((20, 20), 200, np.uint8)
            save(folder / f"masks/{name}{n}.png", crop)
            rows.append(f"{name}.jpg,masks/{name}{n}.png,{word},{8 * n},{8 * n}")
    (folder / "where.csv").write_text("\n".join(rows) + "\n")
    columns = {name: name for name in ("image", "mask", "class", "top", "left")}
    return dict(reader="crops", images="*.jpg", table="where.csv", columns=columns)


def marked(folder: Path, reader: str, end: str, text) -> dict:
    for name in ("a1", "b1"):
        save(folder / f"{name}.png", grey(ord(name[0])))
        (folder / f"{name}.{end}").write_text(text)
    return dict(reader=reader, images="*.png", annotations=f"*.{end}")


def table(folder: Path) -> dict:
    lines = marked(folder, "table", "csv", "kind,x0,y0,x1,y1\nred,10,12,30,32\nwhite,44,20,72,50\n")
    return lines | dict(columns={n: n for n in ("x0", "y0", "x1", "y1")} | {"class": "kind"})


def coco_files(folder: Path) -> dict:
    save(folder / "a.png", grey(1))
    (folder / "all.json").write_text(coco())
    return dict(reader="coco", images="*.png", annotations="all.json")


def yolo_files(folder: Path) -> dict:
    lines = marked(folder, "yolo", "txt", yolo())
    return lines | dict(classes={0: 1, 1: 2})


def volumes(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for name in ("a1", "b1"):
        image = rng.integers(20, 200, (12, 14, 10)).astype(np.int16)
        labels = np.zeros((12, 14, 10), np.uint8)
        labels[2:9, 3:9, 2:8], labels[1:11, 1:11, 5], labels[4:6, 4:6, 4:6] = 1, 1, 2
        labels[2, 3, 2] = 3
        affine = np.diag([0.5, 0.75, 3.0, 1.0])
        for kind, array in (("image", image), ("label", labels)):
            nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"{name}_{kind}.nii.gz")
    return dict(reader="volumes", images="*_image.nii.gz", masks="*_label.nii.gz")


def hdf5(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for name in ("a_1", "b_1"):
        labels = np.zeros((10, 12, 14), np.uint8)
        labels[2:8, 3:9, 2:9], labels[5, 1:11, 1:11] = 1, 1
        labels[4:6, 4:6, 4:6], labels[2, 3, 2] = 2, 3
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["image"] = rng.integers(20, 200, (10, 12, 14)).astype(np.int16)
            file["other"] = rng.integers(20, 200, (10, 12, 14)).astype(np.int16)
            file["label"], file["plane"] = labels, file["image"][0]
            file["empty"] = labels * 0
    return dict(reader="hdf5", files="*.h5", image="image", label="label")


def dicom(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    for name in ("a1", "b1"):
        volume = rng.integers(0, 500, (14, 12, 6)).astype(np.int16)
        write_series(folder / name, volume, patient=name)
    return dict(reader="dicom", images="re:(?P<id>[^/]+)/[^/]+", series=True)


def npz(folder: Path) -> dict:
    rng = np.random.default_rng(0)
    labels = np.zeros((2, 32, 32), np.uint8)
    labels[:, 5:20, 5:20], labels[:, 0, 0] = 1, 3
    arrays = {
        "train_images": rng.integers(20, 200, (2, 32, 32)).astype(np.uint8),
        "train_label": labels,
    }
    arrays |= {"train_images_x": arrays["train_images"][::-1], "train_label_x": labels}
    arrays |= {"train_label_disc": labels, "train_label_cup": labels * 0}
    np.savez(folder / "toy_32.npz", **arrays)
    np.savez(folder / "toy_48.npz", **{name: array[:, 1:, 1:] for name, array in arrays.items()})
    return dict(reader="npz", file="toy_32.npz")


TOYS = dict(
    pairs=pairs,
    instances=instances,
    channels=channels,
    crops=crops,
    table=table,
    coco=coco_files,
    yolo=yolo_files,
    voc=lambda folder: marked(folder, "voc", "xml", voc()),
    volumes=volumes,
    hdf5=hdf5,
    dicom=dicom,
    npz=npz,
    packaged=lambda folder: dict(reader="packaged", image="joint_mr"),
)

ANY = {  # option → what it is set to, for all readers that admit it and have nothing of their own below
    "layout": "slices",
    "modality": "CT",
    "folder": "elsewhere",
    "subject": "re:(.)[^/]*$",
    "split": "re:([ab])[^/]*$",
    "attributes": {"side": {"pattern": "re:([a-z])"}},
    "window": [30, 90],
    "percentiles": [20, 60],
    "values": {0: 0, 1: 2, 2: 1, 3: 3},
    "threshold": 1,
    "exclude": "**/b*",
    "images": "**/a*.png",
    "spacing": [0.3, 0.4],
    "slices": "all",
    "every": 3,
    "number": 2,
    "foreground": 0.4,
    "axis": 1,
    "tag": "flair",
    "clip": True,
    "classes": {"red": 2, "white": 1},
    "unlabelled": "empty",
    "absent_images": "skip",
    "first": 0,
    "header": True,
}
GONE = {"unlabelled": "a1", "absent_images": "a1"}  # the file that is taken away before
BOX = {n: n for n in ("x0", "y0", "x1", "y1")}
OWN = {  # (reader, option) → (what stands there without it, with it)
    ("pairs", "masks"): ({}, {"masks": "colour/*.png"}),
    ("pairs", "images"): ({}, {"images": "images/a*.png"}),
    ("pairs", "objects"): ({}, {"objects": True}),
    ("pairs", "colours"): (
        {"masks": "colour/*.png"},
        {"masks": "colour/*.png", "colours": {"#000000": 0, "#ff0000": 2}},
    ),
    ("pairs", "tolerance"): ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 1}),
    ("instances", "images"): ({}, {"images": "a*/image.png"}),
    ("instances", "objects"): ({}, {"objects": "re:([^/]+)/masks/0[^/]+"}),
    ("instances", "values"): ({}, {"values": {0: 0, 1: 0, 255: 1}}),
    ("instances", "threshold"): ({}, {"threshold": 100}),
    ("instances", "tolerance"): (
        {"values": {0: 0, 250: 1}},
        {"values": {0: 0, 250: 1}, "tolerance": 20},
    ),
    ("instances", "class"): ({}, {"class": 2}),
    ("channels", "images"): ({}, {"images": "images/a*.png"}),
    ("channels", "masks"): ({}, {"masks": "masks/a*.tif"}),
    ("channels", "channels"): ({}, {"channels": {0: 2, 1: 1, 2: 0}}),
    ("channels", "order"): ({}, {"order": [2, 1]}),
    ("channels", "threshold"): ({}, {"threshold": 250}),
    ("crops", "images"): ({}, {"images": "a*.jpg"}),
    ("crops", "table"): ({}, {"table": "none.csv"}),
    ("crops", "columns"): (
        {},
        {"columns": {"image": 0, "mask": 1, "class": 2, "top": 3, "left": 3}},
    ),
    ("crops", "order"): ({}, {"order": [3, 2, 1]}),
    ("crops", "threshold"): ({}, {"threshold": 250}),
    ("crops", "separator"): ({}, {"separator": ";"}),
    ("crops", "header"): ({}, {"header": False}),
    ("voc", "annotations"): ({}, {"annotations": "a*.xml"}),
    ("table", "annotations"): ({}, {"annotations": "a*.csv"}),
    ("coco", "annotations"): ({}, {"annotations": "none.json"}),
    ("yolo", "annotations"): ({}, {"annotations": "a*.txt"}),
    ("coco", "exclude"): ({}, {"exclude": "a.png"}),
    ("coco", "subject"): ({}, {"subject": r"re:\.(png)"}),
    ("coco", "images"): ({}, {"images": "b*.png"}),
    ("coco", "classes"): ({}, {"classes": {"red": 2, "white": 0}}),
    ("coco", "split"): ({}, {"split": "re:(a)", "splits": {"a": "test"}}),
    ("yolo", "classes"): ({}, {"classes": {0: 2, 1: 1}}),
    ("yolo", "names"): ({}, {"names": "none.txt"}),
    ("table", "columns"): ({}, {"columns": BOX | {"x0": "y0", "class": "kind"}}),
    ("table", "separator"): ({}, {"separator": ";"}),
    ("table", "header"): ({}, {"header": False}),
    ("table", "units"): ({}, {"units": "fractions"}),
    ("table", "class"): ({"columns": BOX}, {"columns": BOX, "class": 2}),
    ("table", "first"): ({}, {"first": 1}),
    ("volumes", "images"): ({}, {"images": "a*_image.nii.gz"}),
    ("volumes", "masks"): ({}, {"masks": "a*_label.nii.gz"}),
    ("hdf5", "files"): ({}, {"files": "a*.h5"}),
    ("hdf5", "image"): ({}, {"image": "other"}),
    ("hdf5", "label"): ({}, {"label": "empty"}),
    ("hdf5", "slice"): (
        {"image": "plane", "label": None},
        {"image": "plane", "label": None, "slice": r"re:_(\d+)"},
    ),
    ("npz", "file"): ({}, {"file": "toy_48.npz"}),
    ("npz", "variant"): ({}, {"variant": "x"}),
    ("npz", "labels"): ({}, {"labels": {"cup": 2}}),
    ("npz", "attributes"): ({}, {"attributes": {"side": {"pattern": r"re:\[(\d)\]$"}}}),
    ("packaged", "image"): ({}, {"image": "thorax_ct"}),
    ("dicom", "images"): ({}, {"images": "re:(?P<id>a)1/[^/]+"}),
    ("dicom", "masks"): ({}, {"masks": "none/*.nii.gz"}),
    ("dicom", "series"): ({}, {"series": "no such description"}),
    ("dicom", "slices"): ({}, {"slices": [1]}),
    ("dicom", "exclude"): ({}, {"exclude": "b1/*"}),
}
for name in ("volumes", "hdf5"):
    OWN[name, "tolerance"] = ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 1})
OWN["npz", "tolerance"] = ({"values": {0: 0, 2: 1}}, {"values": {0: 0, 2: 1}, "tolerance": 2})
OWN["hdf5", "spacing"] = ({}, {"spacing": [0.3, 0.4]})
for name in known_readers():
    OWN[name, "splits"] = (
        {"split": "re:([ab])[^/]*$"},
        {"split": "re:([ab])[^/]*$", "splits": {"a": "train", "b": "test"}},
    )
OWN["dicom", "splits"] = (
    {"split": "re:([ab])1/"},
    {"split": "re:([ab])1/", "splits": {"a": "train", "b": "test"}},
)

# Options that need files of their own; each has its test beside the others of its reader.
ELSEWHERE = {
    "test_masks.py": "page ignore objects unlabelled colours",
    "test_layers.py": "page ignore unlabelled without_mask absent_images",
    "test_marks.py": "page encoding duplicates difficult order boxes rows decimal names clip "
    "unlabelled absent_images exclude",
    "test_polygons.py": "polygons",
    "test_volumes.py": "series channel stack segments healthy unlabelled frame spacing foreground",
    "test_arrays.py": "healthy unlabelled",
    "test_dicom.py": "order segments where inverted unlabelled foreground values colours threshold "
    "tolerance spacing tag "
    "frame every number axis",
}


def elsewhere(reader: str, option: str) -> bool:
    words = {word for text in ELSEWHERE.values() for word in text.split()}
    return reader in words or option in words


PAIRS = [(r, o.name) for o in OPTIONS for r in o.readers]
HERE = [
    (r, n)
    for r, n in PAIRS
    if r in TOYS
    and ((r, n) in OWN or n in ANY)
    and not (r == "volumes" and n == "spacing")
    and ((r, n) in OWN or not (elsewhere(r, n) and (r == "dicom" or n in GONE or n == "clip")))
]


def outcome(lines: dict, root: Path) -> list:
    "What comes of reading a card with these lines: records, or the first line of the error."
    text = "\n".join(f"{k} = {toml(v)}" for k, v in lines.items() if v is not None)
    try:
        card = parse_card(f"{HEAD}[[read]]\n{text}", "toy.toml")
        found = find(card, root, "packaged" if lines["reader"] == "packaged" else "real")
    except TacoError as error:
        return [error.what]
    seen: list = [
        found.layout if "layout" in lines else "",
        [(i.subject, i.split) for i in found.items],
    ]
    for item in found.items:
        try:
            records = item.load()
        except TacoError as error:
            seen.append(error.what)
            continue
        for r in records:
            arrays = [
                r.image,
                r.semantic,
                r.instances,
                r.boxes,
                r.points,
                r.box_classes,
                r.point_classes,
            ]
            seen.append([None if a is None else (a.shape, a.tobytes()) for a in arrays])
            seen.append((r.key, r.modality, r.spacing, r.slice, sorted(r.attributes.items())))
    return seen


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    made: dict = {}

    def toy(reader: str):
        if reader not in made:
            root = tmp_path_factory.mktemp(reader)
            (root / "toy").mkdir()
            made[reader] = root, TOYS[reader](root / "toy")
        return made[reader]

    return toy


@pytest.mark.parametrize("reader, option", HERE, ids=lambda word: word)
def test_an_option_changes_what_is_read(toys, reader, option):
    root, base = toys(reader)
    without, given = OWN.get((reader, option), ({}, {option: ANY.get(option)}))
    if (reader, option) not in OWN and option == "images":
        given = {"images": base["images"].replace("*", "a*", 1)}
    if reader in ("volumes", "dicom") and option == "spacing":
        given = {"spacing": [0.3, 0.4, 0.5]}
    plain, changed = outcome(base | without, root), outcome(base | given, root)
    assert plain != changed, plain
    assert "no such option" not in str(changed) and "cannot use this value" not in str(changed), (
        changed
    )


def test_every_pair_of_reader_and_option_has_a_test():
    left = [pair for pair in PAIRS if pair not in HERE and not elsewhere(*pair)]
    assert not left


def test_the_register_agrees_with_the_declarations():
    assert set(READERS) <= set(known_readers()) == set(NEEDED)
    for name, reader in READERS.items():
        assert set(reader.options) == {"reader", *options_of(name)}
        assert all(o.meaning and o.example for o in options_of(name).values()), name
        assert set(NEEDED[name].split()) <= set(options_of(name))
    assert set(COMMON) - {"reader"} <= {option.name for option in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.name}-{o.readers[0]}")
def test_an_example_of_an_option_can_be_used(option):
    import tomllib

    value = tomllib.loads(f"{option.name} = {option.example}")[option.name]
    assert not list(option.check(value, {1: "disc", 2: "cup", 3: "rim"}))
