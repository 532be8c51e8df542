"taco.learning.loss: the numbers, the gradient, the landmarks."
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SupConLoss

from taco.base import ParameterError
from taco.learning.loss import Anchors, compare, fading, naming_loss, positive_labels, supcon, supcon_bounds
from taco.learning.pairs import Pairs


@pytest.mark.parametrize("temperature", [.05, .1, .5])
def test_loss_agrees_with_another_implementation(temperature):
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        z = F.normalize(torch.randn(30, 16, generator=generator, dtype=torch.float64), dim=1)
        labels = torch.randint(0, 8, (30,), generator=generator)
        assert torch.isclose(supcon(z, labels, temperature), SupConLoss(temperature)(z, labels), rtol=1e-9)


def test_loss_gradient():
    z = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3])  # the last two have no positive
    assert torch.autograd.gradcheck(lambda z: supcon(F.normalize(z, dim=1), labels, .2), z)


def test_samples_without_positives():
    z = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    loss = supcon(z, torch.arange(6))
    loss.backward()
    assert loss == 0 and (z.grad == 0).all()
    labels = torch.tensor([0, 0, 0, 1, 2, 3])
    log_p = (z @ z.T / .1).fill_diagonal_(-torch.inf).log_softmax(1)
    rows = [(log_p[i, j] + log_p[i, k]) / 2 for i, j, k in ((0, 1, 2), (1, 0, 2), (2, 0, 1))]
    assert torch.isclose(supcon(z, labels), -torch.stack(rows).mean())


def test_loss_is_computed_in_float32():
    z = F.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(40) % 5
    with torch.autocast("cpu", torch.bfloat16): inside = supcon(z, labels)
    assert torch.equal(inside, supcon(z, labels)) and supcon(z.bfloat16(), labels).dtype == torch.float32


def test_landmarks_of_the_loss():
    chance, best = supcon_bounds(10, 4)
    assert np.isclose(chance, np.log(39)) and np.log(3) < best < chance


def test_kinds_of_positives():
    numbers = dict(record=torch.arange(4), seed=torch.arange(4))
    numbers |= dict(task=torch.tensor([0, 0, 0, 1]), dataset=torch.tensor([0, 0, 1, 1]))
    pairs = Pairs(*torch.rand(2, 4, 3, 8, 8), **numbers)
    same = lambda kind: (lambda n: n[:, None] == n)(positive_labels(pairs, kind)).int().tolist()
    assert same("task") == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert same("task+dataset") == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(ParameterError, match="task\\+dataset"): positive_labels(pairs, "task+datasets")


def test_weights_of_positives():
    "Written out for each pair; equal weights of any size are none; the gradient is that of the formula."
    chance = torch.Generator().manual_seed(3)
    z = F.normalize(torch.randn(7, 4, generator=chance, dtype=torch.float64), dim=1)
    labels, strengths = torch.tensor([0, 0, 0, 1, 1, 2, 0]), torch.rand(7, 2, generator=chance)
    weights = fading(strengths, .3)
    gap = (strengths[:, None] - strengths).abs().amax(2)
    assert torch.allclose(weights, (-gap / .3).exp(), atol=1e-6)
    log_p, total, rows = (z @ z.T / .2).fill_diagonal_(-torch.inf).log_softmax(1), 0., 0
    for i in range(7):
        others = [j for j in range(7) if j != i and labels[j] == labels[i]]
        if not others: continue
        share = sum(weights[i, j] for j in others)
        total, rows = total - sum(weights[i, j] * log_p[i, j] for j in others) / share, rows + 1
    assert torch.isclose(supcon(z, labels, .2, weights), total / rows)
    assert torch.isclose(supcon(z, labels, .2, torch.full((7, 7), .01)), supcon(z, labels, .2))
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: supcon(F.normalize(z, dim=1), labels, .2, weights.double()), z)


def test_naming_is_cross_entropy_at_a_temperature():
    chance = torch.Generator().manual_seed(5)
    z = F.normalize(torch.randn(12, 6, generator=chance), dim=1)
    head, labels = torch.nn.Linear(6, 4), torch.arange(12) % 4
    shares = torch.softmax(head(z) / .1, 1)[torch.arange(12), labels]
    assert torch.isclose(naming_loss(z, labels, head, .1), -shares.log().mean(), atol=1e-5)
    assert naming_loss(z.bfloat16(), labels, head, .1).dtype == torch.float32


def test_anchors_add_the_cosine_to_each_name():
    chance = torch.Generator().manual_seed(6)
    z = F.normalize(torch.randn(12, 6, generator=chance), dim=1)
    anchors, names, together = Anchors(6, 5), torch.arange(12) % 5, torch.arange(12) // 3
    points = F.normalize(anchors.points, dim=1)
    assert torch.allclose(anchors(z), z @ points.T, atol=1e-6)
    both = compare(z, torch.stack([together, names], 1), .1, anchors)
    assert torch.isclose(both, supcon(z, together, .1) + F.cross_entropy(z @ points.T / .1, names), atol=1e-5)
    alone = compare(z, torch.stack([together, names], 1), .1)
    assert torch.equal(alone, supcon(z, together, .1))
    at_home = compare(points, torch.stack([torch.arange(5)] * 2, 1), .1, anchors)
    assert at_home < both  # where a pair lies on its own anchor
