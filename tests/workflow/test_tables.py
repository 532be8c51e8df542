"The README's answers are sentences with metrics in their places."
import json
from pathlib import Path

import pytest

from taco.base import ParameterError
from taco.workflow.parameters import find_experiment
from taco.workflow.tables import ANSWERS, CLAUSE, PLACE, answers_table, fill_in_metrics, metrics_table

ROOT = Path(__file__).resolve().parents[2]


def committed(profile: str) -> dict:
    return json.loads((ROOT / f"figures/{profile}/metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("figure", "experiment", "question", "answer"), ANSWERS)
def test_every_answer_finds_its_numbers_and_its_figure(figure, experiment, question, answer):
    of, _, drawn = figure.rpartition("/")
    assert (ROOT / "figures" / (of or "quick") / f"{drawn}.png").exists()
    assert find_experiment(experiment).exists()
    assert question.endswith("?")
    files = {"": "quick"} | {n: n for n in ("ask", "real", "real_gpu", "study", "gpu")}
    for place in PLACE.finditer(CLAUSE.sub("", answer)):
        for name in place["name"].split("|"):
            metric = committed(files[place["of"] or ""])[name]
            assert isinstance(metric[place["part"] or "value"], (int, float)), place[0]
    assert "<" not in PLACE.sub("", answer)


def test_numbers_follow_the_metrics():
    metrics = {"": {"x": dict(value=.5, ci=[.25, .75], rival=2)}, "real": {"x": dict(value=-1)}}
    filled = fill_in_metrics("<x> <x:.0%> <x.rival:.1f> <x:+ci> <real/x> <y> <study/x>", metrics)
    assert filled == "0.50 50% 2.0 +0.500 (+0.250 – +0.750) -1.00 – –"


def test_a_clause_without_its_number_is_left_out_and_the_strongest_rival_counts():
    metrics = {"": dict(ours=dict(value=.8), first=dict(value=.5, ci=[.4, .6]), second=dict(value=.7, ci=[.6, .9]))}
    said = "<ours>[, statistics <first|second>][; on real <real/ours>, by <first>]"
    assert fill_in_metrics(said, metrics) == "0.80, statistics 0.70"
    assert fill_in_metrics("<second|first:+ci> [<third|first:.1f>]", metrics) == "+0.700 (+0.600 – +0.900) 0.5"
    assert fill_in_metrics(said, {"": dict(ours=dict(value=.8)), "real": {}}) == "0.80"
    assert fill_in_metrics("<third|fourth>", metrics) == "–"


def test_statistics_stand_beside_taco_where_pairs_are_named():
    "Each sentence that says how often TaCo names a task of what it never saw says the same of the statistics."
    for name in ("task_knn_unseen_datasets_real", "generalisation_datasets_unseen"):
        answer = next(answer for *_, answer in ANSWERS if f"{name}>" in answer)
        assert f"{name}_statistics_lda|{name}_statistics_trees>" in answer


def test_the_readme_shows_this_table():
    table = answers_table(ROOT)
    assert len(table.splitlines()) == len(ANSWERS) + 2
    assert table.replace("](../", "](").replace("](experiments/", "](nbs/experiments/") in \
        (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_table_for_a_paper():
    metrics = committed("quick")
    text = metrics_table(metrics, ["task_knn_unseen_*"], latex=True)
    first = metrics["task_knn_unseen_datasets"]
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"task\_knn\_unseen\_datasets"))
    assert f"{first['value']:.3f} ({first['ci'][0]:.3f} – {first['ci'][1]:.3f})" in text
    assert "heldout" not in text and metrics_table(metrics, ["task_knn_unseen_datasets"]).count("\n") == 2
    with pytest.raises(ParameterError, match="task_knn_unseen_datasets"):
        metrics_table(metrics, ["task_knn_unsen_datasets"])
