"""Training loop: pairs per second of the whole loop over those of the same model fed with a fixed tensor.

Both run in one training, in blocks of a few steps that take turns, so that a busy machine slows both. The goal is
0.95: reading, randomising, and drawing the tasks should cost a twentieth of the time. Small encoders miss it by
arithmetic: what a batch of pairs costs does not depend on the encoder.
"""

import tempfile
import time
from dataclasses import replace

import lightning.pytorch as L
import numpy as np
import torch
from rich.table import Table

from taco.base import pick_device
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig
from taco.learning.loop import fit, lightning_precision
from taco.learning.sampler import PairSampler
from taco.learning.training import TaskContrast, TrainConfig, changed, new_encoder, new_sampler

DATASETS = ("acdc", "busi", "covid19radio", "drive", "isic2018", "kvasir", "monusac", "mosmedplus")
ENCODERS = {
    "resnet10, width ½": dict(backbone="resnet10", width=0.5),
    "resnet10": dict(backbone="resnet10"),
    "resnet18": dict(backbone="resnet18"),
}
BLOCK = 4  # steps before the other side has its turn; the first of each block is not counted


class TakingTurns:
    "A sampler that makes pairs in every other block of steps, and hands out the same again in the blocks between."

    def __init__(self, sampler: PairSampler, device):
        self.sampler, self.fixed = sampler, sampler.pairs(sampler.raw(0), device)
        self.tasks_per_batch, self.pairs_per_task = sampler.tasks_per_batch, sampler.pairs_per_task

    def raw(self, step, rank=0, world=1):
        if (step // BLOCK) % 2:
            return self.sampler.raw(step, rank, world)
        return None, replace(self.sampler.plan(0), step=step)

    def pairs(self, raw, device="cpu"):
        return self.fixed if raw[0] is None else self.sampler.pairs(raw, device)


class Clock(L.Callback):
    "When each step ended."

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, trainer, module, *_):
        if module.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def measure(store: Store, config: TrainConfig, blocks: int = 8) -> dict:
    "Pairs per second of the loop and of the fixed tensor (medians over `blocks` blocks each), and their ratio."
    config = changed(config, steps=2 * BLOCK * (blocks + 1))
    device = pick_device(config.fit.device)
    sampler, clock = TakingTurns(new_sampler(store, None, config), device), Clock()
    module = TaskContrast(new_encoder(config), sampler, config)
    fit(module, sampler.raw, config.fit, callbacks=[clock])
    # (blocks, fixed or loop, steps); the first round warms up
    took = np.diff(clock.ends)[2 * BLOCK - 1 :].reshape(-1, 2, BLOCK)[:, :, 1:]
    fixed, loop = np.median(took, (0, 2)).tolist()
    batch, ratios = len(sampler.fixed), took[:, 0].sum(1) / took[:, 1].sum(1)
    return dict(
        batch=batch,
        precision=lightning_precision(config.fit, device),
        loop_pairs_per_s=round(batch / loop, 1),
        fixed_pairs_per_s=round(batch / fixed, 1),
        pairs_ms=round(1000 * (loop - fixed), 1),
        ratio=round(float(np.median(ratios)), 3),
        ratio_quartiles=np.quantile(ratios, [0.25, 0.75]).round(3).tolist(),
        blocks=blocks,
    )


def run(
    blocks: int = 8, device: str = "auto", precision: str = "auto", size: int = 64, encoders: dict = ENCODERS
) -> dict:
    "The ratio for a few encoders, on the batch of the quick profile (30 tasks × 8 pairs)."
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(
            [pack(name, out=folder, size=size, source="phantom", subjects=6) for name in DATASETS]
        )
        base = TrainConfig.of(device=device, precision=precision, pairs_per_task=8)
        rows = {
            name: measure(store, replace(base, encoder=EncoderConfig(size=size, **choice)), blocks)
            for name, choice in encoders.items()
        }
    return dict(goal=0.95, size=size, encoders=rows)


def show(result: dict) -> Table:
    table = Table(
        "encoder",
        "batch",
        "precision",
        "fixed tensor, pairs/s",
        "whole loop, pairs/s",
        "making pairs, ms",
        "ratio",
        title=f"training loop at {result['size']} px (goal {result['goal']})",
    )
    for name, r in result["encoders"].items():
        table.add_row(
            name,
            str(r["batch"]),
            r["precision"],
            f"{r['fixed_pairs_per_s']:.0f}",
            f"{r['loop_pairs_per_s']:.0f}",
            f"{r['pairs_ms']:.0f}",
            f"{r['ratio']:.2f}",
        )
    return table
