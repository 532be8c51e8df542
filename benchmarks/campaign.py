"""The campaign: work is killed, starved of disk, doubled, damaged, unplugged, and must end as if nothing had happened.

    python -m benchmarks.campaign                        # everything; writes benchmarks/campaign.csv
    python -m benchmarks.campaign --only train disk      # rows whose subject or fault has one of these words
    python -m benchmarks.campaign --kills 1000 --seed 7

Inputs are small (32 px, a dozen steps) and use one thread. What is disturbed is in `tests/campaign/jobs.py`, how in
`faults.py`, and what the verdicts (columns of the table) mean in `judge.py`. Each trial has its own chance, of the
seed, the row and its number. Each verdict is kept in runs/campaign, by seed: stopped and started again it goes on with
the next trial, unless the code of taco was changed since; after a change of the campaign itself, delete that folder. It
ends with status 1 if anything was raw, left, lost or wrong. What cannot be tried here (a small disk needs the right to
mount) stands in the table with the reason, as tried 0 times.
"""

import argparse
import contextlib
import hashlib
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TACO_THREADS"): os.environ[_name] = "1"  # before torch is there

import pandas as pd
import torch

from taco.base import TacoError, atomic, write_json
from taco.reading import read_json
from tests.campaign import faults, jobs
from tests.campaign.judge import FAULTS, FINE, Job, Known, start, undisturbed

ROOT = Path(__file__).resolve().parent.parent
OUT, KEPT = Path(__file__).parent / "campaign.csv", ROOT / "runs/campaign"
KILLS = 240
SHARES = {  # of all random kills
    "pack": .18, "pack, 2 workers": .02, "train": .2, "embed": .17, "publish": .17, "fetch": .17, "taco run pack": .02,
    "taco run train": .02, "taco run embed": .02, "Snakemake": .02}
SLOW = ("taco run", "taco run pack", "taco run train", "taco run embed", "Snakemake")  # kernels and commands: last
EVERY = 10_000  # as many as there are


@dataclass(frozen=True)
class Row:
    "One fault of one subject, tried at least `count` times."
    subject: str
    fault: str
    trial: faults.Trial
    count: int

    @property
    def name(self) -> str: return f"{self.subject}: {self.fault}"


def plan(kills: int = KILLS) -> list[Row]:
    "All rows of the table, in the order in which they are tried."
    found = []

    def add(fault: str, trial: faults.Trial, count: int, *subjects: str) -> None:
        found.extend(Row(subject, fault, trial, count) for subject in subjects)

    inside, writing = ("pack", "train", "embed", "publish", "fetch"), ("pack", "embed", "publish")
    add("SIGKILL before each file operation", faults.crash_point(False), EVERY, *inside, "taco run")
    add("the same, over an older result", faults.crash_point(True), EVERY, *writing)
    add("bit flipped, bit of the head flipped, or cut", faults.damage, 600, "pack")
    add("bit flipped, bit of the head flipped, or cut", faults.damage, 120, "train", "embed", "publish", "taco run")
    add("checkpoint flipped or cut, then resumed", faults.damaged_checkpoint, 40, "train")
    for subject, share in SHARES.items():
        kinds = [(signal.SIGKILL,), (signal.SIGTERM,)] if subject not in SLOW else [(signal.SIGKILL, signal.SIGTERM)]
        for how in kinds:
            count, words = max(1, round(share * kills / len(kinds))), " or ".join(s.name for s in how)
            add(f"{words} at a random moment", faults.random_kill(*how), count, subject)
    add("disk full at a random write", faults.full_disk, 8, *inside)
    add("disk full at a random write", faults.full_disk, 2, "taco run")
    add("read-only folder", faults.read_only, 3, *inside, "taco run")
    add("turns read-only at a random moment", faults.turned_read_only, 4, "embed", "publish", "fetch")
    add("two at once", faults.two_at_once, 6, "pack", "train", "publish", "fetch")
    add("two at once", faults.two_at_once, 1, "taco run")
    add("two at once", faults.two_at_once, 1, "taco run train", "Snakemake")
    add("killed, and the clock set back by a day", faults.clock_set_back, 4, *inside)
    add("killed, and the clock set back by a day", faults.clock_set_back, 1, "taco run")
    add("a file changed under a clock set back", faults.changed_under_old_clock, 4, "pack files")
    network = {"cut": "connection lost", "long": "more said than sent", "short": "less said than there is",
               "other": "another byte, wrong checksum", "rest": "only the rest of a range", "gone": "404", "ill": "500",
               "cut, length not said": "connection lost, length not said"}
    for manners, words in network.items(): add(f"network: {words}", faults.network(manners), 4, "fetch")
    files = ("pack files", "pack files, bad ones left out")
    add("folder of the data moved away while it is read", faults.unplugged(False), 6, *files)
    add("disk of the data unmounted while it is read", faults.unplugged(True), 6, *files)
    return sorted(found, key=lambda row: row.subject in SLOW)


# ── the subjects ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Subjects(contextlib.ExitStack):
    "Every job, made when it is first asked for, with what it does undisturbed."

    def __init__(self, place: Path):
        super().__init__()
        self.place, self.known = place, {}

    @property
    @cache  # noqa: B019  there is one of them
    def copy(self) -> Path: return jobs.copy_of_project(self.place / "project")

    @property
    @cache  # noqa: B019
    def store(self): return jobs.small_store(self.place)

    def command(self, step: str) -> Job:
        for need in {"pack": [], "train": ["pack"], "embed": ["pack", "train"]}[step]:
            folder = self.copy / "runs/before"
            if (folder / need / "done.json").exists(): continue
            end = start(jobs.command_job(self.copy, need), folder).end()
            assert end.how == "ended", f"taco run {need}: {end}"
        return jobs.command_job(self.copy, step)

    def made(self, name: str) -> Job:
        place = self.place / name.replace(" ", "-")
        if name.startswith("taco run "): return self.command(name.split()[-1])
        make: dict[str, Callable[[], Job]] = {
            "pack": jobs.pack_job, "pack, 2 workers": lambda: jobs.pack_job(2, 12),
            "train": lambda: jobs.train_job(self.store), "embed": lambda: jobs.embed_job(self.store),
            "publish": lambda: jobs.publish_job(place / "runs"),
            "fetch": lambda: jobs.fetch_job(self.enter_context(jobs.far_shop(place))),
            "taco run": lambda: jobs.tiny_job(place / "tiny"), "Snakemake": lambda: jobs.snakemake_job(self.copy),
            "pack files": lambda: jobs.pack_files_job(place),
            "pack files, bad ones left out": lambda: jobs.pack_files_job(place, skip_bad=True)}
        return make[name]()

    def __getitem__(self, name: str) -> tuple[Job, Known, Path]:
        if name not in self.known:
            place = self.place / f"{name.replace(' ', '-')}-at-work"
            place.mkdir(parents=True)
            job = self.made(name)
            self.known[name] = (job, undisturbed(job, place), place)
        return self.known[name]


# ── trials that are kept ──────────────────────────────────────────────────────────────────────────────────────────────


@cache
def code() -> str:
    "A digest of the code that is tried."
    files = [p for room in ("taco", "nbs/experiments") for p in sorted((ROOT / room).rglob("*.*"))]
    files = [p.read_bytes() for p in files if p.suffix in (".py", ".ipynb", ".toml")]
    return hashlib.sha256(b"".join(files)).hexdigest()[:12]


def kept(file: Path, row: Row, other: bool = False) -> dict:
    "What earlier trials of a row gave; nothing if the file is damaged, or (unless `other`) code was changed since."
    empty = dict(subject=row.subject, fault=row.fault, code=code(), trials=0, seconds=0., verdicts=[], note="")
    try: before = read_json(file, seal=True) if file.exists() else {}
    except TacoError: return empty
    before.pop("digest", None)  # of what it was then
    return before if "code" in before and (other or before["code"] == code()) else empty


def tried(row: Row, subject: Callable[[], tuple[Job, Known, Path]], file: Path, seed: int, most: int = EVERY,
          other: bool = False) -> dict:
    "Try a row until there are enough verdicts, or `most`; each trial is kept."
    found = kept(file, row, other)
    while not found.get("ended") and len(found["verdicts"]) < min(row.count, most):
        job, known, place = subject()
        begun = time.monotonic()
        try: new = row.trial(job, known, place, found["trials"], seed)
        except faults.CannotBeTried as error: new, found["note"] = [], str(error)
        for verdict in new:
            if verdict.what in FINE: continue
            print(f"  {verdict.what}: {row.name}, {found['trials']}: {verdict.words}", flush=True)
        found["ended"] = not new
        found["verdicts"] += [list(verdict) for verdict in new]
        found["trials"] += 1
        found["seconds"] += time.monotonic() - begun
        write_json(file, found, seal=True)
    return found


def table_of(found: Iterable[dict], seed: int) -> pd.DataFrame:
    "One row a subject and fault: how often it was tried, what became of it, seconds, seed, and what is to be said."
    rows = []
    for row in found:
        counts = Counter(what for what, _ in row["verdicts"])
        words = {w[:200] for what, w in row["verdicts"] if what in FAULTS}
        rows.append(dict(subject=row["subject"], fault=row["fault"], tried=len(row["verdicts"]),
                         **{what: counts[what] for what in (*FINE, *FAULTS)}, seconds=round(row["seconds"], 1),
                         seed=seed, note=" ".join(row["note"].split()) or "; ".join(sorted(words))))
    return pd.DataFrame(rows)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="rows whose subject or fault has one of these words")
    parser.add_argument("--kills", type=int, default=KILLS, help="random kills in all")
    parser.add_argument("--most", type=int, default=EVERY, help="verdicts of any row, for a quick look")
    parser.add_argument("--keep", action="store_true", help="also verdicts on other code of taco, after a small mend")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--kept", type=Path, default=KEPT, help="where verdicts are kept")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what is mounted is taken off
    rows, begun = plan(given.kills), time.monotonic()
    mine = [row for row in rows if not given.only or any(word in row.name for word in given.only)]
    if not mine:
        print("No row has such a word.")
        return 2
    files = {row: given.kept / f"seed{given.seed}" / (re.sub(r"\W+", "-", row.name) + ".json") for row in rows}
    found = {row: kept(files[row], row, given.keep) for row in rows}
    with tempfile.TemporaryDirectory(prefix="campaign-") as place, Subjects(Path(place).resolve()) as subjects:
        for row in mine:
            subject = lambda row=row: subjects[row.subject]
            found[row] = tried(row, subject, files[row], given.seed, given.most, given.keep)
            what = ", ".join(f"{n} {w}" for w, n in Counter(w for w, _ in found[row]["verdicts"]).items())
            print(f"{time.monotonic() - begun:5.0f} s  {row.name}: {what or found[row]['note']}", flush=True)
            table = table_of((row for row in found.values() if row["trials"]), given.seed)
            with atomic(given.out) as spare: table.to_csv(spare, index=False)
    bad = {what: int(table[what].sum()) for what in FAULTS}
    print(f"{table['tried'].sum()} trials in {len(table)} rows: {bad}")
    return int(any(bad.values()))


if __name__ == "__main__": sys.exit(main())
