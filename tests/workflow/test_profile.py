"Profiles: merged, checked before anything runs."
import pytest

from taco.base import ParameterError
from taco.workflow.parameters import ExperimentError, all_needs
from taco.workflow.profile import load_profile, plan, profile_folders, profile_steps


def test_typo_in_a_profile_is_found_before_anything_runs():
    with pytest.raises(ParameterError, match="temperature") as error:
        plan(dict(name="mine", train=dict(temperatur=.1)), "train", dict(train="runs/mine/train"))
    assert "profiles/mine.yaml, section train" in str(error.value)
    with pytest.raises(ExperimentError, match="Did you mean 'quick'"): load_profile("quik")


@pytest.mark.parametrize("name", ["smoke", "quick", "quick_seeds", "gpu", "real"])
def test_every_step_of_every_profile_can_be_planned(name):
    profile = load_profile(name)
    folders = profile_folders(profile)
    for step in profile_steps(profile): assert plan(profile, step, folders)["folder"] == f"runs/{name}/{step}"


def test_a_profile_over_another_has_its_own_steps_and_what_it_does_not_say_from_below():
    below, above = load_profile("quick"), load_profile("quick_seeds")
    assert set(profile_steps(above)) == {"ums_rep", "sequence_ssl"}
    given = plan(above, "ums_rep", profile_folders(above))
    assert given["subjects"] == 1800 and given["steps"] == below["ums_rep"]["steps"]
    assert given["modalities"] == {"breast ultrasound": ["busi", "malignant"]}  # replaced, not merged


def test_without_a_profile_every_experiment_is_a_step():
    assert set(profile_steps(dict(name="plain"))) == set(all_needs())
