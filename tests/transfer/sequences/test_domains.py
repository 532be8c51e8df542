"Datasets of volumes: how they are divided, and which cannot be compared."
from dataclasses import replace

import pytest

from taco.base import DataError, ParameterError
from taco.data.card import load_card
from taco.transfer.sequences.domains import Domain, choose_real, compare_domain, compare_real, open_domain, whole
from tests.transfer.sequences.toys import TINY, made, quiet


def test_a_phantom_is_drawn_in_the_modality_that_is_asked_for(tmp_path):
    for modality in ("CT", "MR"):
        domain = open_domain(f"mmwhs:{modality}", tmp_path, size=32, source="phantom", subjects=3)
        assert set(domain.volumes.table["modality"]) == {modality} and domain.kind == "phantom"
        assert str(domain).startswith(f"mmwhs:{modality} (phantom): Volumes(")
        assert domain.packed.parent.name == f"mmwhs-{modality}"


def test_its_own_division_is_kept_where_there_is_one(hearts, tmp_path):
    train = Domain("x", tmp_path, replace(hearts, table=hearts.table.assign(split="train")))
    assert not train.has_division and train.division == "divided anew for each seed"
    turns = [train.divided(seed) for seed in range(4)]
    tested = [set(v.subjects("test")) for v in turns]
    assert tested[0] == tested[3] and not tested[0] & tested[1] and not tested[1] & tested[2]
    some = hearts.subjects("train")[:3]
    split = hearts.table["subject"].isin(some).map({True: "test", False: "train"})
    split = split.mask(hearts.table["subject"] == hearts.subjects("train")[3], "val")
    own = Domain("x", tmp_path, replace(hearts, table=hearts.table.assign(split=split)))
    assert own.has_division and own.divided(1) is own.volumes and own.division == "its own division"


def test_a_division_without_val_gets_one_of_its_training_subjects(tmp_path):
    split = {f"s{i:02}": "test" if i < 3 else "train" for i in range(20)}
    domain = Domain("x", tmp_path, made({name: [0, 1, 2] for name in split}, split=split))
    one, two = domain.divided(0), domain.divided(1)
    assert one.subjects("val") and one.subjects("val") == two.subjects("val") and "val taken from" in domain.division
    assert one.subjects("test") == domain.volumes.subjects("test")


def test_slices_are_not_chosen_by_their_labels():
    card = load_card("acdc")
    assert all(table["slices"] == "all" for table in whole(card).read) and whole(card).name == "acdc"
    flat = load_card("drive")  # no volumes: nothing to keep
    assert whole(flat).read == flat.read
    single, series = ({"reader": "dicom", "files": "*.dcm"}, {"reader": "dicom", "files": "*.dcm", "series": True})
    found = whole(replace(flat, read=[single, series])).read
    assert found == [single, series | {"slices": "all"}]


def test_a_small_dataset_is_asked_for_no_more_labels_than_it_has(hearts, tmp_path):
    domain = Domain("x", tmp_path, replace(hearts, table=hearts.table.assign(split="train")))
    sets = {1: 2, 50: 1}
    scores = compare_domain(domain, TINY, tmp_path / "x", ["scratch"], sets, [0], distances=False, tell=quiet)
    assert set(scores["labelled"]) == {1} and set(scores["take"]) == {0, 1}
    with pytest.raises(DataError, match="too few subjects"):
        compare_domain(domain, TINY, tmp_path / "y", ["scratch"], {50: 1}, [0], distances=False, tell=quiet)


def test_a_dataset_that_cannot_be_compared_is_refused_by_name_and_the_others_go_on(tmp_path):
    pairs = [(load_card("mmwhs"), tmp_path / "nowhere"), (load_card("acdc"), tmp_path / "nowhere")]
    packing = dict(out=tmp_path / "stores", size=32)
    found, refused = compare_real(pairs, TINY, lambda domain: tmp_path, ["scratch"], {1: 1}, [0], True, packing)
    assert not found and list(refused) == ["mmwhs", "acdc"] and all(refused.values())


def test_a_real_dataset_without_a_card_of_its_own_is_named(tmp_path):
    (tmp_path / "mmwhs").mkdir()  # it is known to the package, but has no card in the folder of cards
    assert choose_real(tmp_path, tmp_path) == []
    assert [card.name for card, _ in choose_real(tmp_path, tmp_path, ["mmwhs"])] == ["mmwhs"]
    with pytest.raises(ParameterError, match="no such dataset"): choose_real(tmp_path, tmp_path, ["atrium"])
