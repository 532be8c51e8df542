"The README's answers are sentences with metrics in their places."
import json
from pathlib import Path

import pytest

from taco.workflow.parameters import find_experiment
from taco.workflow.tables import ANSWERS, PLACE, answers_table, fill_in_metrics

ROOT = Path(__file__).resolve().parents[2]


def committed(profile: str) -> dict:
    return json.loads((ROOT / f"figures/{profile}/metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("figure", "experiment", "question", "answer"), ANSWERS)
def test_every_answer_finds_its_numbers_and_its_figure(figure, experiment, question, answer):
    assert (ROOT / f"figures/quick/{figure}.png").exists()
    assert find_experiment(experiment).exists()
    assert question.endswith("?")
    files = {"": "quick", "real": "real", "seeds": "quick_seeds"}
    for place in PLACE.finditer(answer):
        metric = committed(files[place["of"] or ""])[place["name"]]
        assert isinstance(metric[place["part"] or "value"], (int, float)), place[0]
    assert "<" not in PLACE.sub("", answer)


def test_numbers_follow_the_metrics():
    metrics = {"": {"x": dict(value=.5, ci=[.25, .75], rival=2)}, "real": {"x": dict(value=-1)}}
    filled = fill_in_metrics("<x> <x:.0%> <x.rival:.1f> <x:+ci> <real/x> <y> <seeds/x>", metrics)
    assert filled == "0.50 50% 2.0 +0.500 (+0.250 – +0.750) -1.00 – –"


def test_the_readme_shows_this_table():
    table = answers_table(ROOT)
    assert len(table.splitlines()) == len(ANSWERS) + 2
    assert table.replace("](../", "](").replace("](experiments/", "](nbs/experiments/") in \
        (ROOT / "README.md").read_text(encoding="utf-8")
