"UMS-Rep: what may be learnt, noise of the strength that is said, and losses by hand."
import numpy as np
import pytest
import torch

from taco.base import ParameterError
from taco.transfer.unified.targets import Noise, Target, add_noise, target_loss


@pytest.mark.parametrize("target", [
    dict(name="a b", kind="denoising"), dict(name="a", kind="detection"),
    dict(name="a", kind="segmentation", outputs=1), dict(name="a", kind="denoising", weight=-1.),
    dict(name="a", kind="denoising", weight=float("nan")), dict(name="a", kind="segmentation", outputs=3, within="b")])
def test_impossible_targets_are_refused(target):
    with pytest.raises(ParameterError): Target(**target)


def test_unknown_classes_do_not_count():
    answer = torch.tensor([[2., 0.], [0., 5.]], requires_grad=True)
    loss = target_loss("classification", answer, torch.tensor([0, -1]))
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    nothing = target_loss("classification", answer, torch.tensor([-1, -1]))
    nothing.backward()
    assert nothing == 0 and (answer.grad == 0).all()


def test_a_denoiser_that_does_nothing_loses_one():
    clean, noisy = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    loss = lambda answer: target_loss("denoising", answer, clean, noisy).item()
    assert loss(noisy) == pytest.approx(1) and loss(clean) == 0
    assert loss((clean + noisy) / 2) == pytest.approx(1 / 4)
    assert torch.isfinite(target_loss("denoising", clean + 1, clean, clean)), "no noise at all"


def test_half_of_a_segmentation_is_dice_and_half_is_cross_entropy():
    wanted = torch.zeros(1, 4, 4, dtype=torch.long)
    wanted[:, 2:] = 1
    sure = 40. * torch.nn.functional.one_hot(wanted, 2).movedim(-1, 1).float()
    assert target_loss("segmentation", sure, wanted).item() == pytest.approx(0, abs=1e-4)
    undecided = target_loss("segmentation", sure * 0, wanted).item()
    assert undecided == pytest.approx(.5 * .5 + .5 * np.log(2), abs=1e-3)


def test_noise_is_of_the_strength_and_kind_that_is_said():
    flat, noise = torch.full((500, 1, 16, 16), .25), Noise((.05, .05), (.4, .4))
    draw = lambda some: add_noise(flat, noise, torch.Generator().manual_seed(0), some)
    gaussian, speckle = draw(torch.zeros(500, dtype=torch.bool)), draw(torch.ones(500, dtype=torch.bool))
    assert gaussian.std().item() == pytest.approx(.05, rel=.02)
    assert speckle.std().item() == pytest.approx(.1, rel=.03)
    dark = add_noise(torch.zeros(4, 1, 8, 8), Noise(), torch.Generator(), torch.ones(4, dtype=torch.bool))
    assert (dark == 0).all(), "speckle multiplies"
