"UMS-Rep: no test subject was ever seen, learning rates are chosen on val, and a killed study goes on."
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from taco.base import ParameterError, StoreError, TacoError
from taco.data import card
from taco.data.card import load_card
from taco.data.store import Store
from taco.learning import checkpoint
from taco.transfer.unified import representation as stage_1, study as chapter, tuning
from taco.transfer.unified.networks import Arm, Kind, Workshop
from taco.transfer.unified.results import Results, table_of
from taco.transfer.unified.scores import Scored, kept
from taco.transfer.unified.study import (
    Division,
    chosen_rates,
    division_folder,
    divisions,
    pack_modalities,
    pack_modality,
    possible_arms,
    run_division,
    run_studies,
    tune,
    workshop,
)
from tests.transfer.unified.toys import montgomery_files, relabelled, setting

SHORT = setting(2, size=4, targets=())
ARMS = [Arm("separate"), Arm("full", 4)]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path: return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def films(out):
    return pack_modality("chest X-ray", "montgomery", "tuberculosis", out=out, size=32, subjects=24, source="phantom")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    "Twelve real films in three folds, and phantoms for stage 1."
    root = montgomery_files(tmp_path_factory.mktemp("root"))
    return pack_modality("patients", "montgomery", "tuberculosis", phantoms=4, folds=3, root=root, out=root, size=32,
                         source="real")


# ---------------------------------------------------------------- modalities and divisions

def test_a_modality_says_what_is_learnt_from_its_card(films):
    assert [(t.name, t.outputs, t.within) for t in films.targets] == [
        ("denoising", 1, None), ("structures", 3, None), ("finding", 2, "structures")]
    assert films.place == "montgomery-tuberculosis" and len(films.key) > 8 and films.folds is None
    assert not films.more and films.asked is None and set(films.table["source"]) == {"phantom"}


def test_real_images_have_folds_and_phantoms_beside_them(patients, films):
    assert set(patients.table["source"]) == {"real"} and patients.folds == 3 and len(patients.more) == 1
    assert set(Store.open(patients.more).table["source"]) == {"phantom"} and len(Store.open(patients.more)) == 4
    assert patients.key.split()[0] not in films.key and len(patients.key.split()) == 2
    assert divisions(patients, [0, 7]) == [Division(s, f) for s in (0, 7) for f in range(3)]
    assert divisions(films, [0, 7]) == [Division(0), Division(7)]
    folders = {division_folder(Path("state"), patients, d) for d in divisions(patients, [0, 7])}
    assert len(folders) == 6 and Path("state/montgomery-tuberculosis-7-2") in folders


def test_a_card_of_ones_own_comes_before_those_that_are_shipped(out, tmp_path):
    shipped = (Path(card.__file__).parent / "cards/montgomery.toml").read_text()
    (tmp_path / "montgomery.toml").write_text(re.sub("licence = .*", 'licence = "mine"', shipped))
    seen, packing = [], chapter.pack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter, "pack", lambda own, **how: seen.append(own.licence) or packing(own, **how))
        how = dict(out=tmp_path, size=32, subjects=4, source="phantom", cards=tmp_path)
        pack_modality("chest", "montgomery", "tuberculosis", **how)
        pack_modality("breast", "busi", "malignant", **how)
    assert seen == ["mine", load_card("busi").licence]


def test_what_has_no_real_files_is_left_out_and_named(tmp_path):
    root, about = montgomery_files(tmp_path / "root"), dict(card="montgomery", finding="tuberculosis")
    both = dict(chest=about, breast=dict(card="busi", finding="malignant"))
    how = dict(root=root, out=tmp_path, size=32)
    packed, absent = pack_modalities(both, "real", **how)
    assert [m.name for m in packed] == ["chest"] and list(absent) == ["breast"] and len(absent["breast"]) > 10
    with pytest.raises(ParameterError, match="No modality has its files"):
        pack_modalities(dict(breast=both["breast"]), "real", **how)
    with pytest.raises(TacoError): pack_modalities(dict(chest=about | dict(card="nonesuch")), "auto", **how)


# ---------------------------------------------------------------- learning rates

class Told(Workshop):
    "Networks whose value on val is known by their rate, and is best in the middle of a training."

    def network(self, kind, labelled=None, take=0, learning_rate=None):
        value = -abs(learning_rate - .01)
        return Scored(pd.DataFrame(), dict(looks=dict(value=[-9., value, -8.])), None)


def test_the_rate_is_that_which_val_likes_best(films, tmp_path, monkeypatch):
    monkeypatch.setattr(chapter, "Workshop", Told)
    for kind in ("joint", "full"): tune(films, SHORT, Kind(kind), [.1, .009, .002], Division(0), tmp_path)
    assert chosen_rates(tmp_path, films) == dict(joint=.009, full=.009)
    assert workshop(films, SHORT, Division(3), tmp_path).rate(Kind("full")) == .009
    monkeypatch.setattr(Told, "network", None)  # it is written down
    tune(films, SHORT, Kind("joint"), [.1], Division(0), tmp_path)
    file = tmp_path / "montgomery-tuberculosis-rate-full.json"
    file.write_text(file.read_text().replace('"chosen": 0.009', '"chosen": 0.09'))
    with pytest.raises(StoreError, match="not as it was written"): chosen_rates(tmp_path, films)


def test_the_choice_never_looks_at_the_test(films, tmp_path, monkeypatch):
    "Other images and labels in the test: the same values, the same choice."
    kind, made = Kind("separate", target="structures"), chapter.workshop
    tune(films, SHORT, kind, [.02, .002], Division(0), tmp_path / "one")
    def other(*given):
        shop = made(*given)
        count = len(shop.test)
        labels = dict(structures=torch.ones(count, 32, 32, dtype=torch.uint8), finding=1 - shop.test.labels["finding"])
        noise = torch.randint(0, 255, (count, 1, 32, 32), dtype=torch.uint8)
        shop.test = relabelled(type(shop.test)(noise, {}, shop.test.subject, shop.test.source), **labels)
        return shop
    monkeypatch.setattr(chapter, "workshop", other)
    tune(films, SHORT, kind, [.02, .002], Division(0), tmp_path / "other")
    one, two = ((tmp_path / name / f"{films.place}-rate-{kind}.json").read_text() for name in ("one", "other"))
    scores = [kept(next(Path(tmp_path / name).glob("*/working/*-0.02")), "network").scores for name in ("one", "other")]
    assert one == two and '"value": -' in one and not scores[0].equals(scores[1])


@pytest.mark.long
# ---------------------------------------------------------------- a study

def test_a_study_goes_on_where_it_was_killed(films, tmp_path, monkeypatch):
    made, step, arms = [], tuning.Tuning.training_step, [Arm("separate"), Arm("guided", 6), Arm("full")]
    how = setting(2, size=4, targets=(), noisy=2)
    go = lambda state: list(run_studies([films], arms, how, [0], state, [.002, .01], 1, "cpu"))
    def counted(self, *given):
        if len(made) == stop: raise SystemExit(143)
        made.append(1)
        return step(self, *given)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.)
    monkeypatch.setattr(tuning.Tuning, "training_step", counted)
    stop = None
    assert go(tmp_path / "whole")[-1] == (7, 7)  # stage 1, four kinds with two rates, the guided one, the division
    every = len(made)
    assert every == 2 * (5 * 2 + 2), "the chosen ones of 24 films are kept; with six labels there are two more"
    made.clear()
    for stop in (5, every - 3):
        with pytest.raises(SystemExit): go(tmp_path / "killed")
        assert len(made) == stop
    stop = None
    assert go(tmp_path / "killed")[-1] == (7, 7) and len(made) == every, "no step is taken twice"
    made.clear()
    assert go(tmp_path / "killed")[-1] == (7, 7) and not made, "what is done is kept"
    results = [Results.read(films, arms, [0], tmp_path / name, ["denoising"]) for name in ("whole", "killed")]
    for arm in results[0].scores:
        pd.testing.assert_frame_equal(*(r.scores[arm][0] for r in results), rtol=1e-9)
    one, other = (table_of(r).drop(columns="seconds") for r in results)
    pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    table = one.set_index("arm")
    base, full = table.loc["separate-all"], table.loc["full-all"]
    assert base["saved"] == 0 and base["accuracy change"] == base["dice change"] == 0
    for _, row in table.iterrows(): assert row["saved"] == pytest.approx(1 - row["gflops"] / base["gflops"])
    assert full["first_gflops"] > 0 == base["first_gflops"] and full["saved_with_first"] < full["saved"]
    folder = division_folder(tmp_path / "killed", films, Division(0))
    assert (folder / "full.safetensors").exists() and not (folder / "working").exists()


@pytest.mark.parametrize("packed", ["films", "patients"])
def test_no_test_subject_is_ever_trained_on(request, packed, tmp_path, monkeypatch):
    "With the split of the packing, and in folds, where every patient is tested once."
    modality, seen = request.getfixturevalue(packed), []
    for module in (tuning, stage_1):
        def watched(labelled, unlabelled, *a, draw=module.batches, **k):
            seen.append(set(labelled.subject) | set(unlabelled.subject))
            return draw(labelled, unlabelled, *a, **k)
        monkeypatch.setattr(module, "batches", watched)
    tested = []
    for division in divisions(modality, [0]):
        seen.clear()
        folder = run_division(modality, SHORT, ARMS, division, tmp_path)
        shop = workshop(modality, SHORT, division, tmp_path)
        test, val = set(shop.test.subject), set(shop.val.subject)
        assert test and val and len(seen) >= 5 and not any((test | val) & subjects for subjects in seen)
        assert test == set(kept(folder, "separate-all").scores["subject"])
        whole = set().union(*seen)
        assert set(shop.train.subject) <= whole and (len(whole) > len(shop.train)) == bool(modality.more)
        tested += kept(folder, "full-4").scores["image"].tolist()
    wanted = modality.table if modality.folds else modality.table[modality.table["split"] == "test"]
    assert sorted(tested) == wanted.index.tolist()
    (scores,) = Results.read(modality, ARMS, [0], tmp_path, ["denoising"]).scores["separate-all"]
    assert scores["image"].tolist() == sorted(tested) and scores["subject"].tolist() == wanted["subject"].tolist()
    assert ("fold" in scores) == bool(modality.folds) and (not modality.folds or scores["fold"].nunique() == 3)


def test_seeds_divide_patients_in_their_own_way(patients, tmp_path):
    shops = [workshop(patients, SHORT, Division(seed), tmp_path) for seed in (0, 0, 1)]
    tests = [shop.test.subject.tolist() for shop in shops]
    assert tests[0] == tests[1] != tests[2] and [shop.seed for shop in shops] == [0, 0, 1]
    assert shops[0].test.subject.tolist() == patients.table["subject"][shops[0].rows].tolist()


def test_images_of_another_source_are_asked_about_as_foreground(out, tmp_path):
    how = dict(out=out, size=32, subjects=24, source="phantom")
    modality = pack_modality("chest", "montgomery", "tuberculosis", asked="shenzhen", **how)
    assert modality.targets[1].outputs == 2 and len(modality.key.split()) == 2
    shop, other = workshop(modality, SHORT, Division(0), tmp_path), Store.open([modality.asked])
    for images in (shop.train, shop.val, shop.test, shop.asked):
        assert images.labels["structures"][range(len(images))].unique().tolist() == [0, 1]
    assert Store.open([modality.packed]).batch(range(4)).semantic.max() == 2
    assert len(shop.asked) == len(other) and not set(shop.asked.subject) & set(shop.unlabelled.subject)
    folder = run_division(modality, SHORT, [Arm("separate")], Division(0), tmp_path)
    asked = kept(folder, "separate-all").asked
    assert asked["subject"].tolist() == other.table["subject"].tolist() and asked["dice structures"].notna().any()
    assert asked["class finding"].tolist() == [int(v) for v in other.attribute("tuberculosis")]
    results = Results.read(modality, [Arm("separate")], [0], tmp_path)
    assert len(results.asked["separate-all"]) == 1 and len(results.asked["separate-all"][0]) == len(other)


def test_a_study_needs_a_seed(films, tmp_path):
    with pytest.raises(ParameterError, match="seed"):
        list(run_studies([films], ARMS, SHORT, [], tmp_path, [], 1, "cpu"))
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- what is refused

def test_two_modalities_of_one_place_and_a_set_with_two_roles_are_refused(tmp_path):
    one = dict(card="montgomery", finding="tuberculosis")
    how = dict(out=tmp_path, size=32, subjects=8)
    with pytest.raises(ParameterError, match="one set and one finding") as error:
        pack_modalities(dict(a=one, b=one | dict(more=["shenzhen"])), "phantom", **how)
    assert "a, b" in str(error.value) and not list(tmp_path.iterdir())
    for more, asked in ((["shenzhen"], "shenzhen"), ([], "montgomery")):
        with pytest.raises(ParameterError, match="learnt from as well"):
            pack_modalities(dict(a=one | dict(more=more, asked=asked)), "phantom", **how)


def test_a_role_is_part_of_the_key(films, patients):
    import dataclasses
    other = dataclasses.replace(films, more=(patients.packed,))
    asked = dataclasses.replace(films, asked=patients.packed)
    assert len({films.key, other.key, asked.key}) == 3


def test_taught_is_asked_where_phantoms_can_teach(films, patients):
    arms = [Arm("separate"), Arm("taught")]
    assert possible_arms(films, arms, [0]) == arms[:1] and possible_arms(patients, arms, [0]) == arms
    assert patients.drawn == patients.more[0] and films.drawn is None


def test_a_card_that_keeps_unknown_masks_is_refused(tmp_path):
    text = Path(load_card("montgomery").path).read_text(encoding="utf-8")
    own = tmp_path / "montgomery.toml"
    own.write_text(re.sub(r"(\[\[read\]\]\n)", r'\1unlabelled = "keep"\n', text), encoding="utf-8")
    with pytest.raises(TacoError, match="as images without any structure"):
        pack_modality("x", "montgomery", "tuberculosis", cards=tmp_path, out=tmp_path, size=32, subjects=8,
                      source="phantom")


@pytest.mark.long
def test_taught_arms_of_two_workers_are_those_of_one(patients, tmp_path):
    "Trials first: what phantoms teach, then segmentations, then classes that look within their masks."
    arms, how = [Arm("separate"), Arm("taught", 4)], setting(2, size=4, targets=())
    found = []
    for workers in (1, 2):
        state = tmp_path / str(workers)
        steps = list(run_studies([patients], arms, how, [0], state, (1e-3, 2e-3), workers, "cpu"))
        assert steps[-1][0] == steps[-1][1]
        assert {f.stem.removeprefix(f"{patients.place}-rate-") for f in state.glob("*rate-*.json")} == {
            "separate-denoising", "separate-structures", "separate-finding", "taught-structures", "taught-finding"}
        found.append(Results.read(patients, arms, [0], state))
    assert table_of(found[0]).drop(columns="seconds").equals(table_of(found[1]).drop(columns="seconds"))
