"What all tests share."
import json
import os

# One thread a worker: pytest-xdist already uses every core, and oversubscribed cores are slower than one.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TACO_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["COLUMNS"] = "200"  # consoles are made at import and ask then

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "Commands and trainings of one file may change the number of threads, and with it how sums are rounded in the next."
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    "The repository."
    return ROOT


@pytest.fixture(scope="session")
def known_digests() -> dict:
    "What was before the house was rebuilt; see tests/test_nothing_changed.py."
    return json.loads((ROOT / "tests/digests.json").read_text())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    "The folder of small real extracts that may lie beside the repository; never part of it."
    folder = Path(os.environ.get("TACO_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real extracts at {folder}; set TACO_SHARED_DATA to a folder that holds them")
    return folder


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes and seldom breaks; `make test-long` runs these")


def pytest_collection_modifyitems(items):
    "The files that take longest come first; `--dist loadfile` keeps a file on one worker, with its fixtures."
    first = ("test_execute.py", "test_notebooks.py")
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))
    for item in items:
        if "smoke" in item.fixturenames: item.add_marker(pytest.mark.long)
