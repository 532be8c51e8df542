# Which experiment needs which. One rule is one papermill call:
#   snakemake --cores 2 --config profile=quick
# `make reproduce` calls this and then publishes runs/<profile>/ to figures/<profile>/.
#
# What is stale is decided by parameters and fingerprints (code cells and the modules they use), never by the time
# stamp of a notebook: opening and saving one re-runs nothing.
from pathlib import Path

from taco.experiment import execute, find_experiment, fingerprint, load_profile, plan

PROFILE = load_profile(config.get("profile", "quick"))
RUNS = Path(config.get("runs", "runs")) / PROFILE["name"]

# experiment: the experiments whose results it reads
NEEDS = {
    "pack": [],
    "train": ["pack"],
    "embed": ["pack", "train"],
    "gallery": ["pack"],
    "neighbours": ["embed"],
    "map": ["embed"],
    "similarity": ["embed"],
}
WANTED = [name for name in NEEDS if name not in PROFILE.get("skip", [])]
FOLDERS = {name: str(RUNS / name) for name in NEEDS}
# Training takes every core; the others leave room for each other.
THREADS = {"train": workflow.cores, "embed": workflow.cores, "pack": workflow.cores}


def code_of(name):
    "What the experiment computes with: its own code, and for packing the cards as well."
    cards = sorted(Path("taco/data/cards").glob("*.toml")) if name == "pack" else []
    from hashlib import sha256
    return fingerprint(find_experiment(name)) + sha256(b"".join(c.read_bytes() for c in cards)).hexdigest()[:8]


localrules: all

rule all:
    input: [f"{FOLDERS[name]}/done.json" for name in WANTED]

for name in WANTED:
    rule:
        name: name
        input: [f"{FOLDERS[need]}/done.json" for need in NEEDS[name]]
        output: f"{FOLDERS[name]}/done.json"
        params:
            experiment=name,
            given=plan(PROFILE, name, FOLDERS),
            code=code_of(name),
        threads: THREADS.get(name, 1)
        run: execute(params.experiment, params.given, threads=threads)
