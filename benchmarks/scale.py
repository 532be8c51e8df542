"""Growth: a million embeddings and their neighbours; how time grows with tasks, datasets and images.

The search runs in a process of its own, so that its peak of memory is its own. Where faiss is installed
(`pip install taco[bench]`), the same queries go to it; pynndescent, whose index takes far longer to build than the
exact search, is asked only by `run(rivals=("faiss", "pynndescent"))`. The million are random; what it takes to embed
as many pairs is extrapolated from some.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import torch
from rich import box
from rich.table import Table

from taco.atlas.embedding import embed, plan_pairs
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.recipe import TrainConfig
from taco.learning.sampler import PairSampler
from taco.learning.training import new_encoder
from taco.tasks.catalogue import ALL_TASKS

from .data import enlarge

# so that what is counted, seconds of computing, holds no waiting of threads for each other on a busy machine
THREADS = 1
ROOT = Path(__file__).resolve().parent.parent
FIGURE = ROOT / "benchmarks/growth.png"
DATASETS = ("drive", "acdc", "monusac", "abdomenus")
ANY = ("gaussian_denoising", "inpainting", "free_rotation", "horizontal_flip")  # tasks that every image allows
FASTER = ("faiss",) if find_spec("faiss") else ()
QUICK = dict(
    bank=3000, rivals=(), queries=100, width=16, pairs=24, tasks=(2, 4), datasets=(1, 2), images=(20, 40), size=16
)
FULL = dict(figure=FIGURE)
SEARCH = """
import json, resource, sys, time
import numpy as np, torch
from pathlib import Path
from taco.atlas.neighbours import nearest
folder, k, method, threads = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(threads)
bank, queries = np.load(folder / "bank.npy", mmap_mode="r"), np.load(folder / "queries.npy")
start, cpu = time.perf_counter(), time.process_time()
built = 0.0
if method == "ours": cosines, rows = nearest(bank, queries, k)
elif method == "faiss":
    import faiss
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(np.asarray(bank))
    built = time.process_time() - cpu
    cosines, rows = index.search(queries, k)
elif method == "pynndescent":
    import pynndescent
    how = dict(metric="dot", n_neighbors=max(k, 15), random_state=0, n_jobs=threads)
    index = pynndescent.NNDescent(np.asarray(bank), **how)
    index.prepare()
    built = time.process_time() - cpu
    rows, _ = index.query(queries, k)
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
np.save(folder / f"{method}.npy", rows)
unit = 1024 if sys.platform != "darwin" else 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
if (status := Path("/proc/self/status")).exists():  # getrusage tells the peak of the parent too, before exec
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
spent = dict(seconds=round(seconds, 1), cpu_s=round(cpu, 1), built_s=round(built, 1))
print(json.dumps(spent | dict(peak_gib=round(peak / 2**30, 2))))
"""


def embeddings(folder: Path, count: int, queries: int, width: int) -> None:
    "Unit rows around some hundred centres, as an atlas has them, as .npy files; never all of them in memory."
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, width), dtype=np.float32)

    def rows(n: int) -> np.ndarray:
        found = centres[rng.integers(0, 300, n)] + rng.standard_normal((n, width), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    bank = np.lib.format.open_memmap(folder / "bank.npy", "w+", np.float32, (count, width))
    for start in range(0, count, 50_000):
        bank[start : start + 50_000] = rows(min(50_000, count - start))
    bank.flush()
    np.save(folder / "queries.npy", rows(queries))


def search(folder: Path, k: int, method: str, threads: int) -> dict:
    "Seconds and peak memory of one search in a process of its own."
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(threads),
    }
    call = [sys.executable, "-c", SEARCH, str(folder), str(k), method, str(threads)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def million(bank: int, queries: int, width: int, k: int, rivals: tuple[str, ...], threads: int) -> dict:
    "k nearest of all queries among the bank, and the same by others; the share of neighbours that both name."
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        embeddings(folder, bank, queries, width)
        found = dict(bank=bank, queries=queries, width=width, k=k, threads=threads)
        for method in ("ours", *rivals):
            found[method] = search(folder, k, method, threads)
        ours = np.load(folder / "ours.npy")
        for method in rivals:
            theirs = np.load(folder / f"{method}.npy")
            same = [len(np.intersect1d(a, b)) for a, b in zip(ours, theirs)]
            found[method]["recall"] = round(float(np.mean(same)) / k, 4)
            found[method]["ours_takes_times"] = round(found["ours"]["cpu_s"] / max(0.1, found[method]["cpu_s"]), 2)
    return found


def embedding(store: Store, pairs: int) -> dict:
    """Pairs per second of making and embedding them, in seconds that this process computed.

    What a million takes is extrapolated: minutes at this rate, and the memory of this process with their table and
    embeddings.
    """
    encoder = new_encoder(TrainConfig.of(encoder=dict(size=store.size, width=0.5)))
    plan = plan_pairs(store, list(ALL_TASKS), "train", per_cell=max(1, pairs // 30 // len(store.datasets)))
    embed(encoder, store, plan.iloc[:60])
    start = time.process_time()
    vectors = embed(encoder, store, plan)
    rate = len(plan) / (time.process_time() - start)
    each = (vectors.nbytes + plan.memory_usage(deep=True).sum()) / len(plan)
    gib = (psutil.Process().memory_info().rss + 1e6 * each) / 2**30
    million = dict(million_minutes=round(1e6 / rate / 60, 1), million_gib=round(float(gib), 2))
    return dict(pairs=len(plan), pairs_per_s=round(rate)) | million


def least(work, repeats: int = 5) -> float:
    "The least seconds of this process that some work took."
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def batches(store: Store, tasks: tuple[str, ...], steps: int = 3) -> None:
    sampler = PairSampler(store, tasks)
    for step in range(steps):
        sampler.pairs(sampler.raw(step))


def slope(sizes: list, seconds: list) -> float:
    "Of the line through the larger half of the points (at least two) on log–log axes: 1 is linear."
    from_here = min(len(sizes) // 2, len(sizes) - 2)
    return round(float(np.polyfit(np.log(sizes[from_here:]), np.log(seconds[from_here:]), 1)[0]), 2)


def growth(folder: Path, size: int, tasks: tuple, datasets: tuple, images: tuple) -> dict:
    """Seconds by number of tasks (three batches of pairs), of datasets and of images (opening the store, preparing to
    draw from it, three batches), and the slopes.
    """
    packed = [pack(name, out=folder, size=size, source="phantom", subjects=8) for name in DATASETS]
    few, found = Store.open(packed), {}
    spread = [ALL_TASKS[i] for i in np.random.default_rng(0).permutation(len(ALL_TASKS))]  # families mixed
    found["tasks"] = {n: least(lambda n=n: batches(few, spread[:n])) for n in tasks}
    known = len(Store.open(packed[:1]))
    names = [enlarge(packed[0], folder / f"many/{i}", 4, f"d{i}") for i in range(max(datasets))]
    found["datasets"] = {n: least(lambda n=n: batches(Store.open(names[:n]), ANY)) for n in datasets}
    for n in images:
        path = enlarge(packed[0], folder / f"long/{n}", max(1, n // known))
        count = len(Store.open([path]))
        found.setdefault("images", {})[count] = least(lambda path=path: batches(Store.open([path]), ANY))
    return {
        what: dict(
            seconds={str(n): round(s, 4) for n, s in points.items()},
            slope=slope(list(points), list(points.values())),
        )
        for what, points in found.items()
    }


def draw(result: dict, path: Path = FIGURE) -> None:
    "The growth on log–log axes, with a line of slope 1 to compare with."
    from matplotlib import pyplot as plt

    from taco.base import atomic
    from taco.style import OKABE_ITO, style

    with style:
        figure, ax = plt.subplots(figsize=(4.2, 3))
        longest = 1.0
        for (what, found), colour in zip(result["growth"].items(), ("blue", "vermilion", "green")):
            sizes, seconds = np.array([float(n) for n in found["seconds"]]), np.array(list(found["seconds"].values()))
            longest = max(longest, sizes[-1] / sizes[0])
            label = f"{what}: slope {found['slope']:.2f}"
            ax.loglog(sizes / sizes[0], seconds / seconds[0], "o-", color=OKABE_ITO[colour], ms=3, label=label)
        ax.loglog([1, longest], [1, longest], ":", color="0.5", label="linear")
        ax.set(xlabel="times as many", ylabel="times as long")
        ax.legend(frameon=False, fontsize=7)
        with atomic(path) as spare:
            figure.savefig(spare, dpi=120, format="png", bbox_inches="tight")
        plt.close(figure)


def run(
    bank: int = 1_000_000,
    queries: int = 10_000,
    width: int = 128,
    k: int = 20,
    rivals: tuple[str, ...] = FASTER,
    pairs: int = 1500,
    size: int = 64,
    tasks: tuple[int, ...] = (4, 8, 15, 30),
    datasets: tuple[int, ...] = (2, 4, 8, 16, 32),
    images: tuple[int, ...] = (1000, 4000, 16_000, 64_000),
    threads: int | None = None,
    figure: Path | None = None,
) -> dict:
    "All three. `figure`: where to draw the growth."
    threads = threads or torch.get_num_threads()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = Store.open([pack(n, out=folder / "e", size=size, source="phantom", subjects=8) for n in DATASETS])
        rate, grown = embedding(store, pairs), growth(folder, min(size, 16), tasks, datasets, images)
    result = dict(
        neighbours=million(bank, queries, width, k, rivals, threads),
        embedding=rate,
        growth=grown,
        goal_gib=4.0,
    )
    if figure:
        draw(result, figure)
    return result


def show(result: dict) -> Table:
    found, rate = result["neighbours"], result["embedding"]
    table = Table("what", "value", box=box.SIMPLE_HEAD, title="growth, on one thread")
    what = f"{found['k']} nearest of {found['queries']:,} queries among {found['bank']:,}"
    for method in ("ours", "faiss", "pynndescent"):
        if method not in found:
            continue
        m = found[method]
        text = f"{m['seconds']:.1f} s, computing {m['cpu_s']:.1f} s; peak {m['peak_gib']:.2f} GiB"
        if method == "ours":
            text += f" (goal {result['goal_gib']:g})"
        else:
            text += f"; {100 * m['recall']:.1f} % the same; ours computes {m['ours_takes_times']:.2f} times as long"
        table.add_row(what if method == "ours" else f"the same by {method}", text)
    table.add_row(
        "making and embedding pairs",
        f"{rate['pairs_per_s']:,} a second of computing on one thread; from that, a million: "
        f"{rate['million_minutes']:.0f} minutes, {rate['million_gib']:.1f} GiB",
    )
    for name, g in result["growth"].items():
        sizes = list(g["seconds"])
        text = f"{sizes[0]} to {int(sizes[-1]):,}: {g['seconds'][sizes[0]]:.2f} to {g['seconds'][sizes[-1]]:.2f} s"
        table.add_row(f"time by number of {name}", f"{text}; slope {g['slope']:.2f}")
    return table
