"""What a move of code must not change: the phantoms' first subjects and the pairs of all thirty tasks, by their digests.

`python -m tests.test_nothing_changed` writes `tests/digests.json` anew, for a change that is meant. Images are rounded to 255 steps first,
so that another processor's last bits do not matter; labels, boxes and keys count as they are.
"""
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from taco.data.phantoms import PHANTOMS, make_subject
from taco.data.store import Store, pack
from taco.learning.pairs import make_pairs
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task

FILE = Path(__file__).with_name("digests.json")
SIZES, SUBJECTS, SEEDS = (48, 64), (0, 1), (1, 2, 3, 4)
RECIPES = sorted(PHANTOMS)
FIELDS = ("semantic", "instances", "boxes", "box_classes", "points", "point_classes")


def rounded(image) -> bytes:
    "An image in [0, 1] as bytes, in 255 steps."
    return np.round(np.asarray(image, dtype=np.float64) * 255).astype(np.uint8).tobytes()


def recipe_digest(recipe: str, size: int) -> str:
    "Digest of the first subjects of one recipe: pixels, labels, what is known of them."
    digest = hashlib.sha256()
    for subject in SUBJECTS:
        for record in make_subject(recipe, subject, size):
            digest.update(rounded(record.image))
            for field in FIELDS:
                value = getattr(record, field, None)
                if value is None: continue
                exact = np.round(np.asarray(value, dtype=np.float64) * 1e4).astype(np.int64)  # boxes and points are fractions
                digest.update(field.encode() + exact.tobytes())
            known = (record.key, record.subject, record.slice, record.modality, sorted(record.attributes.items()))
            digest.update(repr(known).encode())
    return digest.hexdigest()[:24]


def make_store(folder: Path) -> Store:
    "Small phantoms that between them allow every task: cells, vessels, organs, boxes."
    names = ("bbbc010", "drive", "acdc", "wbc", "abdomenus")
    return Store.open([pack(name, out=folder, size=48, source="phantom", subjects=4) for name in names])


def pair_digest(store: Store, task: str, randomise: bool) -> str:
    "Digest of the pairs that a task makes of all records that allow it, with fixed seeds."
    rows = store.select(task=get_task(task))
    rows = rows[np.linspace(0, len(rows) - 1, len(SEEDS)).round().astype(int)]
    pairs = make_pairs(store, task, rows, SEEDS, randomise=randomise)
    return hashlib.sha256(rounded(pairs.input) + rounded(pairs.output)).hexdigest()[:24]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def known() -> dict:
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_draws_what_it_drew(recipe, size, known):
    assert recipe_digest(recipe, size) == known["recipes"][f"{recipe} {size}"]


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_makes_the_pairs_it_made(task, store, known):
    assert [pair_digest(store, task, randomise) for randomise in (False, True)] == known["pairs"][task]


def test_every_digest_is_asked_for(known):
    assert set(known["recipes"]) == {f"{r} {s}" for r in RECIPES for s in SIZES} and set(known["pairs"]) == set(ALL_TASKS)


if __name__ == "__main__":
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        made = make_store(Path(folder))
        FILE.write_text(json.dumps(dict(
            recipes={f"{r} {s}": recipe_digest(r, s) for r in RECIPES for s in SIZES},
            pairs={t: [pair_digest(made, t, randomise) for randomise in (False, True)] for t in ALL_TASKS}), indent=1) + "\n")
