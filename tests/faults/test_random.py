"""All faults at random, one after the other and on top of each other, under load; FAULT_SECONDS lengthens it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from faults.expected import Expectation
from faults.load import JOBS
from faults.recovery import after_kills
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.test_links import BREAKS
from faults.test_pods_lost import evict
from faults.world import Fault, FaultWorld, choose
from import_core.domain.failures import RETRY_DELAYS_SECONDS
from import_local.faults.links import LINKS

FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS") or 120)
JOBS_A_SECOND = 4
LATENCY_SECONDS = 2.5
"""What a provider's call takes: so long that the jobs last as long as the faults."""
FEWEST_LATE = 100
LONGEST_PAUSE_SECONDS = 4.0
LONGEST_OUTAGE_SECONDS = 6.0
SLEEP_SECONDS = 5.0

Break = Callable[["Breaker"], Awaitable[None]]


class Breaker:
    """Breaks one thing at a time by the scenario's own random source; the pauses are random too."""

    def __init__(self, running: Scenario, source: random.Random) -> None:
        self.world: FaultWorld = running.world
        self.source = source
        self._running = running

    def note(self, kind: str, pod: str | None = None) -> None:
        """Put a fault on record."""
        self._running.faults.append(Fault(kind, datetime.now(UTC), pod))

    async def run(self, seconds: float) -> None:
        """Break things until the time is over; what is away is back afterwards."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                await self._running.until_running(1, seconds=120)
                await self.source.choice(FAULTS)(self)
                await asyncio.sleep(self.source.uniform(0.2, LONGEST_PAUSE_SECONDS))
        finally:
            await self.world.faults.end_all()


async def kill_worker(breaker: Breaker) -> None:
    """Kill a worker."""
    target = choose(breaker.source, breaker.world.workers())
    if target is not None:
        breaker.note("worker killed", target.pod)
        breaker.world.kill(target, "worker killed")


async def kill_operator(breaker: Breaker) -> None:
    """Kill one of the operators, the leader or not."""
    target = choose(breaker.source, breaker.world.operators())
    if target is not None:
        breaker.note("operator killed")
        breaker.world.kill(target, "operator killed")


async def pause_worker(breaker: Breaker) -> None:
    """Let a worker stand still for some seconds, far less than its lease."""
    target = choose(breaker.source, breaker.world.workers())
    if target is not None:
        breaker.note("worker paused")
        breaker.world.signal(target, signal.SIGSTOP, "worker paused")
        try:
            await asyncio.sleep(breaker.source.uniform(0.5, SLEEP_SECONDS))
        finally:
            breaker.world.signal(target, signal.SIGCONT, "worker woken")


async def evict_worker(breaker: Breaker) -> None:
    """Evict a worker."""
    target = choose(breaker.source, breaker.world.workers())
    if target is not None:
        breaker.note("worker evicted")
        await evict(breaker.world, target.pod)


async def empty_redis(breaker: Breaker) -> None:
    """Let Redis forget everything."""
    breaker.note("Redis emptied")
    async with breaker.world.redis() as client:
        await client.flushall()


async def fail_over_redis(breaker: Breaker) -> None:
    """Fail Redis over, with its last writes lost or not."""
    breaker.note("Redis failed over")
    await breaker.world.faults.redis.fail_over(
        lose_last_writes=breaker.source.random() < 0.5,
        outage_seconds=breaker.source.uniform(0, LONGEST_OUTAGE_SECONDS),
    )


async def kill_postgres(breaker: Breaker) -> None:
    """Kill PostgreSQL; it is started at once."""
    breaker.note("PostgreSQL killed")
    await breaker.world.faults.postgres.kill_and_restart()


async def fail_over_postgres(breaker: Breaker) -> None:
    """Fail PostgreSQL over."""
    breaker.note("PostgreSQL failed over")
    outage = breaker.source.uniform(0, LONGEST_OUTAGE_SECONDS)
    await breaker.world.faults.postgres.fail_over(outage_seconds=outage)


async def break_link(breaker: Breaker) -> None:
    """Break a link in some way for some seconds."""
    name, how = breaker.source.choice(LINKS), breaker.source.choice(list(BREAKS))
    breaker.note(f"{name} {how}")
    link = breaker.world.faults.link(name)
    BREAKS[how](link)
    await asyncio.sleep(breaker.source.uniform(0.5, LONGEST_OUTAGE_SECONDS))
    link.heal()


async def stop_api_server(breaker: Breaker) -> None:
    """Take the API server away for some seconds."""
    breaker.note("API server stopped")
    await breaker.world.faults.api_server.stop()
    await asyncio.sleep(breaker.source.uniform(0.5, LONGEST_OUTAGE_SECONDS))
    await breaker.world.faults.api_server.start()


async def kill_node_agent(breaker: Breaker) -> None:
    """Kill the node's agent; it is started at once."""
    breaker.note("node agent killed")
    await breaker.world.faults.node.kill_and_restart()


FAULTS: tuple[Break, ...] = (
    kill_worker,
    kill_worker,
    kill_operator,
    pause_worker,
    evict_worker,
    empty_redis,
    fail_over_redis,
    kill_postgres,
    fail_over_postgres,
    break_link,
    break_link,
    stop_api_server,
    kill_node_agent,
)


@pytest.mark.long
@pytest.mark.timeout(FAULT_SECONDS + 900)
async def test_everything_breaks_at_random(world: FaultWorld, fault_report: FaultReport) -> None:
    jobs = JOBS + max(FEWEST_LATE, int(FAULT_SECONDS * JOBS_A_SECOND) - JOBS)
    async with scenario(
        world, fault_report, "anything", jobs=jobs, latency_seconds=LATENCY_SECONDS
    ) as running:
        late = jobs - JOBS
        async with running.submitting(late=late, every=FAULT_SECONDS / late):
            await running.until_running()
            breaker = Breaker(running, world.random_for("anything/faults"))
            await breaker.run(FAULT_SECONDS)
        await running.settle()
        retried = await running.retry_failed_items()
        checked = await running.check(
            Expectation(
                most_tries=len(RETRY_DELAYS_SECONDS),
                killed_alone=True,
                deaths_counted=False,
                short_pages=True,
                commits_repeated=True,
                reopened=frozenset(retried),
            )
        )
        recovery = after_kills(checked.audit, running.faults)
        running.tell("anything at random", recovery)
        checked.assert_clean()
