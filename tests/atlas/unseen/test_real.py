"Folders of real data: which card reads which, what is left out, and how the answers are counted."
import numpy as np
import pandas as pd
import pytest

from taco.atlas.embedding import Embeddings, embed, plan_pairs
from taco.atlas.neighbours import weighted_knn
from taco.atlas.rivals.baselines import PixelEncoder
from taco.atlas.unseen.generalisation import share_right
from taco.atlas.unseen.real import (
    accuracy_by_task,
    most_mistaken,
    name_tasks,
    open_strangers,
    pack_strangers,
    plan_everything,
    real_datasets,
    said_of,
    stranger_metrics,
)
from taco.base import DataError
from taco.data.collection import find_datasets
from taco.data.store import Store
from taco.tasks.catalogue import ALL_TASKS
from tests.data.test_collection import CARD, folder_of


@pytest.fixture(scope="module")
def store(phantoms) -> Store:
    return phantoms("busi", "kvasir", subjects=8)


def test_a_plan_over_all_splits_is_balanced(store):
    plan = plan_everything(store, list(ALL_TASKS), per_cell=3)
    counts = plan.groupby(["task", "dataset"]).size()
    assert (
        counts.max() == 3
        and set(plan["split"]) <= {"train", "val", "test"}
        and plan["split"].nunique() > 1
    )
    assert plan_everything(store, list(ALL_TASKS), per_cell=3).equals(plan)


def test_one_broken_dataset_does_not_hide_the_others(tmp_path):
    for name in ("good", "broken", "known"):
        folder_of(tmp_path / "data", name)
        (tmp_path / f"data/{name}/card.toml").write_text(CARD.format(name=name))
    for file in (tmp_path / "data/broken").glob("*.png"): file.write_bytes(b"no picture")
    found = find_datasets(tmp_path / "data").found
    folders, failed, left_out = pack_strangers(found, tmp_path / "out", 16, "real", {"known"})
    assert (
        [f.name for f in folders] == ["good-real-16"]
        and list(failed) == ["broken"]
        and left_out == ["known"]
    )
    assert "fix:" in failed["broken"] or "found:" in failed["broken"]


def test_tasks_are_counted_beside_the_phantoms():
    plan = pd.DataFrame(dict(task=["shear", "shear", "deblurring"]))
    posed = pd.DataFrame(dict(task=["deblurring", "shear", "translation"]), index=[7, 8, 9])
    table = accuracy_by_task(
        "real", plan, np.array([True, False, True]), posed, np.array([False, True, True])
    )
    assert table.index.tolist() == [t for t in ALL_TASKS if t in ("shear", "deblurring")]
    assert (
        table.loc["shear"].to_dict() == dict(real=0.5, phantom=1)
        and table.loc["deblurring", "phantom"] == 0
    )
    wrong = most_mistaken(plan, np.array(["shear", "translation", "shear"]))
    assert set(zip(wrong["task"], wrong["taken_for"])) == {
        ("shear", "translation"),
        ("deblurring", "shear"),
    }


def test_what_was_trained_on_and_what_was_left_out_are_said(tmp_path, store):
    folder_of(tmp_path / "data", "good")
    (tmp_path / "data/good/card.toml").write_text(CARD.format(name="good"))
    (tmp_path / "data/good/7.png").write_bytes(b"no picture")
    (tmp_path / "data/good/7_m.png").write_bytes(b"no picture")
    found = find_datasets(tmp_path / "data").found
    folders, failed, left_out = pack_strangers(found, tmp_path / "out", 16, "real", set())
    strangers = open_strangers(folders, failed, left_out)
    said = said_of(strangers, ["nobody"], ["drive", "stare"])
    assert said == ("3 images of 1 datasets; without a card: nobody; trained on: drive, stare; "
                    "1 items left out as unreadable")
    assert real_datasets(strangers) == {"good"}
    assert real_datasets(store) == set(), "a phantom is no image of its dataset"
    with pytest.raises(DataError, match="broken; drive"): open_strangers([], dict(broken="reason"), ["drive"])


def test_strangers_are_counted_together_by_phantom_and_by_dataset(store):
    tasks = ["deblurring", "intensity_inversion"]
    table, plan = plan_pairs(store, tasks, "train", 6), plan_everything(store, tasks, 5)
    encoders = dict(small=PixelEncoder(8), pixels=PixelEncoder())
    bank = Embeddings(table, {name: embed(encoder, store, table) for name, encoder in encoders.items()})
    guess = name_tasks(encoders, bank, store, plan, k=5)
    voted = weighted_knn(bank["pixels"], table["task"], embed(PixelEncoder(), store, plan), 5)
    assert np.array_equal(guess["pixels"], voted)
    posed = (plan["dataset"] == "busi").to_numpy()
    found, right = stranger_metrics(plan, guess, posed, 50), guess["small"] == plan["task"].to_numpy()
    base = "task_knn_real_unseen"
    assert list(found) == [base, f"{base}_with_phantom", f"{base}_without_phantom", f"{base}_pixels",
                           f"{base}_dataset_busi_ultrasound", f"{base}_dataset_kvasir_endoscopy"]
    named = stranger_metrics(plan, guess | {"statistics-lda": guess["pixels"]}, posed, 50)
    assert named[f"{base}_statistics_lda"] == found[f"{base}_pixels"] and named[base] == found[base]
    assert found[f"{base}_with_phantom"] == share_right(plan[posed], right[posed], 50, ("datasets",))
    assert found[base][2] == dict(n=len(plan), seeds=1, data="phantom", datasets=2, images=plan["record"].nunique(),
                                  subjects=len(plan[["dataset", "subject"]].drop_duplicates()))
    value, interval, about = found[f"{base}_dataset_busi_ultrasound"]
    assert value == right[posed].mean() and interval[0] <= value <= interval[1] and about["tasks"] == 2
    alone = plan[plan["record"] == plan["record"].iloc[0]]
    found = stranger_metrics(alone, {"small": guess["small"][alone.index]}, posed[alone.index], 50)
    assert [interval for name, (_, interval, _) in found.items() if "_dataset_" in name] == [None]
