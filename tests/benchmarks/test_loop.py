"The loop's section in small: what it counts, and what it makes of it."

import io
import json

import pytest
from rich.console import Console

from benchmarks import loop
from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig
from taco.learning.recipe import TrainConfig
from taco.learning.sampler import PairSampler

SMALL = dict(backbone="resnet10", width=0.125, size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pack("drive", out=tmp_path_factory.mktemp("packed"), size=24, subjects=6, source="phantom")


@pytest.fixture
def config():
    return TrainConfig.of(device="cpu", pairs_per_task=4, encoder=SMALL)


def test_every_other_block_gets_the_same_pairs(folder):
    turns = loop.TakingTurns(PairSampler(Store.open([folder]), ("inpainting", "horizontal_flip")), "cpu")
    first, again, made = (turns.pairs(turns.raw(step)) for step in (0, 1, loop.BLOCK))
    assert first is again and made is not first and len(made) == len(first) == 16
    assert turns.raw(1)[1].step == 1, "the plan still says which step it is"
    half = [turns.pairs(turns.raw(0, rank, 2)) for rank in (0, 1)]
    assert [len(h) for h in half] == [8, 8]
    assert (half[1].record == first.record[1::2]).all()


def test_ways_to_train_differ_in_threads_and_the_bound_shares_the_batch(config):
    ways = loop.ways(config, 2)
    assert list(ways) == ["loop", "one thread", "2 threads", "bound"]
    assert [threads for _, threads in ways["bound"]] == [1, 1]
    assert [settings["pairs_per_task"] for settings, _ in ways["bound"]] == [2, 2]
    assert ways["loop"][0][0]["pairs_per_task"] == 4
    assert ways["bound"][0][0]["seed"] != ways["bound"][1][0]["seed"]
    assert json.loads(json.dumps(ways["loop"][0][0]))["encoder"]["width"] == 0.125


@pytest.mark.long
def test_a_training_in_a_process_of_its_own_answers_when_asked(folder, config):
    settings, threads = loop.ways(config, 2)["one thread"][0]
    training = loop.Training([folder], settings, threads)
    try:
        assert training.answer()["pairs"] > 0, "it is warm"
        training.ask(0.2)
        answer = training.answer()
        assert answer["seconds"] >= 0.2 and answer["pairs"] % 4 == 0 and answer["pairs"] > 0
    finally:
        training.close()
    assert training.process.returncode == 0


@pytest.mark.long
def test_a_training_that_fails_says_why(tmp_path, config):
    training = loop.Training([tmp_path / "none"], loop.ways(config, 2)["loop"][0][0], 1)
    try:
        with pytest.raises(RuntimeError, match="no packed dataset"):
            training.answer()
    finally:
        training.close()


def test_the_table_compares_with_bounds_and_fits(monkeypatch):
    pairs = {"loop": 8, "one thread": 4, "2 threads": 10, "bound": 16}

    class Told(loop.Training):
        def __init__(self, folders, settings, threads=None, warm=3):
            self.name = settings

        def ask(self, seconds):
            pass

        def answer(self):
            return dict(pairs=pairs[self.name], seconds=2.0)

        def close(self):
            pass

    monkeypatch.setattr(loop, "Training", Told)
    monkeypatch.setattr(loop, "ways", lambda config, cores: {n: [(n, 1)] * (1 + (n == "bound")) for n in pairs})
    rates = loop.beside([], TrainConfig(), (0,), 1.0, 2)
    assert list(rates["0"]) == [*pairs, "of_bound", "of_best_fixed"] and rates["0"] == {
        **{"loop": 4.0, "one thread": 2.0, "2 threads": 5.0, "bound": 16.0},
        **dict(of_bound=0.25, of_best_fixed=0.8),
    }
    row = dict(ratio=0.7, neighbours=rates)
    result = dict(goal=0.95, goal_busy=0.8, size=64, cores=2, encoders={"resnet10, width ½": row})
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(loop.show(result))
    text = console.export_text()
    assert "0.25" in text and "0.80" in text and "0.70" in text and "…" not in text
    assert EncoderConfig(**SMALL).width == 0.125


def test_ratios_are_those_of_one_turn():
    turns = [{"loop": 6.0, "one thread": 10.0, "bound": 12.0}, {"loop": 60.0, "one thread": 50.0, "bound": 60.0}]
    found = loop.summary(turns)
    assert found == {"loop": 33.0, "one thread": 30.0, "bound": 36.0, "of_bound": 0.75, "of_best_fixed": 0.9}


@pytest.mark.filterwarnings("ignore:No record")
def test_the_loop_is_measured_beside_its_model(folder, config):
    found = loop.measure(Store.open([folder]), config, blocks=1)
    assert found["batch"] == 4 * len(PairSampler(Store.open([folder])).tasks) and found["blocks"] == 1
    assert found["loop_pairs_per_s"] > 0 and found["fixed_pairs_per_s"] > 0 and found["ratio"] > 0


def test_neighbours_end_with_the_block():
    with loop.neighbours(1):
        pass
    with loop.neighbours(0):
        pass
