"Processes on several machines that share a batch: they learn what one learns, however they are stopped."
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from taco.data.pack import pack
from taco.data.store import Store
from taco.learning.checkpoint import read_step
from taco.learning.encoder import EncoderConfig, PairEncoder
from taco.learning.recipe import TrainConfig
from taco.learning.training import train
from tools.slurm import cluster, program

TASKS = ["binary_segmentation", "gaussian_denoising", "horizontal_flip", "intensity_inversion"]
STEPS, LATE = 6, 3  # SIGTERM and SIGKILL come after so many


class Watch(L.Callback):
    """Batch statistics belong to a process; without them, two processes must learn exactly what one learns.

    Keeps the gradients of the first step; stops those ranks that STOPPED names, after some steps, by a signal.
    """
    def __init__(self, folder): self.folder = Path(folder)

    def on_train_batch_start(self, trainer, module, *_):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d): part.eval()

    def on_before_optimizer_step(self, trainer, module, _):
        if trainer.global_step: return
        found = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        torch.save(found, self.folder / f"gradients-{trainer.global_rank}.pt")

    def on_train_batch_end(self, trainer, *_):
        number, _, ranks = os.environ.get("STOPPED", "").partition(":")
        if str(trainer.global_rank) in ranks.split(",") and trainer.global_step == LATE:
            os.kill(os.getpid(), int(number))


def learn(folders, folder, devices=1):
    recipe = TrainConfig.of(
        steps=STEPS, pairs_per_task=4, devices=devices, optimiser="sgd", clip=0, learning_rate=.05, randomise=False,
        precision="32", device="cpu", log_every=1, checkpoint_every=2,
        encoder=EncoderConfig("resnet10", width=.125, size=32))
    Path(folder).mkdir(exist_ok=True)
    return train(Store.open(folders), TASKS, recipe, Path(folder, "run"), progress=False, callbacks=[Watch(folder)])


def weights(encoder): return torch.cat([t.flatten().float() for t in encoder.state_dict().values()])


def read(folder): return weights(PairEncoder.load(folder / "run/encoder", device="cpu"))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1])]  # this folder; the repo, for `tools`
if __name__ == '__main__':
    from test_machines import learn
    learn(sys.argv[3:], sys.argv[2], devices=2)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    out = tmp_path_factory.mktemp("packed")
    return Store.open([pack(name, out=out, size=32, source="phantom", subjects=6) for name in ("acdc", "busi")])


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory) -> Path:
    "The folder of a training by one process."
    folder = tmp_path_factory.mktemp("alone")
    learn(store.folders, folder)
    return folder


def command(tmp_path, store) -> list[str]:
    "A training by two processes, in `tmp_path/two`."
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, tmp_path / "script.py", Path(__file__).parent, tmp_path / "two", *store.folders]
    return [str(word) for word in words]


def as_srun(words: list[str], stopped: str = "") -> list[int]:
    "Start two processes as `srun` does on two nodes; their statuses. Who hangs on after the other died is ended."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    usual = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    said = dict(NTASKS="2", STEP_NUM_TASKS="2", NNODES="2", STEP_NUM_NODES="2", NODELIST="localhost", JOB_ID="1")
    env = usual | {f"SLURM_{name}": value for name, value in said.items()} | dict(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, STOPPED=stopped)
    ranks = [dict(SLURM_PROCID=rank, SLURM_NODEID=rank, SLURM_LOCALID="0") for rank in "01"]
    both = [subprocess.Popen(words, env=env | rank, stderr=subprocess.PIPE, text=True) for rank in ranks]
    until = time.monotonic() + 120
    try:
        while any(p.poll() is None for p in both) and time.monotonic() < until:
            if any(p.poll() for p in both) and until > time.monotonic() + 20: until = time.monotonic() + 20  # --wait
            time.sleep(.1)
    finally:
        for p in both:
            if p.poll() is None: p.kill()
    said = [p.communicate()[1] for p in both]
    print(*said, sep="\n---\n")
    return [p.returncode for p in both]


@pytest.mark.long
def test_two_machines_have_the_gradients_and_weights_of_one(store, alone, tmp_path):
    assert as_srun(command(tmp_path, store)) == [0, 0]
    one, *two = [torch.load(folder / f"gradients-{rank}.pt") for folder, rank in
                 ((alone, 0), (tmp_path / "two", 0), (tmp_path / "two", 1))]
    assert torch.equal(*two) and one.abs().max() > 1e-3
    assert torch.allclose(one, two[0], atol=1e-6, rtol=1e-4)
    assert torch.allclose(read(alone), read(tmp_path / "two"), atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("stopped", ["15:1", "15:0,1", "9:0"])
def test_two_machines_that_are_stopped_go_on_to_the_same_weights(store, tmp_path, stopped, whole_two):
    words, number = command(tmp_path, store), int(stopped.partition(":")[0])
    statuses = as_srun(words, stopped)
    assert any(statuses), statuses
    assert not (tmp_path / "two/run/encoder").exists()
    # a polite kill of any keeps the step in which it came; after a rude one the last checkpoint is there
    assert read_step(tmp_path / "two/run/training.ckpt") == (LATE if number == signal.SIGTERM else 2)
    assert as_srun(words) == [0, 0]
    assert torch.equal(read(tmp_path / "two"), whole_two)


@pytest.fixture(scope="module")
def whole_two(store, tmp_path_factory) -> torch.Tensor:
    "The weights that two undisturbed processes leave."
    folder = tmp_path_factory.mktemp("whole")
    assert as_srun(command(folder, store)) == [0, 0]
    return read(folder / "two")


@pytest.mark.long
def test_srun_itself_starts_them_on_two_nodes(store, alone, tmp_path):
    if not all(map(program, ("slurmctld", "slurmd", "munged", "srun"))): pytest.skip("Slurm is not installed")
    words = command(tmp_path, store)
    with cluster(nodes=2, cores=1, memory=2000) as env:
        # both nodes are this machine, whose name they do not have
        env |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", STOPPED="")
        srun = shutil.which("srun", path=env["PATH"])
        shared = [srun, "--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1", "--wait=60"]
        stopped = subprocess.run([*shared, *words], env=env | dict(STOPPED="15:1"), capture_output=True, text=True)
        assert stopped.returncode and read_step(tmp_path / "two/run/training.ckpt") == LATE, stopped.stderr[-3000:]
        done = subprocess.run([*shared, *words], env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
    assert torch.allclose(read(alone), read(tmp_path / "two"), atol=1e-5)
