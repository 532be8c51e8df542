"Every kind of file that taco reads: a good one, made here, and how it is read to the end."

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import nibabel
import nrrd
import numpy as np
import pandas as pd
import tifffile
import torch
from PIL import Image

from taco.atlas.embedding import Embeddings
from taco.atlas.use.own import read_folder
from taco.cli.main import main, read_metrics
from taco.data.card import load_card, parse_card
from taco.data.fetch import unpack
from taco.data.find import find
from taco.data.guess.draft import toml
from taco.data.pack import pack
from taco.data.store import Store, verify
from taco.learning.checkpoint import read_step
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.weights import read_weights
from taco.reading import read_arrays, read_notebook
from taco.transfer.affinity.published import read_guesses, read_outcomes
from taco.workflow.parameters import check_parameters, declared_parameters
from taco.workflow.profile import load_profile
from taco.workflow.seal import read_done, seal
from tests.data.formats.dicoms import dicom, segmentation
from tests.data.made import BY_SUBJECT, CARD, CLASSES, HEAD, PAIRS
from tests.data.readers import toys


@dataclass(frozen=True)
class Kind:
    "A kind of file."

    name: str
    make: Callable[[Path], Any]      # writes good files into a folder
    files: tuple[str, ...]           # those that are spoiled, one at a time
    read: Callable[[Path], object]   # reads all that is in the folder
    family: str                      # what is spoiled in particular, of `mutations`
    checked: bool = False            # whether each bit of it is covered by a checksum
    also: tuple[str, ...] = ()       # other names that an error may hold: of partners, of a folder


# ── datasets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def sound(record, card) -> tuple:
    "A record, after looking whether it is what every part of taco relies on."
    image, labels = record.image, record.semantic
    assert image.dtype == np.float32 and image.ndim == 3 and len(image) in (1, 3), (image.dtype, image.shape)
    assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1, "the image leaves [0, 1]"
    if labels is not None:
        assert labels.shape == image.shape[1:] and set(np.unique(labels).tolist()) <= {0, *card.classes}
    if record.boxes is not None: assert np.isfinite(record.boxes).all()
    if record.points is not None: assert np.isfinite(record.points).all()
    return record.key, image, labels, record.instances, record.boxes, record.points, record.attributes


def records(folder: Path, lines: dict, head: str = HEAD) -> list:
    "All records of a dataset with these lines in its card."
    text = "\n".join(f"{name} = {toml(value)}" for name, value in lines.items())
    card = parse_card(f"{head}[[read]]\n{text}", "toy.toml")
    return [sound(r, card) for i in find(card, folder, "real").items for r in i.load()]


def dataset(name: str, make: Callable[[Path], dict], files: tuple[str, ...], family: str, also=(), **more) -> Kind:
    "A kind whose files lie in a folder with the name of a dataset; `make` returns the lines of the card."
    lines: dict = {}

    def write(folder: Path) -> None:
        (folder / "toy").mkdir()
        lines.update(make(folder / "toy"))

    files = tuple(f"toy/{file}" for file in files)
    return Kind(name, write, files, lambda folder: records(folder, lines), family, also=tuple(also), **more)


def pictures(end: str, save: Callable[[Path, np.ndarray], object], folder: Path) -> dict:
    "Two pairs, whose images are saved in a format."
    lines = toys.pairs(folder)
    for name in ("a1", "b1"):
        y, x = np.mgrid[:60, :80]
        (folder / f"images/{name}.png").unlink()
        save(folder / f"images/{name}.{end}", (x * 2 + y + ord(name[0])).astype(np.uint8))
    return lines | dict(images=f"images/*.{end}")


def masks(end: str, save: Callable[[Path, np.ndarray], object], folder: Path) -> dict:
    "Two pairs, whose masks are saved in a format."
    lines = toys.pairs(folder)
    for name in ("a1", "b1"):
        file = folder / f"masks/{name}.png"
        mask = np.asarray(Image.open(file))
        file.unlink()
        save(file.with_suffix(f".{end}"), mask)
    return lines | dict(masks=f"masks/*.{end}")


def by_pillow(path: Path, array: np.ndarray, **options) -> None:
    Image.fromarray(array).save(path, **options)


def in_colour(path: Path, array: np.ndarray, **options) -> None:
    by_pillow(path, np.stack([array, array[::-1], 255 - array], -1), **options)


def sixteen(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array.astype(np.uint16) * 257).save(path)


FORMATS: dict[str, tuple[str, Callable[[Path, np.ndarray], object], str, bool]] = {
    "PNG": ("png", by_pillow, "png", True),
    "PNG, 16 bits": ("png", sixteen, "png", True),
    "PNG, colour": ("png", in_colour, "png", True),
    "JPEG": ("jpg", in_colour, "jpeg", False),
    "JPEG, progressive": ("jpg", partial(by_pillow, progressive=True), "jpeg", False),
    "GIF": ("gif", by_pillow, "gif", False),
    "BMP": ("bmp", by_pillow, "bmp", False),
    "WebP": ("webp", partial(in_colour, lossless=True), "webp", False),
    "TIFF": ("tif", tifffile.imwrite, "tiff", False),
    "TIFF, deflate": ("tif", partial(tifffile.imwrite, compression="zlib"), "tiff", False),
    "TIFF, LZW tiles": ("tif", partial(tifffile.imwrite, compression="lzw", tile=(16, 16)), "tiff", False),
}


def volume(end: str, write: Callable[[Path, np.ndarray], object], folder: Path) -> dict:
    "The volumes of the toy in another format."
    lines = toys.volumes(folder)
    for file in sorted(folder.glob("*.nii.gz")):
        array = np.asanyarray(nibabel.load(file).dataobj)
        file.unlink()
        write(folder / file.name.replace("nii.gz", end), array)
    return lines | dict(images=f"*_image.{end}", masks=f"*_label.{end}")


def by_nibabel(path: Path, array: np.ndarray) -> None:
    kind = nibabel.MGHImage if path.suffix in (".mgz", ".mgh") else nibabel.Nifti1Image
    nibabel.save(kind(array, np.diag([0.5, 0.75, 3.0, 1.0])), path)


def by_nrrd(path: Path, array: np.ndarray, encoding: str = "gzip") -> None:
    steps = np.diag([0.5, 0.75, 3.0])
    header = {"space": "left-posterior-superior", "space directions": steps, "space origin": [0, 0, 0]}
    nrrd.write(str(path), array, header | dict(encoding=encoding))


def metaimage(path: Path, array: np.ndarray, packed: bool = False) -> None:
    import zlib
    data = array.T.astype("<i2").tobytes()
    data = zlib.compress(data) if packed else data
    size = " ".join(map(str, array.shape))
    head = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {packed}\nDimSize = {size}\n" \
           "ElementSpacing = 0.5 0.75 3\nElementType = MET_SHORT\n"
    local = path.suffix == ".mha"
    name = "LOCAL" if local else path.with_suffix(".raw").name
    path.write_bytes(f"{head}ElementDataFile = {name}\n".encode() + (data if local else b""))
    if not local: path.with_suffix(".raw").write_bytes(data)


def stack(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array.transpose(2, 1, 0).astype(np.uint16), photometric="minisblack",
                     metadata=dict(axes="ZYX"), ome=path.name.endswith(".ome.tif"))


SCANS: dict[str, tuple[str, Callable[[Path, np.ndarray], object], str]] = {
    "NIfTI": ("nii", by_nibabel, "nifti"),
    "NIfTI, packed": ("nii.gz", by_nibabel, "nifti.gz"),
    "MGH, packed": ("mgz", by_nibabel, "mgz"),
    "NRRD": ("nrrd", partial(by_nrrd, encoding="raw"), "nrrd"),
    "NRRD, packed": ("nrrd", by_nrrd, "nrrd"),
    "MetaImage": ("mha", metaimage, "mha"),
    "MetaImage, packed": ("mha", partial(metaimage, packed=True), "mha"),
    "MetaImage beside its data": ("mhd", metaimage, "mha"),
    "TIFF stack": ("tif", stack, "tiff"),
    "OME-TIFF": ("ome.tif", stack, "tiff"),
}


def dicom_pairs(folder: Path) -> dict:
    "DICOM images with masks in DICOM SEG."
    for name in ("a1", "b1"):
        mask = np.zeros((1, 60, 80), np.uint8)
        mask[0, 10:30, 10:30] = 1
        dicom(folder / f"{name}.dcm", toys.grey(ord(name[0])).astype(np.uint16))
        segmentation(folder / f"{name}_seg.dcm", mask, [1], {1: "red"}, [folder / f"{name}.dcm"])
    return dict(reader="dicom", images="re:(a1|b1)[.]dcm", masks="*_seg.dcm", subject="re:([ab]1)")


def with_attributes(folder: Path) -> dict:
    lines = toys.pairs(folder)
    (folder / "people.csv").write_text("file,age\na1.png,30\nb1.png,40\n")
    return lines | dict(attributes=dict(age=dict(table="people.csv", row="file", column="age")))


def compressed_npz(folder: Path) -> dict:
    lines = toys.npz(folder)
    arrays = dict(np.load(folder / "toy_32.npz"))
    np.savez_compressed(folder / "toy_32.npz", **{k: arrays[k] for k in ("train_images", "train_label")})
    return lines


def datasets() -> list[Kind]:
    a1 = ("a1",)
    found = [
        dataset(name, partial(pictures, end, save), (f"images/a1.{end}",), family, a1, checked=checked)
        for name, (end, save, family, checked) in FORMATS.items()
    ]
    found += [
        dataset("mask in PNG", partial(masks, "png", by_pillow), ("masks/a1.png",), "png", a1, checked=True),
        dataset("mask in TIFF", partial(masks, "tif", tifffile.imwrite), ("masks/a1.tif",), "tiff", a1),
    ]
    found += [
        dataset(name, partial(volume, end, write), (f"a1_image.{end}", f"a1_label.{end}"), family, a1)
        for name, (end, write, family) in SCANS.items()
    ]
    beside = partial(volume, "mhd", metaimage)
    return [
        *found,
        dataset("data beside a MetaImage", beside, ("a1_image.raw",), "raw", a1),
        dataset("DICOM series", toys.dicom, ("a1/002.dcm",), "dicom", a1),
        dataset("DICOM image", dicom_pairs, ("a1.dcm",), "dicom", a1),
        dataset("DICOM SEG", dicom_pairs, ("a1_seg.dcm",), "dicom", a1),
        dataset("HDF5", toys.hdf5, ("a_1.h5",), "hdf5"),
        dataset("npz", toys.npz, ("toy_32.npz",), "npz"),
        dataset("npz, packed", compressed_npz, ("toy_32.npz",), "npz"),
        dataset("instances", toys.instances, ("a1/masks/1.png",), "png", a1),
        dataset("channels", toys.channels, ("masks/a1.tif",), "tiff", a1),
        dataset("table of crops", toys.crops, ("where.csv",), "csv", ("a1",)),
        dataset("table of boxes", toys.table, ("a1.csv",), "csv", a1),
        dataset("table of attributes", with_attributes, ("people.csv",), "csv", ("a1",)),
        dataset("COCO", toys.coco_files, ("all.json",), "json", ("a.png",)),
        dataset("VOC", toys.TOYS["voc"], ("a1.xml",), "xml", a1),
        dataset("YOLO", toys.yolo_files, ("a1.txt",), "text", a1),
        dataset("polygons", toys.polygons, ("a1_r.txt",), "text", a1),
    ]


# ── all other files ───────────────────────────────────────────────────────────────────────────────────────────────────


GOOD_CARD = CARD + CLASSES + PAIRS + BY_SUBJECT


def card_alone(folder: Path) -> None: (folder / "toy.toml").write_text(GOOD_CARD)


def archive_in_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "toy.zip", "w", zipfile.ZIP_DEFLATED) as held:
        for n in range(3): held.writestr(f"images/{n}.txt", f"number {n} " * 40)


def archive_in_tar(end: str, folder: Path) -> None:
    with tarfile.open(folder / f"toy.{end}", "w:" + end.removeprefix("tar").lstrip(".")) as held:
        for n in range(3):
            about = tarfile.TarInfo(f"images/{n}.txt")
            content = f"number {n} ".encode() * 40
            about.size = len(content)
            held.addfile(about, io.BytesIO(content))


def unpacked(name: str, folder: Path) -> list:
    place = unpack(folder / name, folder / "unpacked")
    files = sorted(p for p in place.rglob("*") if p.is_file())
    return [(p.relative_to(place).as_posix(), p.read_bytes()) for p in files]


def packed(folder: Path) -> None:
    toys.pairs(folder / "root/toy")
    text = "\n".join(f"{k} = {toml(v)}" for k, v in dict(reader="pairs", images="images/*.png",
                                                         masks="masks/*.png").items())
    (folder / "toy.toml").write_text(f"{HEAD}[[read]]\n{text}")
    pack(folder / "toy.toml", folder / "root", source="real", size=16, out=folder / "out").rename(folder / "pack")


def opened_store(folder: Path) -> list:
    verify(folder / "pack")
    store = Store.open([folder / "pack"])
    return [store.batch(range(len(store))), store.table]


def embedded(folder: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    table = pd.DataFrame(dict(task="shear", family="transformation", dataset="toy", subject=[f"s{n}" for n in range(6)],
                              record=range(6), seed=range(6), key=[f"k{n}" for n in range(6)]))
    Embeddings(table, dict(taco=vectors)).save(folder / "embeddings")


def opened_embeddings(folder: Path) -> list:
    found = Embeddings.load(folder / "embeddings")
    return [found.table, np.array(found["taco"])]


def encoder(folder: Path) -> None:
    torch.manual_seed(0)
    PairEncoder(EncoderConfig(backbone="resnet10", width=0.125, size=32)).save(folder / "encoder")


def foreign_weights(folder: Path) -> None:
    torch.save({"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3)}, folder / "weights.pth")


def checkpoint(folder: Path) -> None:
    torch.save(dict(global_step=7, state_dict={"w": torch.zeros(4)}), folder / "last.ckpt")


def finished_run(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run/result.csv").write_text("a,b\n1,2\n")
    metric = dict(value=0.5, ci=[0.4, 0.6], n=3, seeds=1, data="phantom")
    seal(folder / "run", dict(parameters=dict(steps=3), metrics=dict(dice=metric)))


def published(folder: Path) -> None:
    metric = dict(value=0.5, ci=[0.4, 0.6], n=3, seeds=1, data="phantom")
    (folder / "metrics.json").write_text(json.dumps(dict(dice=metric)))


CELL = "steps: int = 30  # of training\nfolder: str = 'runs/x'\nrate: float = 0.1\n"


def notebook(folder: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"),
                                           nbformat.v4.new_code_cell(CELL, metadata=dict(tags=["parameters"]))])
    for n, cell in enumerate(book.cells): cell.id = f"c{n}"
    nbformat.write(book, folder / "own.ipynb")


def declared(folder: Path) -> list:
    found = declared_parameters(folder / "own.ipynb")
    check_parameters(found, {name: p.default for name, p in found.items()}, folder / "own.ipynb")
    return list(found.values())


def profile(folder: Path) -> None:
    (folder / "mine.yaml").write_text("description: mine\nshared: {seed: 3}\ntrain: {steps: 30}\nskip: [ums_rep]\n")


def pairs_of_mine(folder: Path) -> None:
    for side, turn in (("input", 1), ("output", -1)):
        (folder / f"mine/{side}").mkdir(parents=True)
        for name in ("a1", "b1"): by_pillow(folder / f"mine/{side}/{name}.png", toys.grey(3)[::turn])


def arrays_of_mine(folder: Path) -> None:
    (folder / "mine").mkdir()
    grey = np.stack([toys.grey(n) for n in range(3)])
    np.savez_compressed(folder / "mine/a1.npz", input=grey, output=grey[:, ::-1])


def outcomes(folder: Path) -> None:
    rows = [f"{s},{t},{n / 10}" for n, (s, t) in enumerate((s, t) for s in "ab" for t in "cd")]
    (folder / "outcomes.csv").write_text("source,target,gain\n" + "\n".join(rows) + "\n")


def guesses(folder: Path) -> None:
    (folder / "guesses.csv").write_text("source,c,d\na,0.1,0.2\nb,0.3,0.4\n")


def places(folder: Path) -> None:
    np.savez(folder / "coordinates.npz", umap=np.arange(12.0).reshape(6, 2))


def typed(words: list[str]) -> list:
    "What a command answers; one that ends in an error of ours is that error."
    from taco.base import DataError
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said): main(words)
    except SystemExit as left:
        if "foresee" in said.getvalue(): raise AssertionError(said.getvalue()) from None
        if left.code == 2: raise DataError(said.getvalue()) from None
        return [left.code]
    return []


def new_card(folder: Path, out: Path) -> list:
    out.unlink(missing_ok=True)
    return [*typed(["data", "new", str(folder), "-o", str(out)]), out.exists()]


def drafted(folder: Path, make: Callable[[Path], dict] = toys.pairs) -> None:
    (folder / "toy").mkdir()
    make(folder / "toy")


def checked_set(folder: Path) -> None:
    toys.pairs(folder / "root/toy")
    (folder / "toy.toml").write_text(GOOD_CARD.replace("{0 = 0, 255 = 1}", "{0 = 0, 1 = 1, 2 = 1, 3 = 1}"))


def others() -> list[Kind]:
    rows = tuple(f"pack/{name}.npy" for name in ("semantic", "boxes"))
    of = ("encoder.safetensors", "encoder.json")
    return [
        Kind("card", card_alone, ("toy.toml",), lambda f: load_card(f / "toy.toml"), "toml"),
        Kind("zip archive", archive_in_zip, ("toy.zip",), partial(unpacked, "toy.zip"), "zip"),
        *(Kind(f"{end} archive", partial(archive_in_tar, end), (f"toy.{end}",), partial(unpacked, f"toy.{end}"), "tar")
          for end in ("tar", "tar.gz", "tar.xz", "tar.bz2")),
        Kind("packed dataset", packed, ("pack/manifest.json", "pack/table.csv", "pack/can.npy", "pack/image.npy"),
             opened_store, "sealed", True, ("pack",)),
        Kind("columns of a packed dataset", packed, rows, opened_store, "npy", True, ("pack",)),
        Kind("embeddings", embedded, tuple(f"embeddings/{n}" for n in ("manifest.json", "pairs.csv", "taco.npy")),
             opened_embeddings, "sealed", True, ("embeddings",)),
        Kind("encoder", encoder, tuple(f"encoder/{n}" for n in of),
             lambda f: PairEncoder.load(f / "encoder", device="cpu").state_dict(), "safetensors", True, ("encoder",)),
        Kind("weights of others", foreign_weights, ("weights.pth",), lambda f: read_weights(f / "weights.pth"),
             "torch"),
        Kind("checkpoint", checkpoint, ("last.ckpt",), lambda f: read_step(f / "last.ckpt"), "torch"),
        Kind("finished run", finished_run, ("run/done.json",), lambda f: read_done(f / "run", "Again."), "sealed",
             True),
        Kind("metrics", published, ("metrics.json",), read_metrics, "json", also=("metrics",)),
        Kind("notebook", notebook, ("own.ipynb",), lambda f: read_notebook(f / "own.ipynb"), "json"),
        Kind("parameters of a notebook", notebook, ("own.ipynb",), declared, "notebook"),
        Kind("profile", profile, ("mine.yaml",), lambda f: load_profile(f / "mine.yaml"), "yaml"),
        Kind("pairs to place", pairs_of_mine, ("mine/input/a1.png",), lambda f: read_folder(f / "mine", 16), "png",
             also=("a1",)),
        Kind("arrays to place", arrays_of_mine, ("mine/a1.npz",), lambda f: read_folder(f / "mine", 16), "npz",
             also=("mine",)),
        Kind("outcomes", outcomes, ("outcomes.csv",), lambda f: read_outcomes(f / "outcomes.csv"), "csv"),
        Kind("guesses", guesses, ("guesses.csv",), lambda f: read_guesses(f / "guesses.csv"), "csv"),
        Kind("places of a map", places, ("coordinates.npz",), lambda f: read_arrays(f / "coordinates.npz"), "npz"),
        Kind("taco data new", drafted, ("toy/images/a1.png",),
             lambda f: new_card(f / "toy", f / "new.toml"), "png", also=("toy",)),
        *(Kind(f"taco data new of {family}", lambda f, make=make: drafted(f, make), (f"toy/{file}",),
               lambda f: new_card(f / "toy", f / "new.toml"), family, also=("toy",))
          for family, make, file in (("npz", toys.npz, "toy_32.npz"), ("hdf5", toys.hdf5, "a_1.h5"))),
        Kind("taco data check", checked_set, ("root/toy/images/a1.png", "toy.toml"),
             lambda f: typed(["data", "check", str(f / "toy.toml"), "--root", str(f / "root")]), "png", also=("toy",)),
    ]


def kinds() -> list[Kind]: return [*datasets(), *others()]
