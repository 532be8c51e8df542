"What one picture tells: the rival finds what is there to be found, and little where traces are hidden."
import numpy as np
import pytest
import torch

from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS, TRANSFORMATION
from taco.tasks.leaks import image_statistics, share_told, statistics_of_pairs, told_by_one_picture


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    "Tasks × what is shown, by how tasks are made."
    out, found = tmp_path_factory.mktemp("stores"), {}
    names = ("acdc", "monusac", "drive", "kvasir", "mmwhs")
    store = Store.open([pack(n, out=out, size=48, source="phantom", subjects=12) for n in names])
    for traces in ("plain", "hidden"):
        bank, queries = (statistics_of_pairs(store, split, traces, n) for split, n in (("train", 60), ("test", 20)))
        found[traces] = share_told(told_by_one_picture(bank, queries))
    return found


def test_statistics_are_finite_and_of_each_picture_alone():
    pictures = torch.rand(5, 3, 33, 33, generator=torch.Generator().manual_seed(1))
    pictures[1], pictures[2] = 0, 1
    found = image_statistics(pictures)
    assert found.shape == (5, 46) and found.isfinite().all()
    assert torch.allclose(image_statistics(pictures[3:4])[0], found[3], atol=1e-4)
    assert not torch.allclose(image_statistics(pictures[:1]), image_statistics(pictures[:1] * .9))


def test_plain_tasks_are_told_by_single_pictures_and_hidden_ones_are_not(told):
    assert told["plain"].index.tolist() == told["hidden"].index.tolist() == list(ALL_TASKS)
    plain, hidden = (told[traces].mean() for traces in ("plain", "hidden"))
    assert plain["each alone"] > .65 and hidden["each alone"] < .5, (plain, hidden)
    assert hidden["input"] < .25 and hidden["output"] < .33
    moved = (told["plain"] - told["hidden"]).loc[list(TRANSFORMATION), "output"]
    assert moved.mean() > .3


def test_labels_that_mean_nothing_are_not_told():
    "The rival has no other source than the statistics."
    rng = np.random.default_rng(0)
    make = lambda n: (rng.normal(size=(n, 2, 46)), rng.choice(["a", "b", "c"], n))
    shares = share_told(told_by_one_picture(make(600), make(300)))
    assert shares.to_numpy().max() < .5
