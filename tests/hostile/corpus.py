"The corpus: every kind of file, spoiled in every way, and what became of each."

import gc
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.judge import Verdict, digest, judged
from tests.hostile.kinds import Kind, kinds
from tests.hostile.mutations import SECRET, changes


@dataclass
class Case:
    "One spoiled file, and what became of it."

    kind: str
    file: str
    mutation: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.kind}: {self.file}, {self.mutation}: {self.verdict.what} {self.verdict.words}"


def outside(place: Path, inside: Path) -> dict[str, tuple[int, int]]:
    "Files below `place` and not below `inside`, with size and time."
    files = (p for p in place.rglob("*") if inside not in (p, *p.parents))
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in files}


def cases_of(kind: Kind, place: Path, count: int, seed: int, only: Iterable[str] = ()) -> Iterator[Case]:
    "The cases of one kind; `only`: names of mutations, and no others."
    good, here = place / "good", place / "work/here"
    good.mkdir(parents=True)
    kind.make(good)
    whole = digest(kind.read(good))
    assert digest(kind.read(good)) == whole, f"{kind.name} is read otherwise each time"
    for file in kind.files:
        for name, change in changes(kind.family, good / file, count, seed + zlib.crc32(f"{kind.name}{file}".encode())):
            if only and name not in only: continue
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(good, here)
            (here.parent / Path(SECRET).name).write_bytes(b"secret" * 1000)
            change(here / file)
            before, names = outside(place / "work", here), (Path(file).name, *kind.also)
            verdict = judged(lambda: kind.read(here), names, here, whole, kind.checked)
            if outside(place / "work", here) != before: verdict = Verdict("outside", words="a file lies elsewhere")
            if verdict.fine and (rests := [p.name for p in here.rglob(".*") if p.name.endswith(".taco")]):
                verdict = Verdict("leak", words=f"left behind: {rests}")
            yield Case(kind.name, file, name, verdict)
    gc.collect()


def corpus(count: int = 3, seed: int = 0, of: Iterable[str] = (), only: Iterable[str] = ()) -> Iterator[Case]:
    "All cases; `count` of each kind of chance. `of`: names of kinds, and no others."
    of, only = set(of), set(only)
    for kind in kinds():
        if of and kind.name not in of: continue
        with tempfile.TemporaryDirectory() as place: yield from cases_of(kind, Path(place), count, seed, only)
