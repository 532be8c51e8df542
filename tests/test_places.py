"Files that other programs read: container, workflow, conda, archive. No such program is at hand, so what they say is."
import json
import re
from pathlib import Path

import yaml

from taco import __version__

ROOT = Path(__file__).resolve().parent.parent
LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def stages() -> list[list[str]]:
    "The lines of each stage of the Dockerfile."
    starts = [i for i, line in enumerate(LINES) if line.startswith("FROM ")] + [len(LINES)]
    return [LINES[a:b] for a, b in zip(starts, starts[1:])]


def test_the_container_has_two_stages_and_no_root():
    assert len(stages()) == 2
    for stage in stages():
        users = [line.split()[1] for line in stage if line.startswith("USER ")]
        assert users == ["taco"] and any("useradd" in line for line in stage)
        assert not any(re.match(r"(RUN|COPY)", line) and "apt-get" in line for line in stage[stage.index("USER taco"):])
    version = stages()[0][0].split(":")[1][:4]
    assert version in (ROOT / "environment.yml").read_text() and all(version in stage[0] for stage in stages())


def test_what_the_container_copies_is_there_and_enough_for_its_commands():
    copied = {word for line in stages()[0] if line.startswith("COPY") for word in line.split()[2:-1]}
    assert all((ROOT / name).exists() for name in copied)
    needed = re.search(r"(?m)^\$\(VENV\)/\.ready: (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert {*needed, "Makefile", "taco"} <= copied and "RUN make env" in stages()[0]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ".venv" in ignored and not {"taco", "nbs", "tests", "profiles", "figures", "tools"} & set(ignored)


def test_the_workflow_calls_what_ci_calls():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = jobs["test"]["steps"]
    assert steps[-1] == dict(run=".ci/run") and (ROOT / ".ci/run").stat().st_mode & 0o100
    least = re.search(r"(?m)^min_python = (.*)$", (ROOT / "settings.ini").read_text())[1]
    assert jobs["test"]["strategy"]["matrix"]["python"][0] == least


def test_conda_installs_what_make_installs():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (part["pip"] for part in parts if isinstance(part, dict))
    assert pip == ["-r requirements.lock", "-e ."] and (ROOT / "requirements.lock").exists()


def test_an_archive_says_what_the_citation_says():
    archive = json.loads((ROOT / ".zenodo.json").read_text())
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for name in ("title", "license", "version"): assert archive[name] == str(cited[name])
    assert archive["version"] == __version__
    known = json.dumps(cited["references"])
    for one in archive["related_identifiers"]: assert one["identifier"].removeprefix("arXiv:") in known


def test_the_development_container_is_of_the_same_python():
    told = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert told["image"].endswith(":3.11") and "make env" in told["postCreateCommand"]
