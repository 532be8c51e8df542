"""What a move of code must not change: first subjects of phantoms, pairs of all tasks, metrics of the smoke profile.

`python -m tests.test_nothing_changed hidden` writes `tests/hidden.json` anew, the numbers of pairs without traces;
`python -m tests.test_nothing_changed [RUNS]` writes `tests/digests.json` anew, for a change that is meant; with the
folder of finished runs of the smoke profile, their metrics too. Images are rounded to 255 steps first, so that another
processor's last bits do not matter; labels, boxes and keys count as they are.
"""
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from taco.data.pack import pack
from taco.data.phantoms.catalogue import PHANTOMS, make_subject
from taco.data.store import Store
from taco.learning.pairs import make_pairs
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task

FILE = Path(__file__).with_name("digests.json")
HIDDEN = Path(__file__).with_name("hidden.json")
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
                # boxes and points are fractions
                exact = np.round(np.asarray(value, dtype=np.float64) * 1e4).astype(np.int64)
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


def pair_numbers(store: Store, task: str, randomise: bool) -> list[float]:
    """Mean, deviation and roughness of both pictures of pairs without traces, with fixed seeds.

    Numbers and no digest: the last bit of another processor may move a value over a rounding.
    """
    task = get_task(task, "hidden")
    rows = store.select(task=task)
    rows = rows[np.linspace(0, len(rows) - 1, len(SEEDS)).round().astype(int)]
    pairs = make_pairs(store, task, rows, SEEDS, randomise=randomise)
    both = np.concatenate([pairs.input, pairs.output]).astype(np.float64)
    rough = np.abs(np.diff(both, axis=3)).mean((1, 2, 3))
    return np.concatenate([both.mean((1, 2, 3)), both.std((1, 2, 3)), rough]).round(4).tolist()


def metrics_digest(run: Path) -> str:
    "Digest of the metrics of a finished run, without what a clock measured."
    metrics = json.loads((run / "done.json").read_text())["metrics"]
    timeless = {name: {k: v for k, v in m.items() if k != "seconds"} for name, m in metrics.items()}
    return hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest()[:24]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_draws_what_it_drew(recipe, size, known_digests):
    assert recipe_digest(recipe, size) == known_digests["recipes"][f"{recipe} {size}"]


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_makes_the_pairs_it_made(task, store, known_digests):
    assert [pair_digest(store, task, randomise) for randomise in (False, True)] == known_digests["pairs"][task]


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_without_traces_makes_the_pairs_it_made(task, store):
    known = json.loads(HIDDEN.read_text())[task]
    for randomise in (False, True):
        assert np.allclose(pair_numbers(store, task, randomise), known[randomise], atol=5e-4)


def test_every_digest_is_asked_for(known_digests):
    assert set(json.loads(HIDDEN.read_text())) == set(ALL_TASKS)
    assert set(known_digests["recipes"]) == {f"{r} {s}" for r in RECIPES for s in SIZES}
    assert set(known_digests["pairs"]) == set(ALL_TASKS)


if __name__ == "__main__":
    import sys
    import tempfile
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        made = make_store(Path(folder))
        if sys.argv[1:] == ["hidden"]:
            numbers = {t: [pair_numbers(made, t, how) for how in (False, True)] for t in ALL_TASKS}
            HIDDEN.write_text("{\n" + ",\n".join(f' "{t}": {n}' for t, n in numbers.items()) + "\n}\n")
            sys.exit()
        found["recipes"] = {f"{r} {s}": recipe_digest(r, s) for r in RECIPES for s in SIZES}
        found["pairs"] = {t: [pair_digest(made, t, how) for how in (False, True)] for t in ALL_TASKS}
    for runs in sys.argv[1:]:
        found["smoke"] = {f.parent.name: metrics_digest(f.parent) for f in sorted(Path(runs).glob("*/done.json"))}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
