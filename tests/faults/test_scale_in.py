"""Random load on a fleet that keeps growing and shrinking, while its leading operators die: no job is interrupted.

SCALE_IN_SECONDS is for how long.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

import pytest
from e2e.world import NAMESPACE

from faults.load import submit
from faults.report import REPORT as REPORT_FILE
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.world import FaultWorld
from import_core.adapters.kube.resources import DEPLOYMENT
from import_core.adapters.tasks import end_tasks
from import_local.demo.manifests import POOL, WORKERS

SCALE_IN_SECONDS = float(os.environ.get("SCALE_IN_SECONDS") or 600)
SECONDS_A_SCALE_IN = 20.0
"""The fleet must have shrunk at least once in each of these, so 30 times in the default time."""
FIGURES = REPORT_FILE.with_name("scale-in.json")
SECONDS_A_KILL = 150.0
"""The leading operator is killed about so often, at least once: the next one goes on from what is written."""
LATENCY_SECONDS = 1.0
LARGEST_BURST = 24
LONGEST_LULL_SECONDS = 9.0
JOBS_A_SECOND = 3
SCALING = {
    "minReplicas": 1,
    "maxReplicas": 5,
    "targetJobsPerWorker": 4,
    "scaleOutCooldownSeconds": 1,
    "scaleInCooldownSeconds": 2,
    "scaleInBusy": "DrainLeastWork",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it. Workers are numbers of replicas asked for; seconds are of a job from its claim to its end."""

    seconds: float
    scale_ins: int
    workers_let_go: int
    scale_outs: int
    most_workers: int
    fewest_workers: int
    jobs: int
    starts: int
    interrupted: int
    claims_cut: int
    operators_killed: int
    median_job_seconds: float


async def record_replicas(world: FaultWorld, seen: list[int]) -> None:
    """Every number of workers that the Deployment was given, in order."""
    async for version in world.kube.watch_one(DEPLOYMENT, NAMESPACE, WORKERS):
        if version is not None:
            replicas = int(version["spec"]["replicas"])
            if not seen or seen[-1] != replicas:
                seen.append(replicas)


async def shape(world: FaultWorld, scaling: dict[str, object]) -> None:
    patch = json.dumps({"spec": {"scaling": scaling}})
    outcome = await world.kubectl(
        *("patch", "workerpool", POOL, "-n", NAMESPACE, "--type=merge", "-p", patch)
    )
    assert outcome.code == 0, outcome.err


async def submit_at_random(running: Scenario, seconds: float) -> None:
    """Bursts and lulls of random length, until the time is over; then what is left, so that each job ends."""
    source = running.world.random_for(f"{running.load.scenario}/bursts")
    end, first, jobs = time.monotonic() + seconds, 0, len(running.load.jobs)
    while time.monotonic() < end:
        last = min(jobs, first + source.randint(1, LARGEST_BURST))
        if last > first:
            await submit(running.world, running.load, first=first, last=last)
        first = last
        await asyncio.sleep(source.uniform(1.0, LONGEST_LULL_SECONDS))
    if first < jobs:
        await submit(running.world, running.load, first=first, last=jobs)


async def kill_leaders(world: FaultWorld, seconds: float, times: int) -> None:
    """Kill the leading operator so many times, evenly spread, and wait for the next one."""
    for _ in range(times):
        await asyncio.sleep(seconds / (times + 1))
        identity = (await world.lease()).identity
        await world.killed(await world.leading_operator(), "operator killed")
        await world.successor_of(identity)


@pytest.mark.long
@pytest.mark.timeout(SCALE_IN_SECONDS * 2 + 600)
async def test_no_job_is_interrupted_while_the_fleet_keeps_shrinking(
    world: FaultWorld, fault_report: FaultReport
) -> None:
    before = (await world.kubectl("get", "workerpool", POOL, "-n", NAMESPACE, "-o", "json")).out
    replicas: list[int] = []
    jobs, kills = int(SCALE_IN_SECONDS * JOBS_A_SECOND), max(1, int(SCALE_IN_SECONDS / SECONDS_A_KILL))
    async with scenario(
        world,
        fault_report,
        "scalein",
        jobs=jobs,
        companies=min(jobs, 60),
        latency_seconds=LATENCY_SECONDS,
        under_way=0,
    ) as running:
        watching = asyncio.create_task(record_replicas(world, replicas))
        try:
            await shape(world, SCALING)
            async with asyncio.TaskGroup() as group:
                group.create_task(submit_at_random(running, SCALE_IN_SECONDS))
                group.create_task(kill_leaders(world, SCALE_IN_SECONDS, kills))
            await running.settle(seconds=SCALE_IN_SECONDS + 240)
            checked = await running.check()
        finally:
            await end_tasks([watching])
            await shape(world, {**dict.fromkeys(SCALING), **json.loads(before)["spec"]["scaling"]})
        audit = checked.audit
        starts = Counter(claim.job_id for claim in audit.claims)
        steps = list(pairwise(replicas))
        lasted = [(c.ended_at - c.taken_at).total_seconds() for c in audit.claims if c.ended_at is not None]
        figures = Figures(
            seconds=SCALE_IN_SECONDS,
            scale_ins=sum(later < earlier for earlier, later in steps),
            workers_let_go=sum(max(0, earlier - later) for earlier, later in steps),
            scale_outs=sum(later > earlier for earlier, later in steps),
            most_workers=max(replicas),
            fewest_workers=min(replicas),
            jobs=jobs,
            starts=sum(starts.values()),
            interrupted=sum(s.before == "IN_PROGRESS" and s.after == "PENDING" for s in audit.states),
            claims_cut=sum(claim.was_cut for claim in audit.claims),
            operators_killed=kills,
            median_job_seconds=round(median(lasted), 2),
        )
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        FIGURES.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
        running.note(str(figures))
        checked.assert_clean()
        assert (figures.interrupted, figures.claims_cut) == (0, 0), figures
        assert figures.starts == jobs, figures
        assert figures.scale_ins >= SCALE_IN_SECONDS / SECONDS_A_SCALE_IN, figures
