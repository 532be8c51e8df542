"""Pairs per second of the batched tasks, beside the same tasks applied image by image.

Both sides start from records of the final size in memory and end with two float32 tensors (B, 3, S, S); both draw
their parameters anew for every pair from the same ranges. The batched side reads the maps that a store holds; what it
costs to prepare them, once per record, is measured and reported too.
"""

import time
from itertools import cycle, islice
from types import SimpleNamespace

import numpy as np
import torch

from taco.data.phantoms.catalogue import make_subject
from taco.data.prepare import collate, prepare
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import Choice, Task, get_task

from .one_by_one import REFERENCES

# Both sides on one thread: a loader has many workers, a batch has many threads, and neither should win by that.
THREADS = 1
RECIPES = ("monusac", "wbc", "abdomenus", "acdc", "drive", "dynamicnuclear", "cystoidfluid", "isic2018")


class Dice:
    "Random numbers for the image-by-image side: numpy's generator, and the older kind that MONAI's transforms take."

    def __init__(self, seed: int = 0):
        self.modern, self.legacy = np.random.default_rng(seed), np.random.RandomState(seed)

    def random(self, *shape):
        return self.modern.random(*shape)

    def uniform(self, *args):
        return self.modern.uniform(*args)

    def parameters(self, task: Task) -> dict:
        "One value for each of the task's parameters, from the range that the task draws from."
        return {
            name: int(self.modern.choice(spec.values))
            if isinstance(spec, Choice)
            else float(
                self.modern.uniform(spec.low, spec.high) * (self.modern.choice((-1, 1)) if spec.signed else 1)
            )
            for name, spec in task.parameters.items()
        }


def inputs(size: int, subjects: int = 8) -> list:
    "Prepared phantom records of several modalities, interleaved."
    return [
        prepare(make_subject(recipe, subject, size)[0], size)
        for subject in range(subjects)
        for recipe in RECIPES
    ]


def plain(row) -> SimpleNamespace:
    "A prepared record as the image-by-image side sees it: arrays of the final size, no maps."
    return SimpleNamespace(
        image=row.image.astype(np.float32) / 255,
        semantic=row.semantic.astype(int),
        instances=row.instances.astype(int),
        modality=row.record.modality,
    )


def one_by_one(task: Task, records: list, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    function, _ = REFERENCES[task.name]
    pairs = [function(record, dice, **dice.parameters(task)) for record in records]
    return tuple(
        torch.stack([torch.as_tensor(np.ascontiguousarray(p[i]), dtype=torch.float32) for p in pairs])
        for i in (0, 1)
    )


def race(works: dict, seconds: float, turn: float = 0.03) -> dict:
    "Median duration of each callable. They take turns, so that a busy moment of the machine hits all alike."
    spent = {name: [] for name in works}
    for _ in range(max(1, round(seconds / turn / len(works)))):
        for name, work in works.items():
            work(0)  # what the others left in the caches is not this one's fault
            stop = time.perf_counter() + turn
            while time.perf_counter() < stop:
                start = time.perf_counter()
                work(len(spent[name]))
                spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(durations)) for name, durations in spent.items()}


def measure(task: Task, rows: list, batches: tuple[int, ...], seconds: float) -> dict:
    rows = [r for r in rows if task.needs <= r.can]
    some, dice = rows[: batches[0]], Dice()
    records = [plain(r) for r in some]
    works = {"one_by_one": lambda i: one_by_one(task, records, dice)}
    for size in batches:
        batch = collate(list(islice(cycle(some), size)))
        works[size] = lambda i, batch=batch, size=size: task(batch, seeds=torch.arange(size) + i)
    spent = race(works, seconds)
    pairs = {
        name: (len(records) if name == "one_by_one" else name) / duration for name, duration in spent.items()
    }
    return dict(
        one_by_one=round(pairs["one_by_one"]),
        batched={str(b): round(pairs[b]) for b in batches},
        ratio={str(b): round(pairs[b] / pairs["one_by_one"], 1) for b in batches},
        libraries=REFERENCES[task.name][1],
    )


def run(size: int = 64, batches: tuple[int, ...] = (8, 32), seconds: float = 0.8, goal: float = 10.0) -> dict:
    """Measure all thirty tasks; see `show` for the table.

    The first of `batches` is what the training loop of the quick profile uses (pairs of one task in a step), and
    what `ratio`, `median_ratio` and `below_goal` are about; the others show what a larger batch gains.
    """
    rows = inputs(size)
    start = time.perf_counter()
    [prepare(r.record, size) for r in rows]
    prepared = (time.perf_counter() - start) / len(rows)
    tasks = {name: measure(get_task(name), rows, batches, seconds) for name in ALL_TASKS}
    median = lambda b: round(float(np.median([t["ratio"][b] for t in tasks.values()])), 1)
    mean_ms = lambda rates: round(1e3 * float(np.mean([1 / r for r in rates])), 4)
    sizes = [str(b) for b in batches]
    return dict(
        unit="pairs per second",
        size=size,
        batches=list(batches),
        data=f"phantom: {', '.join(RECIPES)}",
        tasks=tasks,
        median_ratio={b: median(b) for b in sizes},
        goal_ratio=goal,
        below_goal={b: [n for n, t in tasks.items() if t["ratio"][b] < goal] for b in sizes},
        ms_per_pair_over_all_tasks={"one_by_one": mean_ms([t["one_by_one"] for t in tasks.values()])}
        | {b: mean_ms([t["batched"][b] for t in tasks.values()]) for b in sizes},
        prepare_ms_per_record=round(1e3 * prepared, 2),
    )


def show(result: dict):
    "The result as a rich table."
    from rich.table import Table

    sizes, ms = [str(b) for b in result["batches"]], result["ms_per_pair_over_all_tasks"]
    table = Table(
        title=f"Tasks at {result['size']} px on one thread: pairs per second",
        caption="Data: phantoms. The maps that the batched side reads are prepared once per record, "
        f"in {result['prepare_ms_per_record']} ms.",
    )
    table.add_column("task")
    table.add_column("image by image", justify="right")
    for b in sizes:
        table.add_column(f"batch of {b}", justify="right")
        table.add_column("ratio", justify="right")
    table.add_column("image by image with")
    for name, t in result["tasks"].items():
        cells = [
            cell
            for b in sizes
            for cell in (
                f"{t['batched'][b]:,}",
                f"[{'green' if t['ratio'][b] >= result['goal_ratio'] else 'yellow'}]{t['ratio'][b]:.1f}[/]",
            )
        ]
        table.add_row(get_task(name).title, f"{t['one_by_one']:,}", *cells, t["libraries"])
    table.add_section()
    table.add_row(
        "median ratio",
        "",
        *[cell for b in sizes for cell in ("", f"{result['median_ratio'][b]:.1f}")],
        f"goal {result['goal_ratio']:g}; below it: "
        f"{' and '.join(str(len(result['below_goal'][b])) for b in sizes)} of {len(result['tasks'])}",
    )
    table.add_row(
        "one pair of each task, ms",
        f"{30 * ms['one_by_one']:.1f}",
        *[cell for b in sizes for cell in (f"{30 * ms[b]:.1f}", f"{ms['one_by_one'] / ms[b]:.1f}")],
        "",
    )
    return table
