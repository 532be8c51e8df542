"Volumes as ordered slices: positions, neighbours, who is labelled and who is tested on."
from dataclasses import replace

import numpy as np
import pytest

from taco.base import DataError, ParameterError
from taco.data.card import load_card
from taco.data.pack import pack
from taco.data.store import Store
from taco.transfer.sequences.volumes import (
    keep_for_val,
    labelled_subjects,
    load_volumes,
    neighbours,
    positions,
    rotate_splits,
)
from tests.transfer.sequences.toys import made


def test_rotated_splits_keep_subjects_whole(hearts):
    several = hearts.table.assign(subject=hearts.table["subject"].str[:-1] + "x")  # several volumes a subject
    two = replace(hearts, table=several)
    for turn in range(4):
        v = rotate_splits(two, turn, 3)
        assert not set(v.subjects("train")) & set(v.subjects("test"))
    with pytest.raises(DataError, match="One subject"):
        rotate_splits(made({"only": [0, 1, 2]}), 0, 3)


def test_labelled_subjects_grow_and_are_training_subjects(hearts):
    orders = [labelled_subjects(hearts, n, 4) for n in (1, 2, 4)]
    train = hearts.subjects("train")
    assert orders[0] == orders[1][:1] and orders[1] == orders[2][:2] and set(orders[2]) <= set(train)
    takes = [labelled_subjects(hearts, 1, 4, t)[0] for t in range(len(train) + 1)]
    assert sorted(takes[:-1]) == sorted(train) and takes[-1] == takes[0], "further sets take others, round and round"
    assert not set(labelled_subjects(hearts, 2, 4, 0)) & set(labelled_subjects(hearts, 2, 4, 1))
    with pytest.raises(ParameterError, match="cannot be labelled"): labelled_subjects(hearts, 99, 0)


def test_positions_of_reversed_and_missing_slices():
    assert positions([9, 6, 3, 0])[0].tolist() == [3, 2, 1, 0]
    place, step = positions([0, 4, 8, 16, 20])
    assert step == 4 and place.tolist() == [0, 1, 2, 4, 5]
    with pytest.raises(DataError, match="same number"): positions([1, 2, 2])


def test_neighbours_across_a_gap_and_in_any_row_order():
    v = made({"up": [0, 1, 2, 3, 5, 6], "down": [8, 6, 4, 2, 0]}, shuffle=3)
    slices, who = v.table["slice"].to_numpy(), v.table["volume"].to_numpy()
    for row, (low, high) in enumerate(neighbours(v.table)):
        step = 1 if who[row] == "up" else 2
        for beside, number in ((low, slices[row] - step), (high, slices[row] + step)):
            there = np.flatnonzero((who == who[row]) & (slices == number))
            assert beside == (there[0] if len(there) else -1)


def test_unknown_modalities_are_named(tmp_path):
    store = Store.open(pack(load_card("mmwhs"), out=tmp_path, size=32, source="phantom", subjects=3))
    with pytest.raises(DataError, match="modality"): load_volumes(store, modality="MR")


def test_records_without_a_slice_number_are_no_sequence(tmp_path):
    store = Store.open(pack(load_card("drive"), out=tmp_path, size=32, source="phantom", subjects=3))
    with pytest.raises(DataError, match="no sequence"): load_volumes(store)


def test_a_division_may_keep_some_subjects_for_val():
    several = made({f"s{i:02}": [0, 1] for i in range(12)})
    for turn in range(3):
        plain, looked = rotate_splits(several, turn, 3), rotate_splits(several, turn, 3, val=True)
        assert looked.subjects("test") == plain.subjects("test") and len(looked.subjects("val")) == 2
        assert sorted(looked.subjects("val") + looked.subjects("train")) == plain.subjects("train")


def test_where_there_is_no_val_some_training_subjects_are_kept_for_it():
    several = made({f"s{i:02}": [0, 1] for i in range(20)}, split={f"s{i:02}": "test" for i in range(4)})
    kept = keep_for_val(several)
    assert len(kept.subjects("val")) == 2 and kept.subjects("test") == several.subjects("test")
    assert sorted(kept.subjects("val") + kept.subjects("train")) == several.subjects("train")
    assert keep_for_val(several).subjects("val") == kept.subjects("val") and keep_for_val(kept) is kept
    few, pair = (made({f"s{i}": [0, 1] for i in range(count)}) for count in (3, 2))
    assert len(keep_for_val(few).subjects("val")) == 1 and keep_for_val(pair) is pair
