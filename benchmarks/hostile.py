"""What becomes of hostile files: every kind that taco reads, spoiled in every way, each in a process of its own.

    python -m benchmarks.hostile            # over three thousand files in six minutes; writes benchmarks/hostile.csv

The good files and what is done to them are in `tests/hostile`: `kinds.py`, `mutations.py`, `judge.py`. A file is read
as it was (same), otherwise as the spoiled file says, where its format has no checksum (other), or refused by a
`TacoError` that names it. All else is a fault, and the command ends with status 1: another exception, a crash, more
than 10 s of the processor or as long asleep, more than 1 GiB beyond what was there, a file or a program elsewhere, a
file left open or behind, and a change that a checksum should have shown.
"""
import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from taco.base import atomic
from tests.hostile.corpus import Case, corpus
from tests.hostile.judge import FAULTS, FINE

OUT = Path(__file__).parent / "hostile.csv"


def table_of(cases: list[Case]) -> pd.DataFrame:
    "One row a kind of file and mutation: how many cases, what became of them, the most seconds and megabytes."
    rows = [dict(kind=c.kind, mutation=c.mutation, seconds=c.verdict.seconds, megabytes=c.verdict.megabytes,
                 **{what: int(c.verdict.what == what) for what in FINE}, faults=int(not c.verdict.fine)) for c in cases]
    groups = pd.DataFrame(rows).groupby(["kind", "mutation"], sort=False)
    found = groups.agg(files=("faults", "size"), **{n: (n, "sum") for n in (*FINE, "faults")},
                       seconds=("seconds", "max"), megabytes=("megabytes", "max")).reset_index()
    return found.assign(seconds=found["seconds"].round(1), megabytes=found["megabytes"].round().astype(int))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="only these kinds of files, such as PNG or card")
    parser.add_argument("--count", type=int, default=3, help="flips and cuts of each sort, a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    given, cases, start = parser.parse_args(words), [], time.monotonic()
    for case in corpus(given.count, given.seed, given.kinds):
        cases.append(case)
        if not case.verdict.fine: print(case, flush=True)
        if len(cases) % 100: continue
        print(f"{len(cases)} files, {time.monotonic() - start:.0f} s: {case.kind}", flush=True)
    if not cases:
        print("No kind of file has this name.")
        return 2
    table, found = table_of(cases), Counter(case.verdict.what for case in cases)
    with atomic(given.out) as spare: table.to_csv(spare, index=False)
    seconds, megabytes = (max(getattr(c.verdict, n) for c in cases) for n in ("seconds", "megabytes"))
    words_of = ", ".join(f"{found[what]} {what}" for what in (*FINE, *FAULTS))
    kinds, mutations = (table[name].nunique() for name in ("kind", "mutation"))
    print(f"{len(cases)} files of {kinds} kinds, {mutations} mutations: {words_of}; at most {seconds:.1f} s and "
          f"{megabytes:.0f} MB")
    return int(bool(table["faults"].sum()))


if __name__ == "__main__": sys.exit(main())
