"taco.learning.shares: the same bits on one core or two, quiet or busy; and one batch in shares is still one batch."
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import lightning.pytorch as L
import pytest
import torch
from torch import nn

from taco.base import ParameterError
from taco.learning.checkpoint import read_step
from taco.learning.encoder import EncoderConfig
from taco.learning.loop import count_flops, make_trainer
from taco.learning.recipe import TrainConfig
from taco.learning.shares import Shares, beside, replica, share_count
from taco.learning.training import TaskContrast, new_encoder, new_sampler, train
from tests.learning.jobs import odd

TASKS = ["binary_segmentation", "gaussian_denoising", "horizontal_flip", "intensity_inversion"]


def config(**changes) -> TrainConfig:
    small = dict(steps=4, pairs_per_task=4, learning_rate=2e-3, precision="32", device="cpu", log_every=1,
                 checkpoint_every=2, encoder=EncoderConfig("resnet10", width=.125, size=32))
    return TrainConfig.of(**{**small, **changes})


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
    with cores(2): two = go("two")
    with cores(2, only=True), neighbours(1): busy = go("busy")
    assert torch.equal(one, two) and torch.equal(one, busy)
    with cores(1): whole = state(train(store, TASKS, config(precision=precision, shares=1), tmp_path / "w", False))
    assert not torch.equal(one, whole)
    runs = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two", "w")]
    assert [run["shares"] for run in runs] == [2, 2, 1] and runs[0] == runs[1]


class Plug(L.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3: raise RuntimeError("pulled the plug")


class Term(L.Callback):
    "SIGTERM while the threads of the third step compute."
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2: threading.Timer(.01, os.kill, (os.getpid(), signal.SIGTERM)).start()


@pytest.mark.parametrize("stop, error, step", [(Plug(), RuntimeError, 2), (Term(), SystemExit, 3)])
def test_killed_on_two_cores_and_resumed_on_one(store, tmp_path, stop, error, step):
    with cores(2): whole = train(store, TASKS, config(), tmp_path / "whole", progress=False)
    with cores(2), pytest.raises(error):
        train(store, TASKS, config(), tmp_path / "dead", progress=False, callbacks=[stop])
    assert read_step(tmp_path / "dead/training.ckpt") == step
    assert not [t for t in threading.enumerate() if t.name.startswith("share")]
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


def test_shares_keep_the_precision_and_the_gradients_of_who_asks():
    net, seen = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), []
    def work(share, module):
        rows = module[0](torch.ones(2, 4) * share)
        seen.append((rows.dtype, rows.requires_grad, threading.current_thread().name[:5], torch.get_num_threads()))
        return module[1](rows.float())
    with cores(2), Shares(net, 2) as shares:
        with torch.autocast("cpu", torch.bfloat16): rows = shares.together(work)
        assert rows.requires_grad and rows.dtype == torch.float32
        with torch.no_grad(): assert not shares.together(work).requires_grad
    assert seen == [(torch.bfloat16, True, "share", 1)] * 2 + [(torch.float32, False, "share", 1)] * 2


def test_statistics_meet_after_the_gradient_and_replicas_have_no_memory():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.ones_(net[0].weight)
    shares, values = Shares(net, 2), [torch.tensor([[0.], [2.]]), torch.tensor([[4.], [8.]])]
    step = lambda: shares.together(lambda share, module: module(values[share])).square().sum().backward()
    step()
    assert net[1].running_mean.item() == pytest.approx(.1 * (1 + 6) / 2) and net[1].num_batches_tracked.item() == 1
    net[1].running_mean.fill_(3)  # as a checkpoint that is read
    step()
    assert net[1].running_mean.item() == pytest.approx(.9 * 3 + .1 * 3.5)
    assert replica(net)[0].weight is net[0].weight and len(list(shares.replicas[0].parameters())) == 3


def test_an_error_is_passed_on_when_all_have_stopped():
    net, ended = nn.Linear(2, 2), []
    def work(share, module):
        if share == 0: raise ValueError("the first")
        threading.Event().wait(.2)
        ended.append(share)
        return module(torch.ones(2, 2))
    with cores(2), Shares(net, 2) as shares:
        with pytest.raises(ValueError, match="the first"): shares.together(work)
        assert ended == [1]


def test_how_many():
    assert [share_count(None, n, 1, "cpu") for n in (2, 3, 4, 240)] == [1, 1, 2, 2]
    assert share_count(None, 240, 2, "cpu") == 1 and share_count(8, 240, 2, "cpu") == 8
    with pytest.raises(ParameterError, match="two samples"): share_count(3, 5, 1, "cpu")
    with pytest.raises(ParameterError, match="shares"): share_count(0, 240, 1, "cpu")
    with pytest.raises(ParameterError, match="shares"): Shares(nn.Linear(1, 1), 0)


def test_operations_of_all_shares_are_counted(store, tmp_path):
    def flops(count):
        how = config(shares=count)
        module = TaskContrast(new_encoder(how), new_sampler(store, TASKS, how), how)
        module.trainer = make_trainer(how.fit, tmp_path, [])
        batch = module.sampler.raw(0)
        if count > 1: batch = [module.sampler.raw(0, share, count) for share in range(count)]
        return count_flops(module, batch)
    assert flops(2) == pytest.approx(flops(1), rel=.01)


def test_trainings_beside_each_other():
    jobs = [(odd, n) for n in range(5)]
    with cores(2): one, two = list(beside(jobs, 1)), list(beside(jobs, 2))
    assert one == [(n, 1) for n in range(5)] == sorted(two)
    for workers in (1, 2):
        with pytest.raises(ValueError, match="seven"): list(beside([(odd, 7)], workers))
