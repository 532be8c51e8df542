"UMS-Rep: scores by hand, and those of a network that is always right."
import pytest
import torch

from taco.transfer.unified.scores import image_dice, mean_scores, psnr, score_images
from tests.transfer.unified.toys import TARGETS


def test_scores_are_what_they_are_called(images):
    one_hot = torch.nn.functional.one_hot

    class Perfect(torch.nn.Module):
        def forward(self, image, names):
            rows = slice(0, len(image))
            if names == ["denoising"]: return dict(denoising=image)
            if names == ["finding"]: return dict(finding=one_hot(images.labels["finding"][rows], 2).float())
            return dict(organs=one_hot(images.labels["organs"][rows].long(), 3).movedim(-1, 1).float())
    scores = score_images(Perfect(), images, TARGETS)
    found = mean_scores(scores, TARGETS)
    assert found["dice"] == found["accuracy"] == found["auroc"] == 1
    # Nothing was removed: 0.2, clipped where it is dark.
    assert scores["psnr Gaussian"].mean() == pytest.approx(16, abs=1.5)
    flipped = scores.assign(**{"margin finding": -scores["margin finding"]})
    assert mean_scores(flipped, TARGETS)["auroc"] == 0



def test_psnr_and_dice_by_hand():
    fifths = torch.full((2, 1, 4, 4), .5), torch.full((2, 1, 4, 4), .4)
    assert psnr(*fifths).tolist() == pytest.approx([20, 20], abs=1e-3)
    truth, logits = torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 4)
    truth[0, 0], truth[0, 1] = 1, 2
    logits[0, 0], logits[0, 1, 0], logits[0, 2, 1, :2] = .5, 1, 1  # all of 1, half of 2
    assert image_dice(logits, truth).item() == pytest.approx((1 + 2 * 2 / (2 + 4)) / 2)
