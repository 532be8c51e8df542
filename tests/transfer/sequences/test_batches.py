"Sequential self-supervision: who is seen, and what is asked of slices in a row."
from dataclasses import replace

import numpy as np
import pytest
import torch

from taco.base import DataError
from taco.transfer.sequences import arms, batches as batches_chapter, study
from taco.transfer.sequences.arms import SEQUENCE_ARMS
from taco.transfer.sequences.batches import PretextBatch, PretextBatches, SliceBatches
from taco.transfer.sequences.finetune import Segmenter
from taco.transfer.sequences.rivals import global_local, register
from taco.transfer.sequences.study import compare
from taco.transfer.sequences.volumes import labelled_subjects
from tests.transfer.sequences.toys import TINY, made, quiet


def test_no_slice_of_a_test_or_validation_volume_is_ever_seen(hearts, tmp_path, monkeypatch):
    "Every batch of any arm is watched: images are of training subjects alone, and labels of labelled ones alone."
    split = np.where(hearts.table["subject"].isin(hearts.subjects("train")[:2]), "val", hearts.table["split"])
    hearts = replace(hearts, table=hearts.table.assign(split=split))
    first_pixels = lambda image: tuple(image.flatten()[:200].tolist())
    row_of = {first_pixels(image): i for i, image in enumerate(hearts.images)}
    assert len(row_of) == len(hearts), "slices can be told apart by their first pixels"
    rows_of = lambda images: [row_of[first_pixels(i)] for i in images]
    rows_of_floats = lambda images: rows_of((images * 255).round().to(torch.uint8))
    seen, last_rows = {"pretext": set(), "rivals": set(), "labelled": set()}, []
    fit, move = study.fit, batches_chapter.move

    def spying(module, batches, config, folder=None, **more):
        def watched(step):
            batch = batches(step)
            if isinstance(batch, PretextBatch):
                found = set(rows_of(batch.images.flatten(0, 1)))
                assert found == set(batch.rows.flatten().tolist())
                seen["pretext"] |= found
            elif isinstance(module, Segmenter): seen["labelled"] |= set(last_rows)
            else: seen["rivals"] |= set(rows_of_floats(batch if torch.is_tensor(batch) else batch.images))
            return batch
        return fit(module, watched, config, folder, **more)

    def remembering(images, theta, mode="bilinear"):
        if mode != "nearest": last_rows[:] = rows_of_floats(images)
        return move(images, theta, mode)
    for module in (study, arms, register, global_local): monkeypatch.setattr(module, "fit", spying)
    monkeypatch.setattr(batches_chapter, "move", remembering)
    longer = replace(TINY, pretrain_steps=15, anchors=6)
    compare(hearts, longer, tmp_path, tuple(SEQUENCE_ARMS), (1,), (0,), distances=False, tell=quiet)
    subject = hearts.table["subject"].to_numpy()
    train, labelled = set(hearts.subjects("train")), set(labelled_subjects(hearts, 1, 0))
    for name, allowed in dict(pretext=train, rivals=train, labelled=labelled).items():
        who = {subject[i] for i in seen[name]}
        assert who and who <= allowed, name
    assert len({subject[i] for i in seen["pretext"]}) > 3
    assert not train & set(hearts.subjects("test")) and not train & set(hearts.subjects("val"))


def test_pretext_does_not_read_labels(hearts):
    blank = replace(hearts, labels=torch.full_like(hearts.labels, 7))
    one, two = (PretextBatches(v, v.subjects("train"), 4, 1)(2) for v in (hearts, blank))
    assert torch.equal(one.images, two.images) and not hasattr(one, "labels")


@pytest.mark.parametrize("shuffle", [None, 0, 5])
def test_pretext_targets_on_volumes_of_known_order(shuffle):
    "Volumes written upwards, downwards, and with slices missing; what is asked follows the slice numbers alone."
    slices = {"up": list(range(10)), "down": list(range(9, -1, -1)), "gaps": [0, 1, 2, 5, 6, 7, 8, 12]}
    v = made(slices, shuffle=shuffle)
    batches, seen = PretextBatches(v, ["up", "down", "gaps"], 8, 0), set()
    number, who = v.table["slice"].to_numpy(), v.table["volume"].to_numpy()
    for step in range(30):
        b = batches(step)
        low, anchor, high, other = b.rows.numpy()
        assert (number[low] == number[anchor] - 1).all() and (number[high] == number[anchor] + 1).all()
        assert all((who[some] == who[anchor]).all() for some in (low, high, other)) and (other != anchor).all()
        np.testing.assert_array_equal(b.higher.numpy(), number[other] > number[anchor])
        apart = (number[other] - number[anchor]) / 12  # "gaps" is 12 steps long
        np.testing.assert_allclose(b.distance.numpy(), apart, atol=1e-6)
        assert torch.equal(b.images, v.images[b.rows])
        seen |= set(zip(who[anchor], number[anchor].tolist()))
    assert {n for w, n in seen if w == "gaps"} == {1, 6, 7}
    assert {n for w, n in seen if w == "down"} == set(range(1, 9))


def test_a_reversed_volume_gives_the_same_questions():
    up, down = (made({"a": n}) for n in (list(range(9)), list(range(8, -1, -1))))
    for step in range(6):
        for v in (up, down):
            b = PretextBatches(v, ["a"], 6, 2)(step)
            number = v.table["slice"].to_numpy()[b.rows.numpy()]
            assert (np.sign(number[3] - number[1]) == np.where(b.higher == 1, 1, -1)).all()


def test_batches_depend_on_seed_and_step_alone():
    v = made({"a": list(range(8)), "b": list(range(8))})
    one, again = PretextBatches(v, ["a", "b"], 4, 1), PretextBatches(v, ["a", "b"], 4, 1)
    for step in (0, 1): again(step)
    assert torch.equal(one(5).rows, again(5).rows) and not torch.equal(one(5).rows, one(6).rows)
    assert not torch.equal(one(5).rows, PretextBatches(v, ["a", "b"], 4, 2)(5).rows)


def test_no_three_slices_in_a_row_is_said():
    with pytest.raises(DataError, match="neighbour on either side"):
        PretextBatches(made({"a": [0, 1, 3, 4, 9, 10, 12, 13]}), ["a"])


def test_heights_are_shares_of_the_volumes_extent(hearts):
    batch = PretextBatches(hearts, hearts.subjects("train"), 6, 0)(0)
    extent = hearts.table.groupby("volume")["position"].transform("max").to_numpy()
    assert np.allclose(batch.height.numpy(), batch.position.numpy() / extent[batch.rows.numpy()])
    assert batch.height.min() >= 0 and batch.height.max() <= 1
    assert ((batch.height[0] < batch.height[1]) & (batch.height[1] < batch.height[2])).all()


def test_an_epoch_of_single_slices_takes_each_once():
    v = made({"a": list(range(12)), "b": list(range(8))})
    batches, full = SliceBatches(v, ["a", "b"], 5, 0), {tuple(i.flatten().tolist()) for i in v.images}
    epoch = [tuple((i * 255).round().int().flatten().tolist()) for step in range(4) for i in batches(step)]
    assert set(epoch) == full and len(epoch) == len(set(epoch))
