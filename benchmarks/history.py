"""What was measured release by release: `history.csv`, one row for each version."""

import os
import platform
import subprocess
from datetime import date
from pathlib import Path

import pandas as pd

from taco.base import ParameterError, atomic

FILE = Path(__file__).with_name("history.csv")
LATEST = "benchmarks/latest.json"
SECTIONS = ("tasks", "loop", "data", "scale")


def cores() -> int:
    "That this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    "The machine in neutral words: kind and memory."
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return f"{platform.system()} {platform.machine()}, {memory:.0f} GiB"


def commit() -> str:
    "The last one that changed more than the bench, tests or text; with a plus where files were changed since."
    git = lambda *words: subprocess.run(
        ["git", *words], cwd=FILE.parent.parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    code = ("--", "taco", "settings.ini", "requirements.lock")
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", *code)
        return git("log", "-1", "--format=%H", *code)[:7] + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):  # no git, or not a clone
        return "unknown"


def row(found: dict) -> dict:
    "The numbers of all sections that are kept for good."
    missing = [name for name in SECTIONS if name not in found]
    if missing:
        raise ParameterError(
            "Not everything was measured.",
            field="sections",
            found=f"no {', '.join(missing)} in {LATEST}",
            expected=", ".join(SECTIONS),
            fix="Run `python -m benchmarks.bench` without a section first.",
        )
    tasks, loop, data, scale = (found[name] for name in SECTIONS)
    measured = {name: found[name]["provenance"]["commit"] for name in SECTIONS}
    if len(set(measured.values())) > 1:
        raise ParameterError(
            "The sections were measured of different code.",
            field="sections",
            found=", ".join(f"{name} of {of}" for name, of in measured.items()),
            expected="one commit",
            fix="Measure the older ones again: `python -m benchmarks.bench SECTION`.",
        )
    batch = str(tasks["batches"][0])
    beside = [t["ratio_to_kornia"][batch] for t in tasks["tasks"].values() if "ratio_to_kornia" in t]
    first = next(iter(loop["encoders"].values()))
    quiet, busy = first["neighbours"]["0"], list(first["neighbours"].values())[1:]
    return dict(
        version=found["tasks"]["provenance"]["versions"]["taco"],
        commit=measured["tasks"],
        date=date.today().isoformat(),
        machine=machine(),
        cores=cores(),
        others_used_cores=max(found[name]["others"] for name in SECTIONS),
        tasks_times_one_by_one=tasks["median_ratio"][batch],
        tasks_times_kornia=round(float(pd.Series(beside).median()), 2) if beside else None,
        loop_pairs_per_s=quiet["loop"],
        loop_of_bound=quiet["of_bound"],
        loop_of_best_fixed_busy=min((b["of_best_fixed"] for b in busy), default=None),
        packing_images_per_s=max(data["packing_images_per_s"].values()),
        reading_images_per_s=data["reading"]["images_per_s"]["store"],
        embedding_pairs_per_s=scale["embedding"]["pairs_per_s"],
        million_knn_s=scale["neighbours"]["ours"]["seconds"],
        million_knn_gib=scale["neighbours"]["ours"]["peak_gib"],
        **{f"slope_{what}": g["slope"] for what, g in scale["growth"].items()},
    )


def keep(found: dict, file: Path = FILE) -> pd.DataFrame:
    "Put the row of this version into the file, in place of an older one of the same version; the table."
    new = pd.DataFrame([row(found)]).astype(str)
    if file.is_file():
        old = pd.read_csv(file, dtype=str, keep_default_na=False)
        new = pd.concat([old[old["version"] != new["version"][0]], new], ignore_index=True).fillna("")
    with atomic(file) as spare:
        new.to_csv(spare, index=False)
    return new
