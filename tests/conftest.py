"What all tests share."
import gc
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

import tests.checkers  # noqa: F401

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "Commands and trainings of one file may change the number of threads, and with it how sums are rounded in the next."
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)  # before the next file: what it shares with others is made first of all


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


# What takes longest comes first, so that the workers of `--dist loadfile --no-loadscope-reorder` end together.
LONGEST = """workflow/test_execute.py test_notebooks.py workflow/test_stop.py cli/test_hostile.py cli/test_data.py
    transfer/sequences/test_study.py atlas/use/test_place.py test_imports.py test_repo.py learning/test_training.py
    learning/test_shares.py data/phantoms/test_attributes.py transfer/unified/test_study.py data/test_catalogue.py
    data/test_pack_faults.py benchmarks/test_loop.py atlas/test_metrics.py cli/test_atlas.py
    transfer/unified/test_networks.py transfer/unified/test_representation.py transfer/unified/test_tuning.py
    data/phantoms/test_catalogue.py workflow/test_publish.py""".split()


def pytest_collection_modifyitems(items):
    "The longest files first; `--dist loadfile` keeps a file on one worker, with its fixtures."
    rank = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
    for item in items:
        if "smoke" in item.fixturenames: item.add_marker(pytest.mark.long)
    gc.freeze()  # what the test files have imported stays; to look it through for garbage again and again takes long
