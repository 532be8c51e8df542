"What the campaign disturbs: packing, training, embedding, publishing, fetching, commands and whole Snakemake runs."

import contextlib
import hashlib
import io
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import taco
from taco.atlas.embedding import Embeddings, embed_by, plan_pairs, task_parts
from taco.data.collection import contents
from taco.data.fetch import fetch
from taco.data.pack import pack
from taco.data.store import Store, read_manifest
from taco.disk import bytes_digest, folder_digests
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.recipe import TrainConfig
from taco.learning.training import train
from taco.workflow.execute import execute
from taco.workflow.publish import DIGESTS, publish, read_published
from taco.workflow.run import Run
from taco.workflow.seal import finished
from tests.campaign.judge import Job, Result
from tests.data.made import make_card, write_pairs
from tests.shop import Shop, toy
from tests.workflow.test_execute import project
from tests.workflow.test_publish_killed import made_run

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 32
TASKS = ["horizontal_flip", "intensity_inversion", "binary_segmentation", "gaussian_denoising"]
TINY = EncoderConfig(backbone="resnet10", width=0.0625, size=SIZE)
PHANTOM = dict(size=SIZE, source="phantom")


def digest(value) -> str:
    "Of an array, a tensor, a table or anything that has a text."
    if isinstance(value, torch.Tensor): value = value.numpy()
    if isinstance(value, np.ndarray):
        value = value.dtype.str.encode() + str(value.shape).encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, pd.DataFrame): value = value.to_csv()
    return bytes_digest(value if isinstance(value, bytes) else str(value).encode())


def files_in(folder: Path, *names: str) -> Result:
    "The digests of some files, or of all below some folders; nothing for what is not there."
    found = {}
    for name in names:
        if (folder / name).is_file(): found[name] = digest((folder / name).read_bytes())
        elif (folder / name).is_dir():
            found |= {f"{name}/{n}": d for n, d in folder_digests(folder / name).items()}
    return found


# ── pack ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def stored(folder: Path) -> Result:
    "A packed dataset as its readers see it: every row of every array, the table, the splits, the manifest."
    if not folder.exists(): return {}
    store = Store.open([folder])
    found = {name: digest(values) for name, values in vars(store.batch(range(len(store)))).items()}
    known = dict(table=store.table, split=np.asarray(store.split), manifest=store.parts[0].manifest)
    return found | {name: digest(value) for name, value in known.items()}


def pack_job(workers: int = 1, subjects: int = 24) -> Job:
    name, call = f"wbc-phantom-{SIZE}", dict(PHANTOM, subjects=subjects, workers=workers)
    return Job(
        "pack" if workers == 1 else f"pack, {workers} workers",
        work=lambda folder: pack("wbc", out=folder, seed=1, **call),
        result=lambda folder: stored(folder / name), files=lambda folder: files_in(folder, name),
        old=lambda folder: pack("wbc", out=folder, seed=0, **call),
        damaged=lambda folder: sorted(p for p in (folder / name).iterdir() if p.is_file()))


def pack_files_job(place: Path, count: int = 60, skip_bad: bool = False) -> Job:
    "Packing of files in a folder that may be unplugged."
    write_pairs(place / "data", count)
    card, name = make_card(place), f"toy-real-{SIZE}"
    call = dict(root=place / "data", size=SIZE, source="real", skip_bad=skip_bad)
    return Job("pack files" + ", bad ones left out" * skip_bad, work=lambda folder: pack(card, out=folder, **call),
               result=lambda folder: stored(folder / name), files=lambda folder: files_in(folder, name),
               home=place / "data/toy")


# ── train and embed ───────────────────────────────────────────────────────────────────────────────────────────────────


def small_store(place: Path) -> Store:
    names = ("acdc", "monusac", "busi")
    return Store.open([pack(name, out=place / "packed", subjects=6, **PHANTOM) for name in names])


def encoder_in(folder: Path) -> Result:
    "An encoder as it is loaded."
    if not folder.exists(): return {}
    encoder = PairEncoder.load(folder, device="cpu")
    return {name: digest(tensor) for name, tensor in encoder.state_dict().items()} | {"config": digest(encoder.config)}


def train_job(store: Store, steps: int = 12) -> Job:
    config = TrainConfig.of(
        steps=steps, checkpoint_every=3, log_every=1, pairs_per_task=2, device="cpu", precision="32",
        learning_rate=3e-3, encoder=TINY)

    def files(folder: Path) -> Result:
        history = pd.read_csv(folder / "run/history.csv")
        rest = [] if not (folder / "run/training.ckpt").exists() else ["training.ckpt, beside the encoder"]
        kept = {"loss and rate": digest(history[["step", "loss", "lr"]]), **dict.fromkeys(rest, "")}
        return files_in(folder, "run/encoder", "run/run.json") | kept

    return Job("train", work=lambda folder: train(store, TASKS, config, folder / "run", progress=False),
               result=lambda folder: encoder_in(folder / "run/encoder"), files=files, chain=3,
               damaged=lambda folder: sorted((folder / "run/encoder").iterdir()))


def embed_job(store: Store) -> Job:
    "As the experiment of that name does it: in parts, which are kept until the embeddings are."
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = PairEncoder(TINY).eval()

    def work(folder: Path, seed: int = 1) -> None:
        run, vectors = Run("embed", folder, {}), None
        table = pd.concat([plan_pairs(store, TASKS, split, 6, seed) for split in ("train", "test")], ignore_index=True)
        for number, rows in enumerate(task_parts(table, 3)):
            some = table.iloc[rows]
            make = lambda names, some=some: embed_by(dict.fromkeys(names, encoder), store, some, 16)
            part = run.parts(folder / "state-campaign", dict(taco=f"taco-{number}"), make)["taco"]
            vectors = np.empty((len(table), part.shape[1]), part.dtype) if vectors is None else vectors
            vectors[rows] = part
        Embeddings(table, dict(taco=vectors)).save(folder / "embeddings")
        run.keep_only(None)

    def result(folder: Path) -> Result:
        if not (folder / "embeddings").exists(): return {}
        found = Embeddings.load(folder / "embeddings")
        return dict(table=digest(found.table), taco=digest(np.asarray(found["taco"])))

    return Job("embed", work=work, result=result, files=lambda folder: files_in(folder, "embeddings"),
               old=lambda folder: work(folder, 2), damaged=lambda folder: sorted((folder / "embeddings").iterdir()))


# ── publish ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def publish_job(place: Path, steps: int = 2) -> Job:
    "Figures, numbers and pages of several runs; the old ones are of the same runs with other results."
    for value in (0, 1):
        for number in range(steps): made_run(place / f"runs{value}/step{number}", f"step{number}", value)

    def work(folder: Path, value: int = 1) -> None:
        publish({f"step{n}": place / f"runs{value}/step{n}" for n in range(steps)}, folder / "tiny")

    def result(folder: Path) -> Result:
        if not (folder / "tiny").exists(): return {}
        names = ("metrics.json", "manifest.json")
        found = {name: digest(read_published(folder / "tiny", name)) for name in names}
        shown = ("*.png", "*.svg", "*.md")  # pictures are of the same run as the numbers
        return found | {p.name: digest(p.read_bytes()) for kind in shown for p in (folder / "tiny").glob(kind)}

    return Job("publish", work=work, result=result, files=lambda folder: files_in(folder, "tiny"),
               old=lambda folder: work(folder, 0),
               damaged=lambda folder: [folder / "tiny" / n for n in ("metrics.json", "manifest.json", DIGESTS)])


# ── fetch ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Far(Shop):
    "A shop in a process of its own, whose manners are asked of a file each time."

    def __init__(self, place: Path, files: dict[str, bytes]):
        self.note = place / "manners"
        super().__init__(files)

    @property
    def manners(self) -> str: return self.note.read_text()

    @manners.setter
    def manners(self, manners: str) -> None: self.note.write_text(manners)


@contextlib.contextmanager
def far_shop(place: Path) -> Generator[Far]:
    "Two files and an archive behind an address of this machine."
    rng, box = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        for n in range(12): archive.writestr(zipfile.ZipInfo(f"images/{n}.bin"), rng.bytes(4000))
    files = {"images.npz": rng.bytes(200_000), "masks.npz": rng.bytes(60_000), "pictures.zip": box.getvalue()}
    place.mkdir(parents=True, exist_ok=True)
    shop, child = Far(place, files), os.fork()
    if not child:
        try: shop.serve_forever()
        finally: os._exit(0)
    shop.socket.close()
    try: yield shop
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def fetch_job(shop: Shop, manners: str = "slow 0.002") -> Job:
    card = toy(*(shop.row(name) for name in shop.files))
    wanted = {name: hashlib.sha256(body).hexdigest() for name, body in shop.files.items()}

    def work(folder: Path) -> None:
        shop.manners = manners
        fetch(card, folder, progress=False)

    def result(folder: Path) -> Result:
        "What lies under its real name must be whole; what was not fetched yet is not there."
        place = folder / "toy"
        found = files_in(folder, "toy")
        for name in wanted.keys() & {p.name for p in place.glob("*")}:
            if hashlib.sha256((place / name).read_bytes()).hexdigest() != wanted[name]: return found | {name: "torn"}
        whole = len(list(place.glob("pictures/images/*"))) in (0, 12)
        return found if not whole or len(found) == len(wanted) + 12 else {}

    return Job("fetch", work=work, result=result, files=lambda folder: {}, shop=shop)


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def tiny_job(place: Path) -> Job:
    "The command that runs an experiment, with one that does next to nothing, in our own process."
    import nbformat

    from tests.workflow.test_stop import BODY, PARAMETERS, WORK
    (place / "nbs/experiments").mkdir(parents=True)
    (place / "settings.ini").touch()
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata=dict(tags=["parameters"])),
             *map(nbformat.v4.new_code_cell, (BODY, WORK.replace("str(os.getpid())", "'1'"), "run.finish()"))]
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(book, place / "nbs/experiments/tiny.ipynb")

    def work(folder: Path, how: str = "well") -> None:
        os.chdir(place)
        execute("tiny", dict(folder=str(folder), how=how), echo=False)

    def result(folder: Path) -> Result:
        if not (folder / "done.json").exists(): return {}
        with contextlib.chdir(place): done = finished(folder, "tiny")
        return dict(how=done["parameters"]["how"], numbers=digest((folder / "numbers.csv").read_bytes()))

    return Job("taco run", work=work, result=result, files=lambda folder: files_in(folder, "numbers.csv"),
               damaged=lambda folder: [folder / "done.json", folder / "numbers.csv"])


PYTHON = [sys.executable, "-c", "from taco.cli.main import main; main()"]
WORDS = {
    "pack": ["datasets=[drive, busi]", "subjects=6", f"size={SIZE}"],
    "train": [f"tasks=[{', '.join(TASKS)}]", "steps=10", "tasks_per_batch=4", "width=0.0625", "device=cpu"],
    "embed": [f"tasks=[{', '.join(TASKS)}]", "baselines=[pixels]", "device=cpu"]}
LEAVES = dict(pack="stores", train="encoder", embed="embeddings")


def environment(copy: Path) -> Mapping[str, str]:
    "Of commands: this copy of the code, one thread, and a folder of its own for temporary files."
    (copy / "tmp").mkdir(exist_ok=True)
    return dict(PYTHONPATH=str(copy), OMP_NUM_THREADS="1", TMPDIR=str(copy / "tmp"))


def copy_of_project(folder: Path) -> Path:
    "What runs, in a folder of its own, with a profile of three steps that are as small as they can be."
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    sections = [f"{step}: {{{', '.join(w.replace('=', ': ') for w in words)}}}" for step, words in WORDS.items()]
    project(folder)
    (folder / "profiles/campaign.yaml").write_text("\n".join(["only: [pack, train, embed]", *sections]))
    return folder


def left_by(copy: Path, run: Path, step: str) -> Result:
    "What a finished run of a step holds: its numbers, and the values in its stores, encoder or embeddings."
    if not (run / "done.json").exists(): return {}
    with contextlib.chdir(copy): done = finished(run, step)
    found = dict(metrics=digest(done["metrics"]))
    if step != "pack": return found | files_in(run, LEAVES[step])
    return found | {p.name: digest(contents(read_manifest(p))) for p in sorted((run / "stores").iterdir())}


def command_job(copy: Path, step: str) -> Job:
    "`taco run` of a step; those before it lie, finished, in runs/before."
    needs = dict(pack=[], train=["pack"], embed=["pack", "train"])[step]
    given = [*WORDS[step], *(f"{need}_run=runs/before/{need}" for need in needs)]

    def work(folder: Path) -> tuple[list[str], Path]:
        words = [w for one in (f"folder={folder / step}", *given) for w in ("-p", one)]
        return [*PYTHON, "run", step, *words], copy

    result = lambda folder: left_by(copy, folder / step, step)
    return Job(f"taco run {step}", work=work, result=result, files=lambda folder: {}, command=True, chain=3,
               environment=environment(copy))


def snakemake_job(copy: Path) -> Job:
    "All three steps as `make reproduce` runs them; the folder holds the runs."
    def work(folder: Path) -> tuple[list[str], Path]:
        words = ["taco", "--cores", "1", "--rerun-incomplete", "--rerun-triggers", "params", "mtime", "--config",
                 "profile=campaign", f"runs={folder}", "--quiet", "host", "rules"]
        return [sys.executable, "-m", "tools.steps", *words], copy

    def result(folder: Path) -> Result:
        runs = {step: left_by(copy, folder / "campaign" / step, step) for step in WORDS}
        if not all(runs.values()): return {}  # not all of them yet
        return {f"{step}: {name}": value for step, found in runs.items() for name, value in found.items()}

    return Job("Snakemake", work=work, result=result, files=lambda folder: {}, command=True, chain=3,
               environment=environment(copy))


assert taco.__file__.startswith(str(ROOT)), f"another taco: {taco.__file__}"
