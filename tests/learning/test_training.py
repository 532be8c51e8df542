"taco.learning.training: what a folder promises, whatever happens to the run."
import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pandas as pd
import pytest
import torch

from taco.base import EncoderError, ParameterError, StoreError, TacoError
from taco.data.pack import pack
from taco.data.store import Store, write_manifest
from taco.learning.checkpoint import read_step
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.recipe import TrainConfig, changed
from taco.learning.sampler import PairSampler
from taco.learning.training import draw_loss, new_encoder, train

SIZE = 32
TASKS = ["binary_segmentation", "gaussian_denoising", "horizontal_flip", "intensity_inversion"]


def config(**changes) -> TrainConfig:
    small = dict(
        steps=10, pairs_per_task=3, learning_rate=2e-3, precision="32", device="cpu", log_every=1,
        checkpoint_every=4, encoder=EncoderConfig("resnet10", width=.125, size=SIZE))
    return TrainConfig.of(**{**small, **changes})


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


def history(folder) -> list[dict]:
    "The rows of history.csv."
    with open(folder / "history.csv", newline="") as file: return list(csv.DictReader(file))


def test_training_leaves_what_it_promises(store, uninterrupted, capsys):
    encoder, folder = uninterrupted
    assert sorted(p.name for p in folder.iterdir()) == ["encoder", "history.csv", "run.json"]
    rows = history(folder)
    assert [int(r["step"]) for r in rows] == list(range(1, 11))
    assert all(float(r["samples_per_s"]) > 0 for r in rows)
    assert float(rows[0]["lr"]) > float(rows[-1]["lr"]) == 0
    assert torch.equal(weights(PairEncoder.load(folder / "encoder", device="cpu")), weights(encoder))
    again = train(store, TASKS, config(), folder)  # finished: loaded, not trained
    assert torch.equal(weights(again), weights(encoder))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_exact_resume_after_a_crash(store, uninterrupted, tmp_path, error):
    with pytest.raises(BaseException):  # noqa: B017 (Lightning turns an interrupt into SystemExit)
        train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(7, error)])
    assert read_step(tmp_path / "training.ckpt") == 4 and not (tmp_path / "encoder").exists()
    resumed = train(store, TASKS, config(), tmp_path, progress=False)
    assert torch.equal(weights(resumed), weights(uninterrupted[0]))
    loss = lambda folder: [row["loss"] for row in history(folder)]
    assert loss(tmp_path) == loss(uninterrupted[1])


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_polite_kill_saves_first(store, uninterrupted, tmp_path, number, error):
    before = signal.getsignal(number)
    with pytest.raises(error):
        train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(6, int(number))])
    assert read_step(tmp_path / "training.ckpt") == 6 and signal.getsignal(number) is before
    resumed = train(store, TASKS, config(), tmp_path, progress=False)
    assert torch.equal(weights(resumed), weights(uninterrupted[0]))


def test_stopped_three_times_at_random_it_is_the_undisturbed_encoder_bit_for_bit(store, uninterrupted, tmp_path):
    moments = sorted(np.random.default_rng(5).choice(np.arange(1, 10), 3, replace=False))
    for moment in moments:
        with pytest.raises(SystemExit) as stopped:
            train(store, TASKS, config(checkpoint_every=100), tmp_path, progress=False,
                  callbacks=[Stop(moment, int(signal.SIGTERM))])
        assert stopped.value.code == 143 and read_step(tmp_path / "training.ckpt") == moment
    resumed = train(store, TASKS, config(checkpoint_every=100), tmp_path, progress=False)
    assert torch.equal(weights(resumed), weights(uninterrupted[0]))
    assert [r["loss"] for r in history(tmp_path)] == [r["loss"] for r in history(uninterrupted[1])]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_last_step_loses_nothing(store, uninterrupted, tmp_path, number, capsys):
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(10, int(number))])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder", "history.csv", "run.json"]
    assert torch.equal(weights(PairEncoder.load(tmp_path / "encoder", "cpu")), weights(uninterrupted[0]))
    assert f"Stopped by {number.name}; the result is in" in capsys.readouterr().err


def test_checkpoints_come_by_time_as_well_as_by_steps(store, uninterrupted, tmp_path, monkeypatch):
    from taco.learning import checkpoint
    monkeypatch.setattr(checkpoint, "SECONDS", 0.)
    with pytest.raises(RuntimeError):
        train(store, TASKS, config(checkpoint_every=100), tmp_path, progress=False, callbacks=[Stop(7)])
    assert read_step(tmp_path / "training.ckpt") == 6
    monkeypatch.setattr(checkpoint, "SECONDS", 30.)
    resumed = train(store, TASKS, config(checkpoint_every=100), tmp_path, progress=False)
    assert torch.equal(weights(resumed), weights(uninterrupted[0]))


def test_two_in_one_folder_are_told_apart(store, tmp_path):
    import subprocess
    import sys
    code = "import sys, time, taco.lock; lock = taco.lock.take(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    other.stdout.readline()
    with pytest.raises(TacoError, match=f"process {other.pid}"): train(store, TASKS, config(), tmp_path)
    other.kill()
    other.wait()


def test_every_flipped_bit_of_a_checkpoint_is_noticed_or_changes_nothing(store, tmp_path):
    with pytest.raises(RuntimeError):
        train(store, TASKS, config(steps=5), tmp_path, progress=False, callbacks=[Stop(5)])
    file, rng = tmp_path / "training.ckpt", np.random.default_rng(0)
    data = file.read_bytes()
    def state(found):  # every tensor and number of it
        if isinstance(found, dict): return {k: state(v) for k, v in found.items()}
        if isinstance(found, (list, tuple)): return [state(v) for v in found]
        return found.tolist() if isinstance(found, torch.Tensor) else found
    right = state(torch.load(file, weights_only=True))
    for at in rng.integers(0, len(data), 25):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try: read_step(file)
        except EncoderError: continue
        assert state(torch.load(file, weights_only=True)) == right, at


def test_a_worker_gives_the_same(store, uninterrupted, tmp_path):
    found = train(store, TASKS, config(workers=2), tmp_path, progress=False)
    assert torch.equal(weights(found), weights(uninterrupted[0]))


def test_another_run_in_the_folder(store, uninterrupted):
    _, folder = uninterrupted
    with pytest.raises(TacoError, match="temperature(.|\n)*fresh=True"):
        train(store, TASKS, config(temperature=.2), folder, progress=False)
    with pytest.raises(TacoError, match="tasks"): train(store, TASKS[:3], config(), folder, progress=False)


def test_a_damaged_checkpoint(store, tmp_path):
    with pytest.raises(RuntimeError):
        train(store, TASKS, config(), tmp_path, progress=False, callbacks=[Stop(7)])
    (tmp_path / "training.ckpt").write_bytes(b"PK nothing")
    with pytest.raises(EncoderError, match="fresh=True"): train(store, TASKS, config(), tmp_path, progress=False)
    train(store, TASKS, config(steps=2), tmp_path, progress=False, fresh=True)
    assert (tmp_path / "encoder").is_dir()


def test_a_stream_out_of_step_is_noticed(store, tmp_path, monkeypatch):
    plain = PairSampler.raw
    monkeypatch.setattr(PairSampler, "raw", lambda self, step, *rest: plain(self, step + 1, *rest))
    with pytest.raises(StoreError, match="out of step"): train(store, TASKS, config(), tmp_path, progress=False)


def test_a_loss_that_is_not_a_number(store, tmp_path):
    wild = config(learning_rate=1e30, clip=0, optimiser="sgd", warmup=0)
    with pytest.raises(EncoderError, match="smaller learning rate"):
        train(store, TASKS, wild, tmp_path, progress=False)
    assert not (tmp_path / "encoder").exists()


def test_training_lowers_the_loss_and_bf16_runs(store, tmp_path):
    longer = config(steps=40, pairs_per_task=6, precision="bf16", positives="task+dataset", optimiser="adamw")
    train(store, TASKS, longer, tmp_path, progress=False)
    loss = [float(row["loss"]) for row in history(tmp_path)]
    assert np.mean(loss[-5:]) < np.mean(loss[:3]) - .1


def test_the_rival_names_tasks(store, tmp_path):
    "The same network by cross-entropy: it learns, resumes exactly, and leaves an encoder like any other."
    how = config(objective="cross_entropy", steps=24, pairs_per_task=6)
    whole = train(store, TASKS, how, tmp_path / "whole", progress=False)
    loss = [float(row["loss"]) for row in history(tmp_path / "whole")]
    assert loss[0] == pytest.approx(np.log(len(TASKS) + 1), abs=1.5) and np.mean(loss[-4:]) < loss[0] - .2
    with pytest.raises(RuntimeError): train(store, TASKS, how, tmp_path / "part", False, callbacks=[Stop(9)])
    resumed = train(store, TASKS, how, tmp_path / "part", progress=False)
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(weights(PairEncoder.load(tmp_path / "whole/encoder", device="cpu")), weights(whole))
    assert not torch.equal(weights(train(store, TASKS, config(steps=24, pairs_per_task=6), tmp_path / "other", False)),
                           weights(whole))
    for field, value in (("failures", "classes"), ("positives", "task+dataset"), ("ordinal", .2)):
        wrong = config(objective="cross_entropy", **{field: value})
        with pytest.raises(ParameterError, match=field): train(store, TASKS, wrong, tmp_path / field, False)
    with pytest.raises(ParameterError, match="objective"): config(objective="crossentropy")


def test_anchors_pull_sooner_than_contrast_alone(store, tmp_path):
    "With failed pairs among the others: it learns, resumes exactly, and its loss is the sum of both terms."
    how = dict(objective="anchors", steps=24, pairs_per_task=6, failures="negatives", failed_per_task=1)
    whole = train(store, TASKS, config(**how), tmp_path / "whole", progress=False)
    loss = [float(row["loss"]) for row in history(tmp_path / "whole")]
    assert np.mean(loss[-4:]) < loss[0] - .4
    with pytest.raises(RuntimeError):
        train(store, TASKS, config(**how), tmp_path / "part", False, callbacks=[Stop(9)])
    assert torch.equal(weights(train(store, TASKS, config(**how), tmp_path / "part", False)), weights(whole))
    contrast = config(**(how | dict(objective="contrast")))
    train(store, TASKS, contrast, tmp_path / "contrast", progress=False)
    first = float(history(tmp_path / "contrast")[0]["loss"])
    assert loss[0] - first == pytest.approx(np.log(len(TASKS) + 1), abs=1.)  # the points are anywhere at first


@pytest.mark.long
def test_ordinal_positives_order_by_strength(store, tmp_path):
    "It resumes exactly, and pairs of one task lie in the order of what was done to them, which nothing else asks for."
    how = dict(tasks_per_batch=1, steps=80, pairs_per_task=24, learning_rate=4e-3, randomise=False, log_every=5)
    found = {}
    for scale in (.1, 0.):
        made = config(**how, ordinal=scale)
        whole = train(store, ["brightness_change"], made, tmp_path / f"{scale}", progress=False)
        sampler = PairSampler(store, ["brightness_change"], "test", pairs_per_task=64, seed=5, randomise=False)
        pairs = sampler.pairs(sampler.raw(0))
        with torch.inference_mode(): z = whole(pairs.input, pairs.output)[1]
        gap = torch.cdist(*[sampler.strengths(pairs.task, pairs.seed)] * 2).flatten()
        found[scale] = np.corrcoef(gap, (z @ z.T).flatten())[0, 1]
    assert found[.1] < -.8 and found[.1] < found[0.] - .1
    with pytest.raises(RuntimeError):
        train(store, ["brightness_change"], config(**how, ordinal=.1), tmp_path / "part", False, callbacks=[Stop(9)])
    resumed = train(store, ["brightness_change"], config(**how, ordinal=.1), tmp_path / "part", False)
    straight = PairEncoder.load(tmp_path / "0.1/encoder", device="cpu")
    assert torch.equal(weights(resumed), weights(straight))
    for wrong in (-1, 1e-9, float("nan"), True):
        with pytest.raises(ParameterError, match="ordinal"): config(ordinal=wrong)


@pytest.mark.long
def test_settings_are_read_from_the_embedding(store, tmp_path):
    "It resumes exactly, and a shift of brightness lies along a line of the embedding, which nothing else asks for."
    how = dict(tasks_per_batch=1, steps=60, pairs_per_task=24, learning_rate=4e-3, randomise=False, log_every=5)
    task, found = ["brightness_change"], {}

    def told(encoder, seed):
        sampler = PairSampler(store, task, "test", pairs_per_task=96, seed=seed, randomise=False)
        pairs = sampler.pairs(sampler.raw(0))
        with torch.inference_mode(): z = encoder(pairs.input, pairs.output)[1].double()
        return torch.cat([z, torch.ones(len(z), 1).double()], 1), sampler.settings(pairs.task, pairs.seed).double()

    for weight in (2., 0.):
        encoder = train(store, task, config(**how, reading=weight), tmp_path / f"{weight}", progress=False)
        (z, wanted), (other, asked) = told(encoder, 5), told(encoder, 6)
        line = torch.linalg.solve(z.T @ z + 1e-3 * torch.eye(z.shape[1]), z.T @ wanted)
        found[weight] = 1 - ((other @ line - asked) ** 2).mean().item() / asked.var().item()
    assert found[2.] > .95 and 1 - found[2.] < .6 * (1 - found[0.])
    with pytest.raises(RuntimeError):
        train(store, task, config(**how, reading=2.), tmp_path / "part", False, callbacks=[Stop(9)])
    assert read_step(tmp_path / "part/training.ckpt") == 8
    resumed = train(store, task, config(**how, reading=2.), tmp_path / "part", False)
    assert torch.equal(weights(resumed), weights(PairEncoder.load(tmp_path / "2.0/encoder", device="cpu")))
    with pytest.raises(ParameterError, match="reading"): config(reading=-1.)


def test_other_pixels_under_the_same_names_are_another_run(store, tmp_path):
    other = pack("acdc", out=tmp_path / "other", size=SIZE, source="phantom", subjects=6)
    train(Store.open([other]), TASKS, config(steps=2), tmp_path / "run", progress=False)
    part = Store.open([other]).parts[0]
    image = np.load(part.folder / "image.npy")
    image[3] = image[3] ^ 1
    np.save(part.folder / "image.npy", image)
    write_manifest(part.folder, part.manifest)
    with pytest.raises(TacoError, match="another training run"):
        train(Store.open([other]), TASKS, config(steps=2), tmp_path / "run", progress=False)


def test_progress_is_a_few_lines(store, tmp_path, capsys):
    train(store, TASKS, config(steps=30, log_every=3), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= len(lines) <= 11 and lines[-1].startswith("step 30/30  100 %  loss ") and "pairs/s" in lines[0]


class Frozen(L.Callback):
    "Batch statistics belong to a process; without them, two processes must learn exactly what one learns."
    def on_train_batch_start(self, trainer, module, *_):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d): part.eval()


class StopOne(L.Callback):
    "SIGTERM to one of the processes, after the first step."
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_rank == int(os.environ.get("STOPPED", -1)) and trainer.global_step == 1:
            signal.raise_signal(signal.SIGTERM)


def learn(folders, folder, devices=1):
    shared = config(
        steps=2, pairs_per_task=4, devices=devices, optimiser="sgd", clip=0, learning_rate=.05, randomise=False)
    return train(Store.open(folders), TASKS, shared, folder, callbacks=[Frozen(), StopOne()], progress=False)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
if __name__ == '__main__':
    from test_training import learn
    learn(sys.argv[3:], sys.argv[2], devices=2)
"""


@pytest.mark.long
def test_two_processes_stopped_by_one_learn_what_one_learns(store, tmp_path):
    one = learn(store.folders, tmp_path / "one")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", Path(__file__).parent, tmp_path / "two", *store.folders]
    # the process that nobody spoke to must not take half a training for a whole one
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | dict(STOPPED="1"))
    assert stopped.returncode == 143, stopped.stderr[-2000:]
    assert read_step(tmp_path / "two/training.ckpt") == 1 and not (tmp_path / "two/encoder").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    two = PairEncoder.load(tmp_path / "two" / "encoder", device="cpu")
    assert torch.allclose(weights(one), weights(two), atol=1e-5)
    assert not torch.allclose(weights(new_encoder(config())), weights(two), atol=1e-3)  # and it has learned


@pytest.mark.parametrize("wrong", [
    dict(steps=0), dict(steps=2.5), dict(temperature=0), dict(positives="tasks"), dict(optimiser="adam"),
    dict(precision="16")])
def test_impossible_training(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))): config(**wrong)


def test_configuration_survives_json():
    given = config(randomise=dict(zoom=1.2), encoder=dict(backbone="resnet18"))
    assert TrainConfig(**json.loads(json.dumps(asdict(given)))) == given


def test_parameters_go_where_they_belong():
    given = TrainConfig.of(steps=3, width=.5, temperature=.2)
    assert (given.fit.steps, given.encoder.width, given.temperature) == (3, .5, .2)
    assert given.fit.learning_rate == TrainConfig().fit.learning_rate == 1e-3
    again = changed(given, steps=4, pool=False)
    assert again.fit.steps == 4 and again.encoder == EncoderConfig(width=.5, pool=False)
    with pytest.raises(ParameterError, match="'temperature'"): TrainConfig.of(temprature=.2)


def test_a_folder_says_all_that_changes_the_result(store, uninterrupted):
    run = json.loads((uninterrupted[1] / "run.json").read_text())
    assert run["steps"] == 10 and run["learning_rate"] == 2e-3 and run["encoder"]["width"] == .125
    assert not {"fit", "device", "devices", "workers", "checkpoint_every", "log_every"} & run.keys()


def test_the_loss_is_drawn_beside_losses_with_a_name():
    history = pd.DataFrame(dict(step=[1, 2, 3], loss=[3., 2., 1.5]))
    line, level = draw_loss(history, "loss", {"one point": 3.1}).axes[0].lines
    assert line.get_ydata().tolist() == [3, 2, 1.5] and set(level.get_ydata()) == {3.1}
    ax = draw_loss(history, "NT-Xent loss").axes[0]
    assert len(ax.lines) == 1 and not ax.texts and ax.get_ylabel() == "NT-Xent loss"
