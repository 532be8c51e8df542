"""Run Snakemake for steps of a profile, once at a time: python -m tools.steps TARGET [options of Snakemake].

Snakemake locks its folder by a file, which stays when it is killed, and then refuses to start. Here a lock of the
system stands before it, which ends with its holder: whoever has it knows that a file which is left is a rest.
"""
import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from taco.base import TacoError
from taco.cli.ending import tell
from taco.lock import take


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


def main(words: list[str]) -> None:
    "Take the lock, clear what is left, and become Snakemake."
    place = Path.cwd()
    (place / ".snakemake").mkdir(exist_ok=True)
    lock = take(place / ".snakemake")
    clear(place)
    if lock.descriptor is not None: os.set_inheritable(lock.descriptor, True)  # held until Snakemake ends
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *words])


if __name__ == "__main__":
    try: main(sys.argv[1:])
    except TacoError as error:
        tell(error)
        sys.exit(2)
