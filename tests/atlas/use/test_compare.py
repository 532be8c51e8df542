"Which datasets look alike, and for which task?"
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import taco
from taco.atlas.use.compare import told_apart
from taco.atlas.use.place import Known, load_run
from taco.base import ParameterError, TacoError
from taco.cli.main import app


def made(shift: float, subjects: int = 30, each: int = 2):
    "Vectors of two datasets in one task, `shift` apart, and their table."
    rng, names = np.random.default_rng(1), np.repeat(["a", "b"], subjects * each)
    table = pd.DataFrame(dict(task="deblurring", dataset=names,
                              subject=np.tile(np.repeat(np.arange(subjects), each), 2).astype(str)))
    vectors = rng.normal(size=(len(names), 6))
    vectors[names == "b", 0] += shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), table


@pytest.mark.parametrize(("shift", "low", "high"), [(0, .35, .65), (30, .9, 1)])
def test_what_is_alike_is_not_told_apart(shift, low, high):
    row = told_apart(*made(shift), draws=200).iloc[0]
    assert low <= row.apart <= high and row.low <= row.apart <= row.high and row.pairs == 60


def test_the_larger_dataset_does_not_outvote_the_smaller():
    vectors, table = made(0)
    keep = np.r_[0:60, 60:72]  # b has a fifth of a's pairs
    row = told_apart(vectors[keep], table.iloc[keep].reset_index(drop=True), draws=200).iloc[0]
    assert row.pairs == 12 and .2 < row.apart < .8


def test_ones_own_subject_does_not_vote_and_one_subject_has_no_share():
    vectors, table = made(0, subjects=6, each=10)
    same = vectors + 0
    for subject in table["subject"].unique():  # pairs of a subject are one point each
        for name in "ab":
            rows = ((table["subject"] == subject) & (table["dataset"] == name)).to_numpy()
            same[rows] = same[rows][0]
    assert told_apart(same, table, draws=50).iloc[0].apart < .9
    assert told_apart(*made(0, subjects=1, each=8), draws=50).empty


def test_datasets_of_cards(tmp_path):
    some = dict(tasks=["deblurring", "horizontal_flip"], subjects=8, per_cell=4, draws=50)
    found = taco.compare(["drive", "bbbc010"], out=tmp_path / "packed", **some)
    assert list(found.table["task"]) == some["tasks"] and set(found.datasets["source"]) == {"phantom"}
    assert (found.table["apart"] > .55).all() and "bbbc010 and drive" in repr(found)
    folder = found.save(tmp_path / "out")
    pictures = {f"compared.{kind}" for kind in ("pdf", "png", "svg")}
    assert {p.name for p in folder.iterdir()} == {"compared.csv", "datasets.csv"} | pictures
    told = CliRunner().invoke(app, ["compare", "drive", "bbbc010", "--task", "deblurring", "--subjects", "8",
                                    "--packed", str(tmp_path / "packed"), "-o", str(tmp_path / "again")])
    assert told.exit_code == 0 and "told apart" in told.output and (tmp_path / "again/compared.csv").exists()


def test_what_cannot_be_compared(tmp_path):
    with pytest.raises(ParameterError, match="Two datasets"): taco.compare(["drive"])
    with pytest.raises(ParameterError, match="Two datasets"): taco.compare(["drive", "drive"])
    known = load_run("pretrained")
    with pytest.raises(ParameterError, match="PairEncoder"):
        taco.compare(["drive", "chasedb1"], encoder=Known(lambda x, y: x, known.embeddings))
    with pytest.raises(TacoError, match="nowhere"): taco.compare(["drive", "nowhere"], out=tmp_path)
