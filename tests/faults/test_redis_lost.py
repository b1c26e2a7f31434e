"""Redis forgets everything, or its last writes, while hundreds of jobs are in flight.

PostgreSQL has the backlog, so what is lost is seconds.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from faults.checker import Checked
from faults.expected import Expectation
from faults.recovery import after_loss_of_messages, lost_hand_overs
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.world import Fault, FaultWorld
from import_local.parts.valkey_pair import LostWrites

RUN_AGAIN_SECONDS = 60.0
FEWEST_BATCHES = 3
BATCHES_WAITING = """
SELECT count(*) FROM "ProductImportJob"
WHERE "companyId" = ANY(%s) AND "parentId" IS NOT NULL AND status = 'PENDING' AND "dispatchedAt" IS NOT NULL
"""
LOST_SECONDS = 1.0
"""The last writes that a failover loses: long enough for hand-overs to be among them while jobs end and start."""


async def lose(
    world: FaultWorld,
    report: FaultReport,
    name: str,
    kind: str,
    fault: Callable[[], Awaitable[None]],
    *,
    enriched_every: int = 0,
) -> Checked:
    """Break Redis in the midst of a load, and look at what comes of it."""
    async with scenario(world, report, name, latency_seconds=0.5, enriched_every=enriched_every) as running:
        await running.submit()
        await running.until_ended(10)  # from now on jobs end, and others are handed over for them
        async with batches_waiting(running):
            await running.until_waiting()
            running.faults.append(Fault(kind, datetime.now(UTC)))
            await fault()
        await running.settle()
        checked = await running.check(Expectation(short_pages=True))
        recovery = after_loss_of_messages(checked.audit, running.faults[0])
        running.tell(kind, recovery, bound=f"max ≤ {RUN_AGAIN_SECONDS:g}")
        of_steps = after_loss_of_messages(checked.steps.audit, running.faults[0])
        if running.load.has_steps:
            running.tell(f"{kind}: batches of steps", of_steps, bound=f"max ≤ {RUN_AGAIN_SECONDS:g}")
        checked.assert_clean()
        assert not running.load.has_steps or len(of_steps.seconds) >= FEWEST_BATCHES
        assert max(of_steps.seconds, default=0.0) <= RUN_AGAIN_SECONDS
        assert recovery.seconds, "no job was handed over and unclaimed at that moment"
        assert max(recovery.seconds) <= RUN_AGAIN_SECONDS
        return checked


@asynccontextmanager
async def batches_waiting(running: Scenario) -> AsyncIterator[None]:
    """Inside the block batches of steps are handed over, where there are any, and nobody takes them."""
    world, workers = running.world, running.world.step_workers() if running.load.has_steps else []
    try:
        for worker in workers:
            world.signal(worker, signal.SIGSTOP, "step's worker stopped")
        if workers:
            companies = [company.id for company in running.load.companies]

            async def look() -> bool:
                rows = await world.rows(BATCHES_WAITING, companies)
                return int(rows[0][0]) >= FEWEST_BATCHES

            await world.eventually(look, "batches of steps wait in Redis", seconds=60)
        yield
    finally:
        for worker in workers:
            world.signal(worker, signal.SIGCONT, "step's worker woken")


@pytest.mark.long
@pytest.mark.usefixtures("step_workers")
async def test_redis_forgets_everything(world: FaultWorld, fault_report: FaultReport) -> None:
    async def flush() -> None:
        async with world.redis() as client:
            await client.flushall()

    await lose(world, fault_report, "flushall", "Redis emptied", flush, enriched_every=5)


@pytest.mark.long
async def test_redis_fails_over_and_loses_its_last_writes(
    world: FaultWorld, fault_report: FaultReport
) -> None:
    lost: list[LostWrites] = []

    async def fail_over() -> None:
        started = time.monotonic()
        writes = await world.faults.redis.fail_over(
            lose_last_writes=True, seconds_lost=LOST_SECONDS, outage_seconds=3
        )
        assert writes is not None
        lost.append(writes)
        assert time.monotonic() - started < RUN_AGAIN_SECONDS, "the failover itself took too long"

    checked = await lose(world, fault_report, "failover", "Redis failed over", fail_over)
    assert lost_hand_overs(checked.audit, lost[0].since, lost[0].until), (
        "no hand-over was among what was lost"
    )
