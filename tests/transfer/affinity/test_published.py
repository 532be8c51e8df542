"Tables of others: what is read, and what is refused with the file's name."
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from taco.base import DataError
from taco.cli.main import app
from taco.transfer.affinity.published import (
    judged,
    read_fingerprinting,
    read_guesses,
    read_medmnist,
    read_outcomes,
)

NAMES = [f"task_{c}" for c in "abcdefg"]


@pytest.fixture
def truth():
    return pd.DataFrame(np.random.default_rng(0).normal(size=(7, 7)), NAMES, NAMES)


@pytest.fixture
def cache(tmp_path, truth):
    "Outcomes and a baseline as task fingerprinting keeps them; one target has no baseline."
    exp = tmp_path / "cache/exp"
    exp.mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows = [dict(r=r, s=s, t=t, p=.7 + .03 * truth.loc[s, t] + .001 * rng.normal())
            for r in range(3) for t in NAMES for s in NAMES if s != t]
    for scenario, ending in (("pretrain", "%True"), ("arch", "%True%True")):
        pd.DataFrame(rows).to_csv(exp / f"load_{scenario}_experiment%BA{ending}.csv")
    pd.DataFrame(.7, range(3), NAMES[:6]).to_csv(exp / "load_baseline_experiment%BA%True%True.csv")
    return tmp_path / "cache"


@pytest.mark.parametrize("scenario", ["pretrain", "arch"])
def test_outcomes_of_task_fingerprinting_are_gains_over_its_baseline(cache, truth, scenario):
    table = read_fingerprinting(cache, scenario)
    assert set(table["target"]) == set(NAMES[:6]) and set(table["seed"]) == {0, 1, 2}
    mean = table.groupby(["source", "target"])["gain"].mean()
    assert mean[NAMES[1], NAMES[0]] == pytest.approx(.03 * truth.loc[NAMES[1], NAMES[0]], abs=.003)


def test_its_distances_are_judged_on_its_outcomes(cache, truth, tmp_path):
    file = tmp_path / "FID.csv"
    (-truth).to_csv(file)
    found = judged(read_guesses(file, distances=True), read_outcomes(cache))
    assert found.loc["guesses", "tau"] > .9 and found.loc["guesses", "tau_low"] > .7
    assert judged(read_guesses(file), read_outcomes(cache)).loc["guesses", "tau"] < -.5  # the sign matters


def test_long_tables_are_read_as_wide_ones(truth, tmp_path):
    wide, long = tmp_path / "wide.csv", tmp_path / "long.csv"
    truth.to_csv(wide)
    table = truth.rename_axis(index="source", columns="target").stack().rename("value").reset_index()
    table.to_csv(long, index=False)
    assert np.allclose(read_guesses(wide)["guesses"], read_guesses(long)["guesses"])
    pd.concat([table, table[:1]]).to_csv(long, index=False)
    with pytest.raises(DataError, match=r"long\.csv") as error: read_guesses(long)
    assert "twice" in str(error.value)


def test_medmnists_table_has_no_diagonal(truth, tmp_path):
    file = tmp_path / "AUCs_dataset.csv"
    table = truth.mask(np.eye(7, dtype=bool)).rename_axis("source").reset_index()
    table.to_csv(file)
    assert read_medmnist(file).isna().sum().sum() == 7
    outcomes = read_outcomes(file)
    found = judged({"truth": truth}, outcomes)
    assert len(outcomes) == 42 and found.loc["truth", "tau"] == pytest.approx(1)
    assert found[["harm3", "improvement1"]].isna().all(axis=None)  # nobody knows what a target reaches from scratch
    shown = CliRunner().invoke(app, ["judge", str(long_file(truth, tmp_path)), "--outcomes", str(file)])
    assert shown.exit_code == 0 and shown.output.count("–") >= 3 and "backwards" in shown.output


def long_file(truth, folder):
    "Guesses of two selectors in one file."
    parts = [(sign * truth).rename_axis(index="source", columns="target").stack().rename("value").reset_index()
             .assign(selector=name) for name, sign in (("truth", 1), ("backwards", -1))]
    pd.concat(parts).to_csv(folder / "both.csv", index=False)
    return folder / "both.csv"


def test_a_file_of_several_selectors_is_judged_one_by_one(truth, tmp_path, cache):
    guesses = read_guesses(long_file(truth, tmp_path))
    assert set(guesses) == {"truth", "backwards"}
    found = judged(guesses, read_outcomes(cache))
    assert found.loc["truth", "tau"] > .9 and found.loc["backwards", "tau"] < -.5


def test_one_target_is_judged_without_a_list_of_others(truth, cache):
    outcomes = read_outcomes(cache)
    found = judged({"truth": truth}, outcomes[outcomes["target"] == NAMES[1]])
    assert list(found.index) == ["truth"] and found.loc["truth", "tau"] > .9
    assert found[["tau_low", "tau_high", "tau_centred"]].isna().all(axis=None)


def test_numbers_are_names_and_a_selector_without_a_name_has_one(tmp_path):
    table = pd.DataFrame([(s, t, s * t) for s in range(4) for t in range(3)], columns=["source", "target", "value"])
    table.assign(selector=None).to_csv(tmp_path / "mine.csv", index=False)
    wide = table.pivot(index="source", columns="target", values="value")
    wide.to_csv(tmp_path / "AUCs_dataset.csv")
    guesses = read_guesses(tmp_path / "mine.csv")
    assert list(guesses) == ["guesses"]
    assert judged(guesses, read_outcomes(tmp_path / "AUCs_dataset.csv")).loc["guesses", "tau"] > .5
    table.rename(columns=dict(value="gain")).to_csv(tmp_path / "gains.csv", index=False)
    assert judged(guesses, read_outcomes(tmp_path / "gains.csv"))["harm3"].notna().all()
    pd.concat([table, table]).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(DataError, match="twice"): read_guesses(tmp_path / "mine.csv")


def test_a_selector_may_not_take_the_name_of_the_list(truth, tmp_path):
    long = truth.rename_axis(index="source", columns="target").stack().rename("value").reset_index()
    long.assign(selector="source prior").to_csv(tmp_path / "mine.csv", index=False)
    assert list(read_guesses(tmp_path / "mine.csv")) == ["source prior of mine.csv"]


@pytest.mark.parametrize(("text", "word"), [
    ("source,target,score,scratch\na,b,1,0\n", "all_labels"), ("source,a\nx,high\n", "something else")])
def test_outcomes_that_are_none_are_refused(tmp_path, text, word):
    (tmp_path / "odd.csv").write_text(text)
    with pytest.raises(DataError, match=word): read_outcomes(tmp_path / "odd.csv")


def test_names_with_brackets_are_printed(truth, tmp_path, cache):
    long = truth.rename_axis(index="source", columns="target").stack().rename("value").reset_index()
    long.assign(selector="[/] mine [v2]").to_csv(tmp_path / "mine.csv", index=False)
    found = CliRunner().invoke(app, ["judge", str(tmp_path / "mine.csv"), "--outcomes", str(cache)])
    assert found.exit_code == 0 and "[/] mine [v2]" in found.output


@pytest.mark.parametrize(("content", "word"), [
    ("a,b\nx,word\n", "numbers"), ("a,b\nx,1\nx,2\n", "each once"), ("", "empty"), ("\n\n", "no table")])
def test_bad_guesses_are_refused_by_name(tmp_path, content, word):
    file = tmp_path / "mine.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=word) as error: read_guesses(file)
    assert "mine.csv" in str(error.value)


def test_a_last_line_without_an_end_is_a_line(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("a,b\nx,1\ny,2")
    assert read_guesses(file)["guesses"]["b"].tolist() == [1, 2]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match="load_pretrain_experiment"): read_fingerprinting(tmp_path)
    with pytest.raises(DataError, match="source"):
        (tmp_path / "x.csv").write_text("a,b\n1,2\n")
        read_medmnist(tmp_path / "x.csv")


def test_the_command_judges_and_says_who_lacks_a_cell(cache, truth, tmp_path):
    file = tmp_path / "FID.csv"
    (-truth).to_csv(file)
    found = CliRunner().invoke(app, ["judge", str(file), "--outcomes", str(cache), "--distances"])
    assert found.exit_code == 0 and "source prior" in found.output
    (-truth.drop(index=NAMES[2])).to_csv(file)
    wrong = CliRunner().invoke(app, ["judge", str(file), "--outcomes", str(cache), "--distances"])
    assert NAMES[2] in str(wrong.exception)


@pytest.mark.parametrize("read", [read_guesses, read_outcomes])
def test_tables_without_rows_and_of_too_many_columns_are_refused(read, tmp_path):
    for text, word in (("source,target,gain\n", "no rows"), ("source" + ",x" * 10_001 + "\n", "too wide")):
        (tmp_path / "mine.csv").write_text(text)
        with pytest.raises(DataError, match=word) as error: read(tmp_path / "mine.csv")
        assert "mine.csv" in str(error.value)
