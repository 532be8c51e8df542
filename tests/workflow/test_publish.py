"Publishing: whole or not at all, as the profile says, and what is not finished is named."
import json
import os
import shutil

import pytest

from taco.base import TacoError
from taco.cli.main import main
from taco.workflow.doctor import examine, wrong
from taco.workflow.parameters import ExperimentError, declared_parameters
from taco.workflow.profile import load_profile, plan, profile_folders
from taco.workflow.publish import publish
from taco.workflow.seal import seal
from tests.spoil import FEW, MANY, unnoticed


def done(folder, step: str, value: float, parameters: dict | None = None, experiment: str | None = None):
    "A finished run with one figure and one number."
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"): (folder / f"fig_{step}.{ending}").write_bytes(b"picture of %f" % value)
    metrics = {f"{step}_n": dict(value=value, ci=None, n=1, seeds=1, data="phantom")}
    about = dict(experiment=experiment or step, notebook="n.ipynb", parameters=parameters or {}, commit="abc", data={},
                 figures={f"fig_{step}": dict(caption="A figure.")}, metrics=metrics)
    seal(folder, about)
    return folder


def content(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_bad_run_leaves_everything_as_it_was(tmp_path):
    target = tmp_path / "figures/mine"
    runs = {s: done(tmp_path / s, s, 1.) for s in ("map", "train")}
    publish(runs, target)
    before = content(target)
    done(tmp_path / "map", "map", 2.)
    for spoil in (lambda: (runs["train"] / "fig_train.png").unlink(),
                  lambda: (runs["train"] / "done.json").write_text("{"),
                  lambda: (runs["train"] / "executed.ipynb").write_text("{")):
        spoil()
        with pytest.raises(ExperimentError): publish(runs, target)
        assert content(target) == before and [p.name for p in target.parent.iterdir()] == ["mine"]
        shutil.rmtree(runs["train"])
        done(runs["train"], "train", 1.)
    publish(runs, target)
    assert json.loads((target / "metrics.json").read_text())["map_n"]["value"] == 2


@pytest.mark.parametrize("after", range(1, 40, 3))
def test_killed_at_any_moment_it_is_all_old_or_all_new(after, tmp_path):
    "SIGKILL before the n-th opening, renaming or removing of a file."
    target = tmp_path / "figures/mine"
    runs = {s: done(tmp_path / s, s, 1.) for s in ("map", "train")}
    publish(runs, target)
    old = content(target)
    for step in runs: done(tmp_path / step, step, 2.)
    publish(runs, tmp_path / "other/mine")
    new = content(tmp_path / "other/mine")
    if (child := os.fork()) == 0:
        import signal
        import sys
        left = [after]
        def count(event, args):
            kinds = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
            if event not in kinds or str(target) not in str(args): return
            left[0] -= 1
            if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        publish(runs, target)
        os._exit(0)
    os.waitpid(child, 0)
    assert content(target) in (old, new)
    publish(runs, target)
    assert content(target) == new and [p.name for p in target.parent.iterdir()] == ["mine"]


def test_published_figures_have_digests(tmp_path):
    target = tmp_path / "figures/mine"
    publish({"map": done(tmp_path / "map", "map", 1.)}, target)
    assert examine(target) == dict(mine=[])
    (target / "fig_map.svg").write_bytes(b"picture of 1.0000001")
    (target / "README.md").unlink()
    assert {f.where: f.kind for f in examine(target)["mine"]} == {"fig_map.svg": "damaged", "README.md": "missing"}
    text = (target / "metrics.json").read_text()
    (target / "metrics.json").write_text(text.replace("1.0", "7.0"))
    with pytest.raises(SystemExit) as left: main(["metrics", str(target)])
    assert left.value.code == 2


PUBLISHED = "fig_map.png fig_map.svg executed/map.ipynb metrics.json manifest.json README.md digests.json".split()


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_no_damage_of_what_was_published_is_silent(tmp_path, name, count):
    import nbformat
    target, run = tmp_path / "figures/mine", done(tmp_path / "map", "map", 1.)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), run / "executed.ipynb")
    publish(dict(map=run), target)
    assert sorted(PUBLISHED) == sorted(content(target))

    def looked_at():
        for found in examine(target)["mine"]:
            raise TacoError(found.words, file=target / found.where, fix=found.fix)
        return content(target) | {"digests.json": json.loads((target / "digests.json").read_text())}

    before = looked_at()
    silent, odd, counts = unnoticed(target / name, looked_at, lambda now: now == before, count)
    assert silent == [] and odd == [] and counts["refused"] > 2 * count


@pytest.mark.parametrize("name", ["metrics.json", "manifest.json", "digests.json"])
def test_no_number_that_changed_by_itself_is_shown_or_kept(tmp_path, name):
    target = tmp_path / "figures/mine"
    publish({s: done(tmp_path / s, s, 1.) for s in ("map", "train")}, target)
    runs = {"map": done(tmp_path / "map", "map", 2.)}
    publish(runs, target, keep=["train"])
    text = (target / name).read_text()
    places = [i for i, letter in enumerate(text) if letter.isalnum()]
    for place in places[::max(1, len(places) // 20)]:
        (target / name).write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1:])
        with pytest.raises(ExperimentError) as refused: publish(runs, target, keep=["train"])
        assert name in str(refused.value)
        assert [f.where for f in examine(target)["mine"]] == [name]
    (target / name).unlink()  # as the error says
    if name != "digests.json": publish(runs | {"train": tmp_path / "train"}, target)
    else: publish(runs, target, keep=["train"])
    assert not wrong(examine(target))
    numbers = json.loads((target / "metrics.json").read_text())
    assert {k: m["value"] for k, m in numbers.items()} == dict(map_n=2, train_n=1)


def test_figures_of_steps_that_are_no_more_go(tmp_path):
    import nbformat
    target = tmp_path / "figures/mine"
    runs = {s: done(tmp_path / s, s, 1.) for s in ("map", "train", "old")}
    nbformat.write(nbformat.v4.new_notebook(), runs["old"] / "executed.ipynb")
    publish(runs, target)
    (target / "notes.txt").write_text("by a person")
    assert (target / "executed/old.ipynb").exists() and (target / "fig_old.svg").exists()
    publish({"map": runs["map"]}, target, keep=["train"])
    names = {p.name for p in target.iterdir()}
    assert {"fig_map.png", "fig_map.svg", "fig_train.png", "fig_train.svg", "notes.txt"} < names
    assert not {"fig_old.png", "fig_old.svg"} & names and not (target / "executed/old.ipynb").exists()
    assert "old" not in (target / "README.md").read_text() and not wrong(examine(target))


# ── with a profile ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def project(tmp_path, root, monkeypatch):
    "A project of its own with two finished steps of a profile."
    shutil.copytree(root / "nbs/experiments", tmp_path / "nbs/experiments", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "settings.ini").touch()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.yaml").write_text("only: [pack, train]\ntrain: {steps: 5}\n")
    monkeypatch.chdir(tmp_path)
    for step in ("pack", "train"): again(step)
    return tmp_path


def again(step: str, value: float = 1., runs: str = "runs", **changed):
    "The run of a step, finished with the parameters of the profile but those."
    known = load_profile("mine")
    folders = profile_folders(known, runs)
    defaults = {n: p.default for n, p in declared_parameters(step).items()}
    from pathlib import Path
    return done(Path(folders[step]), step, value, defaults | plan(known, step, folders) | changed)


def status(words: list[str], capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left: main(words)
    return left.value.code or 0, "".join(capsys.readouterr())


def test_only_what_the_profile_says_is_published(project, capsys):
    assert status(["publish", "mine"], capsys)[0] == 0
    again("train", 2., steps=6)
    code, text = status(["publish", "mine"], capsys)
    assert code == 2 and "train: steps" in text and "found:    6" in text and "taco run train --profile mine" in text
    assert json.loads((project / "figures/mine/metrics.json").read_text())["train_n"]["value"] == 1
    again("train", 2., device="cuda")  # changes no number
    assert status(["publish", "mine"], capsys)[0] == 0


def test_a_dataset_that_could_not_be_read_is_named_after_publishing_and_in_the_exit_code(project, capsys):
    folder = project / "runs/mine/pack"
    about = json.loads((folder / "done.json").read_text()) | dict(troubles={"spots cannot be read": "no picture"})
    seal(folder, {k: v for k, v in about.items() if k not in ("files", "digest")})
    code, text = status(["publish", "mine"], capsys)
    assert code == 1 and "pack: spots cannot be read. no picture" in text
    published = json.loads((project / "figures/mine/manifest.json").read_text())
    assert published["runs"]["pack"]["troubles"] == {"spots cannot be read": "no picture"}
    again("pack")
    assert status(["publish", "mine"], capsys)[0] == 0


@pytest.mark.parametrize("way", ["moved", "relative", "absolute", "outside"])
def test_runs_that_lie_elsewhere_are_published(way, project, tmp_path_factory, capsys):
    "However their folders are written, and wherever the runs were made: moved afterwards, or made there."
    place = tmp_path_factory.mktemp("disk") if way == "outside" else project / "elsewhere"
    given = "elsewhere" if way == "relative" else str(place)
    shutil.move(project / "runs/mine", place / "mine")
    if way != "moved":
        for step in ("pack", "train"): again(step, 2., runs=given if way != "outside" else str(place))
    assert status(["publish", "mine", "--runs", given], capsys)[0] == 0
    assert status(["publish", "mine", "--runs", str(place)], capsys)[0] == 0
    published = json.loads((project / "figures/mine/metrics.json").read_text())
    assert published["train_n"]["value"] == (1 if way == "moved" else 2)
    again("train", 3., runs=given, steps=6)
    code, text = status(["publish", "mine", "--runs", given], capsys)
    assert code == 2 and "train: steps" in text and "pack_run" not in text


def test_moved_runs_must_have_read_those_beside_them(project, capsys):
    from taco.disk import file_digest
    shutil.move(project / "runs/mine", project / "elsewhere/mine")
    folder = project / "elsewhere/mine/train"
    about = json.loads((folder / "done.json").read_text())
    about["needs"] = {"runs/mine/pack": file_digest(project / "elsewhere/mine/pack/done.json")}
    seal(folder, {k: v for k, v in about.items() if k not in ("files", "digest")})
    assert status(["publish", "mine", "--runs", "elsewhere"], capsys)[0] == 0
    again("pack", 5., runs="elsewhere")
    code, text = status(["publish", "mine", "--runs", "elsewhere"], capsys)
    assert code == 2 and "a run that it has read" in text and "runs/mine/pack" in text


def test_what_is_not_finished_is_named_and_never_mixed(project, capsys):
    assert status(["publish", "mine"], capsys)[0] == 0
    (project / "runs/mine/train/done.json").unlink()
    again("pack", 3.)
    code, text = status(["publish", "mine"], capsys)
    assert code == 2 and "not finished" in text and "train" in text and "--partial" in text
    assert json.loads((project / "figures/mine/metrics.json").read_text())["pack_n"]["value"] == 1
    code, text = status(["publish", "mine", "--partial"], capsys)
    assert code == 0 and "train" in text
    assert {k: m["value"] for k, m in json.loads((project / "figures/mine/metrics.json").read_text()).items()} == dict(
        pack_n=3, train_n=1)


def test_the_first_time_what_is_missing_is_said(project, capsys):
    shutil.rmtree(project / "runs/mine/train")
    code, text = status(["publish", "mine"], capsys)
    assert code == 0 and "has not run" in text and "train" in text


def test_the_doctor(project, capsys):
    code, text = status(["doctor", "runs/mine"], capsys)
    assert code == 0 and text.count("sound") == 2
    about = json.loads((project / "runs/mine/pack/done.json").read_text())
    told = {k: v for k, v in about.items() if k not in ("files", "digest")} | dict(seconds=12.3)
    seal(project / "runs/mine/pack", told | dict(memory=dict(own=900, largest=1536)))
    assert "pack: 12 s, at most 1.5 GiB in one process" in status(["doctor", "runs/mine"], capsys)[1]
    assert "pack: 12 s, at most 1.5 GiB in one process" in status(["doctor", "runs/mine/pack"], capsys)[1]
    again("train", 1., steps=9)
    assert [(f.kind, f.words) for f in examine("mine")["train"]] == [("stale", "steps is 9, and 5 in the profile")]
    (project / "runs/mine/pack/fig_pack.png").write_bytes(b"")
    (project / "runs/mine/train/done.json").unlink()
    code, text = status(["doctor", "mine"], capsys)
    assert code == 2 and "damaged" in text and "unfinished" in text and "taco run train --profile mine" in text
    assert wrong(examine("mine"))
    with pytest.raises(TacoError, match="no such folder"): examine("nowhere")


def test_a_run_that_was_read_and_run_again_since_makes_stale(project):
    from taco.workflow.seal import check_needs
    needs = check_needs("train", dict(pack_run="runs/mine/pack"))
    folder = again("train")
    about = json.loads((folder / "done.json").read_text())
    seal(folder, {k: v for k, v in about.items() if k not in ("files", "digest")} | dict(needs=needs))
    assert not wrong(examine(folder))
    again("pack", 4.)
    assert [f.words for f in examine(folder)["train"]] == ["it has read runs/mine/pack, which was run again since"]


def test_a_document_is_published_beside_the_figures_and_goes_when_it_is_not_written_any_more(tmp_path):
    target = tmp_path / "figures/mine"
    def run(step: str, *names: str):
        folder = done(tmp_path / step, step, 1.)
        for name in names: (folder / name).write_text("| a |\n")
        about = json.loads((folder / "done.json").read_text())
        seal(folder, {k: v for k, v in about.items() if k not in ("files", "digest")} | dict(documents=list(names)))
        return folder
    runs = dict(map=run("map", "map.md", "map.csv"), train=run("train", "train.tex"))
    publish(runs, target)
    assert sorted(p.name for p in (target / "tables").iterdir()) == ["map.csv", "map.md", "train.tex"]
    assert "[map.md](tables/map.md), [map.csv](tables/map.csv)" in (target / "README.md").read_text()
    assert json.loads((target / "manifest.json").read_text())["runs"]["train"]["documents"] == ["train.tex"]
    run("map", "map.csv")
    publish(dict(map=runs["map"]), target, keep=["train"])
    assert sorted(p.name for p in (target / "tables").iterdir()) == ["map.csv", "train.tex"]
    assert not wrong(examine(target))
    (runs["map"] / "map.csv").write_text("| b |\n")
    with pytest.raises(ExperimentError, match="not as the run left it"): publish(runs, target)
    (runs["map"] / "map.csv").unlink()
    with pytest.raises(ExperimentError, match="not as the run left it"): publish(runs, target)
    assert (target / "tables/map.csv").read_text() == "| a |\n"


def test_a_metric_of_a_further_run_gets_its_step_as_a_prefix_once(tmp_path):
    folder = done(tmp_path / "map_heart", "map_heart", 1., experiment="map")
    about = json.loads((folder / "done.json").read_text())
    metrics = {name: dict(about["metrics"]["map_heart_n"], value=v) for v, name in enumerate(("map_heart_n", "trust"))}
    seal(folder, {k: v for k, v in about.items() if k not in ("files", "digest")} | dict(metrics=metrics))
    found = publish(dict(map_heart=folder), tmp_path / "figures/mine")
    assert {name: m["value"] for name, m in found.items()} == {"map_heart_n": 0, "map_heart_trust": 1}
    assert (tmp_path / "figures/mine/map_heart_fig_map_heart.png").exists()
