"Failures: what they change, what they leave, and what is refused."
import numpy as np
import pytest
import torch

from taco.base import TaskError
from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.failure import FAILURE_KINDS, FAILURES, get_failure, solve_wrongly
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("stores")
    return Store.open(
        [
            pack(load_card(n), out=out, size=32, source="phantom", subjects=10)
            for n in ("acdc", "monusac", "kvasir")
        ]
    )


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_a_failure_changes_the_output_and_never_the_input(store, kind):
    for name in ALL_TASKS:
        task = get_task(name)
        if not FAILURES[kind].suits(task): continue
        able = store.select(split="train", needs=task.needs | FAILURES[kind].needs)
        if len(able) < 4: continue
        batch, partners = store.batch(able[:3]), store.batch(able[-3:])
        seeds = torch.arange(3)
        input, output = task(batch, seeds=seeds)
        same, wrong = solve_wrongly(task, kind, batch, seeds, partners)
        assert torch.equal(same, input)
        assert (
            wrong.shape == output.shape
            and wrong.dtype == torch.float32
            and wrong.min() >= 0
            and wrong.max() <= 1
        )
        assert (wrong != output).flatten(1).any(1).all(), name
        alone = solve_wrongly(task, kind, batch[1:2], seeds[1:2], partners[1:2])[1]
        assert torch.allclose(alone[0], wrong[1], atol=1e-5), (
            f"{name}: a failure depends on the rest of the batch"
        )


def test_eroded_masks_are_smaller_and_inside(store):
    able = store.select(split="train", needs={"semantic", "thick"})[:8]
    batch, seeds = store.batch(able), torch.arange(len(able))
    whole = get_task("binary_segmentation")(batch, seeds=seeds, palette=0)[1].mean(1) > .5
    eroded = solve_wrongly("binary_segmentation", "eroded", batch, seeds)[1]
    right = get_task("binary_segmentation")(batch, seeds=seeds)[1]
    changed = (eroded - right).abs().amax(1) > 1e-4
    assert changed.flatten(1).any(1).all() and not (changed & (batch.semantic == 0)).any()
    assert whole.any()


def test_the_wrong_class_lacks_the_largest(store):
    able = store.select(split="train", needs={"semantic", "classes"}, dataset="acdc")[:6]
    batch, seeds = store.batch(able), torch.arange(len(able))
    changed = (
        solve_wrongly("binary_segmentation", "wrong_class", batch, seeds)[1]
        - get_task("binary_segmentation")(batch, seeds=seeds)[1]
    ).abs().amax(1) > 1e-4
    for row, labels in zip(changed, batch.semantic):
        largest = np.bincount(labels.flatten().numpy())[1:].argmax() + 1
        assert torch.equal(row, labels == largest)


def test_refusals(store):
    batch, seeds = store.batch([0]), torch.tensor([0])
    with pytest.raises(TaskError, match="cannot fail like this"):
        solve_wrongly("deblurring", "eroded", batch, seeds)
    with pytest.raises(TaskError, match="another image"):
        solve_wrongly("deblurring", "other_image", batch, seeds)
    with pytest.raises(TaskError, match="'shifted'"): get_failure("shfted")
