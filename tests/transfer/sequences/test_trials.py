"Recipes are chosen on val, as many for each pre-training."
from dataclasses import replace

import pandas as pd
import pytest

from taco.base import EncoderError, ParameterError
from taco.learning.until import Patience
from taco.transfer.sequences import trials as chapter
from taco.transfer.sequences.arms import SequenceConfig, networks
from taco.transfer.sequences.study import Cell, compare, grid, read_looks
from taco.transfer.sequences.trials import check_trials, choose_recipes, known_trials
from tests.transfer.sequences.toys import TINY, quiet

TWO = [{"learning_rate": 1e-3}, {"learning_rate": 3e-3}]


def test_an_arm_stands_for_each_pretraining():
    given = {"all": TWO, "moco": [{"momentum": .9}, {"momentum": .99}], "scratch": [{}, {"finetune_rate": .02}]}
    found = check_trials(["scratch", "moco", "all-encoder", "all"], given)
    assert found == {"scratch": "scratch", "moco": "moco", "all": "all"}


@pytest.mark.parametrize("trials, word", [
    ({"all": TWO}, "moco"), ({"all": TWO, "moco": [{}]}, "all 2, moco 1")])
def test_a_rival_with_fewer_trials_is_refused(trials, word):
    with pytest.raises(ParameterError, match=word): check_trials(["all", "moco"], trials)


@pytest.mark.parametrize("name, wrong", [("all", "momentum"), ("scratch", "learning_rate"), ("masked", "queue"),
                                         ("moco", "rate")])
def test_a_setting_that_a_method_does_not_have_is_refused(name, wrong):
    with pytest.raises(ParameterError, match=rf"recipes\.{name}(.|\n)*{wrong}"):
        SequenceConfig(recipes={name: {wrong: 1.}})


def test_a_recipe_may_have_a_norm_of_its_own():
    config = SequenceConfig((4, 8, 8), norm="instance", recipes={"moco": {"norm": "batch"}})
    kind = lambda name: type(networks(config, 3, 0, name)[0].stages[0].conv_0.adn.N).__name__
    assert kind("moco") == "BatchNorm2d" and kind("all") == kind("") == "InstanceNorm2d"
    with pytest.raises(EncoderError, match="norm"): SequenceConfig(recipes={"all": {"norm": "layer"}})


def test_val_decides_and_what_is_done_is_kept(hearts, tmp_path, monkeypatch):
    asked = []
    def made(cell, volumes, config, folder, split, distances):
        asked.append((cell, split, dict(config.recipes)))
        folder.mkdir(parents=True)
        (folder / f"{cell.name}.json").write_text("{}")
        return cell.name
    dice = {"all-0": .3, "all-1": .4, "moco-0": .6, "moco-1": .5}
    table = lambda folder, cell: pd.DataFrame(dict(volume=["a"], dice=[dice[folder.name]]))
    monkeypatch.setattr(chapter, "run_cell", made)
    monkeypatch.setattr(chapter, "read_cell", table)
    monkeypatch.setattr(chapter, "pretrain_cell", lambda *of: None)
    given = {"all": TWO, "moco": [{"momentum": .9}, {"momentum": .99}]}
    how = (hearts, TINY, tmp_path, ["moco", "all-encoder", "all"], given, 1)
    found = choose_recipes(*how, seed=3, tell=quiet)
    assert found == replace(TINY, recipes={"moco": {"momentum": .9}, "all": {"learning_rate": 3e-3}})
    assert {a[:2] for a in asked} == {(Cell("moco", 1, 3), "val"), (Cell("all", 1, 3), "val")} and len(asked) == 4
    assert [a[2] for a in asked] == [{"moco": {"momentum": .9}}, {"moco": {"momentum": .99}},
                                     {"all": TWO[0]}, {"all": TWO[1]}]
    asked.clear()
    assert choose_recipes(*how, seed=3, tell=quiet) == found and not asked
    told = pd.DataFrame(known_trials(tmp_path / "recipes.json"))
    assert told["chosen"].tolist() == [True, False, False, True]
    assert told["dice"].tolist() == pytest.approx([.6, .5, .3, .4])
    dice["all-0"] = .9  # others would choose otherwise, but trainings are there that followed the choice
    later = (hearts, TINY, tmp_path, ["moco", "all-encoder", "masked"], given | {"masked": TWO}, 2)
    dice |= {"masked-0": .2, "masked-1": .1}
    assert choose_recipes(*later, seed=4, tell=quiet).recipes == found.recipes | {"masked": TWO[0]}
    assert {a[0].arm for a in asked} == {"masked"}
    assert [a["name"] for a in known_trials(tmp_path / "recipes.json")] == ["moco"] * 2 + ["all"] * 2 + ["masked"] * 2


def test_the_mean_over_sets_decides_and_they_share_a_pretraining(hearts, tmp_path, monkeypatch):
    dice, done = {("all-0", 0): .9, ("all-0", 1): .1, ("all-1", 0): .6, ("all-1", 1): .5}, []
    def first(cell, volumes, config, folder, *_): done.append((folder.name, "pretraining"))
    def made(cell, volumes, config, folder, split, distances):
        done.append((folder.name, cell.take))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{cell.name}.json").write_text("{}")
        return cell.name
    table = lambda folder, cell: pd.DataFrame(dict(volume=["a"], dice=[dice[folder.name, cell.take]]))
    for name, fake in (("pretrain_cell", first), ("run_cell", made), ("read_cell", table)):
        monkeypatch.setattr(chapter, name, fake)
    found = choose_recipes(hearts, TINY, tmp_path, ["all"], {"all": TWO}, 1, sets=2, tell=quiet)
    assert found.recipes == {"all": TWO[1]}, "one lucky set is not enough"
    assert sorted(done, key=str) == sorted([(f, s) for f in ("all-0", "all-1") for s in (0, 1, "pretraining")], key=str)
    assert {s for _, s in done[:2]} == {"pretraining"}
    told = known_trials(tmp_path / "recipes.json")
    assert [a["dice"] for a in told] == pytest.approx([.5, .55]) and len(told[0]["cells"]) == 2


def test_finetuning_ends_on_val_and_its_looks_are_kept(hearts, tmp_path):
    patient = replace(TINY, finetune_steps=40, patience=Patience(every=2, looks=2, falls=0))
    compare(hearts, patient, tmp_path, ["scratch", "order"], [1], [0, 1], distances=False, tell=quiet)
    looks = read_looks(tmp_path, grid(["scratch", "order"], [1], [0, 1], 1))
    last = looks.groupby(["arm", "seed"])["step"].max()
    assert len(last) == 4 and (last < 40).any() and looks["value"].between(0, 1).all()
