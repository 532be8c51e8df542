"taco.learning.shares: the same bits on one core or two, quiet or busy; and one batch in shares is still one batch."
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from multiprocessing import active_children
from types import SimpleNamespace

import lightning.pytorch as L
import psutil
import pytest
import torch
import torch._inductor.config
from torch import nn

from taco.base import ParameterError, TacoError
from taco.compiler import compiled, has_compiler
from taco.learning.checkpoint import read_step
from taco.learning.crew import Processes, Work
from taco.learning.encoder import EncoderConfig
from taco.learning.loop import count_flops, make_trainer, one_thread
from taco.learning.recipe import WORTH, TrainConfig, compiles
from taco.learning.shares import Fastest, Shares, Turn, beside, in_shares, replica, share_count
from taco.learning.training import TaskContrast, new_encoder, new_sampler, train
from tests.learning.jobs import odd

TASKS = ["binary_segmentation", "gaussian_denoising", "horizontal_flip", "intensity_inversion"]


def config(**changes) -> TrainConfig:
    small = dict(steps=4, pairs_per_task=4, learning_rate=2e-3, precision="32", device="cpu", log_every=1,
                 checkpoint_every=2, encoder=EncoderConfig("resnet10", width=.125, size=32))
    return TrainConfig.of(**{**small, **changes})


def helpers() -> list:
    "The processes of shares that there are."
    return [process for process in active_children() if process.name.startswith("share")]


def state(encoder) -> torch.Tensor: return torch.cat([t.flatten().float() for t in encoder.state_dict().values()])


@contextmanager
def cores(count: int, only: bool = False):
    "So many threads; `only`: on one core of the machine, as under taskset."
    threads, allowed = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(count)
    if only: os.sched_setaffinity(0, {min(allowed)})
    try: yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, allowed)


WAYS = ["processes", "threads", "alone"]


@contextmanager
def always(way: str):
    "Shares are computed in this way only."
    before, Fastest.now = Fastest.now, lambda self: way if way in self.ways else before(self)
    try: yield
    finally: Fastest.now = before


@contextmanager
def neighbours(count: int):
    "Other processes that want every core."
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try: yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_bits_do_not_depend_on_the_cores(store, tmp_path, precision):
    def go(name): return state(train(store, TASKS, config(precision=precision), tmp_path / name, progress=False))
    with cores(1): one = go("one")
    with cores(2):
        for way in WAYS:
            with always(way): assert torch.equal(one, go(way)), way
    with cores(2, only=True), neighbours(1): assert torch.equal(one, go("busy"))
    with cores(1): whole = state(train(store, TASKS, config(precision=precision, shares=1), tmp_path / "w", False))
    assert not torch.equal(one, whole)
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "threads", "w")]
    assert [run["shares"] for run in runs] == [2, 2, 1] and runs[0] == runs[1]


MATCHING = dict(encoder=EncoderConfig("matching", width=.1, size=32))


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_compiled_network_learns_the_same_bits_whoever_computes_its_shares(store, tmp_path, precision):
    def go(name, compiled=True):
        recipe = config(precision=precision, compiled=compiled, **MATCHING)
        return state(train(store, TASKS, recipe, tmp_path / name, progress=False))
    with cores(1): one, plain = go("one"), go("plain", False)
    with cores(2):
        for way in WAYS:
            with always(way): assert torch.equal(one, go(way)), way
    assert not torch.equal(one, plain) and (one - plain).abs().mean() < (1e-2 if precision == "bf16" else 1e-4)
    run, other = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "plain"))
    assert run["compiled"] and not other["compiled"]
    with cores(1): assert torch.equal(one, go("one", None))  # finished: what it was holds
    with pytest.raises(TacoError, match="another training run") as refused: go("one", compiled=False)
    assert refused.value.field == "compiled"


def test_whether_a_network_is_compiled(monkeypatch, tmp_path):
    def recipe(**more): return TrainConfig.of(**dict(backbone="matching", steps=WORTH, device="cpu") | more)
    monkeypatch.setenv("CXX", sys.executable)  # as if there were one, wherever this test runs
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    there = sys.platform.startswith("linux")
    assert compiles(recipe()) == there
    if there: assert compiles(recipe(steps=1, compiled=True))
    assert not any(compiles(recipe(**no)) for no in (
        dict(steps=WORTH - 1), dict(backbone="resnet10"), dict(devices=2), dict(compiled=False)))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not compiles(recipe())
    with pytest.raises(ParameterError, match=r"no compiler(.|\n)*compiled(.|\n)*apt install"):
        compiles(recipe(compiled=True))


COMPILER = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
BROKEN = """#!{python}
import os, sys
if "-c" in sys.argv[1:] or any(word.endswith(".so") for word in sys.argv): sys.exit("line one\\nno space left")
os.execvp("g++", ["g++", *sys.argv[1:]])
"""


@pytest.mark.long
@COMPILER
def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path):
    (fake := tmp_path / "g++").write_text(BROKEN.format(python=sys.executable))
    fake.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    twice = compiled(lambda x: (2 * x).relu())
    with torch.no_grad(): assert twice(torch.ones(3)).sum() == 6
    broken = torch._inductor.config.patch({"cpp.cxx": (None, str(fake))})
    with broken, pytest.raises(TacoError, match=r"could not be compiled(.|\n)*compiled=False") as told:
        twice(torch.ones(3, requires_grad=True))
    assert told.value.found and "C++ compile error" not in told.value.found


@pytest.mark.long
@COMPILER
@pytest.mark.parametrize("way", WAYS)
def test_shares_of_two_sizes_are_compiled_before_they_are_dealt_out(way, monkeypatch, tmp_path):
    "A helper that had to compile would wait for ever for compilers that its parent had."
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.rand(9, 3)
    fast = compiled(lambda module, rows: module(rows).tanh())
    def gradients(call):
        def rows(module, part): return call(module, part), part[:, :1]
        work = Work(lambda _, share: x[share::2], rows, rehearsed=True)
        with cores(2), always(way), Shares(net, 2, work) as both:
            def once(): return torch.autograd.grad(both.together(None)[0].square().sum(), list(net.parameters()))
            return once(), once()
    first, second = gradients(fast)
    for a, b, plain in zip(first, second, gradients(lambda module, rows: module(rows).tanh())[0]):
        assert torch.equal(a, b) and torch.allclose(a, plain, atol=1e-5)


@pytest.mark.long
@COMPILER
def test_what_is_compiled_later_by_a_helper_is_compiled_there(monkeypatch, tmp_path):
    "As when something is frozen while training: then it is another function."
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.rand(8, 3)
    fast = compiled(lambda module, rows: module(rows).tanh())
    work = Work(lambda _, share: x[share::2], lambda module, rows: (fast(module, rows), rows[:, :1]), rehearsed=True)
    with cores(2), always("processes"), Shares(net, 2, work) as both:
        both.together(None)[0].sum().backward()
        net[0].requires_grad_(False)
        both.together(None)[0].sum().backward()
    assert net[1].weight.grad is not None


@COMPILER
def test_a_training_goes_on_as_it_began_whatever_is_found_now(store, tmp_path, monkeypatch):
    folder, long = tmp_path / "run", dict(steps=WORTH, checkpoint_every=1, **MATCHING)
    # as if there were no compiler
    monkeypatch.setattr("taco.learning.training.compiles", lambda recipe: bool(recipe.compiled))
    with pytest.raises(RuntimeError): train(store, TASKS, config(**long), folder, False, callbacks=[Plug()])
    monkeypatch.undo()
    assert compiles(config(**long)) and not json.loads((folder / "run.json").read_text())["compiled"]
    with pytest.raises(RuntimeError): train(store, TASKS, config(**long), folder, False, callbacks=[Plug(4)])
    assert read_step(folder / "training.ckpt") == 3
    said = json.loads((folder / "run.json").read_text())
    del said["compiled"]  # as of a version that could not
    (folder / "run.json").write_text(json.dumps(said))
    with pytest.raises(RuntimeError): train(store, TASKS, config(**long), folder, False, callbacks=[Plug(5)])
    assert read_step(folder / "training.ckpt") == 4


class Plug(L.Callback):
    def __init__(self, step: int = 3): self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step: raise RuntimeError("pulled the plug")


class Term(L.Callback):
    "SIGTERM while the threads of the third step compute."
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2: threading.Timer(.01, os.kill, (os.getpid(), signal.SIGTERM)).start()


@pytest.mark.parametrize("stop, error, step", [(Plug(), RuntimeError, 2), (Term(), SystemExit, 3)])
@pytest.mark.parametrize("way", ["processes", "threads"])
def test_killed_on_two_cores_and_resumed_on_one(store, tmp_path, stop, error, step, way):
    with cores(2), always(way): whole = train(store, TASKS, config(), tmp_path / "whole", progress=False)
    with cores(2), always(way), pytest.raises(error):
        train(store, TASKS, config(), tmp_path / "dead", progress=False, callbacks=[stop])
    assert read_step(tmp_path / "dead/training.ckpt") == step
    assert not [t for t in threading.enumerate() if t.name.startswith("share")] and not helpers()
    with cores(1): again = train(store, TASKS, config(), tmp_path / "dead", progress=False)
    assert torch.equal(state(whole), state(again))


class Frozen(L.Callback):
    "Batch statistics belong to a share; without them, two must learn exactly what one learns."
    def on_train_batch_start(self, trainer, module, *_):
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d): part.eval()


def test_the_loss_sees_the_whole_batch(store, tmp_path):
    def go(count):
        how = config(shares=count, optimiser="sgd", clip=0, learning_rate=.05, steps=2, randomise=False)
        return state(train(store, TASKS, how, tmp_path / str(count), progress=False, callbacks=[Frozen()]))
    with cores(2): one, two, four = (go(count) for count in (1, 2, 4))
    assert torch.allclose(one, two, atol=1e-5) and torch.allclose(one, four, atol=1e-5)
    assert not torch.allclose(one, state(new_encoder(config())), atol=1e-3)


def plain(rows, facts=lambda share: torch.zeros(1)) -> Work:
    "Work of shares that need nothing made: `rows(share, module)`."
    return Work(lambda order, share: share, lambda module, share: (rows(share, module), facts(share)))


@pytest.mark.parametrize("way", WAYS)
def test_shares_keep_the_precision_and_the_gradients_of_who_asks(way):
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))

    def compute(module, share):
        rows = module[0](torch.ones(2, 4) * share)
        kind = [torch.float32, torch.bfloat16].index(rows.dtype), int(rows.requires_grad), torch.get_num_threads(), \
            int(threading.current_thread().name.startswith("share")), os.getpid()
        return module[1](rows.float()), torch.tensor([kind])

    with cores(2), always(way), one_thread(torch.device("cpu")):
        torch.set_num_threads(2)
        with Shares(net, 2, Work(lambda order, share: share, compute)) as shares:
            torch.set_num_threads(1)  # as a training does
            with torch.autocast("cpu", torch.bfloat16): rows, seen = shares.together(None)
            assert rows.requires_grad and rows.dtype == torch.float32 and not seen.requires_grad
            with torch.no_grad():
                rows, later = shares.together(None)
                assert not rows.requires_grad
    assert seen[:, :3].tolist() == [[1, 1, 1]] * 2 and later[:, :3].tolist() == [[0, 0, 1]] * 2
    here, own = (seen[:, 4] == os.getpid()).tolist(), seen[:, 3].tolist()
    assert (here, own) == dict(processes=([True, False], [0, 0]), threads=([True, True], [1, 1]),
                               alone=([True, True], [0, 0]))[way]


@pytest.mark.parametrize("way", WAYS)
def test_statistics_meet_after_the_gradient_and_replicas_have_no_memory(way):
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.ones_(net[0].weight)
    values = [torch.tensor([[0.], [2.]]), torch.tensor([[4.], [8.]])]
    shares = Shares(net, 2, plain(lambda share, module: module(values[share])))
    step = lambda: shares.together(None)[0].square().sum().backward()
    with cores(2), always(way), shares:
        step()
        assert net[1].running_mean.item() == pytest.approx(.1 * (1 + 6) / 2) and net[1].num_batches_tracked.item() == 1
        net[1].running_mean.fill_(3)  # as a checkpoint that is read
        step()
        assert net[1].running_mean.item() == pytest.approx(.9 * 3 + .1 * 3.5)
        net.eval()
        step()
        assert net[1].running_mean.item() == pytest.approx(.9 * 3 + .1 * 3.5)
    assert replica(net)[0].weight is net[0].weight and len(list(shares.modules[1].parameters())) == 3


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_are_changed_or_read_are_those_of_all(way):
    net = nn.Linear(2, 2, bias=False)
    with cores(2), always(way), Shares(net, 2, plain(lambda share, module: module(torch.eye(2)))) as shares:
        for value in (1., 2.):
            net.load_state_dict(dict(weight=torch.full((2, 2), value)))
            rows, _ = shares.together(None)
            assert rows.tolist() == [[value] * 2] * 4
            rows.sum().backward()
            assert net.weight.grad.tolist() == [[2., 2.]] * 2
            net.weight.grad = None
    assert net.weight.tolist() == [[2., 2.]] * 2


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_only_some_shares_use(way):
    net = nn.ModuleDict(dict(a=nn.Linear(1, 1), b=nn.Linear(1, 1), c=nn.Linear(1, 1)))
    for part in net.values(): nn.init.ones_(part.weight)
    one = torch.ones(1, 1)
    work = plain(lambda share, module: module["b"](one) if share else module["a"](one) * 3 + module["b"](one))
    with cores(2), always(way), Shares(net, 2, work) as shares: shares.together(None)[0].sum().backward()
    assert net["a"].weight.grad.item() == 3 and net["b"].weight.grad.item() == 2 and net["c"].weight.grad is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_is_passed_on_when_all_have_stopped(way, bad, tmp_path):
    net = nn.Linear(2, 2)

    def rows(share, module):
        if share == bad and not (tmp_path / "mended").exists(): raise ValueError("the bad one")
        threading.Event().wait(.2)
        (tmp_path / f"ended {share}").touch()
        return module(torch.ones(2, 2) * share)

    with cores(2), always(way), Shares(net, 2, plain(rows)) as shares:
        with pytest.raises(ValueError, match="the bad one"): shares.together(None)
        assert (way, bad) == ("alone", 0) or (tmp_path / f"ended {1 - bad}").exists()
        (tmp_path / "mended").touch()
        found, _ = shares.together(None)  # an answer of before is not taken for one of now
        assert torch.equal(found, torch.cat([net(torch.zeros(2, 2)), net(torch.ones(2, 2))]))


def test_a_process_that_is_killed_is_told():
    net = nn.Linear(2, 2)
    with cores(2), always("processes"), Shares(net, 2, plain(lambda share, module: module(torch.ones(2, 2)))) as shares:
        shares.together(None)[0].sum().backward()
        helper, = helpers()
        os.kill(helper.pid, signal.SIGKILL)
        with pytest.raises(TacoError, match="was killed"): shares.together(None)
    assert not helpers()


@pytest.mark.parametrize("way", WAYS)
def test_what_learns_may_change_while_training(way):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with cores(2), always(way), Shares(net, 2, plain(lambda share, module: module(torch.ones(2, 2) + share))) as shares:
        def gradients():
            net.zero_grad()
            shares.together(None)[0].sum().backward()
            return [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        every = gradients()
        net[0].requires_grad_(False)
        some = gradients()
        net[0].requires_grad_(True)
        again = gradients()
    assert some[:2] == [None, None] and all(map(torch.equal, some[2:], every[2:]))
    assert all(map(torch.equal, every, again))


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_are_given_other_memory(way):
    net = nn.Linear(2, 2, bias=False)
    with cores(2), always(way), Shares(net, 2, plain(lambda share, module: module(torch.eye(2)))) as shares:
        shares.together(None)[0].sum().backward()
        net.weight.data = torch.full((2, 2), 3.)
        assert shares.together(None)[0].tolist() == [[3., 3.]] * 4


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_of_an_earlier_step_is_refused(way):
    net = nn.Linear(2, 2)
    with cores(2), always(way), Shares(net, 2, plain(lambda share, module: module(torch.eye(2)))) as shares:
        first, _ = shares.together(None)
        second, _ = shares.together(None)
        with pytest.raises(RuntimeError, match="next step"): first.sum().backward()
        second.sum().backward()
        with pytest.raises(RuntimeError): second.sum().backward()


def test_an_error_that_cannot_be_sent_is_told_in_words():
    class Own(Exception): pass

    def rows(share, module):
        if share: raise Own("here")
        return module(torch.eye(2))

    net = nn.Linear(2, 2)
    told = pytest.raises(RuntimeError, match="Own: here")
    with cores(2), always("processes"), Shares(net, 2, plain(rows)) as shares, told: shares.together(None)


def test_an_answer_nobody_waited_for_is_not_taken_for_a_later_one():
    net = nn.Linear(1, 1, bias=False)
    work = Work(lambda order, share: torch.full((1, 1), float(order)), lambda module, made: (module(made), made))
    with cores(2), always("processes"), Shares(net, 2, work) as shares:
        assert shares.together(1)[1].flatten().tolist() == [1, 1]
        team = shares.teams["processes"]
        heard, Processes.answer = Processes.answer, lambda self, link: (_ for _ in ()).throw(KeyboardInterrupt())
        try:
            with pytest.raises(KeyboardInterrupt): shares.together(2)
        finally: Processes.answer = heard
        assert shares.together(3)[1].flatten().tolist() == [3, 3] and team.number == 3


def test_where_no_process_can_be_had_there_are_threads(monkeypatch):
    net = nn.Linear(2, 2)
    work = plain(lambda share, module: module(torch.eye(2)))

    def ways(**changes):
        with monkeypatch.context() as changed, cores(2), Shares(net, changes.pop("count", 2), work) as shares:
            for name, value in changes.items(): changed.setattr(name.replace("__", "."), value)
            shares.together(None)[0].sum().backward()
            return list(shares.teams)

    def refuse(*_): raise BlockingIOError(11, "Resource temporarily unavailable")
    assert ways() == WAYS and ways(count=3) == WAYS[1:]
    assert ways(os__fork=refuse) == WAYS[1:] and ways(torch__cuda__is_available=lambda: True) == WAYS[1:]
    assert ways(multiprocessing__current_process=lambda: SimpleNamespace(daemon=True, _config={})) == WAYS[1:]
    with cores(2), Shares(net, 2, work) as shares:
        shares.together(None)
        assert ways() == WAYS[1:]  # one training at a time
    assert ways() == WAYS and not helpers() and Processes.there == 0


ENDS = """
import os, sys, threading, time, torch
from torch import nn
from taco.learning.crew import Work
from taco.learning.shares import Shares
torch.set_num_threads(2)
net = nn.Linear(2, 2)
shares = Shares(net, 2, Work(lambda order, share: share, lambda module, share: (module(torch.eye(2)), torch.ones(1))))
shares.__enter__()
shares.together(None)[0].sum().backward()
assert list(shares.teams) == ["processes", "threads", "alone"]
print(shares.teams["processes"].helpers[0].pid, flush=True)
if "wait" in sys.argv: time.sleep(60)
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["forgotten", "killed"])
def test_helpers_end_with_whoever_began_them(how, root):
    words = [sys.executable, "-c", ENDS, *(["wait"] if how == "killed" else [])]
    began = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ, PYTHONPATH=str(root)))
    helper = psutil.Process(int(began.stdout.readline()))
    if how == "killed": began.kill()
    assert began.wait(20) == (-signal.SIGKILL if how == "killed" else 0)
    began.stdout.close()
    psutil.wait_procs([helper], 10)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE


def test_what_the_next_step_needs_is_made_ahead_and_only_used_for_it(tmp_path):
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)

    def make(turn, share):
        with open(tmp_path / str(share), "a") as file: file.write(f"{turn.step} ")
        return torch.full((1, 1), 10. * turn.step + share)

    work = Work(make, lambda module, made: (module(made), made), Turn.after)
    with cores(2), always("processes"), Shares(net, 2, work) as shares:
        for step in (0, 1, 7, 8):
            rows, made = shares.together(Turn(step))
            assert made.flatten().tolist() == rows.flatten().tolist() == [10 * step, 10 * step + 1]
            rows.sum().backward()
    assert (tmp_path / "0").read_text() == "0 1 7 8 " and (tmp_path / "1").read_text() == "0 1 2 7 8 9 "


def test_pairs_made_ahead_by_workers_are_those_of_the_shares(store, tmp_path):
    def go(workers):
        with cores(2):
            return state(train(store, TASKS, config(workers=workers), tmp_path / str(workers), progress=False))
    assert torch.equal(go(0), go(1))
    rows = lambda step, first, stride: list(range(12))[first::stride]
    assert in_shares(rows, 3, *Turn(0, 1, 2)) == [[1, 7], [3, 9], [5, 11]]


def machine(fastest: Fastest, seconds: dict, steps: int) -> list[str]:
    "The ways that were taken on a machine where each takes so long."
    taken = []
    for _ in range(steps):
        taken.append(fastest.now())
        fastest.took(seconds[taken[-1]])
    return taken


def test_the_fastest_way_is_found_and_looked_for_again():
    quiet, busy = dict(processes=.19, threads=.22, alone=.36), dict(processes=.8, threads=.75, alone=.5)
    fastest = Fastest(list(quiet))
    first = machine(fastest, quiet, 200)
    turns = ["processes"] * 2 + ["threads"] * 2 + ["alone"] * 2
    assert first[:18] == 3 * turns and set(first[18:]) == {"processes"}
    later = machine(fastest, busy, 100)
    assert later[-1] == "alone" and later.count("threads") == 6  # tried once
    assert machine(fastest, quiet, 200)[-1] == "processes"
    assert set(machine(Fastest(["alone"]), dict(alone=1.), 50)) == {"alone"}
    # a step that waits for the disk decides nothing
    fastest = Fastest(list(quiet))
    for step in range(18): fastest.took(9. if step in (0, 7) else quiet[fastest.now()])
    assert fastest.now() == "processes"


def test_a_disturbance_while_it_is_decided_costs_little():
    quiet = dict(processes=.19, threads=.22, alone=.36)
    for first in range(18):  # four steps, and so two seconds, of another process; it meets several ways
        fastest = Fastest(list(quiet))
        for step in range(18): fastest.took(quiet[fastest.now()] + .5 * (first <= step < first + 4))
        assert fastest.now() == "processes", first


def test_a_wrong_choice_is_not_for_good():
    quiet, wrong = dict(processes=.20, threads=.22, alone=.36), dict(processes=.24, threads=.22, alone=.36)
    fastest = Fastest(list(quiet))
    machine(fastest, wrong, 18)  # as if processes had been disturbed throughout, by too little to be seen as a change
    assert fastest.now() == "threads"
    assert set(machine(fastest, quiet, 200)) == {"threads"}
    assert machine(fastest, quiet, 19)[-1] == "processes"
    taken = machine(fastest, quiet, 10_000)
    assert taken.count("alone") <= 6 * 6  # looks that agree come after 200, 400, 800, 1600, 3200 steps


def test_a_machine_that_never_rests_is_not_asked_all_the_time():
    fastest, taken = Fastest(["a", "b"]), []
    for step in range(2000):
        taken.append(fastest.now())
        fastest.took((1. if step // 30 % 2 else 2.) * (1 if taken[-1] == "a" else 3))
    assert taken.count("b") <= 2000 / 12


def test_how_many():
    assert [share_count(None, n, 1, "cpu") for n in (2, 3, 4, 240)] == [1, 1, 2, 2]
    assert share_count(None, 240, 2, "cpu") == 1 and share_count(8, 240, 2, "cpu") == 8
    with pytest.raises(ParameterError, match="two samples"): share_count(3, 5, 1, "cpu")
    with pytest.raises(ParameterError, match="shares"): share_count(0, 240, 1, "cpu")
    with pytest.raises(ParameterError, match="shares"): Shares(nn.Linear(1, 1), 0, plain(lambda share, module: None))


def test_operations_of_all_shares_are_counted(store, tmp_path):
    def flops(count):
        how = config(shares=count)
        module = TaskContrast(new_encoder(how), new_sampler(store, TASKS, how), how)
        module.trainer = make_trainer(how.fit, tmp_path, [])
        batch = module.sampler.raw(0)
        if count > 1: batch = [module.sampler.raw(0, share, count) for share in range(count)]
        return count_flops(module, batch)
    assert flops(2) == pytest.approx(flops(1), rel=.01)


@pytest.mark.long
def test_trainings_beside_each_other():
    jobs = [(odd, n) for n in range(5)]
    with cores(2): one, two = list(beside(jobs, 1)), list(beside(jobs, 2))
    assert one == [(n, 1) for n in range(5)] == sorted(two)
    for workers in (1, 2):
        with pytest.raises(ValueError, match="seven"): list(beside([(odd, 7)], workers))
