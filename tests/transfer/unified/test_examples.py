"UMS-Rep: pixels are read when they are asked for, labels that fit, few labels, and folds without a subject in two."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import ParameterError, StoreError
from taco.data.pack import pack
from taco.data.store import Store
from taco.transfer.unified import examples as examples_chapter
from taco.transfer.unified.examples import (
    Examples,
    Pixels,
    choose_labelled,
    findings_of,
    fold_splits,
    read_examples,
    rows_by_split,
)
from taco.transfer.unified.targets import Target
from tests.transfer.unified.toys import TARGETS, montgomery_files

FILMS = [TARGETS[0], Target("lungs", "segmentation", 3), Target("tuberculosis", "classification", 2)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    made = dict(out=tmp_path_factory.mktemp("packed"), size=32, source="phantom")
    return [pack("montgomery", subjects=12, **made), pack("kvasir", subjects=4, **made)]


@pytest.fixture(scope="module")
def store(packed) -> Store: return Store.open(packed[:1])


class Counting:
    "A store whose pixels are their row's number; it writes down which rows were asked for."
    def __init__(self): self.asked = []

    def batch(self, rows):
        self.asked.append(list(rows))
        return torch.as_tensor(rows)


# ---------------------------------------------------------------- read when asked for

def test_pixels_are_read_only_when_they_are_asked_for():
    store = Counting()
    pixels = Pixels(store, [5, 6, 7, 8], lambda rows: rows * 10)
    some = pixels.take([3, 1]).take([1, 0, 0])
    assert len(pixels) == 4 and len(some) == 3 and not store.asked
    assert some[[0, 2]].tolist() == [60, 80] and store.asked == [[6, 8]]
    assert pixels[np.array([2])].tolist() == [70] and store.asked[1:] == [[7]]


def test_examples_of_a_store_read_what_a_batch_needs(store, monkeypatch):
    asked, batch = [], Store.batch
    monkeypatch.setattr(Store, "batch", lambda self, rows: asked.append(list(rows)) or batch(self, rows))
    films = read_examples(store, "train", FILMS)
    few = films.take([4, 2, 0])
    assert len(films) == 9 and len(few) == 3 and not asked
    assert few.labels["tuberculosis"].tolist() == films.labels["tuberculosis"][[4, 2, 0]].tolist() and not asked
    rows = store.select(split="train")
    assert few.clean([1, 2]).shape == (2, 1, 32, 32) and asked == [rows[[2, 0]].tolist()]
    assert few.labels["lungs"][[0]].shape == (1, 32, 32) and asked[1:] == [[rows[4]]]


def test_what_is_read_late_is_what_the_store_holds(store):
    rows = np.array([7, 2, 1, 0])
    films, batch = read_examples(store, rows, FILMS), store.batch(rows)
    assert torch.equal(films.image[range(4)], (batch.image[:, :1] * 255).round().to(torch.uint8))
    assert torch.equal(films.clean([1, 0]), batch.image[[1, 0], :1])
    assert torch.equal(films.labels["lungs"][range(4)], batch.semantic) and batch.semantic.max() == 2
    wanted = [int(store.attribute("tuberculosis")[row]) for row in rows]
    assert films.labels["tuberculosis"].tolist() == wanted and len(set(wanted)) == 2
    assert films.subject.tolist() == store.table["subject"][rows].tolist() and set(films.source) == {"phantom"}
    assert films.image.take([2])[[0]].equal(films.image[[2]]) and "denoising" not in films.labels


def test_foreground_makes_one_structure_of_all(store):
    lungs = [Target("lungs", "segmentation", 2)]
    each, one = read_examples(store, "train", FILMS), read_examples(store, "train", lungs, foreground=True)
    assert torch.equal(one.labels["lungs"][range(9)] > 0, each.labels["lungs"][range(9)] > 0)
    assert one.labels["lungs"][range(9)].unique().tolist() == [0, 1]


# ---------------------------------------------------------------- labels and channels that do not fit

def test_a_mask_beyond_the_outputs_is_refused_when_it_is_read(store):
    films = read_examples(store, "train", [Target("lungs", "segmentation", 2)])
    assert films.clean([0]).shape == (1, 1, 32, 32)
    with pytest.raises(StoreError, match=r"beyond the target's classes(.|\n)*lungs(.|\n)*0 … 1"):
        films.labels["lungs"][[0]]


def test_labels_and_channels_that_do_not_fit_are_named(store, packed, monkeypatch):
    both = Store.open(packed)
    with pytest.raises(StoreError, match="colour images"): read_examples(both, "train", TARGETS[:1])
    assert read_examples(both, "train", [], channels=3).clean([0]).shape == (1, 3, 32, 32)
    with pytest.raises(StoreError, match="attribute"):
        read_examples(store, "train", [Target("malignant", "classification", 2)])
    found = read_examples(store, "train", [TARGETS[2]], dict(finding="tuberculosis"))
    assert set(found.labels["finding"].tolist()) == {0, 1}
    for nothing in (np.empty(0, int), "test"):
        with monkeypatch.context() as patched, pytest.raises(StoreError, match="no such record"):
            patched.setattr(Store, "select", lambda self, split: np.empty(0, int))
            read_examples(store, nothing, [])
    monkeypatch.setattr(examples_chapter, "findings_of", lambda *_: torch.tensor([0, 2]))
    with pytest.raises(StoreError, match="beyond the target"): read_examples(store, "train", FILMS)


def test_what_is_not_known_of_a_finding_is_minus_one():
    store = SimpleNamespace(attribute=lambda name: pd.Series([1, None, float("nan"), 0, True], dtype=object))
    assert findings_of(store, "ill").tolist() == [1, -1, -1, 0, 1]
    assert findings_of(store, "ill", np.array([4, 1])).tolist() == [1, -1]


def test_the_original_montgomery_files_are_read_when_present(tmp_path):
    store = Store.open([pack("montgomery", root=montgomery_files(tmp_path), out=tmp_path / "packed", size=32)])
    films = read_examples(store, np.arange(12), FILMS)
    assert set(films.source) == {"real"} and films.labels["tuberculosis"].sum() == 6
    assert films.labels["lungs"][range(12)].unique().tolist() == [0, 1, 2] and films.clean([0]).std() > .1


# ---------------------------------------------------------------- few labels

def test_labelled_images_are_nested_balanced_and_of_distinct_subjects():
    labels, subjects = torch.tensor([0] * 30 + [1] * 10), np.array([f"s{i // 2}" for i in range(40)])
    blank = torch.zeros(40, 1, 4, 4, dtype=torch.uint8)
    several = Examples(blank, dict(finding=labels), subjects, np.array(["phantom"] * 40))
    chosen = {n: choose_labelled(several, n, "finding", seed=1) for n in (4, 8, 10)}
    assert set(chosen[4]) < set(chosen[8]) < set(chosen[10])
    for n, index in chosen.items():
        assert len(set(several.subject[index])) == n and abs(labels[index].float().mean() - .5) < .11
    assert sorted(choose_labelled(several, None)) == list(range(40))
    with pytest.raises(ParameterError, match="not as many"): choose_labelled(several, 41)


def test_another_take_is_another_choice_and_as_balanced(images):
    takes = [choose_labelled(images, 6, "finding", 0, take) for take in (0, 1, 2)]
    assert len({tuple(sorted(t)) for t in takes}) == 3
    for t in takes: assert images.labels["finding"][t].sum() == 3
    assert set(choose_labelled(images, 4, "finding", 0, 1)) < set(takes[1])


# ---------------------------------------------------------------- folds

WHO, ILL = np.repeat(np.arange(30), 3), np.repeat(np.arange(30) % 3 == 0, 3).astype(int)


def test_every_subject_is_tested_once_and_never_seen_before():
    divided = np.stack([fold_splits(WHO, ILL, 5, fold) for fold in range(5)])
    for split in ("test", "val"): assert ((divided == split).sum(0) == 1).all()
    for division in divided:
        assert set(division) == {"train", "val", "test"}
        each = [set(WHO[division == split]) for split in ("train", "val", "test")]
        assert sum(map(len, each)) == 30, "a subject with three images lies in one split"
        for split in ("train", "val", "test"): assert ILL[division == split].mean() == pytest.approx(1 / 3)


def test_another_seed_divides_in_another_way():
    one, same, other = (fold_splits(WHO, ILL, 5, 0, seed) for seed in (0, 0, 1))
    assert (one == same).all() and (one != other).any()


@pytest.mark.parametrize("folds, fold, word", [(2, 0, "folds"), (31, 0, "30, the number of subjects"), (5, 5, "0 … 4"),
                                               (5, -1, "no such fold")])
def test_impossible_folds_are_refused(folds, fold, word):
    with pytest.raises(ParameterError, match=word): fold_splits(WHO, ILL, folds, fold)


def test_more_folds_than_images_of_any_class_are_refused_by_name():
    with pytest.raises(ParameterError, match="folds"): fold_splits(np.arange(6), np.arange(6) % 2, 4, 0)


def test_rows_are_those_of_the_packing_or_of_a_fold(store):
    label, split = findings_of(store, "tuberculosis").numpy(), store.table["split"]
    packed = rows_by_split(store, label, None)
    assert {name: rows.tolist() for name, rows in packed.items()} == {
        name: np.flatnonzero(split == name).tolist() for name in ("train", "val", "test")}
    folded = [rows_by_split(store, label, 3, fold, seed=4) for fold in range(3)]
    assert sorted(np.concatenate([rows["test"] for rows in folded])) == list(range(12))
    for rows in folded: assert sorted(np.concatenate(list(rows.values()))) == list(range(12))


def test_a_subject_in_two_splits_is_refused():
    table = pd.DataFrame(dict(subject=["a", "b", "a"], split=["train", "val", "test"]))
    with pytest.raises(ParameterError, match="two splits"):
        rows_by_split(SimpleNamespace(table=table), np.zeros(3), None)
