"Questions about the relation of two images: four pictures that fit together in one way."
import pytest
import torch

from taco.base import TaskError
from taco.data.pack import pack
from taco.data.store import Store
from taco.tasks.relation import PARTNERS, RELATIONS, definition, get_relation, view
from taco.tasks.task import get_task


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("phantoms")
    return Store.open([pack("kvasir", out=out, size=48, source="phantom", subjects=8)])


def four_of(store, name):
    rows = store.select(task=get_task(get_relation(name).task))
    assert len(rows) >= 4
    first, second = store.batch(rows[:2]), store.batch(rows[2:4])
    return first, second, get_relation(name).function(first, second, torch.tensor([7, 7]))


@pytest.mark.parametrize("name", RELATIONS)
def test_four_pictures_and_only_one_way(store, name):
    first, second, four = four_of(store, name)
    assert all(t.shape == (2, 3, 48, 48) and t.min() >= 0 and t.max() <= 1 for t in four)
    x, y, other_x, other_y = four
    for a, b in ((x, other_x), (y, other_y), (x, y)):
        assert ((a - b).abs().mean((1, 2, 3)) > 1e-3).all()  # no picture is there twice
    again = get_relation(name).function(first, second, torch.tensor([7, 7]))
    assert all(torch.equal(a, b) for a, b in zip(four, again))


def test_whose_it_is_is_the_task_twice_with_the_same_draws(store):
    for name in (n for n in RELATIONS if n.startswith("whose_")):
        first, second, four = four_of(store, name)
        task, seeds = get_task(RELATIONS[name].task), torch.tensor([7, 7])
        wanted = (*task(first, seeds=seeds), *task(second, seeds=seeds))
        assert all(torch.equal(a, b) for a, b in zip(four, wanted))
    first, second, (x, y, other_x, other_y) = four_of(store, "whose_gaussian_denoising")
    inside = (x > 0) & (x < 1) & (other_x > 0) & (other_x < 1)
    assert torch.allclose((x - y)[inside], (other_x - other_y)[inside], atol=1e-5)  # the noise tells nothing


def test_a_turn_to_the_left_is_one_to_the_right_of_the_other(store):
    _, _, (x, y, other_x, other_y) = four_of(store, "turned_left")
    left = lambda image: image.rot90(1, (-2, -1))
    assert torch.equal(left(x), y) and torch.equal(left(other_x), other_y)
    assert torch.equal(left(other_y), x) and torch.equal(left(y), other_x)
    _, _, (x, y, other_x, other_y) = four_of(store, "mirrored_sideways")
    assert torch.equal(x.flip(-1), y) and torch.equal(other_x.flip(-1), other_y) and torch.equal(x.flip(-2), other_y)


def test_what_moves_moves_by_a_step(store):
    first, second, (x, y, other_x, other_y) = four_of(store, "moved_right")
    step = round(.15 / .55 * 48)  # in pixels of a view
    inner = slice(4, -4)
    shifted = lambda a, b, by: (a[..., inner, :48 - by] - b[..., inner, by:]).abs().mean()
    for a, b in ((x, y), (other_x, other_y), (other_y, x)):
        assert shifted(a, b, step) < .35 * (a - b).abs().mean()
    assert shifted(x, other_y, step) > .5 * (x - other_y).abs().mean()  # that way it has moved to the left
    _, _, (x, y, other_x, other_y) = four_of(store, "mask_in_place")
    assert (x - other_x).abs().mean() > .01 and (y - other_y).abs().mean() > .005


def test_a_view_looks_where_it_says():
    place = (torch.arange(64) + .5) / 64 - .5
    picture = torch.stack([place.expand(64, 64), place[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    number = lambda value: torch.tensor([float(value)])
    seen = view(picture, .5, number(.1), number(-.2), number(0))[0]
    assert seen[0, :, 32:34].mean().item() == pytest.approx(.1 + .5 / 64, abs=2e-3)
    assert seen[1, 31:33].mean().item() == pytest.approx(-.2, abs=2e-3)
    assert (seen[0, 0, -1] - seen[0, 0, 0]).item() == pytest.approx(.5 * 63 / 64, abs=2e-3)
    left = get_task("free_rotation")
    assert left.parameters["angle"].limits == (-360, 360)
    turned = view(picture, 1., number(0), number(0), number(90))
    assert torch.allclose(turned, picture.rot90(1, (-2, -1)), atol=1e-4)


def test_the_definition_says_all():
    table = definition()
    assert len(table) >= 12 and set(table["second_input"]) <= set(PARTNERS.values())
    assert table["question"].str.endswith("?").all() and (table["why_fair"].str.len() > 40).all()
    assert {get_task(task).family for task in table["task"]} == {"semantic", "generative", "transformation"}
    with pytest.raises(TaskError, match="turned_left"): get_relation("turned_lft")
