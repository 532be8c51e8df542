"A profile's run folder with made-up embeddings of real pairs of phantoms, for the tests of its page."

import json
from pathlib import Path

import numpy as np
import pandas as pd

from taco.atlas.embedding import Embeddings, plan_pairs
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS


def vectors_of(table: pd.DataFrame, dimensions: int = 8) -> np.ndarray:
    "Made-up embeddings in which tasks are clusters."
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(ALL_TASKS), dimensions))
    vectors = centres[
        [ALL_TASKS.index(t) if t in ALL_TASKS else 0 for t in table["task"]]
    ] + 0.3 * rng.normal(size=(len(table), dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_run(folder: Path) -> Path:
    "A profile's run folder: pack, embed, map and alterations, with made-up embeddings of real pairs of phantoms."
    names = [
        pack(card, source="phantom", size=32, subjects=24, out=folder / "pack/stores").name
        for card in ("drive", "acdc")
    ]
    (folder / "pack/stores.txt").write_text("\n".join(names))
    table = plan_pairs(
        Store.open([folder / "pack/stores" / n for n in names]), list(ALL_TASKS), "test", 3, seed=1
    )
    vectors = vectors_of(table)
    Embeddings(table, dict(taco=vectors, pixels=vectors[:, ::-1].copy())).save(
        folder / "embed/embeddings"
    )
    (folder / "map").mkdir()
    np.savez(folder / "map/coordinates.npz", umap=vectors[:, :2] * 7 + 3, tsne=vectors[:, 2:4] * 40)
    for name, parameters in dict(
        pack={}, embed=dict(pack_run=str(folder / "pack")), map=dict(encoder="taco")
    ).items():
        (folder / name / "done.json").write_text(json.dumps(dict(parameters=parameters)))
    (folder / "alterations").mkdir()
    paths_of(table, vectors[:, :2] * 7 + 3).to_csv(folder / "alterations/paths.csv", index=False)
    return folder


def paths_of(table: pd.DataFrame, xy: np.ndarray) -> pd.DataFrame:
    "Two made-up paths that start at the first pair and lead out of the map's corner."
    first, corner = table.iloc[0], xy.max(0)
    whose = dict(task=first.task, dataset=first.dataset, record=first.record)
    spot = lambda axis, share: xy[0, axis] + (corner[axis] - xy[0, axis]) * share
    return pd.DataFrame(
        [
            dict(
                whose,
                alteration=a,
                step=s,
                parameter=s / 4,
                x=spot(0, s / 4),
                y=spot(1, s / 4) + (i if s else 0),
            )
            for i, a in enumerate(("blur", "noise"))
            for s in range(5)
        ]
    )


def told(path: Path) -> dict:
    "What a page holds as data."
    return json.loads(
        path.read_text(encoding="utf-8").split('id="atlas-data">')[1].split("</script>")[0]
    )


def store_of(run: Path) -> Store:
    "The packed data of a run made here."
    names = (run / "pack/stores.txt").read_text().split("\n")
    return Store.open([run / "pack/stores" / name for name in names])
