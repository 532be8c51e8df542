"""The step of the profile `gpu` at its full configuration, on a CPU: what a GPU would be given.

Width, batch, objective, failed pairs, hidden traces, workers that make pairs ahead, bf16 by autocast and channels-last
are the profile's; the images are those of two small phantoms at its side. What only a GPU does (kernels, pinned copies,
several at once) is not seen here.
"""
from dataclasses import replace

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.loop import lightning_precision
from taco.learning.recipe import TrainConfig, changed
from taco.learning.training import TaskContrast, new_encoder, new_sampler, train
from taco.tasks.catalogue import ALL_TASKS
from taco.workflow.parameters import declared_parameters
from taco.workflow.profile import load_profile, plan, profile_folders, profile_steps, step_experiment

STEPS = 3
ELSEWHERE = ("folder", "pack_run", "beside", "drawn", "tasks", "without", "start", "modules")


def recipe(step: str = "train", profile: str = "gpu") -> TrainConfig:
    "What the notebook makes of the profile's parameters."
    known = load_profile(profile)
    given = {n: p.default for n, p in declared_parameters("train").items()} | plan(known, step, profile_folders(known))
    return TrainConfig.of(**{n: v for n, v in given.items() if n not in ELSEWHERE})


def on_cpu(config: TrainConfig, **more) -> TrainConfig:
    "As a GPU would take it: bf16, one share, the network as it is, two workers of the eight."
    return changed(config, **dict(device="cpu", precision="bf16", shares=1, compiled=False, workers=2, size=64) | more)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out, known = tmp_path_factory.mktemp("packed"), load_profile("gpu")
    size = known["pack"]["size"]
    # between them they allow all thirty tasks: volumes, cells, colour
    names = ("acdc", "dynamicnuclear", "monusac", "drive")
    return Store.open([pack(name, out=out, size=size, source="phantom", subjects=6) for name in names])


def test_the_three_trainings_of_the_profile_differ_in_their_seed_alone():
    known = load_profile("gpu")
    steps = [s for s in profile_steps(known) if step_experiment(known, s) == "train"]
    assert len(steps) == 3
    assert all(replace(recipe(s), seed=0) == recipe("train") for s in steps)
    assert sorted(recipe(s).seed for s in steps) == [0, 1, 2]
    assert lightning_precision(on_cpu(recipe()).fit, torch.device("cpu")) == "bf16-mixed"


class Look(L.Callback):
    "What a step is given and leaves."
    def __init__(self): self.kinds, self.shapes, self.losses, self.largest = set(), set(), [], []

    def on_train_start(self, trainer, module):
        assert trainer.precision == "bf16-mixed" and trainer.max_steps == STEPS
        self.first = {n: p.detach().clone() for n, p in module.named_parameters()}
        for name, p in module.encoder.named_parameters():  # convolutions lie as kernels of a GPU like them
            assert p.dtype == torch.float32, name
            if p.ndim == 4: assert p.is_contiguous(memory_format=torch.channels_last), name
        for part in module.encoder.modules():
            if isinstance(part, torch.nn.Conv2d): part.register_forward_hook(self.seen)

    def seen(self, part, given, made):
        self.kinds.add(made.dtype)
        # what one channel or one pixel has lies in both ways at once
        assert made.is_contiguous(memory_format=torch.channels_last), part

    def on_train_batch_start(self, trainer, module, batch, _):
        pairs, number = batch[1]
        assert number == batch[0] == trainer.global_step
        for picture in (pairs.input, pairs.output):
            assert picture.dtype == torch.float32 and picture.device.type == "cpu" and torch.isfinite(picture).all()
            assert picture.min() >= 0 and picture.max() <= 1
            self.shapes.add(tuple(picture.shape))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        assert grads and all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in grads)
        self.largest.append(max(g.abs().max().item() for g in grads))

    def on_train_batch_end(self, trainer, module, outputs, *_):
        assert outputs["loss"].dtype == torch.float32
        self.losses.append(outputs["loss"].item())

    def on_train_end(self, trainer, module):
        still = [n for n, p in module.named_parameters() if torch.equal(p, self.first[n])]
        assert not still, f"these did not move: {still}"


@pytest.mark.long
def test_three_steps_at_full_configuration(store, tmp_path):
    config = on_cpu(recipe(), steps=STEPS, log_every=1)
    assert (config.encoder.width, config.pairs_per_task, config.tasks_per_batch) == (1.0, 16, 30)
    look = Look()
    encoder = train(store, None, config, tmp_path, progress=False, callbacks=[look])
    batch = config.tasks_per_batch * config.pairs_per_task
    assert look.shapes == {(batch, 3, 64, 64)} == {(480, 3, 64, 64)}
    assert torch.bfloat16 in look.kinds, look.kinds  # autocast has reached the convolutions
    assert len(look.losses) == STEPS and np.isfinite(look.losses).all() and min(look.largest) > 0
    assert encoder.config.width == 1.0 and next(encoder.parameters()).device.type == "cpu"


def test_batches_are_made_ahead_and_in_order(store):
    "A loader with workers gives finished pairs of step after step, the same as are made in this process."
    config = on_cpu(recipe(), pairs_per_task=1, failures="none", steps=STEPS)
    sampler = new_sampler(store, list(ALL_TASKS), config)
    module = TaskContrast(new_encoder(config), sampler, config)
    module.trainer = type("Alone", (), dict(global_rank=0, world_size=1))()
    loader = module.train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.batch_size) == (2, 4, None)
    assert not loader.pin_memory  # pairs are no tensors to it: they go to the device by a copy that is waited for
    for (step, (pairs, number)), due in zip(loader, range(STEPS)):
        assert step == number == due
        assert torch.equal(pairs.input, sampler.ready(due)[0].input)


def test_a_gpu_would_be_given_workers_and_no_shares(store, monkeypatch):
    "Decided by the device alone, which is told here as it would be there."
    from taco.learning import shares, training
    for module in (shares, training):
        monkeypatch.setattr(module, "pick_device", lambda device="auto": torch.device("cuda"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    config = changed(recipe(), size=64)
    module = TaskContrast(new_encoder(config), new_sampler(store, None, config), replace(config, compiled=False))
    assert module.workers == 8 and module.shares.count == 1 and module.samples == 480
