"""How long a profile takes on so many machines, on paper: python -m benchmarks.machines [PROFILE] [--job SECONDS]

A list schedule of the steps as the Snakefile orders them, with the seconds that published runs took
(figures/PROFILE/manifest.json, where a step is missing those of the profile below). Nothing is run. A machine has two
cores, as those on which the seconds were measured; a step that takes every core has a machine to itself. What was not
measured is estimated, and said so. `--job` is what each job costs before and after its work: a queue that is asked
every so many seconds, and two starts of Snakemake; nothing on a single machine.
"""
import argparse
import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taco.workflow.parameters import declared_parameters
from taco.workflow.profile import load_profile, plan, profile_folders, profile_steps, step_experiment

ROOT = Path(__file__).resolve().parent.parent
CORES = 2  # of a machine
WHOLE = ("pack", "ums_rep", "sequence_ssl", "affinity", "grouping")  # as in the Snakefile
COUNTS = (1, 2, 4, 8, 40)


@dataclass(frozen=True)
class Job:
    "Seconds and cores of one job, and the jobs that it waits for."
    seconds: float
    cores: int = 1
    needs: tuple[str, ...] = ()


def behind(jobs: Mapping[str, Job]) -> dict[str, float]:
    "Seconds from the start of each job to the end of the longest chain that waits for it."
    found: dict[str, float] = {}
    waiting = {name: [other for other, job in jobs.items() if name in job.needs] for name in jobs}
    def of(name: str) -> float:
        if name not in found: found[name] = jobs[name].seconds + max(map(of, waiting[name]), default=0.)
        return found[name]
    for name in jobs: of(name)
    return found


def schedule(jobs: Mapping[str, Job], machines: int, cores: int = CORES) -> dict[str, tuple[float, float]]:
    "Begin and end of each job on so many machines: of those that are ready, the one with the longest chain first."
    rank, times, running = behind(jobs), {}, []
    free, now = [cores] * machines, 0.
    while len(times) < len(jobs) or running:
        ended = {name for name, (_, end) in times.items() if end <= now}
        ready = [n for n, job in jobs.items() if n not in times and ended.issuperset(job.needs)]
        for name in sorted(ready, key=lambda n: (-rank[n], n)):
            need = min(jobs[name].cores, cores)
            place = next((i for i, left in enumerate(free) if left >= need), None)
            if place is None: continue
            free[place] -= need
            times[name] = (now, now + jobs[name].seconds)
            heapq.heappush(running, (times[name][1], name, place, need))
        now = running[0][0]
        while running and running[0][0] <= now:
            _, _, place, need = heapq.heappop(running)
            free[place] += need
    return times


def chain(jobs: Mapping[str, Job]) -> list[str]:
    "The longest chain of jobs that wait for each other, first to last: no number of machines is faster."
    rank = behind(jobs)
    found = [max((n for n, job in jobs.items() if not job.needs), key=rank.__getitem__)]
    while after := [n for n, job in jobs.items() if found[-1] in job.needs]:
        found.append(max(after, key=rank.__getitem__))
    return found


def recorded(profile: dict) -> tuple[dict[str, float], dict[str, str]]:
    "Seconds of the steps of a profile, and where those are from that it did not measure itself."
    seconds, other, above = {}, {}, profile
    while above is not None:
        file = ROOT / "figures" / above["name"] / "manifest.json"
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else {}
        for step, run in runs.items():
            if step in seconds: continue
            seconds[step] = run["seconds"]
            if above is not profile: other[step] = f"as in {above['name']}"
            folders = profile_folders(profile)
            if step not in folders: continue
            factor = work_of(profile, step, folders) / work_of(above, step, profile_folders(above))
            if factor == 1: continue
            seconds[step] *= factor
            other[step] = f"estimated: {factor:.1f} times what {above['name']} took"
        above = load_profile(above["base"]) if "base" in above else None
    return seconds, other


def work_of(profile: dict, step: str, folders: dict[str, str]) -> float:
    "How much a step does beside another of its experiment: cells of a matrix, steps of groups; else 1."
    own = step_experiment(profile, step)
    if own not in ("affinity", "grouping") or step not in folders: return 1
    given = {name: p.default for name, p in declared_parameters(own).items()} | plan(profile, step, folders)
    if own == "affinity": return len(given["targets"]) * (2 + len(given["sources"])) * len(given["seeds"])
    return (2 + given["by_chance"]) * len(given["seeds"]) * given["steps"]


def jobs_of(profile: dict, job: float = 0., apart: bool = True) -> tuple[dict[str, Job], dict[str, str]]:
    """The jobs of a profile, and what was not measured. `job`: seconds that each costs beside its work.

    `apart`: each dataset is packed by a job of its own; all of them share what the step took.
    """
    seconds, other = recorded(profile)
    folders, jobs = profile_folders(profile), {}
    for step, needs in profile_steps(profile).items():
        if step not in seconds:
            other[step] = "never measured: left out"
            continue
        own = step_experiment(profile, step)
        cores, names = CORES if own in WHOLE else 1, plan(profile, step, folders).get("datasets", [])
        if own == "pack" and apart and names:
            # two workers took so long for all; one job has one of them
            each = seconds[step] * CORES / len(names)
            jobs |= {f"{step}: {name}": Job(each + job) for name in names}
            jobs[step] = Job(5. + job, 1, tuple(f"{step}: {name}" for name in names))
        else: jobs[step] = Job(seconds[step] + job, cores, tuple(needs))
    jobs = {n: Job(j.seconds, j.cores, tuple(need for need in j.needs if need in jobs)) for n, j in jobs.items()}
    return jobs, {step: words for step, words in other.items() if step in profile_steps(profile)}


def table(profile: dict, job: float) -> str:
    "Machines, minutes, and how much of them is used; the chain that bounds it, and what is estimated."
    lines = [f"{'machines':>8} {'minutes':>8} {'busy':>6}"]
    for count in COUNTS:
        jobs, other = jobs_of(profile, job if count > 1 else 0., apart=count > 1)
        end = max(end for _, end in schedule(jobs, count).values())
        work = sum(min(j.cores, CORES) * j.seconds for j in jobs.values())
        lines.append(f"{count:>8} {end / 60:>8.1f} {work / end / count / CORES:>6.0%}")
    longest = chain(jobs)
    told = " → ".join(f"{name} {jobs[name].seconds / 60:.1f}" for name in longest)
    lines.append(f"bound ({sum(jobs[n].seconds for n in longest) / 60:.1f} minutes): {told}")
    return "\n".join([*lines, *(f"{step}: {words}" for step, words in sorted(other.items()))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machines", description=__doc__.partition("\n")[0])
    parser.add_argument("profile", nargs="?", default="study")
    parser.add_argument("--job", type=float, default=45.)
    told = parser.parse_args()
    print(table(load_profile(told.profile), told.job))
