"Hostile files: read rightly or refused by name, in little time and memory, and nothing is written elsewhere."

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hostile import main, table_of
from taco.base import DataError, TacoError
from tests.hostile.corpus import Case, corpus
from tests.hostile.judge import Verdict, digest, judged
from tests.hostile.kinds import kinds

NAMES = [kind.name for kind in kinds()]
QUICK = {  # of the most harmful, one each; those that are quick to make and to read
    "PNG": ["a bomb in colours", "a size beyond all", "bit flipped"],
    "NIfTI, packed": ["a bomb", "a size beyond all"],
    "npz": ["an array with a pickle", "an array with a size beyond all"],
    "HDF5": ["a link to a file outside", "a size beyond all"],
    "zip archive": ["a member outside", "a link", "a bomb"],
    "card": ["a million names", "a pipe", "a name of 50,000 parts"],
    "profile": ["a bomb of names", "a bomb of merges", "an object of Python's"],
    "parameters of a notebook": ["a parameter that is a program", "a parameter of 100,000 signs"],
    "VOC": ["a bomb of entities", "a file outside"],
}


@pytest.mark.parametrize("kind", QUICK)
def test_the_worst_of_each_kind(kind):
    found = list(corpus(1, of=[kind], only=QUICK[kind]))
    assert {case.mutation for case in found} == set(QUICK[kind])
    assert [str(case) for case in found if case.verdict.what != "refused"] == []


@pytest.mark.long
@pytest.mark.parametrize("kind", NAMES)
def test_all_of_them(kind):
    found = list(corpus(2, seed=1, of=[kind]))
    assert len(found) > 10
    assert [str(case) for case in found if not case.verdict.fine] == []


def test_the_corpus_covers_every_reader_and_is_large():
    from taco.data.readers.source import READERS
    from tests.data.readers.toys import TOYS
    read = set(TOYS) - {"packaged"}  # whose files belong to installed packages
    assert read == set(READERS) - {"packaged"} and len(NAMES) == len(set(NAMES)) >= 50


# ── the judge itself: what it must see ────────────────────────────────────────────────────────────────────────────────


def verdict(read, tmp_path: Path, seconds: float = 10, checked: bool = False) -> str:
    (tmp_path / "here").mkdir(exist_ok=True)
    return judged(read, ["a.png"], tmp_path / "here", digest(7), checked, seconds).what


def refuse(*words): raise DataError("No.", file=words[0] if words else None)


def far(): raise DataError("No.", file="a.png") from MemoryError()


def grow(): return len(np.empty(2**28))


def spin():
    while True: pass


def keep_open():
    sys.kept = open(__file__)  # noqa: SIM115  it is what should be seen


@pytest.mark.parametrize("read, what", [
    (lambda: 7, "same"), (lambda: 8, "other"), (lambda: refuse("x/a.png"), "refused"), (refuse, "unnamed"),
    (lambda: refuse("b.png"), "unnamed"), (lambda: 1 / 0, "raw"), (far, "memory"), (grow, "memory"),
    (lambda: os.kill(os.getpid(), 11), "crash"), (lambda: os._exit(0), "crash"), (keep_open, "leak"),
    (lambda: os.system("true"), "outside"),
])
def test_the_judge_sees(read, what, tmp_path): assert verdict(read, tmp_path) == what


def test_the_judge_sees_whoever_computes_or_sleeps_too_long(tmp_path):
    assert verdict(spin, tmp_path, 1) == verdict(lambda: time.sleep(9), tmp_path, 1) == "hang"


def test_the_judge_sees_files_elsewhere_and_changes_that_a_checksum_shows(tmp_path):
    assert verdict(lambda: (tmp_path / "here/x").write_text("x"), tmp_path) == "other"
    assert verdict(lambda: (tmp_path / "x").write_text("x"), tmp_path) == "outside"
    assert verdict(lambda: 8, tmp_path, checked=True) == "silent"


def test_digests_tell_apart_what_readers_give():
    one, two = np.arange(4), np.arange(4).reshape(2, 2)
    assert len({digest(x) for x in (one, two, one.astype(float), [1, 2], (1, 2), "1", 1, None, {"a": one})}) == 9
    assert digest([one, {"a": two}]) == digest([one.copy(), {"a": two.copy()}])


def test_the_table_counts():
    cases = [Case("PNG", "a.png", "cut short", Verdict("refused", 0.2, 3)), Case("PNG", "a.png", "cut short",
                                                                                  Verdict("hang", 10, 0))]
    row = table_of(cases).iloc[0]
    assert (row["files"], row["refused"], row["faults"], row["seconds"]) == (2, 1, 1, 10)


@pytest.mark.parametrize("found, status", [(["refused", "same"], 0), (["refused", "raw"], 1)])
def test_the_command_writes_its_table_and_says_what_is_wrong(found, status, tmp_path, capsys, monkeypatch):
    few = [Case("PNG", "a.png", "cut short", Verdict(what)) for what in found]
    monkeypatch.setattr("benchmarks.hostile.corpus", lambda *_: few)
    assert main(["--out", str(tmp_path / "t.csv")]) == status
    said = capsys.readouterr().out
    assert "2 files of 1 kinds" in said and ("a.png, cut short: raw" in said) == bool(status)
    assert (tmp_path / "t.csv").read_text().startswith("kind,mutation,files")


def test_a_kind_that_is_none(tmp_path):
    assert main(["no such kind", "--out", str(tmp_path / "u.csv")]) == 2 and not (tmp_path / "u.csv").exists()


def test_an_error_shows_no_more_than_can_be_read():
    nested: list = []
    for _ in range(100_000): nested = [nested]
    for found in ("x" * 10**7, nested):
        assert len(str(TacoError("No.", found=found))) < 500
