"Small datasets, one for each reader, and what comes of reading them."

from pathlib import Path

import h5py
import nibabel
import numpy as np
import tifffile
from PIL import Image

from taco.base import TacoError
from taco.data.card import parse_card
from taco.data.find import find
from taco.data.formats.stack import write_series
from taco.data.guess.draft import toml
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


def polygons(folder: Path) -> dict:
    lines = marked(folder, "polygons", "txt", "")
    for name in ("a1", "b1"):
        (folder / f"{name}.txt").unlink()
        (folder / f"{name}_r.txt").write_text("10 12\n30 12\n30 32\n10 32\n")
        (folder / f"{name}_w.txt").write_text("20 20\n72 20\n72 50\n20 50\n")
    return lines | dict(annotations={"red": "*_r.txt", "white": "*_w.txt"})


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
    polygons=polygons,
    voc=lambda folder: marked(folder, "voc", "xml", voc()),
    volumes=volumes,
    hdf5=hdf5,
    dicom=dicom,
    npz=npz,
    packaged=lambda folder: dict(reader="packaged", image="joint_mr"),
)


def outcome(lines: dict, root: Path, head: str = HEAD) -> list:
    "What comes of reading a card with these lines: records, or the first line of the error."
    text = "\n".join(f"{k} = {toml(v)}" for k, v in lines.items() if v is not None)
    try:
        card = parse_card(f"{head}[[read]]\n{text}", "toy.toml")
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
                r.ignore,
                r.boxes,
                r.points,
                r.box_classes,
                r.point_classes,
            ]
            seen.append([None if a is None else (a.shape, a.tobytes()) for a in arrays])
            seen.append((r.key, r.modality, r.spacing, r.slice, sorted(r.attributes.items())))
    return seen
