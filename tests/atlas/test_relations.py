"The benchmark of relations: nothing can be told from single pictures, everything from the right relation."
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import taco
from taco.atlas import relations as benchmark
from taco.atlas.embedding import plan_pairs
from taco.atlas.relations import (
    RIGHT,
    TWICE,
    WRONG,
    draw_relations,
    embed_questions,
    matched,
    plan_relations,
    question_scores,
    relations,
    relations_by,
    score_relations,
)
from taco.atlas.rivals.baselines import Bank, PixelEncoder, StatisticsEncoder
from taco.atlas.rivals.statistics import image_statistics
from taco.base import TaskError
from taco.tasks.relation import RELATIONS


@pytest.fixture(scope="module")
def store(phantoms):
    return phantoms("acdc", "monusac", "kvasir", subjects=40)


@pytest.fixture(scope="module")
def plan(store):
    return plan_relations(store, "test", 12, seed=1)


def statistics(image) -> torch.Tensor:
    return torch.stack(list(image_statistics(image).values()), 1)


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────


def test_questions_are_about_subjects_of_one_dataset(store, plan):
    assert plan.equals(plan_relations(store, "test", 12, seed=1))
    assert set(plan["relation"]) == set(RELATIONS)
    about = store.table
    for column in ("record", "partner"):
        rows = about.iloc[plan[column]]
        assert (rows["split"] == "test").all() and (rows["dataset"].to_numpy() == plan["dataset"]).all()
    subjects = [about["subject"].to_numpy()[plan[c]] for c in ("record", "partner")]
    kind = plan["relation"].map(lambda name: RELATIONS[name].partner)
    assert (plan["record"] == plan["partner"])[kind == "itself"].all()
    assert (subjects[0] != subjects[1])[kind == "subject"].all()
    beside = (kind == "slice") & (plan["dataset"] == "acdc")  # the one with volumes
    assert beside.any() and (subjects[0] == subjects[1])[beside].all()
    assert ((plan["partner"] - plan["record"]) == 1)[beside].all()
    twice = plan.groupby(["relation", "unit"]).size()
    assert twice.max() == 1 and plan.groupby(["relation", "dataset"]).size().max() <= 12


def test_partners_are_alike():
    numbers = torch.tensor([[0.], [10], [.5], [11], [30], [25]])
    assert matched(numbers).tolist() == [[0, 2], [1, 3], [4, 5]]
    assert matched(numbers[:5]).tolist() == [[0, 2], [1, 3]] and len(matched(numbers[:1])) == 0


def test_only_relations_that_the_data_allow(store, phantoms):
    assert set(plan_relations(store, "test", names=["turned_left"])["relation"]) == {"turned_left"}
    with pytest.raises(TaskError, match="turned_left"): plan_relations(store, "test", names=["turned_lef"])
    with pytest.raises(TaskError, match="question"): plan_relations(phantoms("acdc", subjects=2), "val")


# ── single pictures know nothing ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["input", "output"])
def test_a_single_picture_has_exactly_a_half(store, place):
    "By construction: each picture stands once in a right and once in a wrong pair."
    found = relations(lambda x, y: statistics(x if place == "input" else y), store, draws=50)
    assert found["auroc"].sub(.5).abs().max() < 2e-3 and found["choice"].eq(.5).all()


def test_scores_that_are_added_up_know_nothing(store):
    "Whatever each picture alone tells, from input and output together: a half, and every choice a tie."
    for encoder in (lambda x, y: statistics(y), PixelEncoder(8)):
        found = relations(encoder, store, alone=True, draws=50, per_dataset=20)
        assert found["choice"].eq(.5).all()
        assert abs(found.loc["mean", "auroc"] - .5) < .03 and found["auroc"].drop("mean").sub(.5).abs().max() < .1


def test_any_two_scores_of_single_pictures_tie_within_a_question():
    chance = np.random.default_rng(0)
    inputs, outputs = chance.normal(size=(2, 300, 2))
    scores = np.stack([inputs + outputs, inputs + outputs[:, ::-1]], 1)
    within = [roc_auc_score([1, 1, 0, 0], question.ravel()) for question in scores]
    assert np.allclose(within, .5)
    plan = pd.DataFrame(dict(relation="r", unit=np.arange(300).astype(str), other_unit=np.arange(300).astype(str)))
    found = score_relations(scores, plan, draws=200).loc["mean"]
    assert found["choice"] == .5 and abs(found["auroc"] - .5) < .02


# ── who knows the relation, wins ──────────────────────────────────────────────────────────────────


def alike(a, b) -> torch.Tensor: return F.cosine_similarity((a - .5).flatten(1), (b - .5).flatten(1))[:, None]


def test_who_knows_the_relation_wins(store):
    names = ["turned_left", "mirrored_sideways", "whose_horizontal_flip", "whose_intensity_inversion"]
    def knowing(x, y):
        turns = [y.rot90(3, (-2, -1)), y.rot90(1, (-2, -1)), y.flip(-1), y.flip(-2), 1 - y]
        return torch.cat([alike(x, turn) > .999 for turn in turns], 1).float() + 1e-3
    found = relations(knowing, store, draws=100)
    assert (found.loc[names, "auroc"] > .97).all() and (found.loc[names, "choice"] > .97).all()
    assert found.loc["whose_binary_segmentation", "auroc"] < .6
    assert found.loc["mean", "auroc"] == pytest.approx(found["auroc"].drop("mean").mean())


def test_the_auroc_is_the_usual_one_and_its_interval_is_honest():
    chance, rows = np.random.default_rng(1), []
    plan = pd.DataFrame(dict(relation="r", unit=[f"a{i}" for i in range(80)], other_unit=[f"b{i}" for i in range(80)]))
    for _ in range(60):
        scores = chance.normal(size=(80, 2, 2)) + chance.normal(size=(80, 1, 1)) + np.array([.8, 0])[:, None]
        found = score_relations(scores, plan, draws=200).loc["r"]
        labels = np.repeat([[1, 1, 0, 0]], 80, 0)
        assert found["auroc"] == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-9)
        rows.append(found)
    rows = pd.DataFrame(rows)
    true = .5 * (1 + torch.erf(torch.tensor(.4 / 2**.5)).item())  # of normal scores .8 apart, variance 2 each
    assert rows["auroc"].mean() == pytest.approx(true, abs=.01)
    assert ((rows["low"] < true) & (true < rows["high"])).mean() > .88
    assert ((rows["low"] + rows["high"]) / 2 - rows["auroc"]).abs().mean() < .01  # not pulled to one side
    assert (rows["questions"] == 80).all() and (rows["subjects"] == 80).all()


def test_the_same_pictures_in_every_pair(store, plan):
    which = plan.groupby("relation").head(2)
    shown = lambda x, y: torch.cat([x.mean((2, 3)), y.mean((2, 3))], 1)
    embedded = lambda pairs, **how: embed_questions(dict(one=shown), store, which, pairs, **how)["one"]
    found = embedded(RIGHT + WRONG, block=3)
    assert np.allclose(found[:, 0, :3], found[:, 2, :3]) and np.allclose(found[:, 0, 3:], found[:, 3, 3:])
    assert np.allclose(found[:, 1, :3], found[:, 3, :3]) and np.allclose(found[:, 1, 3:], found[:, 2, 3:])
    assert np.allclose(found, embedded(RIGHT + WRONG), atol=1e-5)
    bank = embedded(TWICE)
    alone = question_scores(bank, which, bank, which, k=1)
    assert np.allclose(alone, 2, atol=1e-4)  # each picture is its own nearest


# ── for any encoder ───────────────────────────────────────────────────────────────────────────────


def test_by_the_door_with_a_function_and_without_data(monkeypatch):
    monkeypatch.setattr(benchmark, "SHIPPED", ("kvasir",))
    class Numbers:
        config = type("Config", (), dict(size=32))
        def __call__(self, x, y):
            assert x.shape[1:] == (3, 32, 32) and not torch.is_grad_enabled()
            return np.zeros(3), (y - x).mean((2, 3)).numpy()  # the last of a tuple counts, and numpy will do
    found = taco.relations(Numbers(), per_dataset=4, draws=20)
    assert list(found.index) == [*found.index[:-1], "mean"] and found["auroc"].between(0, 1).all()
    assert "relations" in dir(taco) and (found["low"] <= found["high"]).all()


@pytest.mark.long
def test_all_encoders_see_the_same_questions_as_one_alone(store, plan, monkeypatch):
    bank = Bank(store, plan_pairs(store, ["shear", "deblurring"], "train", 4))
    encoders = {how: StatisticsEncoder.fit(bank, how) for how in ("raw", "lda")} | dict(pixels=PixelEncoder(8))
    known, asked = ((store, plan_relations(store, split, 3, i)) for i, split in enumerate(("train", "test")))
    made, posed = [], benchmark.posed
    monkeypatch.setattr(benchmark, "posed", lambda *given: made.append(1) or posed(*given))
    for alone in (False, True):
        made.clear()
        found = relations_by(encoders, known, asked, alone, draws=20)
        assert len(made) == 2, "once for the bank, once for what is asked"
        for name, encoder in encoders.items():
            pd.testing.assert_frame_equal(found[name], relations(encoder, store, None, alone, 3, draws=20),
                                          check_exact=True)


def test_seeds_of_one_encoder_are_answered_by_their_mean():
    chance = np.random.default_rng(2)
    plan = pd.DataFrame(dict(relation="r", unit=[f"a{i}" for i in range(60)], other_unit=[f"b{i}" for i in range(60)]))
    good, bad = (chance.normal(size=(60, 2, 2)) + np.array([shift, 0])[:, None] for shift in (2, .1))
    one, other, both = (score_relations(s, plan, draws=200).loc["r"] for s in (good, bad, np.stack([good, bad])))
    for column in ("auroc", "choice"): assert both[column] == pytest.approx((one[column] + other[column]) / 2)
    assert one["auroc"] > both["low"] > other["low"]
    twice = score_relations(np.stack([bad, bad]), plan, draws=200).loc["r"]
    pd.testing.assert_series_equal(twice, other)


def test_another_store_is_asked_whole(store, phantoms):
    other = phantoms("drive", subjects=5)
    found = relations(PixelEncoder(8), store, other, draws=20)
    assert found.loc["mean", "subjects"] == 5 and found.loc["turned_left", "questions"] == 5


def test_the_figure_has_a_row_a_relation(store):
    found = relations(PixelEncoder(8), store, per_dataset=3, draws=20)
    figure = draw_relations(dict(a=found, b=found), dict(a=("one", "C0"), b=("two", "C1")))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][-1] == "mean"
    assert len(figure.axes[0].get_yticks()) == len(found)
