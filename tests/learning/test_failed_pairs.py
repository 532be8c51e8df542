"Failed pairs in batches and in the loss, and encoders that go on from others."
import pytest
import torch

from taco.base import EncoderError, ParameterError, TacoError
from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig
from taco.learning.loss import positive_labels, supcon
from taco.learning.pairs import Pairs
from taco.learning.recipe import TrainConfig
from taco.learning.sampler import PairSampler
from taco.learning.training import train
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.failure import FAILURE_KINDS, failures_of

SMALL = EncoderConfig(backbone="resnet10", width=.125, stem=3, size=32)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("stores")
    return Store.open(
        [
            pack(load_card(n), out=out, size=32, source="phantom", subjects=10)
            for n in ("acdc", "monusac", "kvasir")
        ]
    )


def test_batches_hold_the_failures_asked_for_and_correct_pairs_stay_the_same(store):
    how = dict(pairs_per_task=4, seed=3, randomise=False)  # it would mix in other images of the batch
    plain, mixed = PairSampler(store, ALL_TASKS, **how), PairSampler(store, ALL_TASKS, **how, failed_per_task=2)
    a, b = (s.pairs(s.raw(5)) for s in (plain, mixed))
    assert (a.failure == 0).all() and b.failure.view(-1, 4).gt(0).tolist() == [
        [False, False, True, True]
    ] * len(plain.tasks)
    good = b.failure == 0
    assert torch.equal(a.record[good], b.record[good]) and torch.equal(a.seed, b.seed)
    assert torch.allclose(a.output[good], b.output[good])
    for task, failure in zip(b.task[~good].tolist(), b.failure[~good].tolist()):
        assert FAILURE_KINDS[failure - 1] in failures_of(mixed.tasks[task])
    drawn = torch.cat([mixed.plan(step).failure for step in range(40)])
    assert set(drawn.unique().tolist()) == set(range(len(FAILURE_KINDS) + 1)), "every kind comes up"
    with pytest.raises(ParameterError, match="failed_per_task"):
        PairSampler(store, ALL_TASKS, pairs_per_task=2, failed_per_task=2)


def test_another_image_lends_its_output(store):
    sampler = PairSampler(
        store, ["horizontal_flip"], pairs_per_task=12, seed=0, failed_per_task=6, randomise=False
    )
    for step in range(8):
        pairs = sampler.pairs(sampler.raw(step))
        rows = (pairs.failure == 1 + FAILURE_KINDS.index("other_image")).nonzero()[:, 0]
        for row in rows.tolist():
            matches = [
                k
                for k in (pairs.failure == 0).nonzero()[:, 0].tolist()
                if torch.equal(pairs.output[k], pairs.output[row])
            ]
            assert matches and all(pairs.record[k] != pairs.record[row] for k in matches)
            beside = (pairs.failure == 0) & (pairs.dataset == pairs.dataset[row]) & (pairs.record != pairs.record[row])
            if beside.any(): assert any(beside[k] for k in matches), "lent by an image of its dataset"


def test_the_other_image_is_of_the_same_dataset(store):
    "Its looks do not tell that its output was lent; and what comes before is as without failed pairs."
    how = dict(tasks=["horizontal_flip", "deblurring"], pairs_per_task=5, seed=3)
    plain = PairSampler(store, **how)
    failing = PairSampler(store, **how, failed_per_task=2, failed_kinds=["other_image"])
    assert len(store.datasets) > 1
    for step in range(20):
        plan, before = failing.plan(step), plain.plan(step)
        dataset = plan.dataset.view(-1, 5)
        assert torch.equal(dataset[:, 3:], dataset[:, [1, 2]])
        right = plan.failure == 0
        assert torch.equal(plan.record[right], before.record[right])


@pytest.mark.parametrize("each, failed", [(8, 1), (8, 2), (5, 2), (6, 3)])
def test_a_share_of_two_lends_within_a_dataset_too(store, each, failed):
    "Where a right pair of the dataset with another record was planned, its output is what a failed pair shows."
    how = dict(pairs_per_task=each, seed=3, failed_per_task=failed, failed_kinds=["other_image"], randomise=False)
    sampler, lent = PairSampler(store, ["horizontal_flip"], **how), 0
    for step in range(12):
        for rank in (0, 1):
            pairs = sampler.pairs(sampler.raw(step, rank, 2))
            for row in pairs.failure.nonzero()[:, 0].tolist():
                beside = (pairs.failure == 0) & (pairs.dataset == pairs.dataset[row])
                others = (beside & (pairs.record != pairs.record[row])).nonzero()[:, 0].tolist()
                lent += bool(others)
                if not others: continue
                assert any(torch.equal(pairs.output[row], pairs.output[k]) for k in others)
    assert lent > 12 * failed * .7


def test_labels_of_failed_pairs():
    numbers = dict(
        record=torch.arange(5),
        seed=torch.tensor([7, 8, 9, 10, 11]),
        dataset=torch.zeros(5, dtype=torch.int64),
    )
    pairs = Pairs(
        torch.rand(5, 3, 4, 4),
        torch.rand(5, 3, 4, 4),
        task=torch.tensor([0, 0, 1, 1, 1]),
        failure=torch.tensor([0, 3, 3, 0, 0]),
        **numbers,
    )
    same = lambda *more: (lambda n: (n[:, None] == n).int().tolist())(positive_labels(pairs, *more))
    assert same("task", "negatives") == [
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    assert same("task", "classes") == [
        [1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    with pytest.raises(ParameterError, match="'classes'"): positive_labels(pairs, "task", "clases")
    z = torch.nn.functional.normalize(
        torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    negatives = positive_labels(pairs, "task", "negatives")
    by_hand = (
        -sum(
            (z[i] @ z[j] / 0.1)
            - torch.logsumexp(torch.stack([z[i] @ z[k] / 0.1 for k in range(5) if k != i]), 0)
            for i, j in ((3, 4), (4, 3))
        )
        / 2
    )
    assert torch.isclose(
        supcon(z, negatives), by_hand
    )  # a failed pair is in every denominator and has no row of its own


@pytest.mark.parametrize("failures", ["negatives", "classes"])
def test_training_with_failures_starts_from_an_encoder_and_says_so(store, tmp_path, failures):
    base = dict(
        steps=3, pairs_per_task=4, tasks_per_batch=4, encoder=SMALL, device="cpu", precision="32"
    )
    first = train(store, ALL_TASKS, TrainConfig.of(**base), tmp_path / "first", progress=False)
    config = TrainConfig.of(
        **base,
        failures=failures,
        start=str(tmp_path / "first/encoder"),
        learning_rate=0,
        weight_decay=0,
    )
    second = train(store, ALL_TASKS, config, tmp_path / "second", progress=False)
    for (name, a), b in zip(first.named_parameters(), second.parameters()):
        assert torch.equal(a, b), name  # nothing learned: the weights it began with
    with pytest.raises(TacoError, match="another training run"):
        train(
            store,
            ALL_TASKS,
            TrainConfig.of(**base, failures=failures),
            tmp_path / "second",
            progress=False,
        )
    with pytest.raises(EncoderError, match="another architecture"):
        train(
            store,
            ALL_TASKS,
            TrainConfig.of(
                **base | dict(encoder=EncoderConfig(backbone="resnet10", width=0.25)),
                start=str(tmp_path / "first/encoder"),
            ),
            tmp_path / "third",
            progress=False,
        )
    with pytest.raises(EncoderError, match="no encoder"):
        train(
            store,
            ALL_TASKS,
            TrainConfig.of(**base, start=str(tmp_path / "nowhere")),
            tmp_path / "fourth",
            progress=False,
        )
    with pytest.raises(ParameterError, match="failures"): TrainConfig.of(failures="clases")
