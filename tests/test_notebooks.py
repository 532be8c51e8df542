"""Every chapter runs from top to bottom, each in a process of its own, so that no state leaks from one to the next.

The processes are forked from a server that has imported the large libraries once, and nothing of taco.
"""

import gc
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if "experiments" not in p.parts and ".ipynb_checkpoints" not in p.parts
)
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "tests.checkers",
        "torch",
        "monai.networks.nets.resnet",
        "lightning.pytorch",
        "sklearn.manifold",
        "matplotlib.pyplot",
        "seaborn",
        "nbdev.test",
    ]
)


@pytest.fixture(scope="module", autouse=True)
def server_ends_with_this_file():
    "Later tests may fork from a server as well, from one that starts in their own working folder."
    yield
    multiprocessing.forkserver._forkserver._stop()


def run(chapter: Path, log: Path) -> None:
    "In the child: what it prints goes to a file, so that a failure can be shown."
    out = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(ROOT)
    gc.freeze()  # what the server has loaded stays; to look it through for garbage again and again takes long
    import nbdev.test

    nbdev.test.CaptureShell = partial(nbdev.test.CaptureShell, mpl_format="png")  # nobody looks: half of retina's sides
    ok, _ = nbdev.test.test_nb(chapter, skip_flags=["slow", "gpu"])
    sys.stdout.flush()
    os._exit(0 if ok else 1)  # no library gets to hang at the end


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: str(p.relative_to(ROOT / "nbs")))
def test_chapter_runs(chapter, tmp_path):
    child = SERVER.Process(target=run, args=(chapter, tmp_path / "log.txt"))
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0, (
        f"{chapter.name} failed:\n{(tmp_path / 'log.txt').read_text(errors='replace')[-4000:]}"
    )
