"The campaign of kills and faults: what it must see, that it goes on where it was stopped, and what its table says."

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import campaign
from benchmarks.campaign import Row, main, plan, table_of, tried
from taco.base import DataError, StoreError, TacoError, atomic
from tests.campaign import faults
from tests.campaign.jobs import fetch_job, files_in
from tests.campaign.judge import FAULTS, FINE, Job, drawn, prepared, undisturbed
from tests.crash import content
from tests.shop import Shop

# ── jobs that are right, and jobs with a fault of each kind ───────────────────────────────────────────────────────────

NAMES = ("a.txt", "b.txt", "c.txt")


def write_all(folder: Path, value: str, plain: bool = False, pause: float = .01) -> None:
    "Three files that belong together: a folder in one step, or (`plain`) one file after another."
    def write(where: Path) -> None:
        where.mkdir(exist_ok=True)
        for name in NAMES:
            with open(where / name, "w") as file:
                for part in (value, " of one ", "piece"):
                    file.write(part)
                    file.flush()
                    time.sleep(pause)

    if plain: return write(folder / "all")
    with atomic(folder / "all") as spare: write(spare)


def read_all(folder: Path, checked: bool = True) -> dict[str, str]:
    "What lies there; `checked`: refused when it is not what somebody wrote."
    found = files_in(folder, "all")
    if not found or not checked: return found
    texts = {(folder / "all" / name).read_bytes() for name in NAMES if (folder / "all" / name).exists()}
    if len(found) == len(NAMES) and len(texts) == 1 and texts < {b"new of one piece", b"old of one piece"}: return found
    first = next((f for f in sorted((folder / "all").iterdir()) if b" of one piece" != f.read_bytes()[3:]), folder / "all")
    odd = [f for f in sorted((folder / "all").iterdir()) if f.read_bytes() not in (b"new of one piece", b"old of one piece")]
    raise StoreError("Damaged.", file=odd[0] if odd else first, fix="Write it again.")


def job(work=write_all, checked: bool = True, stale: bool = True, **more) -> Job:
    return Job("made", work=lambda folder: work(folder, "new"), result=lambda folder: read_all(folder, checked),
               files=lambda folder: content(folder / "all"), old=(lambda folder: write_all(folder, "old")) if stale else None,
               damaged=lambda folder: sorted((folder / "all").iterdir()), **more)
