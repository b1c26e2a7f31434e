"""PostgreSQL is killed and restarted, and then fails over to its standby, with hundreds of jobs in flight."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from faults.expected import Expectation
from faults.recovery import after_standstill
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld

OUTAGE_SECONDS = 5.0


@pytest.mark.long
async def test_postgres_is_killed_and_then_fails_over(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "postgres", latency_seconds=1.0) as running:
        async with running.submitting():
            await running.until_running(10)
            running.faults.append(Fault("PostgreSQL killed", datetime.now(UTC)))
            await world.faults.postgres.kill_and_restart()
            await running.until_running(10)
            running.faults.append(Fault("PostgreSQL failed over", datetime.now(UTC)))
            await world.faults.postgres.fail_over(outage_seconds=OUTAGE_SECONDS)
        await running.settle()
        checked = await running.check(Expectation(deaths_counted=False, commits_repeated=True))
        recoveries = {fault.kind: after_standstill(checked.audit, fault) for fault in running.faults}
        for kind, recovery in recoveries.items():
            running.tell(kind, recovery, times=1)
        checked.assert_clean()
        for kind, recovery in recoveries.items():
            assert recovery.seconds, f"{kind}: no job was in work at that moment"
            assert not recovery.not_again, kind
