"""Run Snakemake for steps of a profile, once at a time: python -m tools.steps TARGET [options of Snakemake].

Snakemake locks its folder by a file, which stays when it is killed, and then refuses to start. Here a lock of the
system stands before it, which ends with its holder: whoever has it knows that a file which is left is a rest.

Told to stop, Snakemake would wait for the step that runs, an hour perhaps. Here the step is told as well: it keeps
what it has, and the same command goes on from there.
"""
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from taco.base import TacoError
from taco.cli.ending import SIGNALS, tell
from taco.lock import Lock, lead, take

STEP = "from taco.cli.main import main; main()"  # a word in the command of every step, see Snakefile


def others(place: Path) -> list[int]:
    "Process ids of Snakemakes that work in this folder, as when one was killed and its children are about to end."
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            named = any("snakemake" in word for word in process.cmdline()[:4])
            if named and process.pid != os.getpid() and Path(process.cwd()) == place: found.append(process.pid)
    return found


def clear(place: Path, wait: float = 60.) -> None:
    "Remove what a killed Snakemake left locked, once no other works in the folder. Raises `TacoError` while one does."
    left = list((place / ".snakemake/locks").glob("*"))
    until = time.monotonic() + wait
    while left and (there := others(place)):
        if time.monotonic() > until:
            raise TacoError("Another Snakemake works in this folder.", file=place, found=f"process {there[0]}",
                            fix=f"Wait until it ends, or stop it: kill {there[0]}")
        time.sleep(.2)
    for file in left: file.unlink(missing_ok=True)


def steps_of(pid: int) -> list[psutil.Process]:
    "The steps that a Snakemake has started and that still run."
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if STEP in child.cmdline(): found.append(child)
    return found


def hand_on(pid: int, came: list[int], told: dict[int, int], far: bool = False) -> None:
    """Let a Snakemake start nothing more, and its steps have every signal that came, once (`told`: how many each had).

    Steps that are jobs of a cluster (`far`) are taken back by Snakemake itself: the cluster tells them.
    """
    if pid not in told:
        # told so, it waits for its steps; interrupted, it takes its jobs back
        with contextlib.suppress(OSError): os.kill(pid, signal.SIGINT if far else signal.SIGTERM)
    told[pid] = len(came)
    for step in steps_of(pid):
        for number in came[told.get(step.pid, 0):]:
            with contextlib.suppress(psutil.Error): step.send_signal(number)
        told[step.pid] = len(came)


def follow(command: list[str], lock: Lock, every: float = .2) -> int:
    "Run a command that starts steps, and hand on what signals say to it; its exit status."
    came: list[int] = []
    told: dict[int, int] = {}
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS}
    held = [] if lock.descriptor is None else [lock.descriptor]  # as long as it runs, even without us
    child = subprocess.Popen(command, pass_fds=held, start_new_session=True)  # Ctrl-C comes to us alone
    try:
        while (status := _status(child, every)) is None:
            if came: hand_on(child.pid, list(came), told, "--workflow-profile" in command)
    finally:
        for number, handler in before.items(): signal.signal(number, handler)
    if not came or status == 0: return status if status >= 0 else 128 - status
    print(f"Stopped by {signal.Signals(came[0]).name}; the same command goes on from here.", file=sys.stderr)
    return 128 + came[0]


def _status(child: subprocess.Popen, wait: float) -> int | None:
    "The exit status of a process, None if it has none after a while."
    try: return child.wait(wait)
    except subprocess.TimeoutExpired: return None


def main(words: list[str]) -> int:
    "Take the lock, clear what is left, and run Snakemake; its exit status."
    place = Path.cwd()
    (place / ".snakemake").mkdir(exist_ok=True)
    with take(place / ".snakemake") as lock:
        clear(place)
        lead()  # should this process be killed, the steps end
        return follow([sys.executable, "-m", "snakemake", *words], lock)


if __name__ == "__main__":
    try: sys.exit(main(sys.argv[1:]))
    except TacoError as error:
        tell(error)
        sys.exit(2)
