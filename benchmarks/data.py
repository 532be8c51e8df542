"""Data: packing, reading from the store beside reading the files, memory of a training-like loop, opening many stores.

The files are PNG pictures of phantoms with PNG masks, so that the section needs no download. Reading takes turns
between the two sides, so that a busy moment of the machine hits both. Memory is measured from outside the code that
reads, in processes of their own: one that reads few images, one that reads ten times as many, the same number of
steps.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from rich import box
from rich.table import Table

from taco.data.card import Card, parse_card
from taco.data.find import assign_splits, find, load
from taco.data.pack import pack
from taco.data.phantoms.catalogue import make_subject
from taco.data.prepare import TABLES, fit_square, prepare
from taco.data.store import Store, write_manifest

from .tasks import race

THREADS = 1
QUICK = dict(count=8, side=64, size=24, batch=16, seconds=0.1, steps=1, larger=2, stores=2)
RECIPES = (
    "monusac",
    "drive",
    "busi",
    "isic2018",
)  # two with many objects, one with vessels, one with a single lesion
CARD = """
name = "pictures"
title = "Phantoms as PNG files"
modality = "light microscopy"
anatomy = "any"
annotation = "semantic"
channels = 3
labels_from = "the phantom's own geometry"
licence = "none"
permits = "benchmarks"
citation = "none"
homepage = "none"
classes = {1 = "a", 2 = "b", 3 = "c", 4 = "d"}
split = {rule = "subject"}\nread = [{reader = "pairs", images = "images/*.png", masks = "masks/*.png"}]"""


def write_files(root: Path, count: int, side: int) -> Card:
    "PNG images and masks of `count` phantoms, and a card for them."
    for kind in ("images", "masks"):
        (root / "pictures" / kind).mkdir(parents=True)
    for n in range(count):
        record = make_subject(RECIPES[n % len(RECIPES)], n, side)[0]
        pixels = (
            (np.broadcast_to(record.image, (3, side, side)).transpose(1, 2, 0) * 255).round().astype(np.uint8)
        )
        Image.fromarray(pixels).save(root / "pictures/images" / f"{n:04d}.png")
        Image.fromarray(record.semantic.astype(np.uint8)).save(root / "pictures/masks" / f"{n:04d}.png")
    return parse_card(CARD, "pictures.toml")


def enlarge(folder: Path, out: Path, times: int, name: str = "") -> Path:
    "A store with every row of another one `times` times: as large as a real one, without the hours of packing it."
    out.mkdir(parents=True)
    for path in folder.glob("*.npy"):
        array, ragged = np.load(path), path.stem.removesuffix("_start")
        if path.stem.endswith("_start") and ragged in TABLES:
            array = np.concatenate([array[:1], *(array[1:] + i * array[-1] for i in range(times))])
        else:
            array = np.concatenate([array] * times)
        np.save(out / path.name, array)
    table, manifest = (
        pd.read_csv(folder / "table.csv", dtype=str),
        json.loads((folder / "manifest.json").read_text()),
    )
    manifest["records"] *= times
    manifest["name"] = name or manifest["name"]
    pd.concat(
        [
            table.assign(key=table.key + f"-{i}", subject=table.subject + f"-{i}", dataset=manifest["name"])
            for i in range(times)
        ]
    ).to_csv(out / "table.csv", index=False)
    write_manifest(out, manifest)
    return out


def packing(card: Card, root: Path, place: Path, size: int, repeats: int = 5) -> tuple[Path, dict]:
    """Images per second of `pack` with one process and with as many as there are cores; the median of some.

    Both are warmed up: starting the processes and importing what they need is not packing.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    spent = {workers: [] for workers in sorted({1, cores})}
    for workers in spent:
        pack(card, root, place / "warm", 16, subjects=8, workers=workers)
    for turn in range(repeats):
        for workers, seconds in spent.items():
            start = time.perf_counter()
            folder = pack(card, root, place / f"packed{workers}-{turn}", size, workers=workers)
            seconds.append(time.perf_counter() - start)
    images = len(Store.open([folder]))
    return folder, {str(workers): round(images / float(np.median(s)), 1) for workers, s in spent.items()}


def reading(card: Card, root: Path, folder: Path, size: int, batch: int, seconds: float) -> dict:
    """Images per second in random order.

    A batch of the store, the files decoded and resampled, and the same with the maps that a store holds.
    """
    store, found, rng = Store.open([folder]), find(card, root, "real"), np.random.default_rng(0)
    splits = assign_splits(card, found.items, "real")
    some = lambda: rng.integers(0, len(found.items), 4)
    read = lambda: [fit_square(r, size) for i in some() for r in load(card, found.items[i], splits)]
    whole = lambda: [prepare(r, size) for i in some() for r in load(card, found.items[i], splits)]
    spent = race(
        {
            "store": lambda _: store.batch(rng.integers(0, len(store), batch)),
            "files": lambda _: read(),
            "files_and_maps": lambda _: whole(),
        },
        seconds,
    )
    rates = dict(
        store=batch / spent["store"], files=4 / spent["files"], files_and_maps=4 / spent["files_and_maps"]
    )
    return dict(
        batch=batch,
        images_per_s={n: round(v) for n, v in rates.items()},
        ratio={n: round(rates["store"] / rates[n], 1) for n in ("files", "files_and_maps")},
    )


TOLD = """
info, status = me.memory_info(), pathlib.Path("/proc/self/status")  # getrusage would tell the peak of the parent too
lines = status.read_text().splitlines() if status.exists() else []
peak = max([info.rss, *(int(l.split()[1]) << 10 for l in lines if l.startswith("VmHWM"))])
own = info.rss - getattr(info, "shared", 0)
print(json.dumps(dict(images=len(store), resident=info.rss, peak=peak, own=own)))
"""

LOOP = """
import json, pathlib, sys, psutil, torch
from taco.data.store import Store
from taco.learning.recipe import TrainConfig
from taco.learning.training import new_sampler
torch.set_num_threads(1)
store, me = Store.open([sys.argv[1]]), psutil.Process()
sampler = new_sampler(store, None, TrainConfig.of(device="cpu", pairs_per_task=4))
for step in range(int(sys.argv[2])): pairs = sampler.pairs(sampler.raw(step))
""" + TOLD

# The second system: a network learns to denoise and to segment films that it reads from the store.
FILMS = """
import json, pathlib, sys, psutil, torch
from taco.data.store import Store
from taco.learning.loop import FitConfig
from taco.transfer.unified.batches import Augment, batches
from taco.transfer.unified.examples import read_examples
from taco.transfer.unified.net import UnifiedNet
from taco.transfer.unified.targets import Target
from taco.transfer.unified.tuning import Tuning
torch.set_num_threads(1)
store, me = Store.open([sys.argv[1]]), psutil.Process()
targets = [Target("denoising", "denoising"), Target("lungs", "segmentation", 3)]
films = read_examples(store, "train", targets)
module = Tuning(UnifiedNet(1, targets), targets)
module.config, draw = FitConfig(steps=int(sys.argv[2])), batches(films, films, augment=Augment())
optimiser = torch.optim.SGD(module.parameters(), 1e-3)
for step in range(int(sys.argv[2])):
    optimiser.zero_grad()
    module.loss(draw(step), step).backward()
    optimiser.step()
""" + TOLD


def memory(small: Path, large: Path, steps: int, loop: str = LOOP) -> dict:
    """Megabytes of a process that makes training pairs, or does what `loop` says, from a small and a large store.

    `resident` is what `top` shows after the last step, `peak` the most at any time; both count mapped pages of files,
    which the system can take back. `own` is without those: what the process itself holds.
    """
    root = Path(__file__).resolve().parent.parent
    found = []
    for folder in (small, large):
        done = subprocess.run(
            [sys.executable, "-c", loop, str(folder), str(steps)],
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found.append(json.loads(done.stdout.splitlines()[-1]))
    mb = lambda key: [round(f[key] / 2**20, 1) for f in found]
    more = lambda key: round(100 * (found[1][key] / found[0][key] - 1), 1)
    data = [sum(p.stat().st_size for p in f.glob("*.npy")) / 2**20 for f in (small, large)]
    kinds = ("resident", "peak", "own")
    return dict(
        steps=steps,
        images=[f["images"] for f in found],
        store_mb=[round(d, 1) for d in data],
        **{f"{k}_mb": mb(k) for k in kinds},
        more_percent={k: more(k) for k in kinds},
    )


def film_memory(place: Path, count: int, steps: int, size: int = 32) -> dict:
    "`memory` of the second system's training, for a tenth of `count` films and for all of them."
    hundred = pack("montgomery", out=place, size=size, subjects=100, source="phantom")
    stores = [enlarge(hundred, place / name, times) for name, times in (("few", count // 1000), ("many", count // 100))]
    return memory(*stores, steps, FILMS)


def opening(folder: Path, place: Path, stores: int, times: int = 10, repeats: int = 7) -> dict:
    "Milliseconds to open many stores at once (median; their files are in the system's cache)."
    folders, spent = [enlarge(folder, place / f"many/{i}", times, f"d{i}") for i in range(stores)], []
    for _ in range(repeats):
        start = time.perf_counter()
        store = Store.open(folders)
        spent.append(time.perf_counter() - start)
    return dict(stores=stores, images=len(store), ms=round(1000 * float(np.median(spent)), 1))


def run(
    count: int = 160,
    side: int = 256,
    size: int = 64,
    batch: int = 256,
    seconds: float = 4.0,
    steps: int = 20,
    larger: int = 12,
    stores: int = 39,
    films: int = 100_000,
) -> dict:
    "All five; `larger` × `count` images are the smaller store of the pairs' memory, `films` the larger of theirs."
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        card = write_files(place / "root", count, side)
        packed, rates = packing(card, place / "root", place, size)
        read = reading(card, place / "root", packed, size, batch, seconds)
        held = memory(
            enlarge(packed, place / "small", larger), enlarge(packed, place / "large", 10 * larger), steps
        )
        return dict(
            data=f"phantom, as PNG files of {side} px: {', '.join(RECIPES)}",
            size=size,
            files=count,
            packing_images_per_s=rates,
            reading=read,
            memory=held,
            films=film_memory(place / "films", films, steps),
            opening=opening(packed, place, stores, max(1, 640 // count)),
        )


def show(result: dict) -> Table:
    "The result as a rich table."
    title, caption = f"data at {result['size']} px", f"Data: {result['data']}"
    table = Table("what", "value", box=box.SIMPLE_HEAD, title=title, caption=caption)
    for workers, rate in result["packing_images_per_s"].items():
        table.add_row(f"packing, {workers} process{'es' * (workers != '1')}", f"{rate:,.0f} images/s")
    read, held, opened = result["reading"], result["memory"], result["opening"]
    for name, title in (
        ("store", f"random reading, store, batches of {read['batch']}"),
        ("files", "random reading, files decoded and resampled"),
        ("files_and_maps", "the same with the maps that a store holds"),
    ):
        table.add_row(
            title,
            f"{read['images_per_s'][name]:,} images/s"
            + (f"; the store is {read['ratio'][name]:,.0f} times as fast" if name != "store" else ""),
        )
    for what, found in (("pairs", held), ("films", result["films"])):
        for i in (0, 1):
            table.add_row(
                f"memory, {what} of {found['images'][i]:,} images ({found['store_mb'][i]:.0f} MB of arrays)",
                f"{found['resident_mb'][i]:.0f} MB resident, {found['peak_mb'][i]:.0f} MB at most, "
                f"{found['own_mb'][i]:.0f} MB without mapped files",
            )
        table.add_row(
            "ten times the images",
            "{resident:+.1f} % resident, {peak:+.1f} % at most, {own:+.1f} % without mapped files".format(
                **found["more_percent"]
            ),
        )
    table.add_row(f"opening {opened['stores']} stores, {opened['images']:,} images", f"{opened['ms']:.0f} ms")
    return table
