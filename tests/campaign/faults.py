"""What the campaign does to a job: each function is one trial, `(job, known, place, number, seed)` → its verdicts.

No verdict at all means that there is nothing more to try: the last crash point was met, or it cannot be tried here.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path

from tests.campaign.judge import End, Going, Job, Known, Verdict, again, drawn, prepared, right, seen, start
from tests.crash import killed_before
from tests.spoil import unnoticed

DAY = 86_400
Trial = Callable[[Job, Known, Path, int, int], list[Verdict]]


class CannotBeTried(Exception):
    "A fault that this machine does not allow; the words say why."


def after(job: Job, known: Known, folder: Path, stale: bool, good: str, words: str = "", **how) -> Verdict:
    "The verdict on what lies in a folder now, and on the job that is started there again."
    return seen(job, known, folder, stale) or again(job, known, folder, **how) or Verdict(good, words)


# ── kills ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def crash_point(stale: bool) -> Trial:
    "SIGKILL just before one file operation after the other, in an empty folder or over an old result."
    def trial(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
        folder = prepared(known, place, stale)

        def work():
            empty = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2): os.dup2(empty, stream)
            job.work(folder)

        if not killed_before(number + 1, work, folder): return []  # that was the last one
        return [after(job, known, folder, stale, "survived")]
    return trial


def random_kill(*kinds: signal.Signals) -> Trial:
    "Signals (one of these) at random moments, from outside; of a job with a chain, several before it may end."
    def trial(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
        rng = drawn(seed, number, job.name, *(kind.name for kind in kinds))
        stale = bool(known.old) and rng.random() < .5
        share = 1.
        for _ in range(12):  # it may have ended before
            folder, hits = prepared(known, place, stale), 0
            for _ in range(job.chain):
                end = struck(job, folder, rng.uniform(0, share * known.seconds), kinds[rng.integers(len(kinds))])
                if end.how == "ended": break
                if busy(end):  # of the one that was killed before, a child is ending
                    time.sleep(1)
                    continue
                hits += 1
                odd = end.how not in ("killed", "stopped")
                wrong = Verdict("raw", f"{end.how}: {end.words}") if odd else seen(job, known, folder, stale)
                if wrong: return [wrong]
            share *= .8
            if hits: return [after(job, known, folder, stale, "survived")] * hits
        return [Verdict("raw", "no signal found it at work")]
    return trial


def busy(end: End) -> bool:
    "Whether it refused because another is at work there still, as when a killed one has children that are ending."
    return end.how == "refused" and ("works in this folder" in end.words or "Another Snakemake" in end.words)


def struck(job: Job, folder: Path, moment: float, how: signal.Signals) -> End:
    "Start a job and signal to its process so many seconds later; how it ended."
    going = start(job, folder)
    while (left := going.begun + moment - time.monotonic()) > 0:
        if end := going.end(wait=False): return end
        time.sleep(min(left, .01))
    with contextlib.suppress(ProcessLookupError): os.kill(going.pid, how)
    return going.end()


# ── disks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mount(*words: str) -> None:
    "Raises `CannotBeTried` where nothing can be mounted."
    try: done = subprocess.run(["mount", *words], capture_output=True, text=True)
    except OSError as error: raise CannotBeTried(f"nothing can be mounted here: {error}") from None
    if done.returncode: raise CannotBeTried(f"nothing can be mounted here: {done.stderr.strip()[:80]}")


@contextlib.contextmanager
def small_disk(known: Known, place: Path, stale: bool) -> Generator[tuple[Path, Callable[[str], bool]]]:
    "A folder that is a disk of its own (tmpfs), and how to mount it anew with other options."
    folder = place / "here"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=256m", "none", str(folder))

    def remount(options: str) -> bool:
        return not subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], capture_output=True).returncode

    try:
        if stale: shutil.copytree(known.stale, folder, dirs_exist_ok=True)
        yield folder, remount
    finally: subprocess.run(["umount", "-l", str(folder)], check=True)


def unwritten(job: Job, known: Known, folder: Path, stale: bool, end: End, free: Callable[[], object]) -> Verdict:
    "The verdict on a job whose disk took no more; `free` lets it take all again."
    if end.how == "ended":
        wrong = right(job, known, folder)
        free()
        return wrong or Verdict("harmless", "there was room")
    if end.how != "refused":
        free()
        return Verdict("raw", end.words)
    wrong = seen(job, known, folder, stale)
    free()
    return wrong or again(job, known, folder) or Verdict("refused")


def full_disk(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "A tmpfs with room for a random part of what is written; every second time over an old result."
    rng = drawn(seed, number, job.name, "full")
    stale = bool(known.old) and number % 2 == 1
    with small_disk(known, place, stale) as (folder, remount):
        room = os.statvfs(folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        more = int(rng.integers(4096, max(8192, known.bytes)))
        assert remount(f"size={used + more}"), "the disk cannot be made smaller"
        end = start(job, folder).end()
        return [unwritten(job, known, folder, stale, end, lambda: remount("size=256m"))]


def read_only(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "A disk that is read-only from the start, with an old result, nothing, or all that is wanted."
    stale, finished = bool(known.old) and number % 3 == 1, number % 3 == 2
    with small_disk(known, place, stale) as (folder, remount):
        if finished and (wrong := again(job, known, folder)): return [wrong]
        assert remount("ro"), "the disk cannot be made read-only"
        end = start(job, folder).end()
        if end.how == "ended" and not finished: return [Verdict("wrong", "it ends well, and nothing can be written")]
        return [unwritten(job, known, folder, stale, end, lambda: remount("rw"))]


def turned_read_only(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "A disk that turns read-only at a random moment, as soon after as no file is open for writing."
    rng = drawn(seed, number, job.name, "turned")
    stale, share = bool(known.old) and number % 2 == 1, 1.
    for _ in range(12):
        with small_disk(known, place, stale) as (folder, remount):
            going = start(job, folder)
            time.sleep(rng.uniform(0, share * known.seconds))
            turned = False
            while not turned and (end := going.end(wait=False)) is None:
                turned = remount("ro")
            if turned: end = going.end()
            share *= .7
            if not turned or end.how == "ended": continue
            return [unwritten(job, known, folder, stale, end, lambda: remount("rw"))]
    return [Verdict("harmless", "it never met a closed moment")]


# ── two at once, and the clock ────────────────────────────────────────────────────────────────────────────────────────


def two_at_once(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "Two of the same, or (every second time, where there is one) one that wants another result, in one folder."
    rng = drawn(seed, number, job.name, "two")
    folder, other = prepared(known, place, False), bool(known.old) and number % 2 == 1
    one = start(job, folder)
    time.sleep(rng.uniform(0, .5 * known.seconds))
    two = start(job, folder, old=other)
    ends = [one.end(), two.end()]
    if odd := [end for end in ends if end.how not in ("ended", "refused")]: return [Verdict("raw", odd[0].words)]
    if all(end.how == "refused" for end in ends): return [Verdict("lost", f"neither ends: {ends}")]
    wrong = seen(job, known, folder, True)
    refused = any(end.how == "refused" for end in ends)
    return [wrong or again(job, known, folder) or Verdict("refused" if refused else "survived")]


def set_back(seconds: float = DAY) -> None:
    "Let this process see a clock that was set back; what runs by itself (`time.monotonic`) does not notice."
    now, whole = time.time, time.time_ns
    time.time = lambda: now() - seconds
    time.time_ns = lambda: whole() - int(seconds * 1e9)


def clock_set_back(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    """Killed at a random moment, started again when the clock says a day less than its files.

    The files get the times of tomorrow (`os.utime`), and the process that goes on a clock that is a day late.
    """
    rng = drawn(seed, number, job.name, "clock")
    stale = bool(known.old) and number % 2 == 1
    folder = prepared(known, place, stale)
    struck(job, folder, rng.uniform(0, known.seconds), signal.SIGKILL)
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError): os.utime(path, (time.time() + DAY,) * 2)
    return [after(job, known, folder, stale, "survived", **({} if job.command else dict(before=set_back)))]


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def damage(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "One file after the other: a bit flipped anywhere, one in its head, and the file cut; then all is read."
    folder = place / "damage"
    if not folder.exists():
        folder.mkdir(parents=True)
        assert start(job, folder).end().how == "ended"
    files = job.damaged(folder)
    file = files[number % len(files)]
    same = lambda now: now == known.result
    silent, odd, counts = unnoticed(file, lambda: job.result(folder), same, 1, [seed, number])
    raw = [Verdict("raw", f"{file.name}: {words}") for words in odd]
    wrong = [Verdict("wrong", f"{file.name}: {words}") for words in silent]
    found = [Verdict("detected")] * (counts["refused"] + counts["raw"] - len(raw))
    return raw + wrong + found + [Verdict("harmless")] * counts["harmless"]


def damaged_checkpoint(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "A training that stopped, a bit of its checkpoint (or run.json) that turned over, and the training that goes on."
    stopped, folder = place / "stopped", place / "here"
    if not stopped.exists():
        stopped.mkdir(parents=True)
        going = start(job, stopped)
        while not (stopped / "run/training.ckpt").exists(): time.sleep(.005)
        os.kill(going.pid, signal.SIGKILL)
        going.end()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stopped, folder)
    file = folder / "run" / ("run.json" if number % 5 == 4 else "training.ckpt")
    rng, data = drawn(seed, number, "checkpoint"), bytearray(file.read_bytes())
    at = int(rng.integers(len(data)))
    if number % 4 == 3: data = data[:at]
    else: data[at] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    end = start(job, folder).end()
    if end.how == "refused": return [Verdict("detected" if file.name in end.words else "raw", end.words)]
    if end.how != "ended": return [Verdict("raw", f"{file.name} at {at}: {end.words}")]
    wrong = right(job, known, folder)
    return [wrong or Verdict("harmless")]


# ── the network ───────────────────────────────────────────────────────────────────────────────────────────────────────


def network(manners: str) -> Trial:
    "A server with other manners from the first file or a later one on, at a random byte; then a good one."
    def trial(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
        from tests.campaign.jobs import fetch_job
        rng = drawn(seed, number, manners)
        folder, shop = prepared(known, place, False), job.shop
        at = "" if "," in manners else f" {int(rng.integers(1, 40_000))}"
        end = Going(lambda: fetch_job(shop, manners + at).work(folder)).end()
        if end.how != "refused":
            return [Verdict("wrong" if end.how == "ended" else "raw", f"{manners + at}: {end.words}")]
        return [after(job, known, folder, False, "refused")]
    return trial


# ── data that go away ─────────────────────────────────────────────────────────────────────────────────────────────────


def unplugged(by_mount: bool) -> Trial:
    "The folder of the data is moved away, or its disk (a bind mount) taken off, at a random moment; then it is back."
    def trial(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
        rng, share, home = drawn(seed, number, job.name, "unplugged"), 1., job.home
        away = home.with_name("away")
        for _ in range(12):
            folder, mounted = prepared(known, place, False), False
            home.rename(away)
            if by_mount: home.mkdir()
            try:
                if by_mount: mount("--bind", str(away), str(home))
                else: away.rename(home)
                mounted = by_mount
                going = start(job, folder)
                time.sleep(rng.uniform(0, share * known.seconds))
                early = going.end(wait=False)
                if not early and by_mount:
                    subprocess.run(["umount", "-l", str(home)], check=True)
                    mounted = False
                elif not early: home.rename(away)
                end = early or going.end()
                wrong = None if end.how == "refused" else seen(job, known, folder, False)
            finally:
                if mounted: subprocess.run(["umount", "-l", str(home)], check=True)
                if away.exists():
                    if by_mount: home.rmdir()
                    away.rename(home)
            share *= .8
            if wrong: return [wrong]
            if end.how == "ended": continue  # it had read all
            if end.how != "refused": return [Verdict("raw", end.words)]
            return [after(job, known, folder, False, "refused")]
        return [Verdict("harmless", "it was always done")]
    return trial


def changed_under_old_clock(job: Job, known: Known, place: Path, number: int, seed: int) -> list[Verdict]:
    "A file that was changed while the clock was late, so that it looks older than what was packed: packed anew."
    folder, file = prepared(known, place, False), sorted((job.home / "masks").iterdir())[number]
    before, about = file.read_bytes(), file.stat()
    if wrong := again(job, known, folder): return [wrong]
    try:
        from PIL import Image
        Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)
        os.utime(file, (about.st_mtime - DAY,) * 2)
        end = start(job, folder, before=set_back).end()
        if end.how != "ended": return [Verdict("lost", end.words)]
        if job.result(folder) == known.result: return [Verdict("wrong", "what was packed before is taken for fresh")]
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    return [again(job, known, folder) or Verdict("survived")]


