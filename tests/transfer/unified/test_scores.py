"UMS-Rep: scores by hand, those of a network that is always right, and AUROC fold by fold."
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from taco.transfer.unified.net import UnifiedNet
from taco.transfer.unified.scores import (
    NOISES,
    answers_to,
    auroc,
    bootstrap_aurocs,
    image_dice,
    image_values,
    label_sets,
    look_at,
    mean_losses,
    mean_scores,
    psnr,
    score_images,
)
from tests.transfer.unified.toys import TARGETS, WIDTHS, WITHIN, relabelled

FINDING = TARGETS[2]


def test_scores_are_what_they_are_called(images):
    one_hot = torch.nn.functional.one_hot

    class Perfect(torch.nn.Module):
        def forward(self, image, names):
            rows = slice(0, len(image))
            known = dict(finding=one_hot(images.labels["finding"][rows], 2).float(), denoising=image,
                         organs=one_hot(images.labels["organs"][rows].long(), 3).movedim(-1, 1).float())
            return {name: known[name] for name in names}
    scores = score_images(Perfect(), images, TARGETS)
    found = mean_scores(scores, TARGETS)
    assert len(scores) == len(images) and found["dice"] == found["accuracy"] == found["auroc"] == 1
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
    assert image_dice(logits, truth * 0).isnan().all(), "there is nothing to find"


def test_every_image_is_scored_with_its_own_name_and_noise(images):
    "However many at a time: the order is that of the images, and a network is asked for all its targets at once."
    net, seen = UnifiedNet(1, WITHIN, WIDTHS).eval(), []
    whole, few = (score_images(net, images, WITHIN, batch_size) for batch_size in (24, 7))
    columns = [f"{m} {n}" for n in NOISES for m in ("psnr", "ssim")]
    assert list(whole) == [*columns, "dice organs", "correct finding", "margin finding", "class finding"]
    labels = [name for name in whole if "finding" in name or "organs" in name]
    pd.testing.assert_frame_equal(whole[labels], few[labels], rtol=1e-3, atol=1e-4)
    assert whole["class finding"].tolist() == images.labels["finding"].tolist()
    net.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[1])))
    one, again = (list(answers_to(net, images, WITHIN)) for _ in range(2))
    assert seen == [("denoising",), ("denoising",), ("organs", "finding")] * 2
    assert all(torch.equal(a.given, b.given) for a, b in zip(one, again)), "the noise is the same at every call"
    assert [a.noise for a in one] == ["Gaussian", "speckle", "", ""] and not torch.equal(one[0].given, one[1].given)


def test_what_is_not_known_is_not_scored(images):
    finding = images.labels["finding"].clone()
    finding[[2, 5]] = -1
    part = relabelled(images, **dict(images.labels, finding=finding))
    scores = score_images(UnifiedNet(1, TARGETS, WIDTHS), part, TARGETS)
    for name in ("correct finding", "margin finding", "class finding"):
        assert scores[name].isna().to_numpy().nonzero()[0].tolist() == [2, 5]


# ---------------------------------------------------------------- on val

@torch.no_grad()
def test_the_loss_on_val_is_that_of_the_images_with_labels(images):
    net = UnifiedNet(1, TARGETS, WIDTHS).eval()
    losses = lambda images, targets, size=64: mean_losses(answers_to(net, images, targets, size))
    whole = losses(images, TARGETS)
    assert whole == losses(images, TARGETS) and list(whole) == [t.name for t in TARGETS]
    finding = images.labels["finding"].clone()
    finding[5:] = -1
    part = relabelled(images, **dict(images.labels, finding=finding))
    known = losses(images.take(range(5)), [FINDING])["finding"]
    assert losses(part, [FINDING], 3)["finding"] == pytest.approx(known, rel=1e-5)
    assert losses(part, TARGETS[:2]) == losses(images, TARGETS[:2])


@torch.no_grad()
def test_a_look_says_minus_the_weighted_sum_of_log_losses_and_the_scores(images):
    net = UnifiedNet(1, TARGETS, WIDTHS).eval()
    weighted = [dataclasses.replace(t, weight=w) for t, w in zip(TARGETS, (1., .5, 3.))]
    found, losses = look_at(net, images, weighted)(), mean_losses(answers_to(net, images, TARGETS))
    assert found["value"] == pytest.approx(-sum(t.weight * np.log(losses[t.name] + .01) for t in weighted))
    assert {name: found[f"loss {name}"] for name in losses} == losses
    scores = mean_scores(score_images(net, images, TARGETS), TARGETS)
    assert {name: found[name] for name in scores} == pytest.approx(scores)


# ---------------------------------------------------------------- AUROC

def margins(*folds: list[float], classes=(0, 0, 1, 1)) -> pd.DataFrame:
    "A fold an argument: margins of images of these classes."
    parts = [pd.DataFrame({"margin finding": found, "class finding": list(classes), "fold": at})
             for at, found in enumerate(folds)]
    return pd.concat(parts, ignore_index=True)


def test_auroc_is_of_each_fold_for_its_margins_have_a_scale_of_their_own():
    apart = margins([1, 2, 3, 4], [-40, -30, -20, -10])
    assert auroc(apart, "finding") == 1 and auroc(apart.drop(columns="fold"), "finding") == .75
    half = margins([1, 2, 3, 4], [4, 3, 2, 1])
    assert auroc(half, "finding") == .5
    one_class = pd.concat([margins([1, 2, 3, 4]), margins([1, 2], classes=(1, 1)).assign(fold=1)])
    assert auroc(one_class, "finding") == 1, "a fold of one class says nothing"
    assert np.isnan(auroc(margins([1, 2], classes=(1, 1)), "finding"))
    unknown = margins([1, 2, 3, 4, 9], classes=(0, 0, 1, 1, None))
    assert auroc(unknown, "finding") == 1


def test_drawn_aurocs_begin_with_that_of_all_images():
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    table = pd.DataFrame({"class finding": 1. * truth, "margin finding": truth + rng.standard_normal(60)})
    wanted = roc_auc_score(truth, table["margin finding"])
    found = bootstrap_aurocs([table, table.assign(**{"margin finding": -table["margin finding"]})], [FINDING], 300)
    assert found.shape == (2, 301) and found[:, 0] == pytest.approx([wanted, 1 - wanted])
    assert np.allclose(found.sum(0), 1), "every seed is drawn alike"
    assert abs(found[0, 1:].mean() - wanted) < .02 and .02 < found[0, 1:].std() < .12
    folded = table.assign(fold=np.arange(60) // 20)
    assert bootstrap_aurocs([folded], [FINDING], 5)[0, 0] == pytest.approx(auroc(folded, "finding"))
    apart = margins(*([f * 100 + i for i in (1, 2, 3, 4)] for f in range(6)))
    drawn = bootstrap_aurocs([apart], [FINDING], 50)
    assert drawn[0, 0] == 1 and np.nanmin(drawn) == 1, "in draws as well"


def test_sets_of_labels_are_averaged():
    one = pd.DataFrame({"dice organs": [.2, .4], "correct finding": [1., 0.], "class finding": [0., 1.],
                        "margin finding": [-1., -2.]})
    other = one.assign(**{"dice organs": [.6, 0.], "correct finding": 1., "margin finding": [-1., 2.]})
    both = pd.concat([one.assign(set=0), other.assign(set=1)], ignore_index=True)
    assert len(label_sets(both)) == 2 and len(label_sets(one)) == 1
    assert image_values(both, TARGETS, "dice").tolist() == pytest.approx([.4, .2])
    assert image_values(both, TARGETS, "accuracy").tolist() == [1, .5]
    assert mean_scores(both, TARGETS[1:])["auroc"] == .5 == bootstrap_aurocs([both], TARGETS, 2)[0, 0]


def test_a_network_is_asked_where_it_is(images):
    "A look at val in the middle of a training on a GPU had shown it images that were not there."
    class Elsewhere(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))

        def forward(self, image, names):
            assert image.device == self.weight.device
            return {name: torch.zeros(len(image), dict(denoising=1, organs=3, finding=2)[name],
                                      *image.shape[2:] if name != "finding" else ()) for name in names}
    answers = list(answers_to(Elsewhere(), images, TARGETS))
    assert len(answers) == 4 and all(a.given.device.type == "cpu" for a in answers)
