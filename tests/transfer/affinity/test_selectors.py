"Rivals of the map: each against a slow or known answer."
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize
from scipy.stats import multivariate_normal, wasserstein_distance

from taco.atlas.rivals.baselines import PixelEncoder
from taco.base import ParameterError
from taco.data.card import load_card
from taco.tasks.catalogue import ALL_TASKS
from taco.transfer.affinity.network import Course, Translator
from taco.transfer.affinity.probes import FROZEN, fisher, fisher_likeness, frozen_measures, logme, pixel_features
from taco.transfer.affinity.problems import problem_plan
from taco.transfer.affinity.selectors import (
    binned_kl,
    by_dimension,
    clouds_of,
    frechet,
    select_by_clouds,
    select_by_names,
    select_by_networks,
    select_by_tasks,
    selector_look,
    shares_of_neighbours,
    transport,
    write_guesses,
)


def test_logme_is_the_best_evidence_of_a_bayesian_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    y = x[:, :1] + .5 * rng.normal(size=(40, 1))
    x, y = x - x.mean(0), y - y.mean(0)
    def minus_evidence(logs):
        alpha, beta = np.exp(logs)
        return -multivariate_normal(np.zeros(40), x @ x.T / alpha + np.eye(40) / beta).logpdf(y[:, 0]) / 40
    best = optimize.minimize(minus_evidence, [0., 0.], method="Nelder-Mead")
    assert logme(x, y) == pytest.approx(-best.fun, abs=2e-3)


def test_the_last_features_are_those_that_the_colours_are_made_of():
    model = Translator(Course(16, (4, 8))).eval()
    x = torch.rand(2, 3, 16, 16)
    features = pixel_features(model, x)
    assert features.shape == (2, 4 + 8 + 4, 16, 16)
    with torch.inference_mode(): assert torch.allclose(model.decoder.final(features[:, -4:]), model(x), atol=1e-5)


def test_frozen_measures_like_features_that_know_the_answer():
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = Translator(Course(16, (4, 8)))
    near, far = frozen_measures(model, (x, x)), frozen_measures(model, (x, torch.rand_like(x)))
    assert list(near) == list(FROZEN) and all(near[name] > far[name] for name in FROZEN)


def test_fisher_information_by_hand():
    probe = Translator(Course(16, (4, 8))).eval()
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = fisher(probe, (x, x))
    weight = probe.encoder.stages[0].conv_0.conv.weight
    squares = []
    for one in x.split(1):
        probe.zero_grad()
        probe.loss((one, one), 0).backward()
        squares.append(weight.grad.square().flatten(1).mean(1))
    assert np.allclose(found[:4], torch.stack(squares).mean(0), rtol=1e-4)
    assert fisher_likeness(found, found) == pytest.approx(1) and fisher_likeness(found, found[::-1].copy()) < 1


def test_comparisons_of_two_clouds():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(500, 4)), rng.normal(size=(500, 4)) + 5
    assert frechet(a, a) == 0 > frechet(a, b) and binned_kl(a, a) == 0 > binned_kl(a, b)
    assert transport(a, a) == by_dimension(a, a) == 0 > transport(a, b) > -5.5 * 2 and by_dimension(a, b) < -4.5
    near = np.concatenate([a[:30], b[:10]])
    assert shares_of_neighbours([a, b], near).tolist() == [.75, .25]
    assert shares_of_neighbours([a, b[:100]], near).sum() == pytest.approx(1)  # as many of each are asked


def test_transport_is_the_best_of_all_assignments():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    every = [np.mean([np.linalg.norm(a[i] - b[j]) for i, j in enumerate(p)]) for p in permutations(range(5))]
    assert transport(a, b) == pytest.approx(-min(every))
    assert transport(np.repeat(a, 4, 0), a) == pytest.approx(0)  # of the larger one, points from all of it


def test_dimensions_are_compared_as_distributions():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(400, 3)), 2 * rng.normal(size=(300, 3)) + 1
    by_scipy = np.mean([wasserstein_distance(x, y) for x, y in zip(a.T, b.T)])
    assert by_dimension(a, b) == pytest.approx(-by_scipy, rel=.05)


def test_clouds_hold_the_pairs_that_fine_tuning_gets_and_no_test_image(matrix):
    sources, targets = clouds_of(matrix, [0, 1], dict(pixels=PixelEncoder()), "plain", most=6)
    assert set(sources["pixels"]) == {s.name for s in matrix.sources}
    assert {v.shape[0] for v in targets["pixels"].values()} == {matrix.course.labelled}


def test_every_selector_fills_the_same_table(matrix, measured, tmp_path):
    tables = select_by_clouds(matrix, [0, 1], dict(pixels=PixelEncoder()), "hidden")
    tables |= select_by_networks(matrix, [0, 1], measured) | select_by_names(matrix)
    tables["left-out"] = select_by_tasks(matrix, np.random.default_rng(3).random((30, 30)))
    ways = {"pixels", "pixels-kl", "pixels-share", "pixels-fid", "pixels-ot", "pixels-dna"}
    assert {*ways, "task2vec", "manual", "anatomy", "size", *FROZEN} <= set(tables)
    for name, table in tables.items():
        assert list(table.index) == [s.name for s in matrix.sources], name
        assert list(table) == [t.name for t in matrix.targets] and np.isfinite(table).all(axis=None), name
        assert selector_look(name).title
    write_guesses(tables, tmp_path / "guesses.csv")
    back = pd.read_csv(tmp_path / "guesses.csv")
    assert len(back) == len(tables) * 4 and set(back["selector"]) == set(tables)


def test_names_say_what_a_person_would(matrix):
    said = select_by_names(matrix)["manual"]
    denoising, inversion = (s.name for s in matrix.sources)
    assert said.loc[denoising].tolist() == [0, 2] and said.loc[inversion].tolist() == [1, 0]


def test_a_matrix_of_other_tasks_is_refused(matrix):
    with pytest.raises(ParameterError, match="30 × 30"): select_by_tasks(matrix, np.zeros((3, 3)))
    assert len(ALL_TASKS) == 30


def test_cards_say_what_body_and_modality_a_source_shows(matrix):
    said = select_by_names(matrix)["anatomy"]
    assert ((said >= 0) & (said <= 2)).all(axis=None)
    own = load_card(matrix.targets[0].images)
    plan = problem_plan(matrix.source_store, matrix.sources[0], "train", 10**9)
    anatomy = [load_card(name).anatomy == own.anatomy for name in plan["dataset"]]
    alike = anatomy + [word in own.modality for word in plan["modality"]]
    assert said.iloc[0, 0] == pytest.approx(2 * np.mean(alike))


def test_selectors_are_called_as_other_figures_call_encoders():
    titles = [selector_look(n).title for n in ("random", "taco_features-kl", "taco_dataset", "statistics-dna")]
    assert titles == ["random weights; centroids", "TaCo, features; binned KL", "TaCo, task + dataset; centroids",
                      "statistics; by dimension"]
    assert [selector_look(n).kind for n in ("taco_features", "taco_dataset-ot", "random")] == ["map", "map", "rival"]
