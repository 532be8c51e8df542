"Profiles: merged, checked before anything runs."
import pytest
import yaml

from taco.base import ParameterError
from taco.workflow.parameters import ExperimentError, all_needs, project_root
from taco.workflow.profile import differences, folder_for, load_profile, plan, profile_folders, profile_steps


def test_typo_in_a_profile_is_found_before_anything_runs():
    with pytest.raises(ParameterError, match="temperature") as error:
        plan(dict(name="mine", train=dict(temperatur=.1)), "train", dict(train="runs/mine/train"))
    assert "profiles/mine.yaml, section train" in str(error.value)
    with pytest.raises(ExperimentError, match="Did you mean 'quick'"): load_profile("quik")


@pytest.mark.parametrize("name", ["smoke", "quick", "gpu", "real", "real_gpu", "ask", "study"])
def test_every_step_of_every_profile_can_be_planned(name):
    profile = load_profile(name)
    folders = profile_folders(profile)
    for step in profile_steps(profile): assert plan(profile, step, folders)["folder"] == f"runs/{name}/{step}"


def test_a_profile_over_another_has_its_own_steps_and_what_it_does_not_say_from_below():
    below, above = load_profile("quick"), load_profile("gpu")
    assert {"train_seed1", "sequence_ssl"} <= set(profile_steps(above)) and "gallery" not in profile_steps(above)
    assert {"gallery", "sequence_ssl"} <= set(profile_steps(below))
    given = plan(above, "sequence_ssl", profile_folders(above))
    assert given["size"] == above["sequence_ssl"]["size"] != below["sequence_ssl"]["size"]
    own = yaml.safe_load((project_root() / "profiles/gpu.yaml").read_text(encoding="utf-8"))["sequence_ssl"]
    assert given["draws"] == below["sequence_ssl"]["draws"] == 2000 and "draws" not in own
    assert given["arms"][:3] == ["scratch", "moco", "contrast"]  # replaced, not merged


def test_without_a_profile_every_experiment_is_a_step():
    assert set(profile_steps(dict(name="plain"))) == set(all_needs())


@pytest.mark.parametrize("text, words", [
    ("trian: {steps: 3}", "Did you mean 'train'"), ("train: {stepps: 3}", "Did you mean 'steps'"),
    ("shraed: {seed: 1}", "Did you mean 'shared'"), ("shared: {sead: 1}", "Did you mean 'seed'"),
    ("skip: [galery]", "Did you mean 'gallery'"), ("only: [trian]", "Did you mean 'train'"),
    ("train: 3", "a section"),
    ("again: {experiment: trian}", "Did you mean 'train'"), ("only: train", "a list"),
    ("- a", "a list"), ("a: [1", "YAML"),
    ("base: 3", "based"), ("base: mine", "based"),
    ("open: [dta]", "Did you mean 'data'"), ("seed: 1", "a section"),
])
def test_what_means_nothing_in_a_profile_is_refused(text, words, tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.yaml").write_text(text)
    with pytest.raises(ExperimentError, match=words) as error: load_profile("mine", tmp_path)
    assert "mine.yaml" in str(error.value)


def test_other_parameters_have_a_folder_of_their_own():
    quick = load_profile("quick")
    folders = profile_folders(quick)
    same = plan(quick, "train", folders)
    assert folder_for(quick, "train", folders, same) == folder_for(quick, "train", folders, same | dict(device="cuda"))
    made = {folder_for(quick, "train", folders, same | dict(steps=n)) for n in (3, 4)} | {folders["train"]}
    assert len(made) == 3 and all(f.startswith("runs/quick/train") for f in made)
    assert differences(quick, "train", folders, same | dict(steps=3)) == dict(steps=(3, same["steps"]))
    ask = load_profile("ask")
    given = plan(ask, "real", profile_folders(ask)) | dict(data="/mine/scans", pack_run="runs/quick/pack")
    assert differences(ask, "real", profile_folders(ask), given) == {}  # the profile leaves these open


def test_each_real_set_of_the_other_two_systems_is_a_step_of_its_own():
    real = load_profile("real")
    folders = profile_folders(real)
    assert {"ums_rep_busi", "ums_rep_shenzhen", "sequence_acdc", "sequence_la2018"} <= set(profile_steps(real))
    assert not {"ums_rep", "sequence_ssl"} & set(profile_steps(real))
    busi, shenzhen = (plan(real, f"ums_rep_{name}", folders) for name in ("busi", "shenzhen"))
    assert list(busi["modalities"]) == ["busi"] and list(shenzhen["modalities"]) == ["shenzhen"]
    assert busi["size"] == shenzhen["size"] == real["ums_rep"]["size"]
    assert plan(real, "sequence_la2018", folders)["real"] == ["la2018"]
