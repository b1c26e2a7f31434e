"""An hour of mixed load while things break: nothing grows, nothing is left over. SOAK_MINUTES is for how long.

`make soak` runs it; its page and pictures go to `.local/soak`, or to the folder that SOAK_REPORT names.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from faults.expected import Expectation
from faults.load import Load, submit
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.test_random import (
    Breaker,
    empty_redis,
    evict_worker,
    fail_over_redis,
    kill_postgres,
    kill_worker,
    pause_worker,
)
from faults.world import FaultWorld
from import_core.adapters.tasks import end_tasks
from import_core.domain.failures import RETRY_DELAYS_SECONDS
from import_local.load.judging import growth_findings
from import_local.load.running import describe_machine, say
from import_local.load.sampling import Sampler
from import_local.load.soak_report import SoakRun, write_soak_report
from import_local.load.timeline import Sample
from import_local.samples.faults import FaultSettings

SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES") or 60)
REPORT = Path(os.environ.get("SOAK_REPORT") or Path(__file__).parents[2] / ".local" / "soak")
TIMELINE = Path(__file__).parents[2] / ".local" / "soak-timeline.jsonl"
EVERY_SECONDS = 3.0
SUBMIT_SECONDS, SUBMITTED = 5.0, (1, 8)
"""About one job a second, in groups of random size."""
JOBS_A_SECOND = 0.8
COMPANIES = 60
LATENCY_SECONDS = 0.4
FAULT_SECONDS = (12.0, 25.0)
"""Between two faults: so that in between the installation comes back to its usual state."""
QUIET_SHARE = 0.1
"""Of the time, the last part, in which nothing breaks: what is held then is what stays."""


async def kill_leader(breaker: Breaker) -> None:
    """Kill the operator that leads."""
    breaker.note("leading operator killed")
    await breaker.world.killed(await breaker.world.leading_operator(), "leading operator killed")


async def restart_redis(breaker: Breaker) -> None:
    """Kill Redis; it comes back empty."""
    breaker.note("Redis restarted")
    await breaker.world.faults.redis.kill_and_restart()


FAULTS: tuple[Callable[[Breaker], Awaitable[None]], ...] = (
    kill_worker,
    kill_worker,
    kill_leader,
    restart_redis,
    empty_redis,
    fail_over_redis,
    kill_postgres,
    pause_worker,
    evict_worker,
)


async def submit_evenly(world: FaultWorld, load: Load, source: random.Random, seconds: float) -> None:
    """Groups of random size until the time is over; then what is left, so that each job ends."""
    end, first, jobs = time.monotonic() + seconds, 0, len(load.jobs)
    while time.monotonic() < end and first < jobs:
        last = min(jobs, first + source.randint(*SUBMITTED))
        await submit(world, load, first=first, last=last)
        first = last
        await asyncio.sleep(SUBMIT_SECONDS)
    if first < jobs:
        await submit(world, load, first=first, last=jobs)


async def let_calls_fail(world: FaultWorld, load: Load, share: float) -> None:
    """So many of every provider's calls fail from now on; they take as long as before."""
    async with httpx2.AsyncClient(base_url=load.sample_root, trust_env=False, timeout=10) as client:
        for number, company in enumerate(load.companies):
            faults = FaultSettings(
                latency_seconds=load.latency_seconds, error_rate=share, error_status=503, seed=number
            )
            order = {"api": faults.model_dump(by_alias=True), "rateScale": 20}
            answer = await client.put(f"/control/{company.kind}/{company.shop}/faults", json=order)
            answer.raise_for_status()


async def break_now_and_then(running: Scenario, seconds: float, started: float) -> None:
    """One fault after the other, all of them in turn and in random order, until the time is over."""
    source = running.world.random_for(f"{running.load.scenario}/faults")
    breaker = Breaker(running, source)
    order: list[Callable[[Breaker], Awaitable[None]]] = []
    end = time.monotonic() + seconds
    while True:
        pause = source.uniform(*FAULT_SECONDS)
        if time.monotonic() + pause >= end:
            break
        await asyncio.sleep(pause)
        if not order:
            order = list(FAULTS)
            source.shuffle(order)
        await order.pop()(breaker)
        say(f"{time.monotonic() - started:6.0f} s   {running.faults[-1].kind}")
    await running.world.faults.end_all()


async def soak(running: Scenario, run: SoakRun, seconds: float) -> datetime:
    """Load and faults for so long, until everything has come to rest; returns the moment of the start."""
    world = running.world
    started, began = time.monotonic(), datetime.now(UTC)
    sampler = Sampler(
        world.installation,
        world.kube,
        EVERY_SECONDS,
        file=TIMELINE,
        seen=show,
        samples=run.samples,
        started=started,
    )
    sampling = asyncio.create_task(sampler.run())
    try:
        async with asyncio.TaskGroup() as group:
            source = world.random_for("soak/groups")
            group.create_task(submit_evenly(world, running.load, source, seconds))
            group.create_task(break_now_and_then(running, seconds * (1 - QUIET_SHARE), started))
        await running.settle(seconds=600)
    finally:
        await end_tasks([sampling])
    await running.until_redis_forgot()
    return began


def show(sample: Sample) -> None:
    """Once a minute, where the soak stands."""
    if sample.at % 60 < EVERY_SECONDS:
        say(
            f"{sample.at:6.0f} s   depth {sample.depth}   done {sample.completed}   failed {sample.failed}"
            f"   workers {sample.ready}   Redis {sample.redis_keys} keys"
        )


@pytest.mark.long
@pytest.mark.timeout(SOAK_MINUTES * 60 + 1_200)
async def test_nothing_grows_and_nothing_is_left(world: FaultWorld, fault_report: FaultReport) -> None:
    seconds = SOAK_MINUTES * 60
    jobs = max(COMPANIES, int(seconds * JOBS_A_SECOND))
    for folder in (REPORT, TIMELINE.parent):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(TIMELINE.unlink, missing_ok=True)
    run = SoakRun(minutes=SOAK_MINUTES, taken=describe_machine(), seed=world.seed)
    async with scenario(
        world,
        fault_report,
        "soak",
        jobs=jobs,
        companies=COMPANIES,
        latency_seconds=LATENCY_SECONDS,
        under_way=0,
    ) as running:
        await let_calls_fail(world, running.load, run.error_share)
        began = await soak(running, run, seconds)
        checked = await running.check(
            Expectation(
                most_tries=len(RETRY_DELAYS_SECONDS),
                killed_alone=True,
                deaths_counted=False,
                short_pages=True,
                commits_repeated=True,
            )
        )
        run.faults = [((fault.at - began).total_seconds(), fault.kind) for fault in running.faults]
        run.jobs = await read_times(world, running, began)
        run.left_over = checked.findings
        run.growing = growth_findings(run.samples)
        await asyncio.to_thread(write_soak_report, REPORT, run)
        running.note(f"{len(run.faults)} faults, {REPORT}")
        findings = (*run.growing, *run.left_over[:40])
        assert findings == (), "\n".join(findings)


async def read_times(world: FaultWorld, running: Scenario, began: datetime) -> list[tuple[float, float, str]]:
    """(moment of the end, seconds since the row, state) of every job; seconds from the start."""
    rows = await world.rows(
        """SELECT "createdAt", "completedAt", status FROM "ProductImportJob" WHERE "objectName" = ANY(%s)""",
        list(running.load.jobs),
    )
    return [
        ((ended - began).total_seconds(), (ended - created).total_seconds(), str(status))
        for created, ended, status in rows
        if ended is not None
    ]
