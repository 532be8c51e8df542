"What a disk refuses is said in one way."

import errno
import importlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from taco.base import DISK, DataError, DiskError, StoreError, TacoError, atomic, disk_errors, without, write_json
from taco.reading import read_json


@pytest.mark.parametrize("number", sorted(DISK), ids=lambda n: errno.errorcode[n])
def test_every_refusal_of_a_disk_is_a_message(tmp_path, number):
    goal = tmp_path / "result.json"
    with pytest.raises(DiskError) as error, atomic(goal) as spare:
        raise OSError(number, os.strerror(number), str(spare))
    assert error.value.file == goal and "fix:" in str(error.value) and os.listdir(tmp_path) == []
    assert isinstance(error.value, StoreError)


def test_errors_about_other_files_pass_through(tmp_path):
    for number, kind in ((errno.EACCES, PermissionError), (errno.ENOENT, FileNotFoundError)):
        with pytest.raises(kind), atomic(tmp_path / "out/result.json"):
            raise OSError(number, os.strerror(number), "/somewhere/image.png")
    for other in (ValueError("x"), DataError("x"), KeyError("x"), OSError("not an image")):
        with pytest.raises(type(other)) as error, disk_errors(tmp_path / "x"):
            raise other
        assert error.value is other


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DiskError, match="A file lies where"):
        write_json(tmp_path / "out" / "a.json", {})
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DiskError, match="A folder lies where"):
        write_json(tmp_path / "a.json", {})
    with pytest.raises(DiskError, match="too long"):
        write_json(tmp_path / ("a" * 300 + ".json"), {})


WRITERS = dict(
    json=lambda f: write_json(f, dict(a="x" * 10**6)),
    array=lambda f: np.save(f.with_suffix(".npy"), np.zeros(10**6)),
    arrays=lambda f: np.savez(f.with_suffix(".npz"), a=np.random.default_rng(0).normal(size=10**6)),
    table=lambda f: pd.DataFrame(dict(a=range(10**5))).to_csv(f),
    weights=lambda f: save_file(dict(a=torch.zeros(10**6)), f),
    checkpoint=lambda f: torch.save(dict(a=torch.zeros(10**6)), f),
    picture=lambda f: Image.fromarray(np.random.default_rng(0).integers(0, 255, (999, 999), np.uint8)).save(f, "png"),
)
LIMITED = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from taco.base import DiskError, atomic
from tests.test_base import WRITERS
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
for name, write in WRITERS.items():
    try:
        with atomic(Path({folder!r}, name)) as spare: write(spare)
    except DiskError as error: print(name, "fix:" in str(error))
"""


def test_every_library_that_cannot_write_is_understood(tmp_path, root):
    "RLIMIT_FSIZE makes the kernel refuse, as a full disk does; nothing is simulated."
    code = LIMITED.format(root=str(root), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in WRITERS], done.stderr[-2000:]
    assert os.listdir(tmp_path) == []


@pytest.fixture
def tiny(tmp_path):
    "A disk of 256 kB, where we may mount one."
    place = tmp_path / "tiny"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_and_a_read_only_disk(tiny):
    for name, write in WRITERS.items():
        with pytest.raises(DiskError, match="full") as error, atomic(tiny / name) as spare:
            write(spare)
        assert "MB free" in str(error.value) and os.listdir(tiny) == []
    write_json(tiny / "a.json", dict(a=1), seal=True)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with pytest.raises(TacoError, match="read-only"):
        write_json(tiny / "a.json", dict(a=2), seal=True)
    assert read_json(tiny / "a.json", seal=True)["a"] == 1


def test_a_module_is_away_for_a_while_and_one_that_is_loaded_stays(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("number = 3")
    monkeypatch.syspath_prepend(tmp_path)
    with without("only_here"), pytest.raises(ImportError): importlib.import_module("only_here")
    with pytest.raises(ZeroDivisionError), without("only_here"): 1 / 0  # noqa: B018
    assert importlib.import_module("only_here").number == 3
    with without("only_here"): assert importlib.import_module("only_here").number == 3
    assert "only_here" in sys.modules
    monkeypatch.delitem(sys.modules, "only_here")
