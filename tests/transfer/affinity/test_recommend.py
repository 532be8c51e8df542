"Advice: from a measured matrix and a few pairs to a ranking, or to none; groups of tasks."
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from taco.atlas.embedding import Embeddings, embed, plan_pairs
from taco.atlas.rivals.baselines import PixelEncoder
from taco.atlas.use.place import Known
from taco.base import ParameterError, TacoError, TaskError
from taco.cli.main import app
from taco.transfer.affinity.grouping import (
    Family,
    compare_groups,
    group_file,
    group_gains,
    groups_by_chance,
    groups_by_map,
    together,
    worth_grouping,
)
from taco.transfer.affinity.judge import alike, places
from taco.transfer.affinity.network import Course
from taco.transfer.affinity.problems import Problem, problem_pictures, problem_plan
from taco.transfer.affinity.published import shipped
from taco.transfer.affinity.recommend import (
    Precedents,
    map_guess,
    precedents,
    recommend,
    recommend_for_card,
    recommended,
    shipped_guesses,
)
from taco.transfer.affinity.report import candidates, report, transfer_metrics, verdict

TASKS = ["intensity_inversion", "outpainting", "shear", "despeckling"]
SOURCES = [f"{task}@radiology" for task in TASKS]


@pytest.fixture(scope="module")
def known(matrix):
    "A bank of three tasks that knows pixels."
    store = matrix.source_store
    plan = plan_pairs(store, TASKS, "train", 6)
    return Known(PixelEncoder(), Embeddings(plan, dict(taco=embed(PixelEncoder(), store, plan))))


def outcome_rows(score) -> pd.DataFrame:
    cells = [(s, f"{t}@set{i}", score(s, t)) for i, t in enumerate(TASKS * 3) for s in SOURCES]
    table = pd.DataFrame(cells, columns=["source", "target", "score"])
    return table.assign(seed=0, steps=80, metric="psnr", scratch=20., all_labels=24., tested=4)


def asked(matrix) -> tuple:
    plan = problem_plan(matrix.source_store, Problem("outpainting", "promise12"), "train", 5)
    return problem_pictures(matrix.source_store, plan, 64)


def advice(matrix, known, score, **more):
    table = outcome_rows(score)
    said = {"taco": table.pivot(index="source", columns="target", values="score").rank()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three tasks are few
        return recommend(asked(matrix), known, table, said, **more)


def test_the_likest_source_stands_first_where_all_are_as_good_for_others(matrix, known):
    found = advice(matrix, known, lambda s, t: 22. + s.startswith(t))
    assert found.table["source"][0] == "outpainting@radiology" and "the nearest" in found.table["reason"][0]
    assert found.verdict.startswith("Begin with outpainting@radiology") and len(found.table) == 4


def test_nothing_is_recommended_where_nothing_helped(matrix, known):
    found = advice(matrix, known, lambda s, t: 19. - s.startswith(t), most=2)
    assert found.verdict.startswith("No recommendation") and len(found.table) == 2
    assert (found.table["gain"] < 0).all() and (found.table["helped"] == 0).all()


def test_a_source_that_the_bank_does_not_hold_is_ranked_by_what_it_did_for_others(known):
    bank = known.bank
    guess = map_guess(bank["taco"], bank.table, bank["taco"][:3], [*SOURCES, "centreline@radiology"])
    assert np.isnan(guess["centreline@radiology"]) and guess[SOURCES].notna().all()
    gain = pd.DataFrame(np.tile(np.linspace(0, 1, 5)[:, None], (1, 5)), guess.index, list("abcde"))
    table = recommended(guess, Precedents(gain, gain)).table.set_index("source")
    assert "not on this map" in table.loc["centreline@radiology", "reason"]


def two_kinds(noise: float = .2, sets: int = 12) -> Precedents:
    "Twelve targets of two kinds, which turn the order of sources about; the map tells them apart."
    rng = np.random.default_rng(3)
    names, targets = [f"s{i}" for i in range(8)], [f"t{i}@d{i % sets}" for i in range(12)]
    truth = np.linspace(-1, 1, 8)[:, None] * np.repeat([1, -1], 6)
    draw = lambda: pd.DataFrame(truth + noise * rng.normal(size=truth.shape), names, targets)
    return Precedents(draw(), draw())


def missed(known: Precedents) -> float:
    return np.mean([np.abs(t.gained - t.expected).mean() for t in known.trials])


def test_gains_are_expected_from_targets_that_lie_alike():
    known = two_kinds()
    for target, best in (("t0@d0", "s7"), ("t11@d11", "s0")):
        found = recommended(known.seen[target], known)
        assert found.table["source"][0] == best and found.verdict.startswith(f"Begin with {best}")
        assert known.asked(known.seen[target])[1] == target and f"Most like it is {target}" in found.verdict
    assert missed(known) < .4 * missed(Precedents(known.gain))


@pytest.mark.parametrize("sets", [12, 6])
def test_what_is_expected_of_a_target_does_not_know_its_own_outcome_or_that_of_its_images(sets):
    known = two_kinds(sets=sets)
    own = [t for t in known.gain if t.endswith("@d0")]
    other = known.gain.copy()
    other[own] *= -7
    changed = Precedents(other, known.seen)
    assert len(own) == 12 // sets and np.allclose(known.trials[0].expected, changed.trials[0].expected)
    assert not np.allclose(known.trials[1].expected, changed.trials[1].expected)  # of another target
    for guess in (known.seen, -known.seen):
        assert np.allclose(alike(guess, known.gain)[own[0]], alike(guess, other)[own[0]])


@pytest.mark.long
def test_a_range_holds_one_more_target_of_the_kind_as_often_as_is_said():
    rng, inside = np.random.default_rng(9), []
    truth = np.linspace(-1, 1, 8)[:, None] * np.ones(10)
    for _ in range(150):
        gain, seen = (pd.DataFrame(truth + .3 * rng.normal(size=truth.shape), [f"s{i}" for i in range(8)],
                                   [f"t@d{i}" for i in range(10)]) for _ in range(2))
        row = recommended(seen["t@d9"], Precedents(gain.iloc[:, :9], seen.iloc[:, :9])).table.iloc[0]
        inside.append(row["low"] < gain["t@d9"][row["source"]] < row["high"])
    assert .72 < np.mean(inside) < .92  # 0.8 from nine targets


def test_a_target_that_is_like_none_gets_the_mean_and_no_promise():
    known = two_kinds()
    across = pd.Series([1., -1, 1, -1, -1, 1, -1, 1], known.gain.index)
    found, plain = (recommended(across, k) for k in (known, Precedents(known.gain)))
    assert "None of the 12 measured targets" in found.verdict and "nobody has seen" in found.verdict
    assert "Nothing is known" in plain.verdict and plain.table["low"].notna().all()
    assert found.table["gain"].equals(plain.table["gain"]) and found.table["helped"].isna().all()


def test_a_correlation_needs_sources_enough_and_a_profile_that_is_not_flat():
    known = two_kinds()
    few = known.seen["t0@d0"].where(np.arange(8) < 3)
    for likeness in (few, pd.Series(.4, known.gain.index), pd.Series(np.nan, known.gain.index)):
        assert known.asked(likeness)[1] is None
        assert known.asked(likeness)[0].equals(Precedents(known.gain).asked(likeness)[0])
    with pytest.raises(ParameterError): recommended(few, known, most=0)


def test_one_target_says_nothing_of_another():
    one = Precedents(pd.DataFrame({"t@d": [.1, .2]}, ["a", "b"]))
    with pytest.raises(TacoError, match="one target says nothing"):
        recommended(pd.Series([1., 2], ["a", "b"]), one)


def test_a_run_without_the_sources_is_refused(matrix, known):
    table = outcome_rows(lambda s, t: 22. + s.startswith(t))
    table["source"] = table["source"].replace(dict.fromkeys(SOURCES, "centreline@radiology"))
    table = table.drop_duplicates(["source", "target"])
    with pytest.raises(TacoError, match="holds none of the sources"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recommend(asked(matrix), known, table, {})


def test_a_card_is_asked_task_by_task(matrix, known):
    table = outcome_rows(lambda s, t: 22. + s.startswith(t))
    said = {"taco": table.pivot(index="source", columns="target", values="score").rank()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = recommend_for_card("yeaz", "deblurring", known, count=4, outcomes=table, guesses=said)
        with pytest.raises(TaskError): recommend_for_card("yeaz", "multi_class_segmentation", known, count=4)
    assert list(found) == ["deblurring"]


def test_the_command_wants_a_folder_or_a_card():
    for words in ([], ["somewhere", "--card", "yeaz"]):
        found = CliRunner().invoke(app, ["recommend", *words])
        assert isinstance(found.exception, ParameterError) and found.exception.field == "folder, --card"


def test_ours_uses_the_map_in_every_combination():
    found = candidates(["taco", "taco-kl", "prior", "linear", "pixels", "random"])
    assert ("prior", "linear") not in found and ("taco", "prior", "linear") in found
    assert all({"taco", "taco-kl"} & set(some) and len(some) <= 3 for some in found)


def test_a_report_has_every_rival_and_says_what_is_too_noisy():
    rng = np.random.default_rng(0)
    targets = ["centreline@dca1", "deblurring@usforkidney", "boundary_detection@nuset", "inpainting@yeaz"]
    sources = [f"{t}@radiology" for t in ("shear", "scaling", "deblurring", "inpainting", "despeckling", "centreline")]
    truth = pd.DataFrame(rng.normal(size=(6, 4)), sources, targets)
    rows = [dict(source=s, target=t, seed=k, steps=n, metric="psnr", scratch=20., all_labels=24.,
                 score=22 + truth.loc[s, t] + .1 * rng.normal())
            for s in sources for t in targets for k in range(3) for n in (10, 40)]
    noisy = lambda much: pd.DataFrame(truth + much * rng.normal(size=truth.shape), sources, targets)
    found = report(pd.DataFrame(rows), {"taco": noisy(.2), "taco-kl": noisy(3), "pixels": noisy(9)}, 40)
    metrics = transfer_metrics(found, "phantom", 3)
    wanted = "reliability tau tau_centred ceiling percentile3 regret3 worse_than_scratch tau_prior tau_minus_prior "
    wanted += "tau_pixels tau_minus_pixels tau_taco_kl regret3_at_random"
    assert {f"transfer_{name}" for name in wanted.split()} <= set(metrics)
    assert metrics["transfer_tau_minus_pixels"]["value"] == pytest.approx(
        metrics["transfer_tau"]["value"] - metrics["transfer_tau_pixels"]["value"])
    assert "worth predicting" in verdict(found)[0] and set(found.chosen) == {"radiology", "microscopy and photography"}
    shuffled = pd.DataFrame(rows).assign(score=22 + rng.normal(size=len(rows)))
    assert "too noisy" in verdict(report(shuffled, {"taco": noisy(.2)}, 40))[0]


def test_groups_by_the_map_and_by_chance():
    likeness = np.kron(np.eye(3), np.ones((2, 2))) + .01
    names = list("abcdef")
    found = groups_by_map(likeness, names, 3)
    assert found == (("a", "b"), ("c", "d"), ("e", "f"))
    assert groups_by_map(likeness, names, 6) == tuple((n,) for n in names)
    drawn = {groups_by_chance(found, seed) for seed in range(5)}
    assert len(drawn) > 1 and all(sorted(sum(groups, ())) == names for groups in drawn)
    with pytest.raises(ParameterError): groups_by_map(likeness, names, 7)


def test_a_group_is_learnt_once_and_differences_are_paired(folders, tmp_path):
    family = Family(("gaussian_denoising", "deblurring"), "nuset", (folders["nuset"],),
                    Course(16, (4, 8), pairs=6, source_steps=3))
    alone = tuple((task,) for task in family.tasks)
    divisions = dict(map=(("deblurring", "gaussian_denoising"),), all=(family.tasks,), alone=alone)
    table = compare_groups(family, divisions, [0, 1], tmp_path)
    assert len(table) == 12 and len(list((tmp_path / "groups").iterdir())) == 6  # together, and each alone; two seeds
    value, _ = group_gains(table)["all"]
    assert value == 0 and group_file(family.tasks, 0, tmp_path).exists()
    with pytest.raises(TacoError, match="restorations"):
        compare_groups(Family(("shear",), "nuset", (folders["nuset"],)), divisions, [0], tmp_path)


@pytest.mark.long
def test_what_comes_with_the_package_is_what_was_published(root):
    published = json.loads((root / "figures/quick/metrics.json").read_text())
    outcomes, guesses = shipped("outcomes.csv"), shipped_guesses()
    found = transfer_metrics(report(outcomes, guesses, int(outcomes["steps"].max())), "phantom", 3)
    for name in ("transfer_tau", "transfer_reliability", "transfer_tau_random", "transfer_tau_prior"):
        assert found[name]["value"] == pytest.approx(published[name]["value"], abs=.02), name
    known = precedents(outcomes, guesses)
    assert known.gain.shape == (8, 6) and missed(known) < .3


@pytest.mark.filterwarnings("ignore:This encoder's bank knows")
def test_own_outcomes_need_no_guesses_of_ours_and_incomplete_ones_are_refused(matrix, known):
    own = outcome_rows(lambda source, task: 20. + SOURCES.index(source))
    alone = recommend(asked(matrix), known, outcomes=own)
    assert set(alone.table["source"]) == set(SOURCES)
    assert np.isfinite(alone.table[["gain", "low", "high"]]).all(axis=None)
    part = dict(taco=pd.DataFrame(1., SOURCES[:2], own["target"].unique()))
    with pytest.raises(TacoError, match="all sources and targets"):
        recommend(asked(matrix), known, outcomes=own, guesses=part)


def test_cells_that_were_not_measured_weigh_nothing():
    known = two_kinds()
    holed = known.gain.copy()
    holed.iloc[7, 1] = np.nan
    whole, less = (Precedents(g, known.seen).asked(known.seen["t0@d0"])[0] for g in (known.gain, holed))
    assert np.isfinite(less).all() and less.drop("s7").equals(whole.drop("s7")) and abs(less["s7"] - whole["s7"]) < .2
    assert np.isfinite(recommended(known.seen["t0@d0"], Precedents(holed, known.seen)).table["low"]).all()
    holed.iloc[7] = np.nan
    never = Precedents(holed, known.seen).asked(known.seen["t0@d0"])[0]
    assert never["s7"] == pytest.approx(never.drop("s7").mean())


def test_the_same_choice_without_the_map_is_judged_beside_ours():
    rng = np.random.default_rng(21)
    targets = [f"deblurring@{name}" for name in ("usforkidney", "fhpsaop", "nuset", "yeaz")]
    sources = [f"source{i}" for i in range(9)]
    truth = pd.DataFrame(rng.normal(size=(9, 4)), sources, targets)
    rows = [dict(source=s, target=t, seed=k, steps=40, metric="psnr", scratch=20., all_labels=24., tested=4,
                 score=20 + truth.loc[s, t] + .1 * rng.normal()) for s in sources for t in targets for k in (0, 1)]
    noise = lambda: pd.DataFrame(rng.normal(size=(9, 4)), sources, targets)
    found = report(pd.DataFrame(rows), {"taco": truth, "random": noise(), "manual": noise()}, 40)
    assert found.judged["ours"]["tau"].mean() > .8 > .5 > found.judged["theirs"]["tau"].mean()
    numbers = transfer_metrics(found, "phantom", 2)
    assert numbers["transfer_tau_minus_theirs"]["value"] > .3 and numbers["transfer_by_chance_taco"]["value"] < .02
    assert "theirs" not in report(pd.DataFrame(rows), {"taco": truth}, 40).judged


def test_places_go_from_the_worst_guess_to_the_best():
    assert places(pd.DataFrame(dict(a=[3., 1, 2], b=[1., 1, 4]))).tolist() == [[1, .25], [0, .25], [.5, 1]]


def measured(of_map: float, of_all: float, tasks: str = "abcd") -> pd.DataFrame:
    "What networks of the map's groups and one for all came to, the same for each task."
    rows = [dict(division=d, task=t, seed=0, psnr=v) for d, v in (("map", of_map), ("all", of_all)) for t in tasks]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("of_map, of_all, begin", [(21., 20., "Learn each group"), (20., 21., "Learn all"),
                                                   (20., 20., "One network or several")])
def test_whether_groups_are_worth_it_is_measured(of_map, of_all, begin):
    sentence = worth_grouping(measured(of_map, of_all))
    assert sentence.startswith(begin) and f"{of_map - of_all:+.2f} dB" in sentence and "of 4 restorations" in sentence


def test_tasks_are_divided_by_the_map(known):
    bank = known.bank
    far = np.zeros((len(bank), 2), np.float32)
    far[:, 0] = bank.table["task"].isin(["shear", "despeckling"])
    far[:, 1] = 1 - far[:, 0]
    two = Known(known.encoder, Embeddings(bank.table, dict(taco=far)))
    found = together(None, two, 2, measured(20., 21.))
    assert {frozenset(g) for g in found.groups} == {frozenset(["shear", "despeckling"]),
                                                    frozenset(["intensity_inversion", "outpainting"])}
    assert str(found).startswith("Learn all") and "shear" in str(found)
    some = together(["shear", "shear", "outpainting"], two, 2, measured(20., 21.))
    assert sorted(some.groups) == [("outpainting",), ("shear",)]
    with pytest.raises(ParameterError, match="despeckling"): together(["despekling"], two)
    with pytest.raises(ParameterError, match="So many groups"): together(["shear"], two, 2)


def test_what_was_measured_of_groups_comes_with_the_package():
    table = shipped("groups.csv")
    assert {"map", "all", "alone"} <= set(table["division"]) and table["task"].nunique() >= 8
    assert "restorations" in worth_grouping(table)
