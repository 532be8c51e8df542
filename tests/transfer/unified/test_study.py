"UMS-Rep: what the arms of a study share, and that a killed study goes on."
import json

import numpy as np
import pandas as pd
import pytest

from taco.data.pack import pack
from taco.data.store import Store
from taco.learning import checkpoint
from taco.transfer.unified import study as study_chapter, tuning
from taco.transfer.unified.results import Results, table_of, value
from taco.transfer.unified.scores import image_values, mean_scores
from taco.transfer.unified.study import Arm, Modality, Setting, run_study, study_arms, train_arm
from taco.transfer.unified.targets import Target
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN

HOW = dict(widths=WIDTHS, device="cpu")


def test_a_study_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    packed = [str(pack("montgomery", out=tmp_path, size=32, subjects=24, source="phantom"))]
    setting = Setting((TARGETS[0], Target("lungs", "segmentation", 3), TARGETS[2]), 3, 3, 4, **HOW)
    arms, made = [Arm("separate"), Arm("full"), Arm("frozen")], []
    def dying(arm, *rest):
        if arm.strategy == "frozen" and "full" in made and len(made) == 2:
            made.append("killed")
            raise KeyboardInterrupt
        made.append(arm.strategy)
        return train_arm(arm, *rest)
    monkeypatch.setattr(study_chapter, "train_arm", dying)
    go = lambda: run_study(packed, "chest", "tuberculosis", arms, setting, 0, tmp_path / "s", equal_to=Arm("full"))
    with pytest.raises(KeyboardInterrupt): go()
    go()
    assert made == ["separate", "full", "killed", "frozen", "separate"]  # the last: equal compute
    read = lambda name: json.loads((tmp_path / f"s/{name}.json").read_text())
    about = read("separate-all-equal compute")
    spent = read("full-all-1")["flops"] + read("first")["flops"]
    assert about["note"] == "equal compute" and about["flops"] == pytest.approx(spent, rel=.35)
    table = table_of(Results.read("chest", setting.targets, {0: tmp_path / "s"})).set_index("arm")
    base, full = table.loc["separate-all-1"], table.loc["full-all-1"]
    assert base["saved"] == 0 and base["accuracy gain"] == base["dice gain"] == 0
    for _, row in table.iterrows():
        assert row["saved"] == pytest.approx(1 - row["gflops"] / base["gflops"])
    assert full["gflops_with_first"] > full["gflops"] and base["gflops_with_first"] == base["gflops"]


@pytest.mark.parametrize("after", [2, 5, 7, 13])  # steps, of three networks in two sets with three steps each
def test_an_arm_goes_on_within_a_network(images, tmp_path, monkeypatch, after):
    setting = Setting(WITHIN, 3, 3, 8, precision="32", noisy=2, **HOW)
    arms = [Arm("separate", 6, sets=2), Arm("separate")]
    call = lambda working: [train_arm(arm, setting, None, images, images, 0, {}, working) for arm in arms]
    wanted, steps, step = call(None), [], tuning.Tuning.training_step

    def dying(self, *given):
        if len(steps) == after: raise SystemExit(143)
        steps.append(1)
        return step(self, *given)

    monkeypatch.setattr(checkpoint, "SECONDS", 0.)
    monkeypatch.setattr(tuning.Tuning, "training_step", dying)
    with pytest.raises(SystemExit): call(tmp_path)
    assert len(steps) == after
    after = 1000
    found = call(tmp_path)
    assert len(steps) == 3 * 7  # no step twice: denoising, which both arms share, and two networks of each set
    for (scores, cost), (same, other) in zip(found, wanted):
        assert scores.to_csv() == same.to_csv() and list(cost) == list(other)
        assert all(cost[name] == other[name] for name in ("flops", "weights", "all_weights"))


def test_the_denoiser_alone_is_the_same_for_any_number_of_labels(images):
    "The baseline's denoiser reads no label; for fewer labels it is remembered, and that changes nothing."
    setting, known = Setting(TARGETS, 3, 3, 8, precision="32", **HOW), {}
    train = lambda arm, memory: train_arm(arm, setting, None, images, images, 0, memory)
    train(Arm("separate"), known)
    (few, cost), (again, other) = train(Arm("separate", 6), known), train(Arm("separate", 6), {})
    pd.testing.assert_frame_equal(few, again)
    assert cost["flops"] == other["flops"] and len(known) == 1


def test_no_subject_of_the_test_split_is_trained_on(tmp_path, monkeypatch):
    packed = [str(pack("busi", out=tmp_path, size=32, subjects=24, source="phantom"))]
    seen, draw = [], tuning.batches
    def watched(labelled, unlabelled, *a, **k):
        seen.append(set(labelled.subject) | set(unlabelled.subject))
        return draw(labelled, unlabelled, *a, **k)
    monkeypatch.setattr(tuning, "batches", watched)
    setting = Setting((TARGETS[0], Target("tumour", "segmentation", 2), TARGETS[2]), 2, 2, 4, **HOW)
    arms = [Arm("separate"), Arm("full", 6)]
    run_study(packed, "breast", "malignant", arms, setting, 0, tmp_path / "s")
    table = Store.open(packed).table
    test = set(table[table["split"] == "test"]["subject"])
    assert test and len(seen) == 5 and not any(test & s for s in seen)


def test_sets_of_labels_are_averaged(images):
    setting = Setting(WITHIN, 3, 3, 8, precision="32", noisy=2, **HOW)
    train = lambda sets: train_arm(Arm("separate", 6, sets=sets), setting, None, images, images, 0)
    (one, first_cost), (two, cost) = train(1), train(2)
    assert len(two) == 2 * len(one) and set(two["set"]) == {0, 1}
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two[two["set"] == 0].reset_index(drop=True))
    second = two[two["set"] == 1]
    assert not np.allclose(one["margin finding"], second["margin finding"])
    assert np.allclose(one["psnr Gaussian"], second["psnr Gaussian"])
    results = Results("toy", WITHIN, [0], {"a": [two]}, {}, [])
    for metric in ("accuracy", "dice"):
        mean = np.mean([image_values(part, WITHIN, metric).mean() for part in (one, second)])
        assert value(results, "a", metric)[0] == pytest.approx(mean)
    auroc = value(results, "a", "auroc")[0]
    assert auroc == pytest.approx(np.mean([mean_scores(part, WITHIN)["auroc"] for part in (one, second)]))
    assert auroc == pytest.approx(mean_scores(two, WITHIN)["auroc"])
    assert cost["flops"] == first_cost["flops"]


def test_the_separate_class_looks_everywhere(images, monkeypatch):
    seen, tune = [], study_chapter.fine_tune
    def watched(start, labelled, unlabelled, targets, *a, **k):
        seen.append((tuple(t.within for t in targets), k["noisy"]))
        return tune(start, labelled, unlabelled, targets, *a, **k)
    monkeypatch.setattr(study_chapter, "fine_tune", watched)
    setting = Setting(WITHIN, 2, 2, 8, precision="32", noisy=3, **HOW)
    for strategy in ("separate", "joint"):
        train_arm(Arm(strategy), setting, None, images, images, 0)
    assert seen == [((None,), None), ((None,), 3), ((None,), 3), ((None, None, "organs"), 3)]


def test_the_arms_of_a_study_are_named_apart():
    arms = study_arms(.2, ["frozen", "full"], ["full"], {10: 3, 25: 1}, ["full"])
    assert [(a.file, a.sets) for a in arms if a.labelled] == [
        ("separate-10-0.2", 3), ("full-10-0.2", 3), ("separate-25-0.2", 1), ("full-25-0.2", 1)]
    assert len({a.file for a in arms}) == len(arms) and arms[0] == Arm("separate") and arms[1] == Arm("full")


def test_a_modality_says_what_is_learnt_from_its_card(tmp_path):
    films = Modality.pack("chest X-ray", "montgomery", "tuberculosis", out=tmp_path, size=32, subjects=6,
                          source="phantom")
    assert [(t.name, t.outputs, t.within) for t in films.targets] == [
        ("denoising", 1, None), ("structures", 3, None), ("finding", 2, "structures")]
    assert films.folder(tmp_path, 3).name == "montgomery-tuberculosis-3" and len(films.key) > 8
