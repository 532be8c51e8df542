"Guesses against outcomes: ties, noise, static lists, and combinations that are chosen elsewhere."
import numpy as np
import pandas as pd
import pytest
from scipy.stats import weightedtau

from taco.base import TacoError
from taco.transfer.affinity.judge import (
    USES,
    alike,
    broken_tau,
    by_chance,
    ceiling,
    ceilings,
    centred,
    chosen_elsewhere,
    gain_table,
    gains,
    judge,
    over_targets,
    reliability,
    source_prior,
    static_list,
    uses,
)

SOURCES = [f"s{i}" for i in range(14)]
TARGETS = [f"t{i}@d{i // 2}" for i in range(8)]


def table(values) -> pd.DataFrame: return pd.DataFrame(values, SOURCES, TARGETS)


def outcomes(truth: pd.DataFrame, noise: float, seeds: int = 5, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [dict(source=s, target=t, seed=k, steps=n, metric="psnr", scratch=20., all_labels=24.,
                 score=20 + 4 * (truth.loc[s, t] + noise * rng.normal()))
            for s in SOURCES for t in TARGETS for k in range(seeds) for n in (10, 40)]
    return pd.DataFrame(rows)


def test_tau_is_scipys_where_nothing_ties_and_zero_where_a_guess_says_nothing():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=(2, 9))
        assert broken_tau(a, b) == pytest.approx(weightedtau(a, b).statistic)
    outcome = np.repeat([1., 0.], [9, 3])
    assert abs(np.mean([broken_tau(np.zeros(12), outcome, 5, seed) for seed in range(300)])) < .04
    assert np.mean([weightedtau(rng.permutation(12.0 * np.arange(12)), outcome).statistic for _ in range(500)]) > .05


def test_ties_are_broken_alike_whatever_order_sources_stand_in():
    rng = np.random.default_rng(1)
    guess, outcome = np.array([1., 1, 0, 0, 2, 2, 1, 0]), rng.normal(size=8)
    order = rng.permutation(8)
    found = [broken_tau(g, o, 4000) for g, o in ((guess, outcome), (guess[order], outcome[order]))]
    assert found[0] == pytest.approx(found[1], abs=.03)


def test_gains_have_one_scale_a_target_and_targets_without_one_are_left_out():
    truth = table(np.random.default_rng(2).normal(size=(14, 8)))
    measured = outcomes(truth, 0)
    assert np.allclose(gain_table(measured, 40), truth)
    measured.loc[measured["target"] == TARGETS[0], "all_labels"] = 20.1  # helps by less than 0.3 dB
    assert list(gain_table(measured, 40)) == TARGETS[1:]
    with pytest.raises(TacoError, match="help no target"): gains(measured.assign(all_labels=19.), 40)


def test_a_centred_table_has_no_means():
    found = centred(table(np.random.default_rng(3).normal(size=(14, 8))))
    assert np.allclose(found.mean(axis=0), 0) and np.allclose(found.mean(axis=1), 0)


def test_a_static_list_knows_no_relations_and_leaving_out_a_target_does_not_let_it_seem_to():
    rng = np.random.default_rng(4)
    truth = table(rng.normal(size=(14, 1)) + rng.normal(size=(14, 8)))
    prior, listed = source_prior(truth), centred(static_list(truth))
    assert judge(prior, truth, listed)["tau"].mean() > .2
    assert abs(judge(prior, truth, listed)["tau_centred"].mean()) < .15
    assert judge(prior, truth)["tau_centred"].mean() < -.3  # the trap: a target's own outcome, turned round


def test_a_prior_knows_nothing_of_its_target_nor_of_another_on_the_same_images():
    truth = table(np.random.default_rng(5).normal(size=(14, 8)))
    before = source_prior(truth)
    changed = truth.copy()
    changed[[TARGETS[0], TARGETS[1]]] = np.random.default_rng(6).normal(size=(14, 2))  # both of d0
    after = source_prior(changed)
    assert before[TARGETS[0]].equals(after[TARGETS[0]]) and before[TARGETS[1]].equals(after[TARGETS[1]])
    assert not before[TARGETS[2]].equals(after[TARGETS[2]])


def test_uses_of_the_best_and_the_worst_guess():
    outcome = np.array([.9, .5, .1, 0, -.1, -.2, -.3, -.4])
    best, worst = uses(outcome, outcome), uses(-outcome, outcome)
    assert list(best) == list(USES) and best["regret3"] == 0 and best["percentile3"] == 1 and best["harm3"] == 0
    assert best["improvement1"] == pytest.approx(.9) and worst["harm3"] == 1 and worst["regret3"] > 1


def test_reliability_and_ceiling_fall_with_noise_and_the_ceiling_is_what_the_truth_reaches():
    truth = table(np.random.default_rng(7).normal(size=(14, 8)))
    levels = [outcomes(truth, noise) for noise in (.05, 1., 6.)]
    sure = [reliability(level, 40) for level in levels]
    tops = [ceiling(level, 40) for level in levels]
    assert sure[0] > .95 > sure[1] > .5 > sure[2] and tops[0] > .9 > tops[1] > tops[2]
    reached = judge(truth, gain_table(levels[1], 40))["tau"].mean()
    assert tops[1] == pytest.approx(reached, abs=.12)
    assert np.isnan(reliability(outcomes(truth, .1, seeds=1), 40))


def test_cells_without_an_outcome_do_not_count_and_guesses_must_speak_of_all_others():
    truth = table(np.random.default_rng(8).normal(size=(14, 8)))
    holes = truth.copy()
    holes.iloc[0, 0] = np.nan
    found = judge(truth, holes)
    assert np.allclose(found["tau"], 1)
    with pytest.raises(TacoError, match="no numbers"): judge(holes, truth)
    with pytest.raises(TacoError, match="all sources and targets"): judge(truth.drop(index="s3"), truth)


def test_a_combination_is_chosen_on_other_targets_only():
    rng = np.random.default_rng(9)
    truth = table(rng.normal(size=(14, 8)))
    left = TARGETS[:4]
    lucky = truth.copy()  # knows the targets of one group, and nothing of the other
    lucky[TARGETS[4:]] = rng.normal(size=(14, 4))
    fair = table(truth + .8 * rng.normal(size=(14, 8)))
    side = lambda target: "left" if target in left else "right"
    selectors = lambda o: dict(lucky=lucky[list(o)], fair=fair[list(o)], prior=source_prior(o))
    _, _, chosen = chosen_elsewhere(selectors, truth, side, [("lucky",), ("fair",)])
    assert chosen == dict(left=("fair",), right=("lucky",))
    with pytest.raises(TacoError, match="two groups"):
        chosen_elsewhere(selectors, truth, lambda target: "one", [("fair",)])


def test_intervals_draw_datasets_and_chance_is_near_one_for_noise():
    values = pd.Series([0., 0, 1, 1, 0, 0, 1, 1], TARGETS)  # two targets of a dataset are as one
    value, (low, high) = over_targets(values)
    alone = over_targets(values.set_axis([f"t{i}@e{i}" for i in range(8)]))[1]
    assert value == .5 and high - low > alone[1] - alone[0]
    rng = np.random.default_rng(10)
    truth = table(rng.normal(size=(14, 8)))
    assert by_chance(truth, truth, 40) == 1 / 41 and by_chance(table(rng.normal(size=(14, 8))), truth, 40) > .03


def test_levels_of_rows_and_columns_are_no_relations_even_where_cells_are_missing():
    "Guess and outcome share what belongs to columns, and nothing else; the diagonal was not measured."
    rng, found = np.random.default_rng(12), []
    for _ in range(20):
        columns, hole = rng.normal(size=8), np.eye(14, 8) == 1
        outcome, guess = (table(rng.normal(size=(14, 1)) + columns) for _ in range(2))
        assert centred(outcome.mask(hole)).abs().max().max() < 1e-6
        noise = table(rng.normal(size=(14, 8)))
        found.append(judge(guess, (outcome + noise).mask(hole))["tau_centred"].mean())
    assert abs(np.mean(found)) < .1


@pytest.mark.long
def test_two_combinations_side_by_side_know_no_relation_that_neither_knows():
    "Sources differ for targets of the left; there the list is part of the guess, on the right it is not."
    rng, found = np.random.default_rng(13), []
    side = lambda target: "left" if target in TARGETS[:4] else "right"
    for _ in range(40):
        truth, noise = table(rng.normal(size=(14, 8))), table(rng.normal(size=(14, 8)))
        truth[TARGETS[:4]] += 2 * rng.normal(size=(14, 1))
        selectors = lambda o, noise=noise: {"map": noise[list(o)], "prior": source_prior(o)}
        both, alone = (chosen_elsewhere(selectors, truth, side, [c]) for c in (("map", "prior"), ("map",)))
        columns = dict(left=both, right=alone)
        guess, apart = (pd.concat([columns[side(t)][i][t] for t in TARGETS], axis=1) for i in (0, 1))
        found.append(judge(guess, truth, apart)["tau_centred"].mean())
    assert abs(np.mean(found)) < .05


def test_one_seed_tells_nothing_of_noise():
    truth = table(np.random.default_rng(14).normal(size=(14, 8)))
    assert np.isnan(ceiling(outcomes(truth, .1, seeds=1), 40))
    two = outcomes(truth, .1, seeds=2)
    first = two["seed"] == 0
    two.loc[~first, "score"] = 20 - (two.loc[first, "score"].to_numpy() - 20)  # the second says the contrary
    assert reliability(two, 40) == -1


def test_a_ceiling_is_of_what_was_measured_and_by_seeds_of_its_own():
    rng = np.random.default_rng(4)
    table = outcomes(pd.DataFrame(rng.normal(size=(14, 8)), SOURCES, TARGETS), .8)
    tops = ceilings(table[(table["target"] != TARGETS[1]) | (table["seed"] == 0)], 40)
    assert np.isnan(tops[TARGETS[1]]) and tops.drop(TARGETS[1]).notna().all()
    noise = outcomes(pd.DataFrame(0., SOURCES, TARGETS), 1.)
    half = noise[(noise["target"] != TARGETS[0]) | noise["source"].isin(SOURCES[:5])]
    assert ceilings(half, 40)[TARGETS[0]] < .6  # what was not measured is no truth that is known


def test_of_one_target_nothing_is_known_by_others():
    rng = np.random.default_rng(5)
    one = pd.DataFrame({"x@1": rng.normal(size=6)}, list("abcdef"))
    assert (alike(one, one) == 0).all(axis=None)
    two = one.assign(**{"y@2": one["x@1"] + .1})
    assert np.allclose(alike(two, two)["x@1"], two["y@2"])
