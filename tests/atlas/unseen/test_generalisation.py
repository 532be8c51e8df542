"Datasets never seen, tasks never seen, and compositions."
import numpy as np
import pandas as pd
import pytest
import torch

from taco.atlas.embedding import embed, plan_pairs
from taco.atlas.intervals import bootstrap_mean, resampling_units
from taco.atlas.neighbours import weighted_knn
from taco.atlas.rivals.baselines import PixelEncoder
from taco.atlas.task_similarity import centroids
from taco.atlas.unseen.generalisation import (
    accuracy_by_dataset,
    answer_tasks,
    ask_newcomers,
    compose,
    family_of_nearest,
    newcomers,
    place_compositions,
    placed_by_parts,
    seen_and_unseen,
    share_right,
)
from taco.base import TacoError, TaskError
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("busi", "kvasir", subjects=8)


def test_a_composition_is_the_second_task_of_the_first_ones_output(store):
    records, seeds = store.select(split="train", needs={"semantic"})[:3], torch.arange(3)
    input, output = compose("binary_segmentation", "horizontal_flip", store, records, seeds)
    same, mask = get_task("binary_segmentation")(store.batch(records), seeds=seeds)
    assert torch.equal(input, same) and torch.allclose(output, mask.flip(-1), atol=1e-5)
    for second in ("deblurring", "binary_segmentation"):
        with pytest.raises(TaskError, match="any picture"):
            compose("horizontal_flip", second, store, records, seeds)


def test_newcomers_and_parts_by_hand():
    vectors, labels = (
        np.eye(3)[[0, 0, 1, 2]],
        np.array(["horizontal_flip", "shear", "deblurring", "inpainting"]),
    )
    near = newcomers(vectors, labels, ["shear"], ["horizontal_flip", "deblurring", "inpainting"])
    assert near.loc["shear"].tolist() == [1, 0, 0] and family_of_nearest(near).loc[
        "shear"
    ].tolist() == ["horizontal_flip", 1.0, True]
    parts = placed_by_parts(np.array([[.8, 0, .6]]), ("a", "b"), np.eye(3), ["a", "b", "c"])
    assert (
        parts["other"] == 0.6
        and parts["nearest_other"] == "c"
        and parts["rank_first"] == 1
        and parts["rank_second"] == 3
    )


def test_datasets_are_counted_over_their_subjects():
    about = dict(source="phantom", modality="CT", task="shear", record=range(6))
    queries = pd.DataFrame(dict(dataset=list("aaaabb"), subject=list("xxyyzz"), **about))
    right = np.array([True, True, True, False, True, False])
    table = accuracy_by_dataset(queries, right, 50).set_index("dataset")
    assert table.loc["a", "value"] == .75 and table.loc["b", "value"] == .5
    assert (table.loc["a", "low"], table.loc["a", "high"]) == bootstrap_mean(
        right[:4], list("xxyy"), 50
    )[1]
    assert table.loc["b", ["low", "high"]].isna().all(), "one subject says nothing about others"
    assert table.loc["a", ["tasks", "pairs", "images", "subjects"]].tolist() == [1, 4, 4, 2]


def test_answers_are_votes_of_the_training_pairs(store):
    plans = {
        s: plan_pairs(store, ["deblurring", "intensity_inversion"], s, 5) for s in ("train", "test")
    }
    right, vectors = answer_tasks(PixelEncoder(), store, plans, k=1000)
    assert np.array_equal(vectors["test"], embed(PixelEncoder(), store, plans["test"]))
    guess = weighted_knn(
        vectors["train"], plans["train"]["task"], vectors["test"], len(plans["train"])
    )
    assert np.array_equal(right, guess == plans["test"]["task"])


def test_compositions_draw_as_the_experiment_did(store):
    "The loop as it stood in the experiment, draw by draw."
    bank = plan_pairs(
        store, tasks := ["horizontal_flip", "brightness_change", "deblurring", "shear"], "train", 3
    )
    centres = centroids(embed(PixelEncoder(), store, bank), bank["task"].to_numpy(), tasks)
    names, pairs, seed = ["horizontal_flip+brightness_change", "deblurring+horizontal_flip"], 5, 3
    found = place_compositions(PixelEncoder(), store, names, centres, tasks, pairs, seed)
    rng = np.random.default_rng(seed)
    for name, (title, row) in zip(names, found.iterrows()):
        first, second = name.split("+")
        able = plan_pairs(store, [first], "test", -(-pairs // len(store.datasets)) + 1, seed)
        records = able["record"].to_numpy()[rng.permutation(len(able))[:pairs]]
        made = compose(
            first, second, store, records, torch.from_numpy(rng.integers(0, 2**30, len(records)))
        )
        with torch.inference_mode(): vectors = PixelEncoder()(*made)[1].numpy()
        for key, value in placed_by_parts(vectors, (first, second), centres, tasks).items():
            assert row[key] == value
        assert title == f"{get_task(first).title}\n+ {get_task(second).title}"
        assert (row["name"], row["pairs"], row["kinds"]) == (name, len(records), "phantom")


def test_shares_are_drawn_over_subjects_and_say_what_they_count():
    about = dict(modality="CT", task="shear", record=range(6))
    queries = pd.DataFrame(dict(dataset=list("aaaabb"), source=["phantom"] * 4 + ["real"] * 2, subject=list("xxyyxx"),
                                **about))
    right = np.array([True, True, True, False, True, False])
    value, interval, said = share_right(queries, right, 50, ("datasets", "images", "subjects"))
    assert (value, interval) == bootstrap_mean(right, resampling_units(queries, "subject"), 50)
    assert said == dict(n=6, seeds=1, data="phantom+real", datasets=2, images=6, subjects=3)
    groups = seen_and_unseen(queries, right, {"a"}, 50)
    assert list(groups) == ["seen", "unseen", "unseen_real"], "no group without pairs"
    assert groups["seen"][0] == .75 and groups["unseen"] == groups["unseen_real"]
    assert groups["unseen"][2] == dict(n=2, seeds=1, data="real", datasets=1, modalities=1)


def test_newcomers_are_asked_of_every_encoder(store):
    tasks, without = ["deblurring", "intensity_inversion", "shear"], ["shear", "centreline"]
    plans = {split: plan_pairs(store, tasks, split, 4) for split in ("train", "test")}
    encoders = {"": PixelEncoder(8), "_pixels": PixelEncoder()}
    found, near = ask_newcomers(encoders, without, store, plans, k=5, draws=50)
    assert near.index.tolist() == ["shear"], "a task without pairs is nobody's neighbour"
    assert near.columns.tolist() == [t for t in ALL_TASKS if t in tasks[:2]]
    assert list(found) == [f"{part}_tasks{e}" for part in ("unseen", "seen") for e in encoders] + [
        "unseen_tasks_same_family"]
    right, vectors = answer_tasks(PixelEncoder(), store, plans, 5)
    queries, rows = plans["test"], (plans["test"]["task"] == "shear").to_numpy()
    expected = bootstrap_mean(right[rows], resampling_units(queries[rows], "subject"), 50)
    assert found["unseen_tasks_pixels"][:2] == expected
    small = answer_tasks(PixelEncoder(8), store, plans, 5)[1]["test"]
    assert np.array_equal(near, newcomers(small, queries["task"].to_numpy(), ["shear"], list(near.columns)))
    with pytest.raises(TacoError, match="trained on all tasks"): ask_newcomers(encoders, [], store, plans)
