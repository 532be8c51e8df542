"taco.compiler: what a compiler got wrong is refused before a training begins."
import pytest
import torch
from torch import nn

from taco.base import TacoError
from taco.compiler import ROUNDING, apart, check_same, compiled, has_compiler, outcome
from taco.learning.crew import Work
from taco.learning.matching import Wholes
from taco.learning.shares import Shares


def test_how_far_apart_is_a_share_of_the_length():
    right = [torch.tensor([3., 4.]), torch.tensor([10.]), None]
    assert apart(right, right) == 0 and apart([None], [None]) == 0 and apart([], []) == 0
    assert apart([right[0], torch.tensor([11.]), None], right) == pytest.approx(.1)
    assert apart([right[0], right[1], torch.tensor([1.])], right) == pytest.approx(1 / .5)
    assert apart([None], [torch.ones(3)]) == 1
    assert apart([torch.zeros(2), right[1], None], right) == 1, "each tensor counts, not the sum of all"
    assert apart([torch.tensor([.1]), right[1]], [torch.tensor([.2]), right[1]]) == pytest.approx(.1 / .5)
    with pytest.raises(ValueError): apart(right[:1], right)
    assert not apart([torch.tensor([float("nan")])], [torch.ones(1)]) <= 1


class Net(nn.Module):
    "A layer and its double; it remembers a mean, a count, and something that never changes and is large."
    def __init__(self, wrong: str = ""):
        super().__init__()
        self.layer, self.small, self.wrong = nn.Linear(3, 2), nn.Parameter(torch.tensor(1e-2)), wrong
        for name, value in dict(seen=100., constant=1e4).items(): self.register_buffer(name, torch.tensor(value))
        self.register_buffer("count", torch.tensor(5000))

    def forward(self, x):
        with torch.no_grad():
            self.seen += x.mean()
            self.count += 1
        return 2 * self.layer(x) + self.small

    def code(self, x):
        "What a compiler would have made of `forward`."
        off = lambda what: 1.5 if self.wrong == what else 1.
        with torch.no_grad():
            self.seen += off("a mean") * x.mean()
            self.count += 2 if self.wrong == "a count" else 1
        held = lambda t, factor: t * factor - (t * (factor - 1)).detach()  # another gradient alone
        return off("values") * 2 * held(self.layer(x), off("gradients")) + held(self.small, off("one gradient"))


WRONG = dict(values="values", gradients="gradients", **{
    "one gradient": "gradients", "a mean": "what layers remember", "a count": "what layers remember"})


@pytest.mark.parametrize("wrong", ["", *WRONG])
@pytest.mark.parametrize("count", [1, 2])
def test_a_compiler_that_is_wrong_is_refused(wrong, count, monkeypatch):
    made = []
    def compiler(call, **_):
        made.append(call.__name__)
        return Net.code
    monkeypatch.setattr(torch, "compile", compiler)
    torch.manual_seed(0)
    net, x = Net(wrong), torch.rand(8, 3)
    with torch.no_grad(): plain = net(x)
    before = [t.clone() for t in net.state_dict().values()]
    fast = compiled(Net.forward)
    with torch.no_grad(): assert torch.equal(fast(net, x), plain)
    net.load_state_dict(dict(zip(net.state_dict(), before)))
    rows = lambda module, part: (fast(module, part), part[:, :1])
    work = Work(lambda _, share: x[share::count], rows, rehearsed=True)
    def go():
        if count == 1: return fast(net, x)
        with Shares(net, count, work) as both: return both.together(None)[0]
    if wrong:
        for _ in range(2):  # and again, whoever asks twice
            with pytest.raises(TacoError, match=rf"something else(.|\n)*{WRONG[wrong]}") as refused: go()
        assert refused.value.field == "compiled" and "compiled=False" in refused.value.fix
        assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values())), "copies are compared"
    else:
        go().sum().backward()
        assert net.count == 5002 and made == ["forward"]


def test_what_learns_later_is_compared_as_well(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: Net.code)
    net, x = Net("gradients"), torch.rand(8, 3)
    net.layer.requires_grad_(False)
    fast = compiled(Net.forward)
    fast(net, x)  # nothing wrong is asked for
    net.layer.requires_grad_(True)
    with pytest.raises(TacoError, match="something else"): fast(net, x)


def test_a_network_that_is_no_number_is_not_the_compilers_fault():
    net, x = Net(), torch.full((8, 3), torch.nan)
    check_same(Net.code, Net.forward, (net, x))


def test_half_precision_is_allowed_more():
    net, x = Net(), torch.rand(8, 3)
    nearly = lambda net, x: net(x) * 1.05
    with pytest.raises(TacoError, match="values"): check_same(nearly, Net.forward, (net, x))
    with torch.autocast("cpu", torch.bfloat16): check_same(nearly, Net.forward, (net, x))


def test_outcome_leaves_its_arguments_alone():
    net, x = Net(), torch.rand(8, 3)
    before = [t.clone() for t in net.state_dict().values()]
    found = outcome(Net.forward, (net, x))
    assert list(found) == list(ROUNDING) and len(found["gradients"]) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values()))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
def test_wholes_are_compiled_right(monkeypatch, tmp_path):
    "torch 2.13 samples between pixels wrongly when compiled; the network must not ask it to."
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    wholes, (x, y) = Wholes(8), nn.functional.interpolate(2 * torch.rand(8, 3, 8, 8) - 1, 64).split(4)
    found = compiled(Wholes.forward)(wholes, x, y)
    assert found.shape == (4, 8) and found.requires_grad
