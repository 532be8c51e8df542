"taco.learning: what is drawn, what stays aligned, what the loss is, what a checkpoint keeps."
import csv
import json
import signal
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SupConLoss
from safetensors.torch import load_file, save_file
from scipy import ndimage

from taco.base import EncoderError, ParameterError, StoreError, TacoError, TaskError
from taco.data.record import NEEDS, Batch, Record, collate, prepare
from taco.data.store import Store, pack
from taco.learning.encoder import BACKBONES, FUSIONS, EncoderConfig, PairEncoder, encode
from taco.learning.loss import positive_labels, supcon, supcon_bounds
from taco.learning.pairs import PairSampler, Pairs, Randomisation, make_pairs, randomise
from taco.learning.training import TrainConfig, _new_encoder, train
from taco.tasks.catalogue import ALL_TASKS
from taco.tasks.random import Draw
from taco.tasks.task import get_task

SIZE = 32
COLUMN = {name: i for i, name in enumerate(NEEDS)}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    "Three small phantom datasets: slices of volumes, one colour image a subject, bright objects."
    out = tmp_path_factory.mktemp("packed")
    return Store.open([pack(name, out=out, size=SIZE, source="phantom", subjects=6) for name in ("acdc", "monusac", "busi")])


def discs(count=24, size=64, seed=0, colour=False) -> Batch:
    "Records whose image IS their label map: two classes of discs, drawn at 0.4 and 0.8 on 0."
    rng, rows = np.random.default_rng(seed), []
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        labels = np.zeros((size, size), np.uint8)
        for label in (1, 2):
            centre, radius = rng.uniform(.2, .8, 2), rng.uniform(.08, .2)
            labels[(y - centre[0])**2 + (x - centre[1])**2 < radius**2] = label
        image = np.stack([labels * .4] * 3 if not colour else [labels * .4, labels * .1, 1 - labels * .4]).astype(np.float32)
        rows.append(prepare(Record(image, semantic=labels, modality="CT"), size))
    return collate(rows)


GEOMETRY = Randomisation.only("zoom", "turn")


# ---------------------------------------------------------------- randomise

def test_off_is_the_identity():
    batch = discs()
    same = randomise(batch, Draw(torch.arange(len(batch))), how=Randomisation.off())
    for f in fields(Batch): assert torch.equal(getattr(same, f.name).nan_to_num(-1.) if getattr(batch, f.name).is_floating_point() else getattr(same, f.name),
                                               getattr(batch, f.name).nan_to_num(-1.) if getattr(batch, f.name).is_floating_point() else getattr(batch, f.name)), f.name
    none = randomise(batch, Draw(torch.arange(len(batch))), strength=0., how=replace(Randomisation(), turn=False))
    assert torch.allclose(none.image, batch.image, atol=1e-6)


def test_the_input_is_not_changed():
    batch = discs(); before = batch.map(torch.clone)
    for how in (Randomisation(), Randomisation.without("zoom", "turn")): randomise(batch, Draw(torch.arange(len(batch))), how=how)
    assert all(torch.equal(getattr(batch, f.name).nan_to_num(), getattr(before, f.name).nan_to_num()) for f in fields(Batch))


def test_image_and_labels_stay_aligned():
    batch = discs(64)
    moved = randomise(batch, Draw(torch.arange(64)), how=GEOMETRY)
    assert not torch.equal(moved.semantic, batch.semantic)
    wrong = ((moved.image[:, 0] / .4).round() != moved.semantic).float().mean((1, 2))
    assert wrong.max() < .04  # only the rims differ: one map is interpolated, the other is not
    whole = ((batch.instances > 0) == (batch.semantic > 0)).flatten(1).all(1)  # `prepare` drops specks of under four pixels
    assert whole.sum() > 50 and torch.equal(moved.instances[whole] > 0, moved.semantic[whole] > 0)
    assert (moved.hull | (moved.semantic == 0)).all()


def test_turns_alone_are_exact():
    batch = discs(64)
    moved = randomise(batch, Draw(torch.arange(64)), how=Randomisation.only("turn"))
    turned = [t for k in range(4) for t in (batch.semantic.rot90(k, (1, 2)), batch.semantic.rot90(k, (1, 2)).flip(2))]
    which = torch.stack([(t == moved.semantic).flatten(1).all(1) for t in turned], 1)
    assert which.any(1).all() and which.any(0).all()  # each sample is one of the eight, and all eight occur
    assert torch.allclose(moved.image[:, 0], moved.semantic * .4, atol=1e-4)


def test_distances_grow_with_the_zoom():
    batch = discs(96)
    moved = randomise(batch, Draw(torch.arange(96)), how=GEOMETRY)
    deeper, checked = 0, 0
    for before, after, labels in zip(batch.distance, moved.distance, moved.semantic.numpy()):
        inside = labels > 0
        if inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any(): continue  # the edge may lie outside the view
        exact = ndimage.distance_transform_edt(inside) / 64
        assert abs(after.numpy() - exact).max() < 1.8 / 64
        checked += 1; deeper += after.max() > before.max() * 1.15
    assert checked > 8 and deeper > 4


def test_boxes_and_points_follow_their_objects():
    batch = discs(64)
    moved = randomise(batch, Draw(torch.arange(64)), how=GEOMETRY)
    boxes = 0
    for n in range(64):
        for box, number in zip(moved.boxes[n], range(1, 9)):
            if box.isnan().any(): continue
            x0, y0, x1, y1 = (box * 64).tolist()
            ys, xs = np.nonzero(moved.instances[n].numpy() == number)
            if not len(xs): continue
            boxes += 1
            assert max(abs(xs.min() - x0), abs(xs.max() + 1 - x1), abs(ys.min() - y0), abs(ys.max() + 1 - y1)) < 2
    assert boxes > 60
    assert ((moved.points >= 0) & (moved.points <= 1) | moved.points.isnan()).all()
    assert moved.points.isnan().sum() > batch.points.isnan().sum()  # some left the view


@pytest.mark.parametrize("need", ["semantic", "classes", "instances", "boxes", "points", "thick", "concave"])
def test_a_view_keeps_what_its_task_needs(need):
    batch = discs(200, seed=3)
    batch = batch[batch.can[:, COLUMN[need]]]
    needed = torch.zeros_like(batch.can); needed[:, [0, COLUMN[need]]] = True
    moved = randomise(batch, Draw(torch.arange(len(batch))), how=Randomisation(zoom=4), needed=needed)
    assert len(batch) > 20 and moved.can[:, COLUMN[need]].all()
    if need == "classes": assert all(len(np.unique(s)) > 2 for s in moved.semantic.numpy())
    if need == "instances": assert all(len(np.unique(s)) > 2 for s in moved.instances.numpy())
    if need == "boxes": assert (~moved.boxes.isnan()).any(2).any(1).all()


@pytest.mark.parametrize("need", NEEDS)
def test_turned_only_a_record_keeps_all_it_can(store, need):
    "The view that replaces a failed one must never fail itself, however close the record is to a limit."
    batch = store.batch(store.select(needs=[need])[:64])
    needed = torch.zeros_like(batch.can); needed[:, [0, COLUMN[need]]] = True
    for how in (Randomisation.only("turn"), Randomisation(zoom=4)):
        assert randomise(batch, Draw(torch.arange(len(batch))), how=how, needed=needed).can[:, COLUMN[need]].all()


def test_points_on_the_rim_stay():
    batch = discs(8)
    batch = replace(batch, points=torch.tensor([[0., 0.], [1., 1.], [0., 1.]]).expand(8, 3, 2).clone())
    assert not randomise(batch, Draw(torch.arange(8)), how=Randomisation.only("turn")).points.isnan().any()


def test_what_is_not_needed_may_be_lost():
    batch = discs(200)
    needed = torch.zeros_like(batch.can); needed[:, 0] = True
    moved = randomise(batch, Draw(torch.arange(200)), needed=needed)
    assert not moved.can[:, COLUMN["semantic"]].any() and not moved.semantic.any() and moved.boxes.isnan().all()
    assert moved.can[:, 0].all()


@pytest.mark.parametrize("name", ["blend", "texture", "colour", "gamma", "contrast", "invert"])
def test_each_ingredient_works_alone_on_the_image_only(name):
    batch = discs(32, colour=True)
    changed = randomise(batch, Draw(torch.arange(32)), how=Randomisation.only(name))
    rows = (changed.image != batch.image).flatten(1).any(1)
    assert rows.float().mean() > .15 and changed.image.min() >= 0 and changed.image.max() <= 1
    assert all(torch.equal(getattr(changed, n), getattr(batch, n)) for n in ("semantic", "instances", "hull", "distance"))


def test_grey_stays_nearly_grey_and_colour_stays():
    grey, colour = discs(100), discs(100, colour=True)
    spread = lambda image: (image.amax(1) - image.amin(1)).flatten(1)
    without_tint = randomise(grey, Draw(torch.arange(100)), how=Randomisation.without("blend"))
    assert (spread(without_tint.image).amax(1) < 1e-4).float().mean() > .5   # three in ten get a tint
    needed = colour.can.clone(); assert needed[:, COLUMN["colour"]].all()
    vivid = randomise(colour, Draw(torch.arange(100)), needed=needed)
    assert vivid.can[:, COLUMN["colour"]].all() and (spread(vivid.image) > 12 / 255).float().mean(1).min() > .1


def test_a_record_does_not_notice_its_neighbours():
    batch, how = discs(16), Randomisation.without("blend")
    together = randomise(batch, Draw(torch.arange(16)), how=how)
    for n in (0, 7, 15):
        alone = randomise(batch[n], Draw(torch.tensor([n])), how=how)
        assert torch.allclose(alone.image[0], together.image[n], atol=1e-5) and torch.equal(alone.semantic[0], together.semantic[n])


@pytest.mark.parametrize("wrong", [dict(zoom=.5), dict(invert=2), dict(texture=-1)])
def test_impossible_randomisation(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): Randomisation(**wrong)


def test_unknown_ingredient_suggests():
    with pytest.raises(ParameterError, match="'texture'"): Randomisation.without("textur")


# ---------------------------------------------------------------- sampling

def test_batches_are_balanced(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=2, seed=4)
    plan = sampler.plan(0)
    assert plan.task.bincount().tolist() == [2] * len(sampler.tasks)
    few = PairSampler(store, ALL_TASKS, tasks_per_batch=5, pairs_per_task=3)
    seen = np.zeros(len(few.tasks))
    for step in range(600):
        counts = few.plan(step).task.bincount(minlength=len(few.tasks)).numpy()
        assert sorted(set(counts)) == [0, 3] and (counts > 0).sum() == 5
        seen += counts > 0
    expected = 600 * 5 / len(few.tasks)
    assert abs(seen - expected).max() < 5 * expected**.5


def test_datasets_and_subjects_are_drawn_alike(store):
    sampler = PairSampler(store, ["gaussian_denoising"], pairs_per_task=4000)
    plan = sampler.plan(0)
    table = store.table.iloc[plan.record.numpy()]
    assert (table["split"] == "train").all()
    assert abs(plan.dataset.bincount() / 4000 - 1 / 3).max() < .04          # acdc has many more images than busi
    subjects = table[table["dataset"] == "acdc"]["subject"].value_counts(normalize=True)
    assert len(subjects) > 2 and abs(subjects - 1 / len(subjects)).max() < .06


def test_every_pair_allows_its_task(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=6)
    batch, plan = sampler.raw(3)
    needs = sampler.needs[plan.task]
    assert (batch.can | ~needs).all()


def test_batches_are_functions_of_seed_and_step(store):
    make = lambda seed: PairSampler(store, ALL_TASKS, pairs_per_task=2, seed=seed)
    one, two = make(1), make(1)
    one.raw(0); one.raw(1)  # what was drawn before does not matter
    a, b = one.pairs(one.raw(5)), two.pairs(two.raw(5))
    for f in fields(Pairs): assert torch.equal(getattr(a, f.name), getattr(b, f.name)), f.name
    assert not torch.equal(a.output, make(2).pairs(make(2).raw(5)).output)
    assert not torch.equal(one.plan(6).record, one.plan(5).record)


def test_processes_share_a_batch(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=4, randomise=False)
    whole, parts = sampler.pairs(sampler.raw(2)), [sampler.pairs(sampler.raw(2, rank, 2)) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.seed, whole.seed[rank::2]) and torch.allclose(part.output, whole.output[rank::2], atol=1e-5)


def test_pairs_are_in_range_and_evaluation_is_stable(store):
    sampler = PairSampler(store, ALL_TASKS, pairs_per_task=2)
    pairs = sampler.pairs(sampler.raw(0))
    for image in (pairs.input, pairs.output):
        assert image.shape == (2 * len(sampler.tasks), 3, SIZE, SIZE) and image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
    records = store.select(split="test")[:4]
    many = make_pairs(store, get_task("deblurring"), records, np.arange(4), number=7)
    one = make_pairs(store, "deblurring", records[2:3], torch.tensor([2]))
    assert torch.allclose(many.input[2], one.input[0], atol=1e-6) and many.task.tolist() == [7] * 4
    assert many.dataset.tolist() == [store.datasets.index(d) for d in store.table["dataset"].iloc[records]]


def test_impossible_samplers(store, tmp_path):
    with pytest.raises(TaskError, match="'inpainting'"): PairSampler(store, ["inpaintng"])
    with pytest.raises(TaskError): PairSampler(store, [])
    with pytest.raises(StoreError, match="split"): PairSampler(store, ALL_TASKS, split="nothing")
    grey = Store.open(pack("acdc", out=tmp_path, size=SIZE, source="phantom", subjects=4))
    with pytest.raises(TaskError, match="colorization"): PairSampler(grey, ["colorization"])
    with pytest.warns(UserWarning, match="colorization"): left = PairSampler(grey, ["colorization", "deblurring"])
    assert left.tasks == ("deblurring",)


# ---------------------------------------------------------------- loss

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
    loss = supcon(z, torch.arange(6)); loss.backward()
    assert loss == 0 and (z.grad == 0).all()
    labels = torch.tensor([0, 0, 0, 1, 2, 3])
    log_p = (z @ z.T / .1).fill_diagonal_(-torch.inf).log_softmax(1)
    by_hand = -torch.stack([(log_p[0, 1] + log_p[0, 2]) / 2, (log_p[1, 0] + log_p[1, 2]) / 2, (log_p[2, 0] + log_p[2, 1]) / 2]).mean()
    assert torch.isclose(supcon(z, labels), by_hand)


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
    pairs = Pairs(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8), task=torch.tensor([0, 0, 0, 1]), dataset=torch.tensor([0, 0, 1, 1]), **numbers)
    same = lambda kind: (lambda n: n[:, None] == n)(positive_labels(pairs, kind)).int().tolist()
    assert same("task") == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert same("task+dataset") == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    with pytest.raises(ParameterError, match="task\\+dataset"): positive_labels(pairs, "task+datasets")


# ---------------------------------------------------------------- encoder

@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_encoders(backbone, fusion):
    encoder = PairEncoder(EncoderConfig(backbone, fusion, width=.125, embedding=16)).eval()
    features, embedding = encoder(*torch.rand(2, 3, 3, 40, 40))
    assert features.shape == (3, encoder.features) and embedding.shape == (3, 16) and embedding.dtype == torch.float32
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)


def test_standard_resnet50_has_2048_features():
    assert PairEncoder(EncoderConfig("resnet50")).features == 2048


def test_encoder_refuses_other_shapes():
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125))
    with pytest.raises(EncoderError, match="colour"): encoder(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32))


def test_save_and_load(tmp_path):
    encoder = PairEncoder(EncoderConfig("resnet10", "difference", width=.125, stem=3, pool=False))
    encoder(*torch.rand(2, 4, 3, 32, 32))  # moves the running averages
    encoder.save(tmp_path / "e"); encoder.save(tmp_path / "e")
    again = PairEncoder.load(tmp_path / "e", device="cpu")
    assert again.config == encoder.config and not again.training
    assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), again.state_dict().values()))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["e", "encoder.json", "encoder.safetensors"]


def saved(tmp_path):
    PairEncoder(EncoderConfig("resnet10", width=.125)).save(tmp_path / "e")
    return tmp_path / "e", load_file(tmp_path / "e" / "encoder.safetensors")


@pytest.mark.parametrize("change, words", [
    (lambda w: w.pop("projection.0.bias"), "missing.*\n.*\n.*projection.0.bias"),
    (lambda w: w.update(surplus=torch.zeros(2)), "does not have.*\n.*\n.*surplus"),
    (lambda w: w.update({"projection.0.bias": torch.zeros(3)}), "shape.*\n.*\n.*projection.0.bias"),
    (lambda w: w["backbone.conv1.weight"].view(-1)[5:6].fill_(torch.nan), "not numbers.*\n.*\n.*backbone.conv1.weight"),
])
def test_weights_that_do_not_fit(tmp_path, change, words):
    folder, weights = saved(tmp_path)
    change(weights); save_file(weights, folder / "encoder.safetensors")
    with pytest.raises(EncoderError, match=words): PairEncoder.load(folder, device="cpu")


@pytest.mark.parametrize("text, words", [
    ("{", "JSON"), ("[]", "table"), ('{"backbone": "resnet11"}', "resnet1"), ('{"backbon": "resnet10"}', "'backbone'"), ('{"backbone": "resnet18", "width": 0.125}', "architecture"),
])
def test_configurations_that_do_not_fit(tmp_path, text, words):
    folder, _ = saved(tmp_path)
    (folder / "encoder.json").write_text(text)
    with pytest.raises(EncoderError, match=words): PairEncoder.load(folder, device="cpu")


def test_damaged_and_absent_files(tmp_path):
    folder, _ = saved(tmp_path)
    data = (folder / "encoder.safetensors").read_bytes()
    (folder / "encoder.safetensors").write_bytes(data[:len(data) // 2])
    with pytest.raises(EncoderError, match="cannot be read"): PairEncoder.load(folder)
    with pytest.raises(EncoderError, match="no encoder"): PairEncoder.load(tmp_path / "nowhere")


def test_saving_spares_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EncoderError, match="notes.txt"): PairEncoder(EncoderConfig("resnet10", width=.125)).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    broken = PairEncoder(EncoderConfig("resnet10", width=.125))
    with torch.no_grad(): broken.projection[0].bias[0] = torch.inf
    with pytest.raises(EncoderError, match="projection.0.bias"): broken.save(tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_encode_in_blocks(store):
    encoder = PairEncoder(EncoderConfig("resnet10", width=.125))
    pairs = make_pairs(store, "deblurring", store.select(split="train")[:10], np.arange(10))
    features, embedding = encode(encoder, pairs, batch_size=4, device="cpu")
    assert features.shape == (10, encoder.features) and embedding.shape == (10, 128) and encoder.training and not embedding.requires_grad
    assert torch.allclose(encode(encoder, [pairs[:3], pairs[3:]], device="cpu")[1], embedding, atol=1e-5)
    with pytest.raises(EncoderError, match="no pairs"): encode(encoder, [], device="cpu")


# ---------------------------------------------------------------- training

TASKS = ["binary_segmentation", "gaussian_denoising", "horizontal_flip", "intensity_inversion"]


def config(**changes) -> TrainConfig:
    small = dict(steps=10, pairs_per_task=3, learning_rate=2e-3, precision="32", device="cpu", log_every=1, checkpoint_every=4,
                 encoder=EncoderConfig("resnet10", width=.125, size=SIZE))
    return TrainConfig(**{**small, **changes})


class Stop(L.Callback):
    "Raise, or send a signal, after a step."
    def __init__(self, step, error=None): self.step, self.error = step, error
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step != self.step: return
        if isinstance(self.error, int): signal.raise_signal(self.error)
        else: raise self.error or RuntimeError("pulled the plug")


def weights(encoder): return torch.cat([t.flatten().float() for t in encoder.state_dict().values()])


@pytest.fixture(scope="module")
def uninterrupted(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(store, TASKS, config(), folder, progress=False), folder


def test_training_leaves_what_it_promises(store, uninterrupted, capsys):
    encoder, folder = uninterrupted
    assert sorted(p.name for p in folder.iterdir()) == ["encoder", "history.csv", "run.json"]
    rows = list(csv.DictReader(open(folder / "history.csv")))
    assert [int(r["step"]) for r in rows] == list(range(1, 11)) and all(float(r["samples_per_s"]) > 0 for r in rows)
    assert float(rows[0]["lr"]) > float(rows[-1]["lr"]) == 0
    assert torch.equal(weights(PairEncoder.load(folder / "encoder", device="cpu")), weights(encoder))
    assert torch.equal(weights(train(store, TASKS, config(), folder)), weights(encoder))  # finished: loaded, not trained
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_exact_resume_after_a_crash(store, uninterrupted, tmp_path, error):
    with pytest.raises(BaseException): train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(7, error)])
    assert torch.load(tmp_path / "training.ckpt", weights_only=True)["global_step"] == 4 and not (tmp_path / "encoder").exists()
    assert torch.equal(weights(train(store, TASKS, config(), tmp_path, progress=False)), weights(uninterrupted[0]))
    loss = lambda folder: [r["loss"] for r in csv.DictReader(open(folder / "history.csv"))]
    assert loss(tmp_path) == loss(uninterrupted[1])


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_polite_kill_saves_first(store, uninterrupted, tmp_path, number, error):
    before = signal.getsignal(number)
    with pytest.raises(error): train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(6, int(number))])
    assert torch.load(tmp_path / "training.ckpt", weights_only=True)["global_step"] == 6 and signal.getsignal(number) is before
    assert torch.equal(weights(train(store, TASKS, config(), tmp_path, progress=False)), weights(uninterrupted[0]))


def test_a_worker_gives_the_same(store, uninterrupted, tmp_path):
    assert torch.equal(weights(train(store, TASKS, config(workers=2), tmp_path, progress=False)), weights(uninterrupted[0]))


def test_another_run_in_the_folder(store, uninterrupted):
    _, folder = uninterrupted
    with pytest.raises(TacoError, match="temperature(.|\n)*fresh=True"): train(store, TASKS, config(temperature=.2), folder, progress=False)
    with pytest.raises(TacoError, match="tasks"): train(store, TASKS[:3], config(), folder, progress=False)


def test_a_damaged_checkpoint(store, tmp_path):
    with pytest.raises(RuntimeError): train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(7)])
    (tmp_path / "training.ckpt").write_bytes(b"PK nothing")
    with pytest.raises(EncoderError, match="fresh=True"): train(store, TASKS, config(), tmp_path, progress=False)
    train(store, TASKS, config(steps=2), tmp_path, progress=False, fresh=True)
    assert (tmp_path / "encoder").is_dir()


def test_a_stream_out_of_step_is_noticed(store, tmp_path, monkeypatch):
    plain = PairSampler.raw
    monkeypatch.setattr(PairSampler, "raw", lambda self, step, *rest: plain(self, step + 1, *rest))
    with pytest.raises(StoreError, match="out of step"): train(store, TASKS, config(), tmp_path, progress=False)


def test_a_loss_that_is_not_a_number(store, tmp_path):
    with pytest.raises(EncoderError, match="smaller learning rate"): train(store, TASKS, config(learning_rate=1e30, clip=0, optimiser="sgd", warmup=0), tmp_path, progress=False)
    assert not (tmp_path / "encoder").exists()


def test_training_lowers_the_loss_and_bf16_runs(store, tmp_path):
    train(store, TASKS, config(steps=40, pairs_per_task=6, precision="bf16", positives="task+dataset", optimiser="adamw"), tmp_path, progress=False)
    loss = [float(r["loss"]) for r in csv.DictReader(open(tmp_path / "history.csv"))]
    assert np.mean(loss[-5:]) < np.mean(loss[:3]) - .1


def test_progress_is_a_few_lines(store, tmp_path, capsys):
    train(store, TASKS, config(steps=30, log_every=3), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= len(lines) <= 11 and lines[-1].startswith("step 30/30  100 %  loss ") and "pairs/s" in lines[0]


class Frozen(L.Callback):
    "Batch statistics belong to a process; without them, two processes must learn exactly what one learns."
    def on_train_batch_start(self, trainer, module, *_):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d): part.eval()


def learn(folders, folder, devices=1):
    shared = config(steps=2, pairs_per_task=4, devices=devices, optimiser="sgd", clip=0, learning_rate=.05, randomise=False)
    return train(Store.open(folders), TASKS, shared, folder, callbacks=[Frozen()], progress=False)


def test_two_processes_learn_what_one_learns(store, tmp_path):
    one = learn(store.folders, tmp_path / "one")
    script = "import sys; sys.path.insert(0, sys.argv[1])\nif __name__ == '__main__':\n    from test_learning import learn\n    learn(sys.argv[3:], sys.argv[2], devices=2)\n"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "script.py", Path(__file__).parent, tmp_path / "two", *store.folders], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    two = PairEncoder.load(tmp_path / "two" / "encoder", device="cpu")
    assert torch.allclose(weights(one), weights(two), atol=1e-5)
    assert not torch.allclose(weights(_new_encoder(config())), weights(two), atol=1e-3)  # and it has learned


@pytest.mark.parametrize("wrong", [dict(steps=0), dict(steps=2.5), dict(temperature=0), dict(positives="tasks"), dict(optimiser="adam"), dict(precision="16")])
def test_impossible_training(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): config(**wrong)


def test_configuration_survives_json():
    given = config(randomise=dict(zoom=1.2), encoder=dict(backbone="resnet18"))
    assert TrainConfig(**json.loads(json.dumps(asdict(given)))) == given
