"""Training loop beside two bounds: its model fed with a fixed tensor, and all of its work on all cores.

The model's bound: the same training with pairs that are there already, in blocks of a few steps that take turns. The
bound of all work, pairs and steps: as many independent trainings of one thread as there are cores, each with its
part of the batch, and their pairs added up; what a loop that shares one batch could reach if sharing cost nothing.
And the same with neighbours: other processes that are busy all the time. A network that is compiled by itself is also
trained as it is.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from rich import box
from rich.table import Table

from taco.base import pick_device
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig
from taco.learning.loop import fit, lightning_precision
from taco.learning.recipe import TrainConfig, changed, compiles
from taco.learning.sampler import PairSampler, part_of
from taco.learning.training import TaskContrast, new_encoder, new_sampler

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ("acdc", "busi", "covid19radio", "drive", "isic2018", "kvasir", "monusac", "mosmedplus")
ENCODERS = {
    "resnet10, width ½": dict(backbone="resnet10", width=0.5),
    "resnet18": dict(backbone="resnet18"),
    "matching, width 0.6": dict(backbone="matching", width=0.6),  # that of the quick profile
}
LOADS = (0, 1, 2, 3)  # busy neighbours of the first encoder; the others are measured without any
CHOOSING = ("loop", "not compiled")
CHOICE = 24  # steps in which a training alone finds out who computes its shares: three ways, three times two steps each
ENDLESS = 10**6  # steps of a training that ends when it is no longer asked
BLOCK = 4  # steps before the other side has its turn; the first of each block is not counted
QUICK = dict(
    blocks=1,
    seconds=0.3,
    turns=1,
    loads=(0, 1),
    size=24,
    pairs=2,
    datasets=("drive", "acdc"),
    encoders={"smallest": dict(backbone="resnet10", width=0.125)},
)


class TakingTurns:
    "A sampler that makes pairs in every other block of steps, and hands out the same again in the blocks between."

    def __init__(self, sampler: PairSampler, device):
        self.sampler, self.device, self.fixed = sampler, device, {}

    def __getattr__(self, name):  # what a training reads of a sampler besides
        return getattr(self.sampler, name)

    def raw(self, step, rank=0, world=1):
        if (step // BLOCK) % 2:
            return self.sampler.raw(step, rank, world)
        part = rank, world
        if part not in self.fixed:
            self.fixed[part] = self.sampler.pairs(self.sampler.raw(0, *part), self.device)
        return None, replace(part_of(self.sampler.plan(0), *part), step=step), part

    def pairs(self, raw, device="cpu"):
        return self.fixed[tuple(raw[2])] if raw[0] is None else self.sampler.pairs(raw, device)


class Clock(L.Callback):
    "When each step ended."

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, trainer, module, *_):
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def measure(store: Store, config: TrainConfig, blocks: int = 8) -> dict:
    "Pairs per second of the loop and of the fixed tensor (medians over `blocks` blocks each), and their ratio."
    config = changed(config, steps=2 * BLOCK * (blocks + 1), compiled=compiles(changed(config, steps=ENDLESS)))
    device = pick_device(config.fit.device)
    sampler, clock = TakingTurns(new_sampler(store, None, config), device), Clock()
    module = TaskContrast(new_encoder(config), sampler, config)
    fit(module, sampler.raw, config.fit, callbacks=[clock])
    # (blocks, fixed or loop, steps); the first round warms up
    took = np.diff(clock.ends)[2 * BLOCK - 1 :].reshape(-1, 2, BLOCK)[:, :, 1:]
    fixed, loop = np.median(took, (0, 2)).tolist()
    batch, ratios = module.samples, took[:, 0].sum(1) / took[:, 1].sum(1)
    return dict(
        batch=batch,
        precision=lightning_precision(config.fit, device),
        loop_pairs_per_s=round(batch / loop, 1),
        fixed_pairs_per_s=round(batch / fixed, 1),
        pairs_ms=round(1000 * (loop - fixed), 1),
        ratio=round(float(np.median(ratios)), 3),
        ratio_quartiles=np.quantile(ratios, [0.25, 0.75]).round(3).tolist(),
        blocks=blocks,
    )


# ── trainings in processes of their own ───────────────────────────────────────────────────────────────────────────────


class OnCall(L.Callback):
    "Waits for a line with a number of seconds, trains that long, answers with pairs and seconds; until the input ends."

    def __init__(self, warm: int):
        self.warm, self.start, self.until, self.done = warm, 0.0, 0.0, 0

    def on_train_batch_end(self, trainer, module, *_):
        now = time.perf_counter()
        if trainer.global_step < self.warm:
            return
        self.done += module.samples
        if now < self.until:
            return
        print(json.dumps(dict(pairs=self.done, seconds=now - self.start)), flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.done, self.start = 0, time.perf_counter()
        self.until = self.start + float(line)


def worker(folders: list[str], settings: dict, threads: int | None, warm: int = 3) -> None:
    "One training that never ends and reports when it is asked; the whole of such a process."
    from taco.base import keep_memory, limit_threads

    keep_memory()
    limit_threads(threads)
    config = changed(TrainConfig(), steps=ENDLESS, checkpoint_every=ENDLESS, **settings)
    sampler = new_sampler(Store.open([Path(f) for f in folders]), None, config)
    module = TaskContrast(new_encoder(config), sampler, config)
    fit(module, sampler.raw, config.fit, callbacks=[OnCall(warm)], progress=False)


class Training:
    "A `worker` in a process of its own."

    def __init__(self, folders, settings: dict, threads: int | None = None, warm: int = 3):
        call = "import json, sys; from benchmarks.loop import worker; worker(*json.loads(sys.argv[1]))"
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        for name in ("TACO_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            env.pop(name, None)
        if threads:
            env["OMP_NUM_THREADS"] = str(threads)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by `close`)
        what = json.dumps([[str(f) for f in folders], settings, threads, warm])
        self.process = subprocess.Popen(
            [sys.executable, "-c", call, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.errors.seek(0)
        raise RuntimeError(f"A training stopped.\n{self.errors.read()[-2000:]}")

    def ask(self, seconds: float) -> None:
        print(seconds, file=self.process.stdin, flush=True)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.errors.close()


@contextmanager
def neighbours(count: int):
    "Other processes that compute all the time, with the caches of their cores."
    call = "import numpy as np\na = np.random.rand(200_000)\nwhile True: a = np.sqrt(a * a + 1e-9)"
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    busy = [subprocess.Popen([sys.executable, "-c", call], env=env) for _ in range(count)]
    try:
        time.sleep(0.5 * bool(count))
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()


def ways(config: TrainConfig, cores: int) -> dict[str, list[tuple[dict, int | None]]]:
    "By name: the trainings (settings, threads) that run at the same time, whose pairs are added up."
    settings = asdict(config)
    settings |= {n: v for n, v in settings.pop("fit").items() if n in ("device", "precision")}
    settings = {n: settings[n] for n in ("device", "precision", "pairs_per_task", "encoder", "seed")}
    alone = dict(shares=1) if "shares" in {f.name for f in fields(TrainConfig)} else {}
    part = dict(pairs_per_task=max(2, config.pairs_per_task // cores))
    plain = [(settings | dict(compiled=False), None)] if compiles(changed(config, steps=ENDLESS)) else []
    return ({"not compiled": plain} if plain else {}) | {
        "loop": [(settings, None)],
        "one thread": [(settings | alone, 1)],
        f"{cores} threads": [(settings | alone, cores)],
        "bound": [(settings | alone | part | dict(seed=seed), 1) for seed in range(cores)],
    }


def summary(turns: list[dict[str, float]]) -> dict:
    "Medians of the rates that each turn found, and of the loop's ratio to the others in the same turn."
    middle = lambda values, digits: round(float(np.median(values)), digits)
    names = list(turns[0])
    fixed = [name for name in names if name.endswith(("thread", "threads"))]
    compiled = [turn["loop"] / turn["not compiled"] for turn in turns if "not compiled" in turn]
    return (
        {name: middle([turn[name] for turn in turns], 1) for name in names}
        | dict(
            of_bound=middle([turn["loop"] / turn["bound"] for turn in turns], 3),
            of_best_fixed=middle([turn["loop"] / max(turn[name] for name in fixed) for turn in turns], 3),
        )
        | (dict(times_not_compiled=middle(compiled, 2)) if compiled else {})
    )


def together(trainings: list, seconds: float) -> float:
    "Pairs per second of some trainings at the same time, added up."
    for training in trainings:
        training.ask(seconds)
    answers = [training.answer() for training in trainings]
    return sum(a["pairs"] / a["seconds"] for a in answers)


def beside(
    folders, config: TrainConfig, loads: tuple[int, ...], seconds: float, cores: int, turns: int = 2, settle: float = 4
) -> dict:
    "Pairs per second of each way to train, by the number of busy neighbours; the ways take turns, there and back."
    with ExitStack() as stack:
        started = {}
        for name, several in ways(config, cores).items():  # one after the other: the loop is choosing how it computes
            started[name] = [Training(folders, *one, CHOICE if name in CHOOSING else 3) for one in several]
            for training in started[name]:
                stack.callback(training.close)
            for training in started[name]:
                training.answer()
        found = {}
        for load in loads:
            with neighbours(load):
                together(started["loop"], settle * seconds)  # until it has noticed who is there
                rates = []
                for turn in range(turns):
                    order = list(started)[:: -1 if turn % 2 else 1]
                    rates.append({name: together(started[name], seconds) for name in order})
            found[str(load)] = summary(rates)
    return found


def run(
    blocks: int = 6,
    seconds: float = 2.5,
    turns: int = 2,
    loads: tuple[int, ...] = LOADS,
    device: str = "auto",
    precision: str = "auto",
    size: int = 64,
    pairs: int = 8,
    datasets: tuple[str, ...] = DATASETS,
    encoders: dict = ENCODERS,
) -> dict:
    "Ratios for a few encoders, on the batch of the quick profile (30 tasks × 8 pairs)."
    cores, rows = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, {}
    with tempfile.TemporaryDirectory() as folder:
        folders = [pack(name, out=folder, size=size, source="phantom", subjects=6) for name in datasets]
        base = TrainConfig.of(device=device, precision=precision, pairs_per_task=pairs)
        for number, (name, choice) in enumerate(encoders.items()):
            config = replace(base, encoder=EncoderConfig(size=size, **choice))
            rows[name] = measure(Store.open(folders), config, blocks)
            some = loads if number == 0 else loads[:1]
            rows[name]["neighbours"] = beside(folders, config, some, seconds, cores, turns)
    return dict(goal=0.95, goal_busy=0.8, size=size, cores=cores, seconds=seconds, turns=turns, encoders=rows)


def show(result: dict) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"training loop at {result['size']} px, pairs/s",
        caption=f"bound: {result['cores']} trainings of one thread, added up; goals: {result['goal']} of the bound "
        f"on a quiet machine, {result['goal_busy']} of the better fixed number of threads on a busy one",
    )
    many = f"{result['cores']} threads"
    table.add_column("encoder")
    found = [found for r in result["encoders"].values() for found in r["neighbours"].values()]
    gains = any("times_not_compiled" in one for one in found)
    titles = ["busy", "loop", "1 thread", many, "bound", "of bound", "of best fixed", "of its model"]
    for title in titles + ["× not compiled"] * gains:
        table.add_column(title, justify="right")
    for name, r in result["encoders"].items():
        for load, found in r["neighbours"].items():
            rates = [f"{found[way]:.0f}" for way in ("loop", "one thread", many, "bound")]
            ratios = [f"{found[way]:.2f}" for way in ("of_bound", "of_best_fixed")]
            own = (name, f"{r['ratio']:.2f}") if load == "0" else ("", "")
            compiled = [f"{found['times_not_compiled']:.2f}" if "times_not_compiled" in found else ""] * gains
            table.add_row(own[0], load, *rates, *ratios, own[1], *compiled)
    return table
