"""A cluster on one machine, for as long as a command runs: python -m tools.slurm [--nodes N] PROFILE [options].

Installs Debian's slurm-wlm where it is absent and may be installed, starts a controller and one daemon a node, all on
this machine and on free ports, runs the steps of a profile through it, as `make reproduce ON=slurm` does on a real
one, and ends everything. Nothing of a Slurm that the machine may have is touched: configuration, key, sockets and logs
lie in a folder of their own. Several nodes share the cores that there are: each gets its part of them.

Options go to Snakemake: python -m tools.slurm smoke --config runs=elsewhere
"""
import configparser
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from taco.base import TacoError, refusing
from taco.cli.ending import speak_plainly, status_of

PLUGIN = "snakemake_executor_plugin_slurm"
PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
CONF = """ClusterName=taco
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=bf_interval=2,sched_min_interval=100000
KillWait=30
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool_%n
SlurmctldPidFile={place}/controller.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/controller.log
SlurmdLogFile={place}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def program(name: str) -> str | None:
    "Where a program lies, also one for administrators."
    return shutil.which(name, path=PLACES)


def install() -> str | None:
    "Install Slurm where it is absent; why there is none, None if all is there."
    missing = [name for name in PROGRAMS if not program(name)]
    if not missing: return None
    if not shutil.which("apt-get") or os.geteuid(): return f"{', '.join(missing)} missing, and apt-get needs root"
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = os.environ | dict(DEBIAN_FRONTEND="noninteractive")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge"]):
        subprocess.run(["apt-get", *words], env=env, **quiet)
    missing = [name for name in PROGRAMS if not program(name)]
    return f"apt-get could not install {', '.join(missing)}" if missing else None


def plugin() -> Path | None:
    "Where Snakemake's plugin lies; installed beside the environment, not in it, where it is absent. None: nowhere."
    if found := importlib.util.find_spec(PLUGIN): return Path(str(found.origin)).parent.parent
    place = Path(sys.prefix, "slurm-plugin")
    if not (place / PLUGIN).is_dir():
        settings = configparser.ConfigParser(delimiters=["="])
        settings.read("settings.ini", encoding="utf-8")
        words = ["--quiet", "--no-deps", "--target", str(place), *settings["DEFAULT"]["slurm_requirements"].split()]
        subprocess.run([sys.executable, "-m", "pip", "install", *words], capture_output=True)
    return place if (place / PLUGIN).is_dir() else None


def absent() -> str | None:
    "Why no step can go through Slurm here; None if one can."
    if not sys.platform.startswith("linux"): return "Slurm runs on Linux"
    return install() or (None if plugin() else "no executor plugin, and pip could not install it")


def free_ports(count: int) -> list[int]:
    "Ports that nobody listens to."
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets: one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def started(place: Path, nodes: int, cores: int, memory: int) -> Iterator[list[str]]:
    "The commands that start the daemons, after their files are written; each must end well."
    for name in ("bin", "state", *(f"spool_n{i}" for i in range(nodes))): (place / name).mkdir(mode=0o755)
    controller, *ports = free_ports(1 + nodes)
    lines = [f"NodeName=n{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cores} RealMemory={memory}"
             for i, port in enumerate(ports)]
    user = psutil.Process().username()
    conf = CONF.format(place=place, controller=controller, user=user, nodes="\n".join(lines))
    (place / "slurm.conf").write_text(conf, encoding="utf-8")
    # the executor clears what begins with SLURM_ before it calls srun, and with it where this configuration lies
    srun = place / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={place}/slurm.conf exec {program("srun")} "$@"\n', encoding="utf-8")
    srun.chmod(0o755)
    yield [program("mungekey"), "--create", f"--keyfile={place}/key"]
    files = [f"--{kind}={place}/{name}" for kind, name in
             (("key-file", "key"), ("socket", "munge"), ("pid-file", "munged.pid"), ("log-file", "munged.log"),
              ("seed-file", "seed"))]
    yield [program("munged"), "--force", *files]
    yield [program("slurmctld"), "-f", f"{place}/slurm.conf"]
    for i in range(nodes): yield [program("slurmd"), "-N", f"n{i}", "-f", f"{place}/slurm.conf"]


def log_of(place: Path) -> str:
    "The ends of all logs."
    files = sorted(place.glob("*.log"))
    return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-600:]}" for f in files)


def end(place: Path, wait: float = 20.) -> None:
    "End the daemons of a folder and what they have started."
    mine = []
    for file in place.glob("*.pid"):
        with contextlib.suppress(psutil.Error, ValueError, OSError):
            daemon = psutil.Process(int(file.read_text()))
            # an id that was given to somebody else since is not ours
            if any(str(place) in word for word in daemon.cmdline()): mine.append(daemon)
    for daemon in mine:
        with contextlib.suppress(psutil.Error): daemon.send_signal(signal.SIGTERM)
    for daemon in psutil.wait_procs(mine, wait)[1]:
        with contextlib.suppress(psutil.Error): daemon.kill()


@contextlib.contextmanager
def cluster(nodes: int = 1, cores: int | None = None, memory: int | None = None) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands speak to a cluster of so many nodes on this machine.

    `cores` and `memory` (MB) of a node: its part of what there is, if None. Raises `TacoError` when it does not start.
    """
    cores = cores or max(1, len(os.sched_getaffinity(0)) // nodes)
    memory = memory or psutil.virtual_memory().total // 2**20 // nodes - 500
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        place.chmod(0o755)
        env = os.environ | dict(SLURM_CONF=f"{place}/slurm.conf", PATH=f"{place}/bin{os.pathsep}{PLACES}")
        try:
            for command in started(place, nodes, cores, memory):
                done = subprocess.run(command, env=env, capture_output=True, text=True)
                if done.returncode: _refuse(place, f"{Path(command[0]).name}: {done.stderr.strip()}")
            _until_idle(place, env, nodes)
            yield env
            subprocess.run([program("scancel"), f"--user={psutil.Process().username()}"], env=env, capture_output=True)
        finally: end(place)


def _refuse(place: Path, found: str) -> None:
    refusing(TacoError)("A cluster on this machine does not start.", None, found, fix=log_of(place))


def _until_idle(place: Path, env: dict[str, str], nodes: int, wait: float = 60.) -> None:
    until, said = time.monotonic() + wait, ""
    while said.split() != ["idle"] * nodes:
        if time.monotonic() > until: _refuse(place, said or "no answer")
        asked = [program("sinfo"), "--noheader", "--Node", "--format=%t"]
        said = subprocess.run(asked, env=env, capture_output=True, text=True).stdout
        time.sleep(.2)


def small_steps(file: Path, cores: int, memory: int) -> dict:
    "What jobs ask for, as in a file of the profile, but no more than a node here has."
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    most = dict(cores=cores, memory=memory)
    for about in found["steps"].values():
        about |= {name: min(about[name], most[name]) for name in most if name in about}
        about.pop("gpu", None)
    return found


def words_for(folder: Path, cores: int, memory: int, root: Path) -> list[str]:
    "Options of Snakemake for a cluster of such nodes; a file that they name is written to `folder`."
    file = folder / "steps.yaml"
    file.write_text(yaml.safe_dump(small_steps(root / "profiles/slurm/steps.yaml", cores, memory)), encoding="utf-8")
    # without accounts nobody keeps a list of old jobs; the controller remembers them for five minutes
    return ["--workflow-profile", str(root / "profiles/slurm"), "--configfile", str(file),
            "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2",
            "--max-status-checks-per-second", "1", "--latency-wait", "20"]


def run(profile: str, more: list[str], nodes: int = 1, memory: int = 2000) -> int:
    "Run all steps of a profile on a cluster here; the exit status. Raises `TacoError` where there can be none."
    if why := absent(): refusing(TacoError)("Nothing can go through Slurm here.", None, why)
    cores = max(1, len(os.sched_getaffinity(0)) // nodes)
    given = ["--config", f"profile={profile}"]
    if "--config" in more:
        at = more.index("--config")
        more, given = more[:at], [*given, *more[at + 1:]]
    with cluster(nodes, cores) as env, tempfile.TemporaryDirectory() as folder:
        env["PYTHONPATH"] = os.pathsep.join([env.get("PYTHONPATH", ""), str(plugin())]).strip(os.pathsep)
        words = words_for(Path(folder), 1, memory, Path.cwd())  # steps of a small profile stand beside each other
        command = [sys.executable, "-m", "tools.steps", *more, *words, *given]
        begun, child = time.monotonic(), subprocess.Popen(command, env=env)
        try: status = child.wait()
        finally:  # after a signal it takes its jobs back, which needs the cluster
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.terminate()
                child.wait(60)
        print(f"{nodes} nodes with {cores} cores each: {time.monotonic() - begun:.0f} s")
        return status


def main(words: list[str]) -> int:
    nodes = 1
    if words[:1] == ["--nodes"]: nodes, words = int(words[1]), words[2:]
    if not words or words[0].startswith("-"): refusing(TacoError)("Which profile?", fix=__doc__)
    return run(words[0], words[1:], nodes)


if __name__ == "__main__":
    speak_plainly()
    sys.exit(status_of(lambda: main(sys.argv[1:])))
