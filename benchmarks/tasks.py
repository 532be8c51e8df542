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

from taco.data.phantoms import make_subject
from taco.data.record import Batch, collate, prepare
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import Choice, Task, get_task

from .one_by_one import REFERENCES

THREADS = 1  # both sides on one thread: a loader has many workers, a batch has many threads, and neither should win by that
RECIPES = ("monusac", "wbc", "abdomenus", "acdc", "drive", "dynamicnuclear", "cystoidfluid", "isic2018")


class Dice:
    "Random numbers for the image-by-image side: numpy's generator, and the older kind that MONAI's transforms take."
    def __init__(self, seed: int = 0): self.modern, self.legacy = np.random.default_rng(seed), np.random.RandomState(seed)
    def random(self, *shape): return self.modern.random(*shape)
    def uniform(self, *args): return self.modern.uniform(*args)

    def parameters(self, task: Task) -> dict:
        "One value for each of the task's parameters, from the range that the task draws from."
        return {name: int(self.modern.choice(spec.values)) if isinstance(spec, Choice) else
                float(self.modern.uniform(spec.low, spec.high) * (self.modern.choice((-1, 1)) if spec.signed else 1))
                for name, spec in task.parameters.items()}


def inputs(size: int, subjects: int = 8) -> list:
    "Prepared phantom records of several modalities, interleaved."
    return [prepare(make_subject(recipe, subject, size)[0], size) for subject in range(subjects) for recipe in RECIPES]


def plain(row) -> SimpleNamespace:
    "A prepared record as the image-by-image side sees it: arrays of the final size, no maps."
    return SimpleNamespace(image=row.image.astype(np.float32) / 255, semantic=row.semantic.astype(int),
                           instances=row.instances.astype(int), modality=row.record.modality)


def one_by_one(task: Task, records: list, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    function, _ = REFERENCES[task.name]
    pairs = [function(record, dice, **dice.parameters(task)) for record in records]
    return tuple(torch.stack([torch.as_tensor(np.ascontiguousarray(p[i]), dtype=torch.float32) for p in pairs]) for i in (0, 1))


def rate(work, pairs: int, seconds: float) -> float:
    "Pairs per second: the median over as many repetitions as fit, three at least."
    work(0); spent = []
    while sum(spent) < seconds or len(spent) < 3:
        start = time.perf_counter(); work(len(spent)); spent.append(time.perf_counter() - start)
    return pairs / float(np.median(spent))


def measure(task: Task, rows: list, batch_size: int, seconds: float) -> dict:
    rows = list(islice(cycle([r for r in rows if task.needs <= r.can]), batch_size))
    batch, records, dice = collate(rows), [plain(r) for r in rows], Dice()
    batched = rate(lambda i: task(batch, seeds=torch.arange(batch_size) + i), batch_size, seconds)
    single = rate(lambda i: one_by_one(task, records, dice), batch_size, seconds)
    return dict(batched=round(batched), one_by_one=round(single), ratio=round(batched / single, 1), libraries=REFERENCES[task.name][1])


def run(size: int = 64, batch_size: int = 8, seconds: float = .25, goal: float = 10.) -> dict:
    "Measure all thirty tasks; see `show` for the table."
    start = time.perf_counter(); rows = inputs(size)
    made = time.perf_counter(); [prepare(r.record, size) for r in rows]
    prepared = (time.perf_counter() - made) / len(rows)
    tasks = {name: measure(get_task(name), rows, batch_size, seconds) for name in ALL_TASKS}
    ratios = [t["ratio"] for t in tasks.values()]
    return dict(unit="pairs per second", size=size, batch=batch_size, device="cpu", data=f"phantom: {', '.join(RECIPES)}", tasks=tasks,
                median_ratio=round(float(np.median(ratios)), 1), goal_ratio=goal, below_goal=[n for n, t in tasks.items() if t["ratio"] < goal],
                all_tasks_ms_per_pair=round(1e3 * float(np.mean([1 / t["batched"] for t in tasks.values()])), 4),
                prepare_ms_per_record=round(1e3 * prepared, 2))


def show(result: dict):
    "The result as a rich table."
    from rich.table import Table
    table = Table(title=f"Tasks at {result['size']} px in batches of {result['batch']}: pairs per second on one thread",
                  caption=f"Maps for the batched side are prepared once per record: {result['prepare_ms_per_record']} ms. Data: phantoms.")
    for column, justify in (("task", "left"), ("batched", "right"), ("image by image", "right"), ("ratio", "right"), ("with", "left")):
        table.add_column(column, justify=justify)
    for name, t in result["tasks"].items():
        style = "" if t["ratio"] >= result["goal_ratio"] else "yellow"
        table.add_row(get_task(name).title, f"{t['batched']:,}", f"{t['one_by_one']:,}", f"{t['ratio']:.1f}", t["libraries"], style=style)
    table.add_section()
    table.add_row("median", "", "", f"{result['median_ratio']:.1f}", f"goal {result['goal_ratio']:g}; below it: {len(result['below_goal'])} of {len(result['tasks'])}")
    return table
