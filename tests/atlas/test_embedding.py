"taco.atlas.embedding: the plan, the blocks, and what is kept."
import numpy as np
import pytest
import torch

from taco.atlas.embedding import (
    Embeddings,
    check_finite,
    embed,
    embed_blocks,
    embed_by,
    embed_splits,
    in_blocks,
    plan_pairs,
    task_parts,
    with_strangers,
)
from taco.base import StoreError, TacoError
from taco.data.store import Store
from taco.learning.encoder import EncoderConfig, PairEncoder

TWO = ["deblurring", "binary_segmentation"]


class Means(torch.nn.Module):
    "The mean colours of both images, as features and (normalised) as embedding."
    def forward(self, input, output):
        features = torch.cat([input.mean((2, 3)), output.mean((2, 3)), torch.ones(len(input), 1)], 1)
        return features, torch.nn.functional.normalize(features, dim=1)


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("monusac", "acdc", subjects=6)


def test_every_cell_of_the_plan_has_as_many_pairs(store):
    plan = plan_pairs(store, TWO, "train", per_cell=5)
    assert (plan.groupby(["task", "dataset"]).size() == 5).all() and plan["seed"].is_unique
    assert plan.equals(plan_pairs(store, TWO, "train", per_cell=5))
    scans = plan[(plan["dataset"] == "acdc") & (plan["task"] == "deblurring")]
    subjects = store.table[(store.table["dataset"] == "acdc") & (store.table["split"] == "train")]["subject"].nunique()
    assert scans["subject"].nunique() == min(5, subjects)
    with pytest.raises(TacoError, match="No record"): plan_pairs(store, [], "train")


def test_blocks_change_nothing(store):
    plan, told = plan_pairs(store, TWO, "train", per_cell=5), []
    whole = embed(Means(), store, plan, tick=told.append)
    assert np.array_equal(whole, embed(Means(), store, plan, block=3)) and sum(told) == len(plan)
    images = torch.rand(2, 11, 3, 8, 8)
    small = embed_blocks(Means(), in_blocks(*images, block=4), 11)
    assert np.allclose(small, embed_blocks(Means(), in_blocks(*images), 11), atol=1e-6)
    assert small.shape == (11, 7) and small.dtype == np.float32


def test_encoders_side_by_side_and_plans_in_parts_give_the_same_numbers(store):
    "To the last bit: the pairs are made once, each block is what it was."
    plan = plan_pairs(store, TWO, "train", per_cell=5)
    encoders, told = dict(means=Means(), net=PairEncoder(EncoderConfig("resnet10", width=.25, size=32))), []
    alone = {name: embed(encoder, store, plan, block=4) for name, encoder in encoders.items()}
    both = embed_by(encoders, store, plan, block=4, tick=told.append)
    assert list(both) == list(encoders) and sum(told) == len(plan)
    for name in encoders: assert np.array_equal(both[name], alone[name])
    parts = task_parts(plan, 5)
    assert len(parts) == len(TWO) and sorted(np.concatenate(parts)) == list(range(len(plan)))
    for rows in parts:
        found = embed_by(encoders, store, plan.iloc[rows], block=4)
        for name in encoders: assert np.array_equal(found[name], alone[name][rows])


def test_what_is_no_embedding_is_refused(store):
    class Broken(Means):
        def forward(self, input, output): return tuple(t * float("nan") for t in super().forward(input, output))
    with pytest.raises(TacoError, match="not numbers"): embed(Broken(), store, plan_pairs(store, TWO, "train", 2))
    with pytest.raises(TacoError, match="no pairs"): embed_blocks(Means(), [], 0)
    with pytest.raises(TacoError, match="1 of 2 pairs"): check_finite(np.array([[1, 0], [np.inf, 0]]), "pairs")


def test_splits_and_encoders_share_one_table(store, tmp_path):
    both = embed_splits(dict(a=Means(), b=Means()), store, TWO, per_cell=3)
    assert len(both) == 2 * 2 * 2 * 3 and np.array_equal(both["a"], both["b"])
    both.save(tmp_path / "e")
    again = Embeddings.load(tmp_path / "e")
    assert again.table["key"].tolist() == both.table["key"].tolist() and np.array_equal(again["b"], both["b"])
    np.save(tmp_path / "e" / "a.npy", both["a"][:3])
    with pytest.raises(StoreError, match="do not belong"): Embeddings.load(tmp_path / "e")
    with pytest.raises(StoreError, match="holds no embeddings"): Embeddings.load(tmp_path)
    with pytest.raises(TacoError, match="no such encoder"): both["c"]


def test_strangers_are_queries_behind_the_known_records(store):
    known, strange = (Store([folder]) for folder in store.folders)
    plans = [plan_pairs(known, TWO, split, 3, seed) for seed, split in enumerate(("train", "test"))]
    assert with_strangers(plans, None, known)["split"].value_counts().to_dict() == dict(train=6, test=6)
    joint = with_strangers(plans, plan_pairs(strange, TWO, "train", 3), known)
    assert (store.table["key"].to_numpy()[joint["record"]] == joint["key"]).all()
    assert set(joint["split"][joint["dataset"] == strange.datasets[0]]) == {"test"}
    with pytest.raises(StoreError, match="called unseen"): with_strangers(plans, plans[0], known)
