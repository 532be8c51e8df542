"What a finished run left is compared with what it was: no change is silent."
import random

import nbformat
import numpy as np
import pytest
from PIL import Image

from taco.base import TacoError
from taco.workflow.doctor import examine_run
from taco.workflow.parameters import ExperimentError
from taco.workflow.publish import publish
from taco.workflow.seal import DONE, check_sealed, faults, files_of, finished, read_done, seal
from tests.spoil import FEW, MANY, unnoticed


@pytest.fixture
def run(tmp_path):
    others = ("state-0123456789ab/training.ckpt", ".lock", "stderr.txt")
    for name in ("encoder/weights", "numbers.csv", "fig.png", *others):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(random.Random(name).randbytes(300))
    seal(tmp_path, dict(experiment="train", metrics={}))
    return tmp_path


def test_results_are_sealed_and_nothing_else(run):
    assert [f.as_posix() for f in files_of(run)] == ["fig.png", "numbers.csv", "encoder/weights"]
    assert set(finished(run, "train")["files"]) == {"fig.png", "numbers.csv", "encoder/weights"}
    assert faults(run, read_done(run, "")) == {}


def test_every_flip_and_every_cut_is_noticed(run):
    rng = random.Random(1)
    for name in ("encoder/weights", "numbers.csv"):
        data = (run / name).read_bytes()
        for _ in range(60):
            at = rng.randrange(len(data))
            flipped = bytearray(data)
            flipped[at] ^= 1 << rng.randrange(8)
            for spoilt in (bytes(flipped), data[:at]):
                (run / name).write_bytes(spoilt)
                with pytest.raises(ExperimentError, match="not as the run left it"): finished(run, "train")
                assert list(faults(run, read_done(run, ""))) == [name]
        (run / name).write_bytes(data)
    assert finished(run, "train")


def test_every_flip_in_done_itself_is_noticed_or_changes_nothing(run):
    data, rng = (run / DONE).read_bytes(), random.Random(2)
    before = read_done(run, "")
    for _ in range(60):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (run / DONE).write_bytes(flipped)
        try: now = read_done(run, "")
        except ExperimentError as error: assert "done.json" in str(error)
        else: assert all(now.get(k) == v for k, v in before.items() if k != "digest")
    for cut in range(0, len(data) - 1, 7):
        (run / DONE).write_bytes(data[:cut])
        with pytest.raises(ExperimentError, match="done.json"): finished(run, "train")


def test_missing_and_added(run):
    (run / "numbers.csv").unlink()
    (run / "more.csv").write_text("")
    assert faults(run, read_done(run, "")) == {"numbers.csv": "missing", "more.csv": "not of this run"}


def test_pictures_may_be_saved_again_by_a_person(run):
    (run / "fig.png").write_bytes(b"smaller")
    check_sealed(run, read_done(run, ""), "train")
    assert list(faults(run, read_done(run, ""))) == ["fig.png"]


def test_runs_from_before_there_were_digests_are_read(tmp_path):
    (tmp_path / DONE).write_text('{"device": "cpu"}')
    assert finished(tmp_path, "train")["device"] == "cpu"


KINDS = "done.json fig.png fig.svg numbers.csv coordinates.npz executed.ipynb map.html encoder/a.bin".split()


@pytest.fixture
def results(tmp_path):
    "One file of each kind that runs leave."
    folder, rng = tmp_path / "tiny", np.random.default_rng(0)
    (folder / "encoder").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 255, (9, 9), np.uint8)).save(folder / "fig.png")
    np.savez(folder / "coordinates.npz", umap=rng.normal(size=(9, 2)))
    cell = nbformat.v4.new_code_cell("print(1)", outputs=[nbformat.v4.new_output("stream", text="1\n")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "executed.ipynb")
    for name in ("fig.svg", "map.html", "numbers.csv"): (folder / name).write_text("<a>0.5,\n</a>" * 9)
    (folder / "encoder/a.bin").write_bytes(rng.bytes(500))
    metric = dict(accuracy=dict(value=.5, ci=[.4, .6], n=9, seeds=1, data="phantom"))
    about = dict(experiment="tiny", notebook="tiny.ipynb", parameters=dict(k=5), commit="abc", data=dict(phantom=3),
                 figures=dict(fig=dict(caption="Ä figure.")), metrics=metric, needs={})
    seal(folder, about)
    return folder


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", KINDS)
def test_no_damage_of_a_result_is_silent(results, name, count):
    def looked_at():
        for found in examine_run(results):
            if found.wrong: raise TacoError(found.words, file=results.parent / found.where, fix=found.fix)
        done = read_done(results, "")
        return done, {f: (results / f).read_bytes() for f in done["files"]}

    before = looked_at()
    silent, odd, counts = unnoticed(results / name, looked_at, lambda now: now == before, count)
    assert silent == [] and odd == [] and counts["refused"] > 2 * count


@pytest.mark.parametrize("name", ["done.json", "fig.png", "fig.svg", "executed.ipynb"])
def test_nothing_damaged_is_published(results, name):
    target, publishing = results.parent / "figures", lambda: publish(dict(tiny=results), results.parent / "figures")
    publishing()
    before = {p: p.read_bytes() for p in target.rglob("*.*")}
    same = lambda _: {p: p.read_bytes() for p in target.rglob("*.*")} == before
    silent, odd, counts = unnoticed(results / name, publishing, same, FEW)
    assert silent == [] and odd == [] and counts["refused"] > 2 * FEW and same(None)
