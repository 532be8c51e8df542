"Failed pairs: in batches, in the loss, in scores; encoders that go on from others."
import numpy as np
import pandas as pd
import pytest
import torch

from taco.atlas.failures import auroc, plan_failures, typicality
from taco.atlas.embedding import plan_pairs
from taco.base import EncoderError, ParameterError, TacoError, TaskError
from taco.data.card import load_card
from taco.data.store import Store, pack
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.loss import positive_labels, supcon
from taco.learning.pairs import Pairs, PairSampler
from taco.learning.training import TrainConfig, train
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.failure import FAILURE_KINDS, FAILURES, failures_of, get_failure, solve_wrongly
from taco.tasks.task import get_task

SMALL = EncoderConfig(backbone="resnet10", width=.125, stem=3, size=32)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("stores")
    return Store.open([pack(load_card(n), out=out, size=32, source="phantom", subjects=10) for n in ("acdc", "monusac", "kvasir")])


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
        assert wrong.shape == output.shape and wrong.dtype == torch.float32 and 0 <= wrong.min() and wrong.max() <= 1
        assert (wrong != output).flatten(1).any(1).all(), name
        alone = solve_wrongly(task, kind, batch[1:2], seeds[1:2], partners[1:2])[1]
        assert torch.allclose(alone[0], wrong[1], atol=1e-5), f"{name}: a failure depends on the rest of the batch"


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
    changed = (solve_wrongly("binary_segmentation", "wrong_class", batch, seeds)[1] - get_task("binary_segmentation")(batch, seeds=seeds)[1]).abs().amax(1) > 1e-4
    for row, labels in zip(changed, batch.semantic):
        largest = np.bincount(labels.flatten().numpy())[1:].argmax() + 1
        assert torch.equal(row, labels == largest)


def test_refusals(store):
    batch, seeds = store.batch([0]), torch.tensor([0])
    with pytest.raises(TaskError, match="cannot fail like this"): solve_wrongly("deblurring", "eroded", batch, seeds)
    with pytest.raises(TaskError, match="another image"): solve_wrongly("deblurring", "other_image", batch, seeds)
    with pytest.raises(TaskError, match="'shifted'"): get_failure("shfted")


def test_batches_hold_the_failures_asked_for_and_correct_pairs_stay_the_same(store):
    plain = PairSampler(store, ALL_TASKS, pairs_per_task=4, seed=3)
    mixed = PairSampler(store, ALL_TASKS, pairs_per_task=4, seed=3, failed_per_task=2)
    a, b = (s.pairs(s.raw(5)) for s in (plain, mixed))
    assert (a.failure == 0).all() and b.failure.view(-1, 4).gt(0).tolist() == [[False, False, True, True]] * len(plain.tasks)
    good = b.failure == 0
    assert torch.equal(a.record, b.record) and torch.equal(a.seed, b.seed)
    assert torch.allclose(a.output[good], b.output[good])
    for task, failure in zip(b.task[~good].tolist(), b.failure[~good].tolist()):
        assert FAILURE_KINDS[failure - 1] in failures_of(mixed.tasks[task])
    drawn = torch.cat([mixed.plan(step).failure for step in range(40)])
    assert set(drawn.unique().tolist()) == set(range(len(FAILURE_KINDS) + 1)), "every kind comes up"
    with pytest.raises(ParameterError, match="failed_per_task"): PairSampler(store, ALL_TASKS, pairs_per_task=2, failed_per_task=2)


def test_another_image_lends_its_output(store):
    sampler = PairSampler(store, ["horizontal_flip"], pairs_per_task=12, seed=0, failed_per_task=6, randomise=False)
    for step in range(8):
        pairs = sampler.pairs(sampler.raw(step))
        rows = (pairs.failure == 1 + FAILURE_KINDS.index("other_image")).nonzero()[:, 0]
        for row in rows.tolist():
            matches = [k for k in (pairs.failure == 0).nonzero()[:, 0].tolist() if torch.equal(pairs.output[k], pairs.output[row])]
            assert matches and all(pairs.record[k] != pairs.record[row] for k in matches)


def test_labels_of_failed_pairs():
    numbers = dict(record=torch.arange(5), seed=torch.tensor([7, 8, 9, 10, 11]), dataset=torch.zeros(5, dtype=torch.int64))
    pairs = Pairs(torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), task=torch.tensor([0, 0, 1, 1, 1]), failure=torch.tensor([0, 3, 3, 0, 0]), **numbers)
    same = lambda *more: (lambda n: (n[:, None] == n).int().tolist())(positive_labels(pairs, *more))
    assert same("task", "negatives") == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    assert same("task", "classes") == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    with pytest.raises(ParameterError, match="'classes'"): positive_labels(pairs, "task", "clases")
    z = torch.nn.functional.normalize(torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1)
    negatives = positive_labels(pairs, "task", "negatives")
    by_hand = -sum((z[i] @ z[j] / .1) - torch.logsumexp(torch.stack([z[i] @ z[k] / .1 for k in range(5) if k != i]), 0) for i, j in ((3, 4), (4, 3))) / 2
    assert torch.isclose(supcon(z, negatives), by_hand)  # a failed pair is in every denominator and has no row of its own


@pytest.mark.parametrize("failures", ["negatives", "classes"])
def test_training_with_failures_starts_from_an_encoder_and_says_so(store, tmp_path, failures):
    base = dict(steps=3, pairs_per_task=4, tasks_per_batch=4, encoder=SMALL, device="cpu", precision="32")
    first = train(store, ALL_TASKS, TrainConfig(**base), tmp_path / "first", progress=False)
    config = TrainConfig(**base, failures=failures, start=str(tmp_path / "first/encoder"), learning_rate=0, weight_decay=0)
    second = train(store, ALL_TASKS, config, tmp_path / "second", progress=False)
    for (name, a), b in zip(first.named_parameters(), second.parameters()): assert torch.equal(a, b), name  # nothing learned: the weights it began with
    with pytest.raises(TacoError, match="another training run"): train(store, ALL_TASKS, TrainConfig(**base, failures=failures), tmp_path / "second", progress=False)
    with pytest.raises(EncoderError, match="another architecture"):
        train(store, ALL_TASKS, TrainConfig(**base | dict(encoder=EncoderConfig(backbone="resnet10", width=.25)), start=str(tmp_path / "first/encoder")), tmp_path / "third", progress=False)
    with pytest.raises(EncoderError, match="no encoder"): train(store, ALL_TASKS, TrainConfig(**base, start=str(tmp_path / "nowhere")), tmp_path / "fourth", progress=False)
    with pytest.raises(ParameterError, match="failures"): TrainConfig(failures="clases")


def test_typicality_is_the_mean_of_the_nearest_of_its_own_task():
    bank = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 3]]
    tasks = np.array(["a", "a", "a", "b", "b"])
    score = typicality(bank, tasks, np.array([[.6, .8, 0, 0], [.6, .8, 0, 0]], np.float32), np.array(["a", "b"]), k=2)
    assert np.allclose(score, [.8, 0])
    with pytest.raises(TacoError, match="no pair of this task"): typicality(bank, tasks, bank[:1], np.array(["c"]))


def test_auroc_is_a_mean_over_tasks_and_refuses_nonsense():
    good = pd.DataFrame(dict(task=["a"] * 4 + ["b"] * 2, record=range(6), score=[4, 5, 6, 7, 100, 101.]))
    bad = pd.DataFrame(dict(task=["a"] * 4 + ["b"] * 2, record=range(6), score=[0, 1, 2, 3, 200, 201.]))
    value, _, by_task = auroc(good, bad, 50)
    assert by_task == dict(a=1., b=0.) and value == .5
    with pytest.raises(TacoError, match="numbers"): auroc(good, bad.assign(score=np.nan))
    with pytest.raises(TacoError, match="No task"): auroc(good, bad.assign(task="c"))


def test_planned_failures_stay_in_their_split_and_borrow_from_strangers(store):
    plan = plan_failures(plan_pairs(store, ALL_TASKS, "test", 3), store)
    partner = store.table.iloc[plan["partner"]].reset_index(drop=True)
    assert (partner["split"] == "test").all()
    home = partner["dataset"].to_numpy() == plan["dataset"].to_numpy()
    assert (partner["subject"].to_numpy() != plan["subject"].to_numpy())[home].all() and home.mean() > .5
    assert all(kind in failures_of(task) for task, kind in plan[["task", "failure"]].drop_duplicates().itertuples(index=False))
    with pytest.raises(TacoError, match="can fail"): plan_failures(plan_pairs(store, ALL_TASKS, "test", 3)[:0], store)
