"""Run the benchmark sections, print their tables, write `benchmarks/latest.json`.

    python -m benchmarks.bench              all sections, in about eleven minutes on two quiet cores
    python -m benchmarks.bench tasks        one of them
    python -m benchmarks.bench --release    all, and their row of `benchmarks/history.csv`
    python -m benchmarks.bench loop --release   one of them; the row, if the others were measured of the same code
    python -m benchmarks.bench --quick      as small as can be, to see that it runs; nothing is written

A section is a module beside this one with `run() -> dict`, `show(dict) -> rich.table.Table` and QUICK, parameters of
`run` for `--quick`; add its name to SECTIONS.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from rich.console import Console

from taco.base import ParameterError, TacoError, atomic, keep_memory, limit_threads, suggest

from . import history

# batched tasks against image by image and kornia; the training loop against its bounds; packing, reading, memory;
# neighbours of a million, and growth
SECTIONS = ("tasks", "loop", "data", "scale")
LATEST = Path(__file__).parent / "latest.json"
PACKAGES = ("taco", "torch", "monai", "scikit-image", "scipy", "numpy", "lightning")
OPTIONAL = ("kornia", "faiss-cpu", "pynndescent")
WIDTH = 100


def provenance() -> dict:
    "What a number depends on; no dates and no paths, so that equal runs give equal files."
    found = [name for name in OPTIONAL if find_spec(name.removesuffix("-cpu"))]
    return dict(
        python=platform.python_version(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        commit=history.commit(),
        versions={p: version(p) for p in (*PACKAGES, *found)},
    )


class Others:
    """How many cores other processes kept busy since this was made.

    A number measured beside them is slower than the machine is; ratios are less affected.
    """

    def __init__(self):
        self.clock, self.used, self.own = time.monotonic(), self.of_all(), self.of_ours()

    @staticmethod
    def of_all() -> float:
        spent = psutil.cpu_times()._asdict()
        return sum(spent.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))

    @staticmethod
    def of_ours() -> float:
        return sum(os.times()[:4])  # and of children that have ended

    def cores(self) -> float:
        spent = self.of_all() - self.used - (self.of_ours() - self.own)
        return round(max(0.0, spent) / max(1e-3, time.monotonic() - self.clock), 2)


def write(results: dict, path: Path = LATEST) -> dict:
    "Replace the measured sections in the file and keep the others, each with its own provenance; what was written."
    kept = json.loads(path.read_text()) if path.is_file() else {}
    kept |= {name: dict(provenance=provenance()) | result for name, result in results.items()}
    with atomic(path) as spare:
        spare.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return kept


def main(names: list[str], quick: bool = False, file: Path | None = LATEST) -> dict:
    "Measure and print sections; what each gave. `file`: where results are kept; None, or `quick`: nowhere."
    console, results = Console(), {}
    if not console.is_terminal:
        console.width = WIDTH
    keep_memory()
    for name in names:
        if name not in SECTIONS:
            raise ParameterError(
                "No benchmark section has this name.",
                field="section",
                found=name,
                fix=suggest(name, SECTIONS),
            )
    for name in names or SECTIONS:
        section = importlib.import_module(f"{__package__}.{name}")
        limit_threads(getattr(section, "THREADS", None))
        console.print(f"[bold]{name}[/bold]: {(section.__doc__ or '').strip().splitlines()[0]}")
        start, others = time.monotonic(), Others()
        more = section.QUICK if quick else getattr(section, "FULL", {})
        results[name] = section.run(**more)
        results[name]["others"] = others.cores()
        console.print(section.show(results[name]))
        console.print(f"{name}: {time.monotonic() - start:.0f} s; other processes used {results[name]['others']} cores")
        if file and not quick:
            write({name: results[name]}, file)
    return results


def command() -> None:
    "What `python -m benchmarks.bench` does."
    reader = argparse.ArgumentParser(prog="python -m benchmarks.bench", description="Measure how fast taco is.")
    reader.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; all")
    reader.add_argument("--quick", action="store_true", help="small, to see that it runs; nothing is written")
    reader.add_argument("--release", action="store_true", help="keep the row of this version in history.csv")
    given = reader.parse_args()
    if given.release and given.quick:
        reader.error("--release keeps what was measured in full: leave out --quick")
    main(given.sections, given.quick)
    if given.release:
        history.keep(json.loads(LATEST.read_text()))


if __name__ == "__main__":
    try:
        command()
    except TacoError as error:
        sys.exit(str(error))
