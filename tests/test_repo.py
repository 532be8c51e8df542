"What is generated is in step with what it is generated from."
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def tree(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for pattern in patterns for p in sorted(folder.glob(pattern)) if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    "A copy of what nbdev reads and writes, so that a test never changes the working tree."
    folder = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "taco"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "setup.py", "pyproject.toml"): shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("command", ["nbdev_export", "nbdev_clean"])
def test_nbdev_changes_nothing(copy, command):
    patterns = ("nbs/**/*.ipynb", "taco/**/*.py", "*.ini", "*.toml", "*.py")
    before = tree(copy, *patterns)
    done = subprocess.run([Path(sys.executable).parent / command], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = tree(copy, *patterns)
    assert [n for n in after if before.get(n) != after[n]] == [] and set(before) == set(after)


def test_readme_is_the_index_notebook():
    sys.path.insert(0, str(ROOT))
    from tools.readme import readme
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "run `make readme`"


def test_lock_satisfies_settings():
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    wanted = (settings["DEFAULT"]["requirements"] + " " + settings["DEFAULT"]["dev_requirements"]).split()
    name = lambda text: re.sub(r"[-_.]+", "-", text).lower()
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
    pins = {name(k): v for k, v in pins.items()}
    for requirement in map(Requirement, wanted):
        assert name(requirement.name) in pins, f"{requirement} is not in requirements.lock; run `make lock`"
        assert pins[name(requirement.name)] in requirement.specifier, f"requirements.lock breaks {requirement}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT / "nbs")))
def test_notebook_is_light_and_tidy(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    outputs = [o for c in nb["cells"] for o in c.get("outputs", [])]
    assert len(json.dumps(outputs)) < 500_000, "stored outputs over 500 kB"
    for output in outputs:
        picture = output.get("data", {}).get("image/png", "")
        assert len("".join(picture)) * 3 / 4 < 100_000, "a stored picture over 100 kB"
        assert output.get("output_type") != "error", "a stored error"
    if "experiments" in path.parts:
        assert not outputs, "experiment sources are stored without outputs"
        assert any("parameters" in c["metadata"].get("tags", []) for c in nb["cells"]), "no cell tagged parameters"


def test_every_experiment_declares_types_and_is_in_the_snakefile():
    from taco.experiment import parameters_cell, read_parameters
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8")
    for path in (ROOT / "nbs/experiments").glob("*.ipynb"):
        declared = read_parameters(parameters_cell(path))
        assert all(p.type for p in declared.values()), f"{path.name}: a parameter without a type"
        assert declared["folder"].default == f"runs/smoke/{path.stem}"
        assert f'"{path.stem}":' in snakefile


def test_modules_import_only_to_the_left():
    "data → tasks → learning → atlas → transfer: a room never imports from one to its right."
    rooms = ["data", "tasks", "learning", "atlas", "transfer"]
    for place, room in enumerate(rooms):
        for file in (ROOT / "taco" / room).glob("*.py"):
            used = set(re.findall(r"from (?:taco|\.)\.(\w+)", file.read_text(encoding="utf-8")))  # nbdev writes `from ..room`
            assert not used & set(rooms[place + 1:]), f"{file.relative_to(ROOT)} imports from {used & set(rooms[place + 1:])}"
