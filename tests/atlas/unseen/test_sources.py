"Where phantoms mislead: which pairs are chosen, and whose images are shown."
import numpy as np
import pytest

from taco.atlas.embedding import plan_pairs
from taco.atlas.rivals.baselines import Bank
from taco.atlas.unseen.sources import OPEN, draw_misled, misled
from taco.data.store import Store

TASKS = ["deblurring", "horizontal_flip", "intensity_inversion"]


@pytest.fixture
def asked(phantoms):
    store = Store.open([folder for name in ("busi", "kvasir") for folder in phantoms(name, subjects=12).folders])
    for part, licence in zip(store.parts, (OPEN[0], "research only")): part.manifest["licence"] = licence
    return store, plan_pairs(store, TASKS, "test", 4)


def answers(plan, wrong: dict[tuple[str, str], float]) -> np.ndarray:
    "Two seeds that are right but for the first share of the pairs of some (dataset, task)."
    found = np.ones((2, len(plan)))
    for (dataset, task), share in wrong.items():
        rows = np.flatnonzero((plan["dataset"] == dataset) & (plan["task"] == task))
        found[:, rows[:round(share * len(rows))]] = 0
    return found


def test_the_widest_gap_comes_first_and_only_open_images_are_shown(asked):
    store, plan = asked
    truth = np.ones((2, len(plan)))
    wrong = {("busi", "deblurring"): .5, ("busi", "horizontal_flip"): 1, ("kvasir", "intensity_inversion"): 1}
    told = misled(truth, answers(plan, wrong), plan, store)
    assert told["task"].tolist() == ["horizontal_flip"] and told["dataset"].tolist() == ["busi"], "a modality once"
    assert told["gap"].tolist() == [1] and set(plan.columns) < set(told.columns)
    part = answers(plan, {("busi", "deblurring"): .5})
    row = misled(truth, part, plan, store).iloc[0]
    assert row["gap"] == .5 and part[:, plan.index.get_loc(row.name)].sum() == 0, "a pair that was wrong is shown"
    for real, phantoms in ((truth, truth), (part, truth)): assert not len(misled(real, phantoms, plan, store))


def test_a_row_shows_a_phantom_of_the_same_task_and_modality_beside_the_real_pair(asked):
    store, plan = asked
    for part in store.parts: part.manifest["licence"] = OPEN[0]
    wrong = answers(plan, {("busi", "deblurring"): 1, ("kvasir", "horizontal_flip"): 1})
    told = misled(np.ones((2, len(plan))), wrong, plan, store)
    bank = Bank(store, plan_pairs(store, TASKS, "train", 2))
    figure = draw_misled(told, store, bank)
    assert sorted(told["dataset"]) == ["busi", "kvasir"] and len(figure.axes) == 8
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    for row, start in zip(told["dataset"], (0, 4)):
        assert titles[start] == f"phantom of {row}" and f"({row}): +1.00" in titles[start + 2]
    images = [ax.images[0].get_array() for ax in figure.axes]
    assert all(image.shape == (store.size, store.size, 3) for image in images)
    assert not np.array_equal(images[0], images[2]) and not np.array_equal(images[2], images[3])
