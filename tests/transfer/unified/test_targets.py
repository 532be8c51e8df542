"UMS-Rep: targets, noise, images with labels, batches and losses."
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from taco.base import ParameterError, StoreError
from taco.data.pack import pack
from taco.data.store import Store
from taco.transfer.unified.scores import mean_scores
from taco.transfer.unified.study import Arm, Setting, run_study
from taco.transfer.unified.targets import (
    Examples,
    Noise,
    Target,
    add_noise,
    batches,
    choose_labelled,
    read_examples,
    target_loss,
)
from tests.transfer.unified.toys import TARGETS, WIDTHS


@pytest.mark.parametrize("target", [
    dict(name="a b", kind="denoising"), dict(name="a", kind="detection"),
    dict(name="a", kind="segmentation", outputs=1), dict(name="a", kind="denoising", weight=-1.),
    dict(name="a", kind="denoising", weight=float("nan"))])
def test_impossible_targets_are_refused(target):
    with pytest.raises(ParameterError): Target(**target)


def test_unknown_classes_do_not_count():
    answer = torch.tensor([[2., 0.], [0., 5.]], requires_grad=True)
    loss = target_loss("classification", answer, torch.tensor([0, -1]))
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    nothing = target_loss("classification", answer, torch.tensor([-1, -1]))
    nothing.backward()
    assert nothing == 0 and (answer.grad == 0).all()


def test_noise_is_of_the_strength_and_kind_that_is_said():
    flat, noise = torch.full((500, 1, 16, 16), .25), Noise((.05, .05), (.4, .4))
    draw = lambda some: add_noise(flat, noise, torch.Generator().manual_seed(0), some)
    gaussian, speckle = draw(torch.zeros(500, dtype=torch.bool)), draw(torch.ones(500, dtype=torch.bool))
    assert gaussian.std().item() == pytest.approx(.05, rel=.02)
    assert speckle.std().item() == pytest.approx(.1, rel=.03)
    dark = add_noise(torch.zeros(4, 1, 8, 8), Noise(), torch.Generator(), torch.ones(4, dtype=torch.bool))
    assert (dark == 0).all(), "speckle multiplies"


def test_batches_are_a_function_of_the_step_and_show_every_image_equally_often(images):
    draw = batches(images, images, 8, seed=3)
    for step in (0, 5): assert torch.equal(draw(step).noisy, draw(step).noisy)
    assert not torch.equal(draw(0).noisy, draw(3).noisy)
    seen = torch.cat([draw(step).image for step in range(3)])  # 24 images, once each
    assert len(torch.unique((seen * 255).round(), dim=0)) == len(images)


def test_labelled_images_are_nested_balanced_and_of_distinct_subjects():
    labels, subjects = torch.tensor([0] * 30 + [1] * 10), np.array([f"s{i // 2}" for i in range(40)])
    blank = torch.zeros(40, 1, 4, 4, dtype=torch.uint8)
    several = Examples(blank, dict(finding=labels), subjects, np.array(["phantom"] * 40))
    chosen = {n: choose_labelled(several, n, "finding", seed=1) for n in (4, 8, 10)}
    assert set(chosen[4]) < set(chosen[8]) < set(chosen[10])
    for n, index in chosen.items():
        assert len(set(several.subject[index])) == n and abs(labels[index].float().mean() - .5) < .11
    with pytest.raises(ParameterError, match="not as many"): choose_labelled(several, 41)


def test_another_take_is_another_choice_and_as_balanced(images):
    takes = [choose_labelled(images, 6, "finding", 0, take) for take in (0, 1, 2)]
    assert len({tuple(sorted(t)) for t in takes}) == 3
    for t in takes: assert images.labels["finding"][t].sum() == 3
    assert set(choose_labelled(images, 4, "finding", 0, 1)) < set(takes[1])


def test_labels_and_channels_that_do_not_fit_are_named(tmp_path):
    made = dict(out=tmp_path, size=32, source="phantom")
    store = Store.open([pack("montgomery", subjects=6, **made), pack("kvasir", subjects=4, **made)])
    with pytest.raises(StoreError, match="colour images"):
        read_examples(store, "train", TARGETS[:1])
    grey = Store.open([tmp_path / "montgomery-phantom-32"])
    with pytest.raises(StoreError, match="beyond the target"):
        read_examples(grey, "train", [Target("lungs", "segmentation", 2)])
    with pytest.raises(StoreError, match="attribute"):
        read_examples(grey, "train", [Target("malignant", "classification", 2)])
    found = read_examples(grey, "train", [Target("tuberculosis", "classification", 2)])
    assert found.image.shape[1:] == (1, 32, 32) and set(found.labels["tuberculosis"].tolist()) <= {0, 1}


def test_the_original_montgomery_files_are_read_when_present(tmp_path):
    "The published layout, made here: films of two subjects a class, one mask a lung, the finding in the file's name."
    root = tmp_path / "root/montgomery"
    for folder in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        name = f"MCUCXR_{i:04d}_{i % 2}.png"
        film = np.random.default_rng(i).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(film).save(root / "CXR_png" / name)
        for side, columns in (("left", slice(22, 36)), ("right", slice(4, 18))):
            mask = np.zeros((40, 40), np.uint8)
            mask[8:30, columns] = 255
            Image.fromarray(mask).save(root / f"ManualMask/{side}Mask" / name)
    packed = pack("montgomery", root=tmp_path / "root", out=tmp_path / "packed", size=32)
    targets = (TARGETS[0], Target("lungs", "segmentation", 3), TARGETS[2])
    setting = Setting(targets, 2, 2, 4, widths=WIDTHS, device="cpu")
    arms, place = [Arm("separate"), Arm("full")], tmp_path / "study"
    folder = run_study([str(packed)], "chest X-ray", "tuberculosis", arms, setting, 0, place)
    found = read_examples(Store.open([packed]), "train", targets, dict(finding="tuberculosis"))
    assert set(found.source) == {"real"}
    assert 0 <= mean_scores(pd.read_csv(folder / "full-all-1.csv"), targets)["accuracy"] <= 1


def test_fewer_images_to_denoise_leave_the_labelled_ones_as_they_are(images):
    many, few = batches(images, images, 8, seed=3), batches(images, images, 8, seed=3, noisy=2)
    assert torch.equal(many(5).image, few(5).image) and len(few(5).noisy) == len(few(5).clean) == 2
    seen = torch.cat([few(step).clean for step in range(len(images) // 2)])
    sums = lambda clean: sorted(clean.flatten(1).sum(1).tolist())
    assert sums(seen) == pytest.approx(sums(images.clean(np.arange(len(images)))))
    with pytest.raises(ParameterError, match="at least one image"):
        batches(images, images, 8, noisy=0)
