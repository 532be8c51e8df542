"What every rival is tried by: that it is pure, that it learns, that it goes on where it was killed."
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from taco.learning.loop import Fit, FitConfig, fit
from taco.transfer.sequences.volumes import Volumes
from taco.transfer.unet import UNetDecoder, UNetEncoder
from tests.transfer.sequences.toys import equal, made

SMALL = (4, 8, 8)
Make = Callable[[int], Fit]  # of the seed


def bodies() -> Volumes:
    "Four volumes of eight slices, whose grey value rises with the height; the last is not for training."
    return made({name: list(range(4, 36, 4)) for name in "abcd"}, split={"d": "test"})


def halves(outputs: int = 1) -> tuple[UNetEncoder, UNetDecoder]:
    "Always the same first weights."
    torch.manual_seed(0)
    return UNetEncoder(1, SMALL), UNetDecoder(outputs, SMALL)


def how(steps: int, **more) -> FitConfig:
    return FitConfig(**dict(steps=steps, learning_rate=5e-3, device="cpu", precision="32", checkpoint_every=3) | more)


def check_pure(make: Make, batch) -> None:
    "The loss depends on batch, seed and step, and on nothing else."
    torch.manual_seed(5)
    one, again, other = (make(seed).train() for seed in (0, 0, 1))
    loss = one.loss(batch, 3).item()
    torch.rand(3)
    assert one.loss(batch, 3).item() == loss == again.loss(batch, 3).item()
    assert len({loss, one.loss(batch, 4).item(), other.loss(batch, 3).item()}) == 3


def fall(make: Make, batches: Callable, steps: int = 40, **more) -> float:
    "The loss over the last quarter of a short training, as a share of that over the first."
    history = fit(make(0), batches, how(steps, log_every=steps // 4, **more))
    return history["loss"].iloc[-1] / history["loss"].iloc[0]


def dies_at(batches: Callable, last: int) -> Callable:
    "These batches, until somebody presses Ctrl-C."
    def some(step: int):
        if step == last: raise KeyboardInterrupt
        return batches(step)
    return some


def check_resumes(make: Make, batches: Callable, folder: Path) -> None:
    "Killed after the fifth of eight steps and run again, it ends as one that was left in peace."
    whole, again = make(0), make(0)
    fit(whole, batches, how(8))
    with pytest.raises(BaseException): fit(make(0), dies_at(batches, 5), how(8), folder)  # noqa: B017
    assert (folder / "training.ckpt").exists()
    fit(again, batches, how(8), folder)
    assert equal(whole, again) and not equal(whole, make(0))
