"""Put a trained run into the package, as `taco/pretrained`: python -m tools.ship runs/quick

The encoder in half precision, the embeddings it is asked with, the map, small pictures of the pairs on it, and a card.
It is refused for runs that saw restricted images, and where half precision would change an answer.
"""
import shutil
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from taco.atlas.embedding import Embeddings, embed
from taco.atlas.neighbours import weighted_knn
from taco.atlas.use.explorer import PER_SHEET, even_part, sprite_sheets, thumbnails
from taco.base import StoreError, atomic, refusing
from taco.learning.encoder import FILES, SHIPPED, PairEncoder
from taco.learning.weights import state_of, write_weights
from taco.reading import read_json
from taco.workflow.page import packed_data
from taco.workflow.seal import finished, seal

COLUMNS = ["task", "family", "record", "dataset", "source", "modality", "subject", "split", "seed", "traces"]
FREE = {"phantom", "packaged"}  # kinds of images whose licences leave weights free
TOLD = ("experiment", "code", "commit", "device", "data", "versions", "seconds")  # of a run, to whoever reads it here


CARD = """# The encoder that comes with `taco`

Trained by the profile `{profile}` (`make reproduce PROFILE={profile}`, step `train`, code {code}): {steps} steps of
{tasks_per_batch} tasks × {pairs_per_task} pairs, seed {seed}, {minutes:.0f} minutes on {device}.
`python -m tools.ship runs/{profile}` wrote it.

- **Images**: {datasets} datasets, **phantoms** drawn by this package's programs in the style of a dataset, and a few
  real images that come with installed packages under free licences. No image of a restricted dataset was seen, so the
  weights (Apache-2.0) carry no dataset's restriction.
- **What it answers**: which of thirty tasks a pair (input, output) is like, for images of {size} px.
- **Files**: weights in half precision; embeddings of {bank} training pairs, which vote, and of {held} held-out ones,
  which say how far is usual; their map; small pictures of the latter.

| task named rightly by nearest neighbours | share | of |
| --- | --- | --- |
{rows}

**Limits.** Real images differ from phantoms: on datasets never seen expect fewer right answers than above, fewest for
segmentations by instances and classes. A task that is none of the thirty is placed by its nearest relative; look at
the verdict before the name. It is no medical device.
"""


def halved(encoder: PairEncoder, run: Path, folder: Path) -> PairEncoder:
    "Write the encoder of a run in half precision, and read it again."
    (place := folder / "train/encoder").mkdir(parents=True)
    weights = {name: t.half() if t.is_floating_point() else t for name, t in state_of(encoder).items()}
    write_weights(place / FILES[0], weights)
    shutil.copy(run / "train/encoder" / FILES[1], place)
    return PairEncoder.load(place, "cpu")


def named(vectors: np.ndarray, bank: Embeddings) -> np.ndarray:
    "The task that the neighbours of (N, D) vectors vote for."
    return weighted_knn(np.asarray(bank["taco"], np.float32), bank.table["task"].to_numpy(), vectors)


def card(run: Path, metrics: dict, pairs: Embeddings, about: dict, size: int) -> str:
    "What a user has to know of these weights."
    rows = "\n".join(f"| {title} | {metrics[name]['value']:.3f} | {metrics[name]['data']}, {metrics[name]['n']} pairs |"
                     for title, name in ASKED.items() if name in metrics)
    trained, p = pairs.where(split="train").table, about["parameters"]
    held, minutes = len(pairs) - len(trained), about["seconds"] / 60
    told = p | about | dict(minutes=minutes, bank=len(trained), held=held, datasets=trained["dataset"].nunique())
    return CARD.format(profile=run.name, rows=rows, size=size, **told)


ASKED = {"held-out images": "task_knn_heldout_images", "datasets never seen": "task_knn_unseen_datasets",
         "real images among them": "task_knn_real_unseen"}


def seal_step(run: Path, step: str, spare: Path) -> None:
    "Seal what is shipped of a step as a run of its own: `pretrained/embed` is read as `runs/quick/embed` is."
    done = finished(run / step, step)
    parameters = {n: v for n, v in done["parameters"].items() if "runs/" not in str(v)}
    told = {name: done[name] for name in TOLD if name in done}
    seal(spare / step, told | dict(parameters=parameters, profile=run.name, part="in half precision, of one seed"))


def check_free(table, run: Path) -> None:
    "Refuse a run that was trained on images whose licence the weights would carry."
    bad = sorted(set(table["source"]) - FREE)
    if bad:
        refusing(StoreError, file=run)("This run has seen images that may be restricted.", "source", ", ".join(bad),
                                       ", ".join(sorted(FREE)), "Ship a run of phantoms and packaged images.")


def ship(run: Path, most: int = PER_SHEET) -> Path:
    "Write the package's run folder anew, as a whole; returns it."
    pairs, encoder = Embeddings.load(run / "embed/embeddings"), PairEncoder.load(run / "train/encoder", "cpu")
    train, test = pairs.where(split=("train", "beside")), pairs.where(split="test")
    check_free(train.table, run)
    kept = even_part(test.table, most)
    shown = test.table.iloc[kept].reset_index(drop=True)
    store, xy = packed_data(run / "embed", test), np.load(run / "map/coordinates.npz")
    with atomic(SHIPPED) as spare:
        half = halved(encoder, run, spare)
        again, before = embed(half, store, shown), np.asarray(test["taco"])[kept]
        small = Embeddings(pd.concat([train.table[COLUMNS], shown[COLUMNS]], ignore_index=True), {
                           "taco": np.concatenate([np.asarray(train["taco"]), again]).astype(np.float16)})
        moved = named(again, small.where(split=("train", "beside"))) != named(before, train)
        print(f"cosine with single precision: at least {float((again * before).sum(1).min()):.5f}; "
              f"{moved.mean():.2%} of {len(shown)} answers changed")
        if moved.mean() > .005: raise SystemExit("Half precision changes answers.")
        small.save(spare / "embed/embeddings")
        (sheet,) = sprite_sheets(thumbnails(store, shown), 80)
        (spare / "embed/thumbnails.jpg").write_bytes(b64decode(sheet.partition(",")[2]))
        (spare / "map").mkdir()
        np.savez_compressed(spare / "map/coordinates.npz", **{n: xy[n][kept].astype(np.float32) for n in xy.files})
        for step in ("train", "embed", "map"): seal_step(run, step, spare)
        metrics = read_json(Path("figures", run.name, "metrics.json"), StoreError)
        (spare / "README.md").write_text(card(run, metrics, small, finished(run / "train", "train"),
                                            encoder.config.size), encoding="utf-8")
    return SHIPPED


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = ship(Path(sys.argv[1]))
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        print(f"{file.stat().st_size / 1e6:6.2f} MB  {file}")
