"Sequential self-supervision: who is seen, what the targets are, what is handed on, scores by hand, runs that go on."
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import DataError, EncoderError, ParameterError
from taco.data.card import load_card
from taco.data.store import Store, pack
from taco.transfer import sequences
from taco.transfer.network import UNetDecoder, UNetEncoder
from taco.transfer.sequences import (ARMS, PARTS, TASKS, Pretext, PretextBatches, SequenceConfig, SliceBatches, arm_curves, arm_difference, compare, dice_scores,
                                     finetune, hand_on, handed, hausdorff95, neighbour_contrast, no_negatives, pretrain, save_pretrained, score)
from taco.transfer.volumes import Volumes, labelled_subjects, load_volumes, neighbours, positions, rotate_splits

TINY = SequenceConfig(widths=(4, 8, 8), pretrain_steps=4, anchors=3, moco_batch=8, finetune_steps=4, finetune_batch=4, device="cpu", precision="32")


def made(slices: dict[str, list[int]], size: int = 32, split: dict | None = None, spacing=(2., 2., 5.), shuffle: int | None = None) -> Volumes:
    "Volumes of one subject each with these slice numbers; every image holds the number of its slice, plus texture."
    rows = []
    for name, numbers in slices.items():
        place, step = positions(numbers)
        for n, p in zip(numbers, place):
            rows.append(dict(dataset="made", source="phantom", modality="CT", subject=name, split=(split or {}).get(name, "train"), slice=n, spacing_row=spacing[0],
                             spacing_column=spacing[1], volume=name, position=p, slice_mm=spacing[2] * step))
    table = pd.DataFrame(rows)
    if shuffle is not None: table = table.sample(frac=1, random_state=shuffle).reset_index(drop=True)
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (len(table), size, size), generator=g, dtype=torch.uint8) + torch.tensor(table["slice"].to_numpy() * 5 % 190, dtype=torch.uint8)[:, None, None]
    labels = torch.zeros_like(images); labels[:, 8:20, 8:20] = 1; labels[:, 20:26, 8:20] = 2
    return Volumes(images, labels, table, {1: "a", 2: "b"})


@pytest.fixture(scope="module")
def hearts(tmp_path_factory) -> Volumes:
    folder = pack(load_card("mmwhs"), out=tmp_path_factory.mktemp("hearts"), size=32, source="phantom", subjects=12)
    return load_volumes(Store.open(folder))


# --- who is seen


def test_no_slice_of_a_test_or_validation_volume_is_ever_seen(hearts, tmp_path, monkeypatch):
    "Every batch that any arm trains on is watched; each image must be one of a training subject, and labels only of a labelled one."
    split = np.where(hearts.table["subject"].isin(hearts.subjects("train")[:2]), "val", hearts.table["split"])
    hearts = replace(hearts, table=hearts.table.assign(split=split))
    tag = {tuple(image.flatten()[:200].tolist()): i for i, image in enumerate(hearts.images)}
    assert len(tag) == len(hearts), "slices can be told apart by their first pixels"
    seen, truly = {"pretext": set(), "moco": set(), "labelled": set()}, sequences.fit

    def spying(module, batches, config, folder=None, progress=False):
        def watched(step):
            batch = batches(step)
            if isinstance(batch, sequences.PretextBatch):
                found = {tag[tuple(i.flatten()[:200].tolist())] for i in batch.images.flatten(0, 1)}
                assert found == set(batch.rows.flatten().tolist())
                seen["pretext"] |= found
            elif torch.is_tensor(batch): seen["moco"] |= {tag[tuple((i * 255).round().to(torch.uint8).flatten()[:200].tolist())] for i in batch}
            else: seen["labelled"] |= set(last_rows)
            return batch
        return truly(module, watched, config, folder, progress)
    last_rows = []
    before = sequences.move

    def remembering(images, theta, mode="bilinear"):
        if mode == "nearest": return before(images, theta, mode)
        raw = (images * 255).round().to(torch.uint8)
        last_rows[:] = [tag[tuple(i.flatten()[:200].tolist())] for i in raw]
        return before(images, theta, mode)
    monkeypatch.setattr(sequences, "fit", spying)
    monkeypatch.setattr(sequences, "move", remembering)
    compare(hearts, replace(TINY, pretrain_steps=40, anchors=6), tmp_path, tuple(ARMS), (1,), (0,), distances=False, tell=lambda text: None)
    subject = hearts.table["subject"].to_numpy()
    train, labelled = set(hearts.subjects("train")), set(labelled_subjects(hearts, 1, 0))
    for name, allowed in dict(pretext=train, moco=train, labelled=labelled).items():
        who = {subject[i] for i in seen[name]}
        assert who and who <= allowed, name
    assert len({subject[i] for i in seen["pretext"]}) > 3
    assert not train & set(hearts.subjects("test")) and not train & set(hearts.subjects("val"))


def test_pretext_does_not_read_labels(hearts):
    blank = replace(hearts, labels=torch.full_like(hearts.labels, 7))
    one, two = (PretextBatches(v, v.subjects("train"), 4, 1)(2) for v in (hearts, blank))
    assert torch.equal(one.images, two.images) and not hasattr(one, "labels")


def test_rotated_splits_keep_subjects_whole(hearts):
    two = replace(hearts, table=hearts.table.assign(subject=hearts.table["subject"].str[:-1] + "x"))  # several volumes a subject
    for turn in range(4):
        v = rotate_splits(two, turn, 3)
        assert not set(v.subjects("train")) & set(v.subjects("test"))
    with pytest.raises(DataError, match="One subject"): rotate_splits(made({"only": [0, 1, 2]}), 0, 3)


def test_labelled_subjects_grow_and_are_training_subjects(hearts):
    orders = [labelled_subjects(hearts, n, 4) for n in (1, 2, 4)]
    assert orders[0] == orders[1][:1] and orders[1] == orders[2][:2] and set(orders[2]) <= set(hearts.subjects("train"))
    train = hearts.subjects("train")
    takes = [labelled_subjects(hearts, 1, 4, t)[0] for t in range(len(train) + 1)]
    assert sorted(takes[:-1]) == sorted(train) and takes[-1] == takes[0], "further sets take other subjects, round and round"
    assert not set(labelled_subjects(hearts, 2, 4, 0)) & set(labelled_subjects(hearts, 2, 4, 1))
    with pytest.raises(ParameterError, match="cannot be labelled"): labelled_subjects(hearts, 99, 0)


# --- the order of slices


def test_positions_of_reversed_and_missing_slices():
    assert positions([9, 6, 3, 0])[0].tolist() == [3, 2, 1, 0]
    place, step = positions([0, 4, 8, 16, 20])
    assert step == 4 and place.tolist() == [0, 1, 2, 4, 5]
    with pytest.raises(DataError, match="same number"): positions([1, 2, 2])


def test_neighbours_across_a_gap_and_in_any_row_order():
    v = made({"up": [0, 1, 2, 3, 5, 6], "down": [8, 6, 4, 2, 0]}, shuffle=3)
    slices, who = v.table["slice"].to_numpy(), v.table["volume"].to_numpy()
    for row, (low, high) in enumerate(neighbours(v.table)):
        step = 1 if who[row] == "up" else 2
        for beside, number in ((low, slices[row] - step), (high, slices[row] + step)):
            there = np.flatnonzero((who == who[row]) & (slices == number))
            assert beside == (there[0] if len(there) else -1)


@pytest.mark.parametrize("shuffle", [None, 0, 5])
def test_pretext_targets_on_volumes_of_known_order(shuffle):
    "Volumes written upwards, downwards, and with slices missing; what is asked follows the slice numbers alone."
    v = made({"up": list(range(10)), "down": list(range(9, -1, -1)), "gaps": [0, 1, 2, 5, 6, 7, 8, 12]}, shuffle=shuffle)
    batches, seen = PretextBatches(v, ["up", "down", "gaps"], 8, 0), set()
    number, who = v.table["slice"].to_numpy(), v.table["volume"].to_numpy()
    for step in range(30):
        b = batches(step)
        low, anchor, high, other = b.rows.numpy()
        assert (number[low] == number[anchor] - 1).all() and (number[high] == number[anchor] + 1).all()
        assert (who[low] == who[anchor]).all() and (who[high] == who[anchor]).all() and (who[other] == who[anchor]).all() and (other != anchor).all()
        np.testing.assert_array_equal(b.higher.numpy(), number[other] > number[anchor])
        np.testing.assert_allclose(b.distance.numpy(), (number[other] - number[anchor]) / 12, atol=1e-6)  # "gaps" is 12 steps long
        assert torch.equal(b.images, v.images[b.rows])
        seen |= set(zip(who[anchor], number[anchor].tolist()))
    assert {n for w, n in seen if w == "gaps"} == {1, 6, 7} and {n for w, n in seen if w == "down"} == set(range(1, 9))


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
    again(0); again(1)
    assert torch.equal(one(5).rows, again(5).rows) and not torch.equal(one(5).rows, one(6).rows)
    assert not torch.equal(one(5).rows, PretextBatches(v, ["a", "b"], 4, 2)(5).rows)


def test_no_three_slices_in_a_row_is_said():
    with pytest.raises(DataError, match="neighbour on either side"): PretextBatches(made({"a": [0, 1, 3, 4, 9, 10, 12, 13]}), ["a"])


def test_an_epoch_of_single_slices_takes_each_once():
    v = made({"a": list(range(12)), "b": list(range(8))})
    batches, full = SliceBatches(v, ["a", "b"], 5, 0), {tuple(i.flatten().tolist()) for i in v.images}
    epoch = [tuple((i * 255).round().int().flatten().tolist()) for step in range(4) for i in batches(step)]
    assert set(epoch) == full and len(epoch) == len(set(epoch))


# --- the pretext losses


def test_middle_averages_the_neighbours_features(monkeypatch):
    "With the same slice three times over and nothing moved or shaded, both reconstructions are one and the same."
    monkeypatch.setattr(sequences, "moves", lambda n, g: torch.eye(2, 3).repeat(n, 1, 1))
    monkeypatch.setattr(sequences, "holes", lambda images, g: images)
    v = made({"a": list(range(8))})
    torch.manual_seed(0)
    model = Pretext(UNetEncoder(1, (4, 8)), UNetDecoder(sequences.BINS, (4, 8)), dict(slice=1., middle=1.), strength=0., cut=0.).eval()
    batch = PretextBatches(v, ["a"], 4, 0)(0)
    batch.images[0] = batch.images[2] = batch.images[1]
    losses = model.losses(batch)
    assert losses["slice"].item() == pytest.approx(losses["middle"].item(), abs=1e-5) and losses["slice"] > .1
    shown = []
    monkeypatch.setattr(UNetDecoder, "forward", lambda self, f: (shown.append(f), torch.zeros(4, sequences.BINS, 32, 32))[1])
    batch = PretextBatches(v, ["a"], 4, 0)(0)
    low, high = (model.encoder((batch.images[i][:, None].float() / 255).clamp(min=1e-4)) for i in (0, 2))
    model.losses(batch)
    for mean, a, b in zip(shown[-1], low, high): assert torch.allclose(mean, (a + b) / 2, atol=1e-3)


def test_weights_switch_tasks_and_their_cost():
    v = made({"a": list(range(8))})
    batch = lambda: PretextBatches(v, ["a"], 4, 0)(0)
    for task, encoded in dict(contrast=2, local=2, order=2, slice=1, middle=2).items():
        model = Pretext(UNetEncoder(1, (4, 8)), UNetDecoder(sequences.BINS, (4, 8)), {task: 1., "order" if task != "order" else "slice": 0.})
        counted = []
        model.encoder.register_forward_hook(lambda m, x, y: counted.append(len(x[0])))
        assert set(model.losses(batch())) == {task} and counted == [encoded * 4]
        model.loss(batch(), 0).backward()
        assert any(p.grad is not None for p in model.decoder.parameters()) == (task in ("local", "slice", "middle"))
    both = Pretext(UNetEncoder(1, (4, 8)), UNetDecoder(sequences.BINS, (4, 8)), dict(slice=2., order=.5), cut=0.).eval()
    parts, b = both.losses(batch()), batch()
    assert both.loss(b, 0).item() == pytest.approx(2 * parts["slice"].item() + .5 * parts["order"].item(), abs=1e-5)
    for wrong in (dict(slices=1.), dict(slice=0.), dict(slice=-1.)):
        with pytest.raises(ParameterError): Pretext(UNetEncoder(1, (4, 8)), UNetDecoder(sequences.BINS, (4, 8)), wrong)


def test_what_shows_the_same_is_no_negative():
    a = torch.eye(2)
    mask = lambda volume, place, height: no_negatives(torch.tensor(volume), torch.tensor(place), torch.tensor(place) + 1, torch.tensor(height), torch.tensor(height))
    far, near = (neighbour_contrast(a, a, mask([0, 0], place, [0., 1.])) for place in ([0., 9.], [0., 1.]))
    assert near.item() == pytest.approx(0, abs=1e-6) and far.item() == pytest.approx(np.log(1 + np.exp(-5)), abs=1e-5)
    assert mask([0, 1], [0., 9.], [.5, .55]).tolist() == [[False, True], [True, False]], "two volumes, the same height"
    assert not mask([0, 1], [0., 0.], [.1, .9]).any(), "two volumes, other heights"


def test_heights_are_shares_of_the_volumes_extent(hearts):
    batch = PretextBatches(hearts, hearts.subjects("train"), 6, 0)(0)
    extent = hearts.table.groupby("volume")["position"].transform("max").to_numpy()
    assert np.allclose(batch.height.numpy(), batch.position.numpy() / extent[batch.rows.numpy()]) and 0 <= batch.height.min() and batch.height.max() <= 1
    assert ((batch.height[0] < batch.height[1]) & (batch.height[1] < batch.height[2])).all()


# --- handing on


@pytest.fixture
def pretrained(tmp_path):
    torch.manual_seed(3)
    encoder, decoder = UNetEncoder(1, TINY.widths), UNetDecoder(sequences.BINS, TINY.widths)
    return encoder, decoder, save_pretrained(tmp_path / "both.safetensors", encoder, decoder)


@pytest.mark.parametrize("parts", [("encoder",), PARTS])
def test_what_is_handed_on_is_really_loaded_and_nothing_else(pretrained, parts):
    encoder, decoder, path = pretrained
    torch.manual_seed(9)
    new_encoder, new_decoder = UNetEncoder(1, TINY.widths), UNetDecoder(3, TINY.widths)
    last, finest = new_decoder.final.weight.clone(), {k: t.clone() for k, t in new_decoder.ups[-1].state_dict().items()}
    hand_on(path, parts, new_encoder, new_decoder)
    same = lambda a, b: all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert same(new_encoder, encoder) and same(handed(new_decoder), handed(decoder)) == ("decoder" in parts) and torch.equal(new_decoder.final.weight, last)
    assert all(torch.equal(finest[k], t) for k, t in new_decoder.ups[-1].state_dict().items())  # the finest stage starts afresh
    with pytest.raises(ParameterError, match="nothing to hand on"): handed(UNetDecoder(3, (4, 8)))


def test_a_missing_part_or_key_raises(pretrained, tmp_path):
    from safetensors.torch import load_file, save_file
    encoder, decoder, path = pretrained
    alone = save_pretrained(tmp_path / "alone.safetensors", encoder)
    with pytest.raises(EncoderError, match="decoder"): hand_on(alone, PARTS, encoder, decoder)
    weights = load_file(path)
    lost = next(k for k in weights if k.startswith("decoder.") and k.endswith("conv.weight"))
    del weights[lost]
    save_file(weights, tmp_path / "holed.safetensors")
    before = [p.clone() for p in decoder.parameters()]
    with pytest.raises(EncoderError) as error: hand_on(tmp_path / "holed.safetensors", PARTS, encoder, decoder)
    assert lost in str(error.value) and all(torch.equal(a, b) for a, b in zip(before, decoder.parameters()))
    with pytest.raises(ParameterError, match="no such part"): hand_on(path, ("decodr",), encoder, decoder)


def test_finetuning_starts_from_what_its_arm_hands_on(hearts, tmp_path, monkeypatch):
    weights, starts = pretrain("all", hearts, TINY, 0, tmp_path / "all.safetensors"), {}
    monkeypatch.setattr(sequences, "fit", lambda module, *a, **k: None)
    for arm in ("scratch", "all-encoder", "all"): starts[arm] = finetune(arm, hearts, 1, TINY, 0, weights)
    torch.manual_seed(1)
    ready = UNetEncoder(1, TINY.widths), UNetDecoder(sequences.BINS, TINY.widths)
    hand_on(weights, PARTS, *ready)
    equal = lambda a, b: all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    assert not equal(starts["scratch"].encoder, ready[0]) and equal(starts["all-encoder"].encoder, ready[0]) and equal(starts["all"].encoder, ready[0])
    assert equal(starts["all-encoder"].decoder, starts["scratch"].decoder) and equal(handed(starts["all"].decoder), handed(ready[1]))
    assert equal(starts["all"].decoder.ups[-1], starts["scratch"].decoder.ups[-1])
    assert equal(starts["all"].decoder.final, starts["scratch"].decoder.final)


# --- scores


def test_dice_and_hausdorff_by_hand_and_their_rules():
    truth = np.zeros((4, 12, 12), np.uint8); truth[1:3, 2:6, 2:6] = 1; truth[0, 0, 0] = 2
    guess = np.roll(truth, 1, 0); guess[guess == 2] = 0; guess[3, 8:10, 8:10] = 3
    dice, hd = dice_scores(guess, truth, (1, 2, 3, 4)), hausdorff95(guess, truth, (1, 2, 3, 4), (6., 1., 1.))
    assert dice[:3].tolist() == [.5, 0, 0] and np.isnan(dice[3])
    diagonal = np.sqrt(24**2 + 12**2 + 12**2)
    assert hd[0] == pytest.approx(6) and hd[1] == pytest.approx(diagonal) and hd[2] == pytest.approx(diagonal) and np.isnan(hd[3])
    assert np.isnan(hausdorff95(guess, truth, (1,), (np.nan, 1., 1.))).all()


def test_distances_across_missing_slices_keep_their_millimetres():
    v = made({"a": [0, 1, 2, 5, 6]}, split={"a": "test"}, spacing=(1., 1., 4.))
    v.labels[:] = 0; v.labels[[0, 4], 10:14, 10:14] = 1                       # the first and the last slice, six steps apart
    rows = v.rows(["a"])
    guess = v.labels[rows].clone(); guess[0] = 0                              # the first is overlooked
    table = score(guess, v, rows)
    line = table[table["structure"] == "a"].iloc[0]
    assert line["dice"] == pytest.approx(2 / 3) and line["hd95"] == pytest.approx(24) and not line["missed"]
    assert np.isnan(table.loc[table["structure"] == "b", "dice"].iloc[0])


def test_intervals_are_paired_and_cover_seeds_and_volumes():
    rng = np.random.default_rng(1)
    lines = []
    for seed in range(4):
        for i in range(12):
            hard = .3 * rng.random()
            for arm, more in (("all", .08), ("moco", 0.), ("scratch", 0.)):
                lines.append(dict(arm=arm, labelled=1, seed=seed, subject=str(i), volume=str(i), structure="a", dice=.4 + hard + more + .01 * rng.standard_normal()))
    table = pd.DataFrame(lines)
    gap, (low, high) = arm_difference(table, "all", "moco", 1)
    none, (below, above) = arm_difference(table, "moco", "scratch", 1)
    assert .06 < low < gap < high < .1 and below < 0 < above and abs(none) < .02
    assert arm_difference(table[table["seed"] < 1], "all", "moco", 1)[0] > .06, "one seed: the bootstrap over volumes"
    few = table[table["subject"].isin(["0", "1"])]
    assert np.isnan(arm_difference(few, "all", "moco", 1)[1]).all()
    turned = table[table["seed"] == table["subject"].astype(int) % 4]
    assert arm_difference(turned, "all", "moco", 1)[1][0] > .04 and set(arm_curves(turned)["arm"]) == {"all", "moco", "scratch"}


# --- runs that go on


def test_a_killed_comparison_goes_on_and_ends_the_same(hearts, tmp_path, monkeypatch):
    arms, calls = ("scratch", "moco", "all"), []
    whole = compare(hearts, TINY, tmp_path / "whole", arms, (1, 2), (0,), tell=lambda text: None)
    truly = sequences.finetune

    def dying(arm, volumes, labelled, *rest):
        calls.append((arm, labelled))
        if len(calls) == 4: raise KeyboardInterrupt
        return truly(arm, volumes, labelled, *rest)
    monkeypatch.setattr(sequences, "finetune", dying)
    with pytest.raises(KeyboardInterrupt): compare(hearts, TINY, tmp_path / "part", arms, (1, 2), (0,), tell=lambda text: None)
    weights = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "part").glob("*.safetensors")}
    assert len(list((tmp_path / "part").glob("*.csv"))) == 3 and len(weights) == 2
    again = compare(hearts, TINY, tmp_path / "part", arms, (1, 2), (0,), tell=lambda text: None)
    assert calls[4:] == [("scratch", 2), ("moco", 2), ("all", 2)] and {p.name: p.stat().st_mtime_ns for p in (tmp_path / "part").glob("*.safetensors")} == weights
    pd.testing.assert_frame_equal(again, whole)


def test_a_pretraining_that_was_killed_resumes_exactly(hearts, tmp_path, monkeypatch):
    from safetensors.torch import load_file
    from taco.transfer.fit import FitConfig
    monkeypatch.setattr(SequenceConfig, "fit_config", lambda self, **s: FitConfig(device="cpu", precision="32", checkpoint_every=2, **s))
    config = replace(TINY, pretrain_steps=7)
    whole = load_file(pretrain("all", hearts, config, 0, tmp_path / "whole.safetensors"))
    truly = PretextBatches.__call__

    def dies(self, step):
        if step == 5: raise KeyboardInterrupt
        return truly(self, step)
    monkeypatch.setattr(PretextBatches, "__call__", dies)
    with pytest.raises(BaseException): pretrain("all", hearts, config, 0, tmp_path / "part.safetensors")
    assert not (tmp_path / "part.safetensors").exists() and (tmp_path / "part/training.ckpt").exists()
    monkeypatch.setattr(PretextBatches, "__call__", lambda self, step: truly(self, step) if step >= 4 else pytest.fail("began anew"))
    part = load_file(pretrain("all", hearts, config, 0, tmp_path / "part.safetensors"))
    assert whole.keys() == part.keys() and all(torch.equal(whole[k], part[k]) for k in whole)


@pytest.mark.parametrize("name", ["moco", *sequences.PRETRAININGS])
def test_a_pretraining_depends_on_its_seed_alone_and_trains_what_its_arm_hands_on(hearts, tmp_path, name):
    from safetensors.torch import load_file
    torch.manual_seed(1); one = load_file(pretrain(name, hearts, TINY, 0, tmp_path / "one.safetensors"))
    torch.manual_seed(2); two = load_file(pretrain(name, hearts, TINY, 0, tmp_path / "two.safetensors"))
    other = load_file(pretrain(name, hearts, TINY, 1, tmp_path / "other.safetensors"))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one) and not all(torch.equal(one[k], other[k]) for k in one)
    for by, parts in ARMS.values():
        if by == name: assert set(parts) <= {k.split(".")[0] for k in one}


@pytest.mark.parametrize("name", ["moco", "all"])
def test_pretraining_runs_in_bf16(hearts, tmp_path, name):
    "Where a device computes bf16 natively this is what `auto` means; logits stay in full precision."
    assert pretrain(name, hearts, replace(TINY, precision="bf16"), 0, tmp_path / "weights.safetensors").exists()


def test_unknown_arms_and_modalities_are_named(hearts, tmp_path):
    with pytest.raises(ParameterError, match="Did you mean 'all-encoder'"): finetune("all-encodr", hearts, 1, TINY, 0, None)
    store = Store.open(pack(load_card("mmwhs"), out=tmp_path, size=32, source="phantom", subjects=3))
    with pytest.raises(DataError, match="modality"): load_volumes(store, modality="MR")


def test_records_without_a_slice_number_are_no_sequence(tmp_path):
    store = Store.open(pack(load_card("drive"), out=tmp_path, size=32, source="phantom", subjects=3))
    with pytest.raises(DataError, match="no sequence"): load_volumes(store)


def test_several_processes_give_what_one_gives(hearts, tmp_path):
    arms, said = ("scratch", "order", "all"), []
    one = compare(hearts, TINY, tmp_path / "one", arms, (1,), (0, 1), distances=False, tell=lambda line: None)
    two = compare(hearts, TINY, tmp_path / "two", arms, (1,), (0, 1), distances=False, tell=said.append, workers=2)
    pd.testing.assert_frame_equal(one, two)
    assert len(said) == 6 and all("Dice" in line for line in said)
    compare(hearts, TINY, tmp_path / "two", arms, (1,), (0, 1), distances=False, tell=said.append, workers=2)
    assert len(said) == 6  # nothing is computed twice


def test_several_sets_of_labels_share_a_pretraining(hearts, tmp_path, monkeypatch):
    made, truly = [], sequences.finetune
    monkeypatch.setattr(sequences, "finetune", lambda arm, volumes, labelled, config, seed, weights, folder, take: made.append((arm, labelled, take, weights and weights.name)) or truly(arm, volumes, labelled, config, seed, weights, folder, take))
    scores = compare(hearts, TINY, tmp_path, ("scratch", "order"), (1, None), (0,), distances=False, tell=lambda line: None, sets=(2, 3))
    assert made == [(a, n, take, None if a == "scratch" else "seed0-order.safetensors") for n, take in ((1, 0), (1, 1), (None, 0)) for a in ("scratch", "order")], "all subjects are one set"
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    one = scores[(scores["arm"] == "order") & (scores["labelled"] == 1)]
    mean = sequences.volume_means(scores).query("arm == 'order' and labelled == 1")
    assert len(mean) == len(hearts.subjects("test")) and np.isclose(mean["dice"].mean(), one.groupby("volume")["dice"].mean().mean())
    for wrong in ((1,), 0): 
        with pytest.raises(ParameterError, match="How many sets"): compare(hearts, TINY, tmp_path, ("scratch",), (1, None), (0,), sets=wrong)
