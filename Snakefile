# Which step of a profile needs which. One rule is one papermill call:
#   snakemake --cores 2 --config profile=quick
# `make reproduce` calls this and then publishes runs/<profile>/ to figures/<profile>/. The profile `real` is told where
# its datasets lie, by `--config profile=real data=<folder> cards=<folder>`.
#
# What an experiment needs is declared in its parameters cell: `embed_run: str = "runs/smoke/embed"` needs `embed`.
# What is stale is decided by parameters and fingerprints (code cells and the modules they use), never by the time
# stamp of a notebook: opening and saving one re-runs nothing.
#
# A profile may run an experiment more than once: a section `train_seed1: {experiment: train, seed: 1}` is a step of its
# own, and `{train_seed1}` in the parameters of another step is its folder, and makes that step need it.
#
# On many machines (`--workflow-profile profiles/slurm`, see nbs/guides/many_machines.ipynb) a step is a job, and so is
# each dataset that is packed; `steps` and `spread` in the configuration say what a job asks for.
import functools
import json
import sys
from hashlib import sha256
from pathlib import Path
from shlex import quote

from taco.base import pick_device
from taco.fingerprint import fingerprint
from taco.lock import lead
from taco.workflow.parameters import find_experiment
from taco.workflow.profile import load_profile, plan, profile_steps, step_experiment

lead()  # the commands of steps end when this process does, however it ends
PROFILE = load_profile(config.get("profile", "quick"))
GIVEN = {name: str(Path(config[name]).absolute()) for name in ("data", "cards") if config.get(name)}
PROFILE["shared"] = (PROFILE.get("shared") or {}) | GIVEN  # a folder of real datasets, and of cards for them
PYTHON = quote(sys.executable)
RUNS = Path(config.get("runs", "runs")) / PROFILE["name"]

# Targets of their own: the other two systems, which need nothing of TaCo's (`make unified`, `make sequences`), and
# what the map says of transfer, which needs a trained encoder (`make transfer`).
PARTS = {"unified": ("ums_rep",), "sequences": ("sequence_ssl",), "transfer": ("affinity", "grouping")}
STEPS = profile_steps(PROFILE)
FOLDERS = {step: str(RUNS / step) for step in STEPS}
# An analysis keeps one core busy, so two stand side by side; what does more takes every core. A training on a CPU has
# work for two threads at most, and its result does not depend on how many it gets, so trainings stand side by side,
# too, on two cores with one each. On a GPU its kernels are small: three at once do 2.4 times the work of one
# (nbs/decisions.ipynb). Snakemake 9.10 and later may run two whole-machine steps at once (snakemake issue 3913: a job
# that is the only one ready takes no cores); hence <9.10 in settings.ini.
WHOLE = ("pack", "ums_rep", "sequence_ssl", "affinity", "grouping")
TRAININGS = ("train", "image_contrast")
DEVICE = (PROFILE.get("shared") or {}).get("device", "auto")
ON_CPU = (pick_device().type if DEVICE == "auto" else DEVICE) == "cpu"  # a graph of another machine's can be planned
CORES = workflow.resource_settings.cores or 1  # on many machines nobody says; there `steps` says what each job gets
THREADS = dict.fromkeys(WHOLE, CORES)
THREADS |= dict.fromkeys(TRAININGS, max(1, min(2, CORES // 2) if ON_CPU else CORES // 3))


def code_of(name):
    "What the experiment computes with: its own code, and for packing the cards as well."
    files = sorted(Path("taco/data/cards").glob("*.toml")) if name == "pack" else []
    files += map(Path, PROFILE["shared"].get("modules") or [])  # tasks of one's own
    return fingerprint(find_experiment(name)) + sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:8]


@functools.cache
def steps_behind(step):
    "How long a step and what waits for it take, in steps of training, an analysis counting as a hundred of them."
    training = step_experiment(PROFILE, step) in TRAININGS
    own = plan(PROFILE, step, FOLDERS).get("steps", 100) if training else 100
    return own + max((steps_behind(other) for other, needs in STEPS.items() if step in needs), default=0)


def file(path):
    "A file of a run; where a volume is mounted on all machines, one that Snakemake does not copy for them."
    return local(path) if config.get("mounted") else path


def done(step): return file(f"{FOLDERS[step]}/done.json")


def asked(step):
    "What the job of a step asks for on another machine: cores, and resources as Snakemake calls them. Here: nothing."
    if not config.get("steps"): return THREADS.get(step_experiment(PROFILE, step), 1), {}
    wanted = {}
    for name in ("all", step_experiment(PROFILE, step), step): wanted |= config["steps"].get(name) or {}
    wanted = {{"memory": "mem_mb", "minutes": "runtime"}.get(name, name): value for name, value in wanted.items()}
    return wanted.pop("cores"), {name: value for name, value in wanted.items() if value}


def packed_apart(step):
    "Name of a file → name of a dataset, for those that a step packs, if each is a job of its own."
    if not config.get("spread") or step_experiment(PROFILE, step) != "pack": return {}
    from tools.pack_one import names_of
    names = names_of(plan(PROFILE, step, FOLDERS))
    return {f"{Path(name).stem}-{sha256(name.encode()).hexdigest()[:8]}": name for name in names}


def results_of(part):
    "What the steps of a part leave behind; TaCo's are those of no other part."
    others = [name for names in PARTS.values() for name in names]
    def mine(name): return name in PARTS[part] if part in PARTS else name not in others
    return [done(step) for step in FOLDERS if mine(step_experiment(PROFILE, step))]


localrules: all, taco, unified, sequences, transfer

rule all:
    input: [done(step) for step in FOLDERS]

rule taco:
    input: results_of("taco")

rule unified:
    input: results_of("unified")

rule sequences:
    input: results_of("sequences")

rule transfer:
    input: results_of("transfer")

for step, needs in STEPS.items():
    cores, more = asked(step)
    apart = packed_apart(step)
    if apart:
        rule:
            name: f"{step}_dataset"
            output: temp(file(f"{FOLDERS[step]}/.packed/{{mark}}"))
            params:
                dataset=lambda wildcards, apart=apart: apart[wildcards.mark],
                given=lambda wildcards, step=step: json.dumps(plan(PROFILE, step, FOLDERS)),
                code=lambda wildcards: code_of("pack"),
            threads: cores
            resources: **more
            priority: steps_behind(step) if workflow.is_main_process else 0
            shell: "{PYTHON} -m tools.pack_one {params.dataset:q} {params.given:q} {output:q} --threads {threads}"
    rule:
        name: step
        input: [done(need) for need in needs], [file(f"{FOLDERS[step]}/.packed/{mark}") for mark in apart]
        output: done(step)
        params:
            experiment=step_experiment(PROFILE, step),
            # asked when a job is planned: a process that was started for one of them needs no other's
            given=lambda wildcards, step=step: json.dumps(plan(PROFILE, step, FOLDERS)),
            code=lambda wildcards, step=step: code_of(step_experiment(PROFILE, step)),
        threads: cores
        resources: **more
        priority: steps_behind(step) if workflow.is_main_process else 0
        shell: "{PYTHON} -c 'from taco.cli.main import main; main()' run {params.experiment} --threads {threads} --json {params.given:q}"
