"""Pairs per second of the batched tasks, beside the same tasks image by image and, where it has them, in kornia.

All sides start from records of the final size in memory and end with two float32 tensors (B, 3, S, S); all draw
their parameters anew for every pair, from the same ranges. What is counted is the time that one thread computes, so a
busy machine changes little. The batched side reads the maps that a store holds; what it
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

from .kornia_batched import INSTALLED, batched
from .one_by_one import REFERENCES

# Both sides on one thread: a loader has many workers, a batch has many threads, and neither should win by that.
THREADS = 1
QUICK = dict(seconds=0.04, names=("binary_segmentation", "horizontal_flip", "brightness_change"), subjects=1)
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


def race(works: dict, seconds: float, turn: float = 0.03, clock=time.thread_time) -> dict:
    """Median duration of each callable, in seconds that this thread computed.

    They take turns, so that a busy moment of the machine hits all alike.
    """
    spent = {name: [] for name in works}
    for _ in range(max(1, round(seconds / turn / len(works)))):
        for name, work in works.items():
            work(0)  # what the others left in the caches is not this one's fault
            stop = clock() + turn
            while clock() < stop:
                start = clock()
                work(len(spent[name]))
                spent[name].append(clock() - start)
    return {name: float(np.median(durations)) for name, durations in spent.items()}


def measure(task: Task, rows: list, batches: tuple[int, ...], seconds: float, other=None) -> dict:
    "Pairs per second of a task on all sides; `other` makes them of a batch, as kornia does."
    rows = [r for r in rows if task.needs <= r.can]
    some, dice = rows[: batches[0]], Dice()
    records = [plain(r) for r in some]
    works = {"one_by_one": lambda i: one_by_one(task, records, dice)}
    for size in batches:
        batch = collate(list(islice(cycle(some), size)))
        works[size] = lambda i, batch=batch, size=size: task(batch, seeds=torch.arange(size) + i)
        if other is not None:
            works[f"kornia {size}"] = lambda i, batch=batch: other(batch)
    with torch.no_grad():  # as where pairs are made for training
        spent = race(works, seconds)
    rate = {size: size / spent[size] for size in batches}
    single = len(records) / spent["one_by_one"]
    return dict(
        one_by_one=round(single),
        batched={str(b): round(rate[b]) for b in batches},
        ratio={str(b): round(rate[b] / single, 1) for b in batches},
        libraries=REFERENCES[task.name][1],
    ) | (
        {}
        if other is None
        else dict(
            kornia={str(b): round(b / spent[f"kornia {b}"]) for b in batches},
            ratio_to_kornia={str(b): round(rate[b] * spent[f"kornia {b}"] / b, 2) for b in batches},
        )
    )


def run(
    size: int = 64,
    batches: tuple[int, ...] = (8, 32),
    seconds: float = 0.8,
    goal: float = 10.0,
    names: tuple[str, ...] = ALL_TASKS,
    subjects: int = 8,
) -> dict:
    """Measure the tasks; see `show` for the table.

    The first of `batches` is what the training loop of the quick profile uses (pairs of one task in a step), and
    what `ratio`, `median_ratio` and `below_goal` are about; the others show what a larger batch gains.
    """
    rows, others = inputs(size, subjects), batched(size)
    start = time.thread_time()
    [prepare(r.record, size) for r in rows]
    prepared = (time.thread_time() - start) / len(rows)
    tasks = {name: measure(get_task(name), rows, batches, seconds, others.get(name)) for name in names}
    median = lambda b: round(float(np.median([t["ratio"][b] for t in tasks.values()])), 1)
    mean_ms = lambda rates: round(1e3 * float(np.mean([1 / r for r in rates])), 4)
    sizes = [str(b) for b in batches]
    beside = {n: t["ratio_to_kornia"] for n, t in tasks.items() if "ratio_to_kornia" in t}
    return dict(
        unit="pairs per second of one thread",
        size=size,
        batches=list(batches),
        data=f"phantom: {', '.join(RECIPES)}",
        tasks=tasks,
        median_ratio={b: median(b) for b in sizes},
        goal_ratio=goal,
        below_goal={b: [n for n, t in tasks.items() if t["ratio"][b] < goal] for b in sizes},
        kornia="compared" if INSTALLED else "not installed (pip install taco[bench])",
        below_kornia={b: [n for n, ratio in beside.items() if ratio[b] < 1] for b in sizes},
        ms_per_pair_over_all_tasks={"one_by_one": mean_ms([t["one_by_one"] for t in tasks.values()])}
        | {b: mean_ms([t["batched"][b] for t in tasks.values()]) for b in sizes},
        prepare_ms_per_record=round(1e3 * prepared, 2),
    )


def show(result: dict):
    "The result as a rich table."
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    sizes, ms = [str(b) for b in result["batches"]], result["ms_per_pair_over_all_tasks"]
    first = sizes[0]
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"Tasks at {result['size']} px on one thread: pairs per second",
        caption=f"Data: phantoms. The maps that the batched side reads are prepared once per record, "
        f"in {result['prepare_ms_per_record']} ms. kornia: {escape(result['kornia'])}.",
    )
    table.add_column("task")
    for title in ("1 by 1", *(t for b in sizes for t in (f"{b} at once", "×")), f"kornia, {first}", "×"):
        table.add_column(title, justify="right")
    table.add_column("1 by 1 with")
    shade = lambda ratio, goal, text: f"[{'green' if ratio >= goal else 'yellow'}]{text}[/]"
    for name, t in result["tasks"].items():
        cells = []
        for b in sizes:
            cells += [f"{t['batched'][b]:,}", shade(t["ratio"][b], result["goal_ratio"], f"{t['ratio'][b]:.1f}")]
        if "kornia" in t:
            ratio = t["ratio_to_kornia"][first]
            cells += [f"{t['kornia'][first]:,}", shade(ratio, 1, f"{ratio:.1f}")]
        else:
            cells += ["", ""]
        table.add_row(get_task(name).title, f"{t['one_by_one']:,}", *cells, t["libraries"])
    table.add_section()
    goal = f"goal {result['goal_ratio']:g}; below: " + ", ".join(str(len(result["below_goal"][b])) for b in sizes)
    medians = [cell for b in sizes for cell in ("", f"{result['median_ratio'][b]:.1f}")]
    table.add_row("median ratio", "", *medians, "", "", goal)
    count = len(result["tasks"])
    each = [c for b in sizes for c in (f"{count * ms[b]:.1f}", f"{ms['one_by_one'] / ms[b]:.1f}")]
    table.add_row("one pair of each task, ms", f"{count * ms['one_by_one']:.1f}", *each, "", "", "")
    return table
