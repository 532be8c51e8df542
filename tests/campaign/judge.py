"""Work that is disturbed from outside, looked at, and started again: what has become of it, in one word.

A job is work in a folder that ends with a result. A fault of the campaign gives a verdict for each time it was tried:

- survived: started again (or never stopped), it ends with what an undisturbed run ends with, and leaves nothing else
- refused: it said what is wrong, by a `TacoError`; what was there is whole; where nothing is wrong any more, as above
- detected: whoever reads it is told which file is damaged
- harmless: damage that changes nothing of what is read, or a fault that found nothing to do
- raw: an error that is none of ours, so that nobody is told what to do
- left: the result is right, and something hidden stays beside it
- lost: what was there before is gone, or starting again does not end
- wrong: another result, without a word
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from taco.base import TacoError
from tests.crash import rests

FINE = ("survived", "refused", "detected", "harmless")
FAULTS = ("raw", "left", "lost", "wrong")
ENDS = {0: "ended", 2: "refused", 130: "stopped", 143: "stopped", -signal.SIGKILL: "killed", -signal.SIGTERM: "killed"}
LONGEST = 600  # seconds that any work may take
Result = Mapping[str, str]  # what can be read → its digest


class Verdict(NamedTuple):
    what: str
    words: str = ""


class End(NamedTuple):
    "How a process ended: ended, refused (a `TacoError`), stopped (by a signal, in order), killed, or raw."
    how: str
    words: str = ""


@dataclass(frozen=True)
class Job:
    "Work in a folder, and how its result is read."
    name: str
    work: Callable[[Path], object]            # in a process that was forked for it; or a command, see `command`
    result: Callable[[Path], Result]          # as its readers see it; empty: nothing there. Raises `TacoError`
    files: Callable[[Path], Result]           # what a restart must leave to the byte; once there is a result
    old: Callable[[Path], object] | None = None  # the same work that gives another result, which lies there before
    command: bool = False                     # `work` gives the words of a command instead
    damaged: Callable[[Path], list[Path]] = field(default=lambda folder: [])  # files that may be damaged
    chain: int = 1                            # how many kills, one after another, before it may end
    environment: Mapping[str, str] = field(default_factory=dict)
    shop: Any = None                          # where it downloads from
    home: Path = Path()                       # the folder of its data


class Going:
    "A process that is at work."

    def __init__(self, work: Callable[[], object], command: bool = False, environment: Mapping[str, str] | None = None):
        self.begun = time.monotonic()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed when it has ended
        if command:
            words, place = work()
            how = dict(stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            self.process = subprocess.Popen(words, cwd=place, env=os.environ | dict(environment or {}), **how)
            self.pid = self.process.pid
            return
        sys.stdout.flush()
        ours = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a child hears no handler of ours, from its first moment
        self.process, self.pid = None, os.fork()
        if not self.pid: _alone(work, self.log.fileno())
        signal.signal(signal.SIGTERM, ours)

    def status(self, wait: bool) -> int | None:
        if self.process:
            try: return self.process.wait(LONGEST if wait else 0)
            except subprocess.TimeoutExpired: return None
        until = time.monotonic() + (LONGEST if wait else 0)
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid: return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until: return None
            time.sleep(.002)

    def end(self, wait: bool = True) -> End | None:
        "How it ended; None while it goes on, when nobody waits. Who takes too long is killed, and that is raw."
        try: status = self.status(wait)
        except BaseException:  # we are to end, and so is it
            os.kill(self.pid, signal.SIGKILL)
            raise
        if status is None:
            if not wait: return None
            os.kill(self.pid, signal.SIGKILL)
            self.status(True)
            return End("raw", f"it hangs for {LONGEST} s")
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip()[-600:]
        self.log.close()
        return End(ENDS.get(status, "raw"), words or f"status {status}")


def _alone(work: Callable[[], object], log: int) -> None:
    "The work, in a forked process of which only the log and the status are seen."
    status = 3
    try:
        for stream in (1, 2): os.dup2(log, stream)
        work()
        status = 0
    except TacoError as error:
        print(error)
        status = 2
    except SystemExit as leaving: status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException: traceback.print_exc()
    finally:
        try:
            for stream in (sys.stdout, sys.stderr): stream.flush()
        finally: os._exit(status)


def start(job: Job, folder: Path, old: bool = False, before: Callable[[], object] = lambda: None) -> Going:
    "The job (or its `old` one) at work; `before` is called in its process."
    work = job.old if old else job.work
    assert work is not None
    if job.command: return Going(lambda: work(folder), True, job.environment)

    def both():
        before()
        work(folder)

    return Going(both)


# ── undisturbed ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Known(NamedTuple):
    "What a job does when nothing disturbs it."
    result: Result
    files: Result
    old: Result           # empty: there is none
    stale: Path | None    # a folder with the old result
    seconds: float
    bytes: int


def undisturbed(job: Job, place: Path) -> Known:
    "Do a job twice (a command once) with nothing in its way. The same both times, or it cannot be judged."
    seen, seconds, stale = [], [], None
    for number in range(1 if job.command else 2):
        folder = place / f"whole{number}"
        folder.mkdir(parents=True)
        going = start(job, folder)
        end = going.end()
        assert end.how == "ended", f"{job.name}, undisturbed: {end}"
        seconds.append(time.monotonic() - going.begun)
        seen.append((job.result(folder), job.files(folder)))
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert all(one == seen[0] for one in seen) and seen[0][0], f"{job.name} gives two results: {seen}"
    if job.old:
        stale = place / "stale"
        stale.mkdir()
        end = start(job, stale, old=True).end()
        assert end.how == "ended", f"{job.name}, the old one: {end}"
    old = job.result(stale) if stale else {}
    assert old != seen[0][0], f"{job.name}: old and new are the same"
    return Known(*seen[0], old, stale, min(seconds), size)


def prepared(known: Known, place: Path, stale: bool) -> Path:
    "An empty folder, or one with the old result."
    folder = place / "here"
    shutil.rmtree(folder, ignore_errors=True)
    if stale: shutil.copytree(known.stale, folder, symlinks=True)
    else: folder.mkdir(parents=True)
    return folder


# ── what has become of it ─────────────────────────────────────────────────────────────────────────────────────────────


def differences(found: Result, wanted: Result) -> str:
    return ", ".join(sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)))


def seen(job: Job, known: Known, folder: Path, stale: bool) -> Verdict | None:
    "What is wrong with what can be read now, if anything: it is old, new, or not there; torn only if that is said."
    try: found = job.result(folder)
    except TacoError as error: return Verdict("lost", f"the old one is torn: {error}") if stale else None
    except Exception as error: return Verdict("raw", f"whoever reads it: {type(error).__name__}: {error}")
    if not found: return Verdict("lost", "the old one is gone") if stale else None
    if found in (known.result, known.old): return None
    return Verdict("wrong", f"neither old nor new is read: {differences(found, known.result)}")


def again(job: Job, known: Known, folder: Path, patience: float = 120, **how) -> Verdict | None:
    "Start it again, for a while also where another is said to be at work; what is wrong with how it ends, if anything."
    until = time.monotonic() + patience
    while (end := start(job, folder, **how).end()).how == "refused" and time.monotonic() < until:
        if not any(words in end.words for words in ("works in this folder", "Another Snakemake")): break
        time.sleep(1)
    if end.how != "ended": return Verdict("lost", f"started again, it does not end: {end.how}: {end.words}")
    return right(job, known, folder)


def right(job: Job, known: Known, folder: Path) -> Verdict | None:
    "What is wrong with a result that should be the undisturbed one."
    try: found = job.result(folder)
    except TacoError as error: return Verdict("lost", f"the result cannot be read: {error}")
    except Exception as error: return Verdict("raw", f"whoever reads it: {type(error).__name__}: {error}")
    if found != known.result: return Verdict("wrong", f"another result: {differences(found, known.result)}")
    files = job.files(folder)
    if files != known.files: return Verdict("wrong", f"other files: {differences(files, known.files)}")
    places = [folder, *(Path(p) for name, p in job.environment.items() if name == "TMPDIR")]
    left = [name for place in places for name in rests(place) if not name.startswith(".snakemake")]
    return Verdict("left", ", ".join(left)) if left else None


def drawn(seed: int, number: int, *words: str) -> np.random.Generator:
    "Chance for one trial: of the campaign's seed, of what is tried, and of its number."
    return np.random.default_rng([seed, number, *"|".join(words).encode()])
