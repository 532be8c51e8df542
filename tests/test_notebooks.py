"Every chapter runs from top to bottom, each in a process of its own, so that no state leaks from one to the next."
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if "experiments" not in p.parts and ".ipynb_checkpoints" not in p.parts)
RUN = "import sys, pathlib; from nbdev.test import test_nb; ok, seconds = test_nb(pathlib.Path(sys.argv[1]), skip_flags=['slow', 'gpu']); sys.exit(not ok)"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: str(p.relative_to(ROOT / "nbs")))
def test_chapter_runs(chapter):
    done = subprocess.run([sys.executable, "-c", RUN, str(chapter)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, f"{chapter.name} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
