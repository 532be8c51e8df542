"benchmarks.machines: a schedule on paper is one that could be kept, and no better than the bounds."
import itertools

import numpy as np
import pytest

from benchmarks.machines import Job, behind, chain, jobs_of, schedule
from taco.workflow.profile import load_profile, profile_steps


def made(seed: int, count: int = 12) -> dict[str, Job]:
    "Jobs of random lengths; each may wait for earlier ones."
    rng = np.random.default_rng(seed)
    return {str(i): Job(float(rng.integers(1, 9)), int(rng.integers(1, 3)),
                        tuple(str(j) for j in range(i) if rng.random() < .2)) for i in range(count)}


@pytest.mark.parametrize("seed, machines", itertools.product(range(6), (1, 2, 5)))
def test_nothing_begins_before_what_it_needs_and_no_core_is_used_twice(seed, machines):
    jobs = made(seed)
    times = schedule(jobs, machines)
    assert set(times) == set(jobs)
    for name, job in jobs.items():
        begin, end = times[name]
        assert end - begin == job.seconds and all(times[need][1] <= begin for need in job.needs)
        busy = sum(jobs[other].cores for other, (b, e) in times.items() if b <= begin < e)
        assert busy <= 2 * machines
    whole = max(end for _, end in times.values())
    work = sum(job.cores * job.seconds for job in jobs.values())
    assert whole >= max(behind(jobs).values()) and whole >= work / 2 / machines
    assert whole <= sum(job.seconds for job in jobs.values())


def test_with_a_machine_each_the_longest_chain_is_the_time():
    for seed in range(6):
        jobs = made(seed)
        longest = chain(jobs)
        assert all(a in jobs[b].needs for a, b in itertools.pairwise(longest))
        bound = sum(jobs[name].seconds for name in longest)
        assert max(end for _, end in schedule(jobs, len(jobs)).values()) == bound == max(behind(jobs).values())


def test_the_jobs_of_a_profile_are_its_steps_and_its_datasets():
    study = load_profile("study")
    jobs, other = jobs_of(study)
    left = {name for name, words in other.items() if "left out" in words}
    assert set(profile_steps(study)) == {name for name in jobs if ": " not in name} | left
    packed = [name for name in jobs if name.startswith("pack: ")]
    assert len(packed) == len(study["pack"]["datasets"]) and set(jobs["pack"].needs) == set(packed)
    assert "pack" in jobs["train"].needs and jobs["train"].seconds > 300
