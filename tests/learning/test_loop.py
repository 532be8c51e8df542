"taco.learning.loop: the schedule, the groups of weights, and a stop halfway."
import os
import re
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import nn

from taco.base import EncoderError, ParameterError
from taco.learning import loop
from taco.learning.checkpoint import read_step
from taco.learning.loop import (
    Fit,
    FitConfig,
    Steps,
    count_flops,
    fit,
    lightning_precision,
    one_thread,
    schedule,
    step_generator,
)
from taco.lock import PARENT


class Line(Fit):
    "A line through three numbers, with a norm on the way."
    def __init__(self, fused=False):
        super().__init__()
        self.fused = fused
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def loss(self, batch, step): return ((self.layers(batch[0]) - batch[1])**2).mean()
    def rates(self): return {p: .5 for p in self.layers[0].parameters()}


def points(step):
    x = torch.rand(16, 3, generator=step_generator(1, step))
    return x, x.sum(1, keepdim=True)


def short(**more): return FitConfig(**dict(steps=12, precision="32", device="cpu", checkpoint_every=5) | more)


def test_the_rate_rises_and_falls():
    factor = schedule(FitConfig(steps=100, warmup=.1))
    assert [round(factor(step), 2) for step in (0, 9, 10, 55, 100)] == [.1, 1, 1, .5, 0]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_groups_have_one_decay_and_one_rate(fused, optimiser):
    line = Line(fused)
    line.config = FitConfig(weight_decay=.1, learning_rate=1., optimiser=optimiser)
    [made], _ = line.configure_optimizers()
    found = sorted((g["weight_decay"], g["initial_lr"], len(g["params"])) for g in made.param_groups)
    assert found == [(0., .5, 1), (0., 1., 3), (.1, .5, 1), (.1, 1., 1)]
    assert all(bool(g["fused"]) == fused for g in made.param_groups)


def test_fitting_learns_and_leaves_the_module_ready():
    line = Line()
    history = fit(line, points, short(steps=60, learning_rate=.05, log_every=1))
    assert history.loss.iloc[-1] < history.loss.iloc[0] / 4 and list(history.step) == list(range(1, 61))
    assert not line.training and all(p.requires_grad for p in line.parameters())


def test_a_stop_halfway_changes_nothing(tmp_path):
    def dies(step):
        if step == 8: raise RuntimeError("pulled the plug")
        return points(step)
    whole, stopped = Line(), Line()
    fit(whole, points, short())
    with pytest.raises(RuntimeError): fit(stopped, dies, short(), tmp_path)
    assert read_step(tmp_path / "training.ckpt") == 5
    again = Line()
    fit(again, points, short(), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.csv"]


def test_the_result_is_kept_before_the_checkpoint_goes(tmp_path):
    class Keeps(Line):
        def keep(self, folder):
            assert (folder / "training.ckpt").exists() and (folder / "history.csv").exists()
            (folder / "result").write_text("here")
    fit(Keeps(), points, short(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.csv", "result"]


def test_a_checkpoint_that_cannot_be_read(tmp_path):
    (tmp_path / "training.ckpt").write_bytes(b"PK nothing")
    with pytest.raises(EncoderError, match="fresh=True"): fit(Line(), points, short(), tmp_path)


def test_steps_are_numbered_and_shared():
    stream = iter(Steps(lambda step, rank=0, world=1: (step, rank, world), 3, (1, 2)))
    assert [next(stream) for _ in range(2)] == [(3, (3, 1, 2)), (4, (4, 1, 2))]


def test_generators_depend_on_all_their_numbers():
    draw = lambda *numbers: torch.rand(3, generator=step_generator(*numbers)).tolist()
    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*numbers)) for numbers in ((1, 2), (2, 1), (1, 2, 3), (0, 1, 2))}) == 4


def test_counting_leaves_the_module_as_it_was():
    line = Line()
    before = {name: t.clone() for name, t in line.state_dict().items()}
    assert count_flops(line, points(0)) > 0 and all(p.grad is None for p in line.parameters())
    assert all(torch.equal(before[name], t) for name, t in line.state_dict().items())


def test_precision_and_threads():
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    assert lightning_precision(FitConfig(precision="32"), cpu) == "32-true"
    with one_thread(cpu): assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("wrong", [
    dict(steps=0), dict(steps=2.5), dict(learning_rate=-1), dict(clip=float("nan")), dict(optimiser="adam"),
    dict(precision="16"), dict(devices=2), dict(log_every=0)])
def test_impossible_settings(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): FitConfig(**wrong)


# ── progress ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("slow", [1., 60.])
def test_what_is_left_is_not_estimated_from_the_first_steps(monkeypatch, capsys, tmp_path, slow):
    "Sixty steps of a second each, but for the first ten; stopped in the midst and begun again, it warms up again."
    clock, made, stop = [0.], [0], [35]
    def ticking(step):
        made[0] += 1
        clock[0] += slow if made[0] <= 10 else 1.
        if step == stop[0]: raise RuntimeError("pulled the plug")
        return points(step)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    config = short(steps=60, log_every=5)
    with pytest.raises(RuntimeError): fit(Line(), ticking, config, tmp_path, progress=True)
    made[0], stop[0] = 0, None
    fit(Line(), ticking, config, tmp_path, progress=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    said = {int(re.search(r"step +(\d+)/60", line)[1]): line.rpartition("pairs/s  ")[2] for line in lines}
    assert {n: said[n] for n in (10, 20, 30)} == {10: "warming up", 20: "0:40 left", 30: "0:30 left"}  # 5: no line
    assert said[40] == "warming up" and said[50] == "0:10 left" and said[60] == "0:00 left"


NOTEBOOK = """
import sys
sys.modules["ipywidgets"] = None  # no widgets here
import torch
from torch import nn
from taco.learning.loop import Fit, FitConfig, fit
class Line(Fit):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
    def loss(self, batch, step): return ((self.layer(batch) - 1)**2).mean()
fit(Line(), lambda step: torch.ones(4, 1), FitConfig(steps=200, log_every=2, device="cpu"), progress=True);
"""


@pytest.mark.long
@pytest.mark.parametrize("by_command", [False, True])
def test_a_notebook_has_one_line_of_progress_without_widgets(monkeypatch, by_command):
    "A hundred lines of progress are one that changes; under `taco run` they are lines, one every ten per cent."
    if by_command: monkeypatch.setenv(PARENT, str(os.getpid()))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    outputs = NotebookClient(book, timeout=120, kernel_name="python3").execute().cells[0].outputs
    lines = [o["data"]["text/plain"] for o in outputs if "data" in o]
    printed = "".join(o["text"] for o in outputs if o.output_type == "stream").splitlines()
    if by_command: assert lines == [] and len(printed) == 11 and printed[-1].startswith("step 200/200")
    else: assert printed == [] and len(lines) == 1 and re.search(r"^step 200/200 .* 0:00 left$", lines[0])
