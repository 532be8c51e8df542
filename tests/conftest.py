"What all tests share."
import os

# One thread a worker: pytest-xdist already uses every core, and oversubscribed cores are slower than one.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TACO_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    "The repository."
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    "The folder of small real extracts that may lie beside the repository; never part of it."
    folder = Path(os.environ.get("TACO_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real extracts at {folder}; set TACO_SHARED_DATA to a folder that holds them")
    return folder


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep the tests of a file on one worker, so that its fixtures are made once; chapters are spread over all.

    The smoke run comes first, because it takes longest.
    """
    for item in items:
        if item.path.name != "test_notebooks.py": item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: item.path.name != "test_experiments.py")
