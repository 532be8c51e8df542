"taco.compiler: what a compiler got wrong is refused before a training begins."
import pytest
import torch

from taco.base import TacoError
from taco.compiler import ROUNDING, apart, check_same, compiled, plainly
from taco.learning.crew import Work
from taco.learning.shares import Shares


def test_how_far_apart_is_a_share_of_the_length():
    right = [torch.tensor([3., 0.]), torch.tensor([4.])]
    assert apart(right, right) == 0 and apart([None], [None]) == 0
    assert apart([torch.tensor([3., 0.]), torch.tensor([4.5])], right) == pytest.approx(.1)
    assert apart([torch.tensor([3., 0.]), None], right) == float("inf")
    with pytest.raises(ValueError): apart(right[:1], right)


@pytest.mark.parametrize("what", ROUNDING)
@pytest.mark.parametrize("half", [False, True])
def test_what_is_too_far_is_named(what, half):
    most = ROUNDING[what][half]
    check_same({what: [torch.tensor([1 + .9 * most])]}, {what: [torch.ones(1)]}, half)
    for wrong in (1 + 1.2 * most, float("nan")):
        with pytest.raises(TacoError, match="computes something else") as refused:
            check_same({what: [torch.tensor([wrong])]}, {what: [torch.ones(1)]}, half)
        assert refused.value.field == "compiled" and what in refused.value.found
        assert "compiled=False" in refused.value.fix


class Wrong(torch.autograd.Function):
    "The double; its gradient, or a layer's memory, may be something else."
    wrong = "nothing"

    @staticmethod
    def forward(ctx, x): return x * (3. if Wrong.wrong == "rows" else 2.)

    @staticmethod
    def backward(ctx, part): return part * (3. if Wrong.wrong == "gradients" else 2.)


@pytest.mark.parametrize("wrong", ["nothing", "rows", "gradients", "buffers"])
def test_a_compiler_that_is_wrong_is_refused(wrong, monkeypatch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            with torch.no_grad(): self.seen += 1
            return 2 * self.layer(x)

    def compiler(call, **_):
        "Instead of torch.compile: code that is as wrong as is asked for."
        def code(net, x):
            with torch.no_grad(): net.seen += 2 if wrong == "buffers" else 1
            return Wrong.apply(net.layer(x))
        return code
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(Wrong, "wrong", wrong)
    torch.manual_seed(0)
    net, x = Net(), torch.rand(8, 3)
    fast = compiled(Net.forward)
    with plainly(): assert torch.equal(fast(net, x), net(x))
    with torch.no_grad(): assert torch.equal(fast(net, x), net(x))
    work = Work(lambda _, share: x[share::2], lambda module, rows: (fast(module, rows), rows[:, :1]), rehearsed=True)
    with Shares(net, 2, work) as both:
        if wrong == "nothing": both.together(None)[0].sum().backward()
        else:
            with pytest.raises(TacoError, match=rf"something else(.|\n)*{wrong}"): both.together(None)
