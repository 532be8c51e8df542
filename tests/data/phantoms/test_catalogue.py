"Phantoms: every recipe gives valid, deterministic, varied subjects whose labels are what it declares."
import matplotlib.pyplot as plt
import numpy as np
import pytest

from taco.data.phantoms.catalogue import CHAPTERS, PHANTOMS, draw_recipes, make_subject
from taco.data.prepare import prepare
from taco.data.record import MODALITIES, check_record

RECIPES = sorted(PHANTOMS)
SEED = 7


@pytest.fixture(scope="module")
def subjects():
    "Subjects 0 … 11 of a recipe at 64 pixels, made once; fewer of volumes, which have many slices each."
    made = {}
    def of(recipe):
        if recipe not in made:
            first = make_subject(recipe, 0, 64, seed=SEED)
            count = 3 if len(first) > 1 else 12
            made[recipe] = [first] + [make_subject(recipe, i, 64, seed=SEED) for i in range(1, count)]
        return made[recipe]
    return of


def test_all_modalities_have_a_phantom():
    assert {p.modality for p in PHANTOMS.values()} == set(MODALITIES)


def test_every_chapter_is_imported_and_has_a_recipe():
    assert {p.make.__module__ for p in PHANTOMS.values()} == {chapter.__name__ for chapter in CHAPTERS}
    assert len(PHANTOMS) == 43


def test_the_picture_shows_every_recipe_once():
    titles = [ax.get_title().split("\n")[-1] for ax in draw_recipes(size=32).axes]
    plt.close("all")
    assert sorted(filter(None, titles)) == RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_records_are_valid_and_named(recipe, subjects):
    phantom = PHANTOMS[recipe]
    for number, records in enumerate(subjects(recipe)):
        for record in records:
            check_record(record)
            assert record.image.shape[1:] == record.semantic.shape == (64, 64)
            assert record.dataset == recipe and record.subject == f"{recipe}-{number:04d}"
            assert record.modality == phantom.modality
            assert set(np.unique(record.semantic)) <= {0, *phantom.classes}
            assert record.image.std() > .03, "an even image shows nothing"
            assert (record.instances is not None) == phantom.instances
            if phantom.instances: assert np.array_equal(record.instances > 0, record.semantic > 0)
        assert len({r.key for r in records}) == len(records)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_declared_class_appears(recipe, subjects):
    records = [r for s in subjects(recipe) for r in s]
    extra = iter(range(100, 140))
    seen = set(np.unique([r.semantic for r in records]))
    while not set(PHANTOMS[recipe].classes) <= seen:  # rare classes need more subjects
        number = next(extra, None)
        assert number is not None, f"never seen: {set(PHANTOMS[recipe].classes) - seen}"
        seen |= {int(v) for r in make_subject(recipe, number, 64, seed=SEED) for v in np.unique(r.semantic)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_deterministic_and_different(recipe, subjects):
    first, second = subjects(recipe)[:2]
    again = make_subject(recipe, 0, 64, seed=SEED)
    other = make_subject(recipe, 0, 64, seed=SEED + 1)
    equal = lambda r, s: np.array_equal(r.image, s.image) and np.array_equal(r.semantic, s.semantic)
    same = lambda a, b: all(equal(r, s) for r, s in zip(a, b))
    assert len(first) == len(again) and same(first, again)
    assert not same(first, second) and not same(first, other)
    middle = len(first) // 2
    difference = np.abs(first[middle].image - second[len(second) // 2].image).mean()
    assert difference > .02, "subjects should differ in more than noise"


@pytest.mark.parametrize("recipe", RECIPES)
def test_same_anatomy_at_every_size(recipe, subjects):
    "Labels at 128 pixels, every second pixel taken, agree with those at 64 but for edges."
    small, large = subjects(recipe)[0], make_subject(recipe, 0, 128, seed=SEED)
    assert len(small) == len(large)
    for a, b in zip(small, large):
        fine = b.semantic.reshape(64, 2, 64, 2)
        agree = (a.semantic[:, None, :, None] == fine).any((1, 3)).mean()
        assert agree > .9, f"{agree:.2f} of the label map agree"


@pytest.mark.parametrize("recipe", RECIPES)
def test_slices_are_ordered_and_cohere(recipe, subjects):
    for records in subjects(recipe):
        if records[0].slice is None:  # photographs, or two frames of a film
            assert [r.slice for r in records] == [None] * len(records) and len(records) <= 2
            continue
        assert [r.slice for r in records] == list(range(len(records)))
        images = np.stack([r.image.ravel() for r in records])
        likeness = np.corrcoef(images)
        near = np.mean([likeness[i, i + 1] for i in range(len(records) - 1)])
        half = len(records) // 2
        far = np.mean([likeness[i, i + half] for i in range(len(records) - half)])
        assert near > far, "neighbouring slices should be more alike than distant ones"


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_the_records_allow(recipe, subjects):
    "Most records can show what the annotation promises: a foreground, several classes, several objects."
    phantom, records = PHANTOMS[recipe], [r for s in subjects(recipe) for r in s]
    can = [prepare(r, 64).can for r in records]
    share = lambda need: np.mean([need in c for c in can])
    assert share("semantic") > .6
    if len(phantom.classes) > 1: assert share("classes") > .5
    if phantom.instances: assert share("instances") > .8
    in_colour = ("histology", "fundus photography", "dermoscopy", "endoscopy")
    if phantom.modality in in_colour: assert share("colour") > .9
