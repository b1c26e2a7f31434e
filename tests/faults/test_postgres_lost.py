"""PostgreSQL is killed and restarted, and then fails over to its standby, with hundreds of jobs in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from faults.checker import Expectation
from faults.recovery import after_standstill
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld

OUTAGE_SECONDS = 5.0


async def lose(
    world: FaultWorld, report: FaultReport, name: str, kind: str, fault: Callable[[], Awaitable[None]]
) -> None:
    """Break PostgreSQL while jobs are submitted and run."""
    async with scenario(world, report, name, latency_seconds=0.5) as running:
        submitting = running.submitting()
        await running.until_running(10)
        running.faults.append(Fault(kind, datetime.now(UTC)))
        await fault()
        await submitting
        await running.settle()
        checked = await running.check(Expectation(deaths_counted=False))
        recovery = after_standstill(checked.audit, running.faults[0])
        running.tell(kind, recovery)
        checked.assert_clean()
        assert recovery.seconds, "no job was in work at that moment"
        assert not recovery.not_again


@pytest.mark.long
async def test_postgres_is_killed_and_restarted(world: FaultWorld, fault_report: FaultReport) -> None:
    await lose(world, fault_report, "pgkill", "PostgreSQL killed", world.faults.postgres.kill_and_restart)


@pytest.mark.long
async def test_postgres_fails_over_to_its_standby(world: FaultWorld, fault_report: FaultReport) -> None:
    async def fail_over() -> None:
        await world.faults.postgres.fail_over(outage_seconds=OUTAGE_SECONDS)

    await lose(world, fault_report, "pgfailover", "PostgreSQL failed over", fail_over)
