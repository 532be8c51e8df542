"Publishing that is killed before each of its file operations leaves what was published before, or all that is new."

import json

import pytest
from PIL import Image

from taco.workflow.publish import publish
from tests.crash import content, crash_points, rests


def made_run(folder, step: str, value: int) -> None:
    "A finished run with two figures and a metric, all of which depend on `value`."
    folder.mkdir(parents=True, exist_ok=True)
    figures = {f"{step}_{n}": dict(caption=f"{step} {value}") for n in "ab"}
    for name in figures:
        Image.new("RGB", (4 + value, 4)).save(folder / f"{name}.png")
        (folder / f"{name}.svg").write_text(f"<svg>{value}</svg>")
    metrics = {f"{step}_accuracy": dict(value=float(value), ci=None, n=1, seeds=1, data="phantom")}
    about = dict(experiment=step, notebook=f"{step}.ipynb", parameters={}, commit=f"c{value}", data=dict(phantom=1),
                 device="cpu", versions={}, seconds=1.0, figures=figures, metrics=metrics)
    (folder / "done.json").write_text(json.dumps(about))


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.long)])
def test_old_or_new_at_every_point(tmp_path, every):
    runs = {step: tmp_path / "runs" / step for step in ("train", "embed")}
    target, points = tmp_path / "figures" / "tiny", 0

    def runs_of(value: int) -> None:
        for step, folder in runs.items():
            made_run(folder, step, value)

    def state() -> dict:
        return {name: data for name, data in content(target).items() if not name.startswith(".")}

    def prepare() -> None:
        runs_of(0)
        publish(runs, target)
        runs_of(1)

    prepare()
    old = state()
    publish(runs, target)
    new = state()
    assert old.keys() == new.keys() and sum(old[name] != new[name] for name in old) >= 8
    for _ in crash_points(lambda: publish(runs, target), tmp_path / "figures", prepare, every):
        points += 1
        assert state() in (old, new)
        publish(runs, target)
        assert state() == new and rests(tmp_path / "figures") == []
    assert points >= 30 // every
