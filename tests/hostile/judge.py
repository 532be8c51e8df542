"One spoiled file is read in a process of its own, with little memory, little time, and somebody who watches."

import faulthandler
import gc
import hashlib
import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from taco.base import TacoError
from tests.crash import CHANGES, WRITING

SECONDS, MEMORY = 10, 2**30  # that one file may take: of the processor, and beyond what was there before
FINE = ("same", "other", "refused")
FAULTS = ("silent", "raw", "unnamed", "memory", "hang", "crash", "outside", "leak")


@dataclass
class Verdict:
    """What became of a file.

    same: as the whole file was read. other: as the spoiled file says, whose format has no checksum. refused: by a
    `TacoError` that names it. silent: it should have been noticed. raw: another exception. unnamed: a `TacoError`
    that does not say which file. outside: something was written elsewhere, started or called. leak: a file stayed
    open, or a rest behind.
    """

    what: str
    seconds: float = 0.0
    megabytes: float = 0.0
    words: str = ""

    @property
    def fine(self) -> bool:
        return self.what in FINE


def digest(thing: Any) -> str:
    "Of everything that a reader can give back: arrays, tables, records, and what holds them."
    found = hashlib.blake2b(digest_size=16)
    _feed(found.update, thing)
    return found.hexdigest()


def _feed(eat: Callable[[bytes], object], thing: Any) -> None:
    eat(type(thing).__name__.encode())
    if isinstance(thing, torch.Tensor): thing = thing.detach().cpu().contiguous().numpy()
    if isinstance(thing, pd.DataFrame): thing = [list(thing.columns), thing.to_numpy().tolist()]
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        eat(f"{thing.dtype} {thing.shape}".encode())
        eat(np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, dict):
        for key, value in thing.items(): _feed(eat, key), _feed(eat, value)
    elif is_dataclass(thing) and not isinstance(thing, type):
        for field in fields(thing): _feed(eat, getattr(thing, field.name))
    elif isinstance(thing, (list, tuple, set, np.ndarray)):
        for value in thing: _feed(eat, value)
    else: eat(repr(thing).encode(errors="surrogatepass"))


def _held() -> int:
    "Bytes of address space that this process has now."
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _watch(inside: Path) -> list[str]:
    "What is done from now on that no reader has to do: programs, the network, files elsewhere."
    seen: list[str] = []

    def note(event: str, arguments: tuple) -> None:
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
                     "socket.getaddrinfo"):
            seen.append(f"{event} {arguments[:2]}")
        path = str(arguments[0]) if arguments else ""
        written = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        free = not path.startswith("/") or path in (os.devnull, str(inside)) or path.startswith(f"{inside}/")
        if (written or event in CHANGES) and not free: seen.append(f"{event} {path}")

    sys.addaudithook(note)
    return seen


def _wanted_memory(error: BaseException | None) -> bool:
    "Whether an error came of memory that was not there; Python's own parser calls its depth so, and takes none."
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, MemoryError) and not (frames and frames[-1].filename.endswith("/ast.py")): return True
        error = error.__cause__ or error.__context__
    return False


def _open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def _outcome(read: Callable[[], object], names: Iterable[str]) -> tuple[str, str]:
    "Verdict and words, of reading here and now; a digest in the place of the verdict where that went well."
    try:
        said = io.StringIO()
        with redirect_stdout(said): found = digest(read())
        return found, ""
    except TacoError as error:
        if _wanted_memory(error): return "memory", str(error)[:300]
        return ("refused" if any(name in str(error) for name in names) else "unnamed"), str(error)[:600]
    except MemoryError as error: return "memory", f"MemoryError: {error}"[:300]
    except BaseException as error: return "raw", f"{type(error).__name__}: {error}"[:300]


def _child(read: Callable[[], object], names: Iterable[str], inside: Path, pipe: int) -> None:
    "Everything that happens in the process of one file."
    faulthandler.disable()  # a crash is told by the verdict
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_held() + MEMORY, _held() + MEMORY))
    seen, before, start = _watch(inside), _open_files(), time.process_time()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what, words = _outcome(read, names)
    seconds = time.process_time() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    if seen: what, words = "outside", "; ".join(seen[:3])
    elif (left := _open_files()) > before and what != "raw": what, words = "leak", f"{left - before} files stay open"
    os.write(pipe, json.dumps([what, seconds, megabytes, words]).encode())


def _waited(child: int, out: int, seconds: float) -> bool:
    "Whether a child answers: before it has computed for so many seconds, and without sleeping as long."
    computed, moved = 0.0, time.monotonic()
    while not select.select([out], [], [], 0.5)[0]:
        state, *spent = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        before, computed = computed, (int(spent[10]) + int(spent[11])) / os.sysconf("SC_CLK_TCK")
        # on a full machine it may wait for its turn, and is then not asleep
        if state == "R" or computed > before: moved = time.monotonic()
        if computed >= seconds or time.monotonic() - moved >= seconds: return False
    return True


def judged(
    read: Callable[[], object],
    names: Iterable[str],   # one of which an error must hold
    inside: Path,           # the folder below which alone may be written
    whole: str,             # `digest` of what the file gives while it is not spoiled
    checked: bool = False,  # whether its format has checksums, so that nothing may be read otherwise
    seconds: float = SECONDS,
) -> Verdict:
    "What becomes of a file, read in a child of this process."
    out, into = os.pipe()
    sys.stdout.flush()
    gc.freeze()  # or else the child, when it collects, touches and so copies all memory of this process
    child = os.fork()
    if child: gc.unfreeze()
    else:
        try:
            os.close(out)
            _child(read, names, inside, into)
            os._exit(0)
        except BaseException: os._exit(9)
    os.close(into)
    ready = _waited(child, out, seconds)
    if not ready: os.kill(child, signal.SIGKILL)
    said = os.read(out, 65536) if ready else b""
    os.close(out)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ready: return Verdict("hang", seconds, 0.0, f"not read in {seconds:g} s")
    if not said: return Verdict("crash", 0.0, 0.0, f"the process ended with {status}")
    what, took, megabytes, words = json.loads(said)
    if what in FINE or what in FAULTS: return Verdict(what, took, megabytes, words)
    if what == whole: return Verdict("same", took, megabytes)
    return Verdict("silent" if checked else "other", took, megabytes, "read otherwise")
