"""PostgreSQL is killed and restarted, and then fails over to its standby, with hundreds of jobs in flight."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from faults.checker import Expectation
from faults.recovery import after_standstill
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld

OUTAGE_SECONDS = 5.0


@pytest.mark.long
async def test_postgres_is_killed_and_then_fails_over(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "postgres", jobs=400, latency_seconds=0.5) as running:
        submitting = running.submitting()
        await running.until_running(10)
        running.faults.append(Fault("PostgreSQL killed", datetime.now(UTC)))
        await world.faults.postgres.kill_and_restart()
        await running.until_running(10)
        running.faults.append(Fault("PostgreSQL failed over", datetime.now(UTC)))
        await world.faults.postgres.fail_over(outage_seconds=OUTAGE_SECONDS)
        await submitting
        await running.settle()
        checked = await running.check(Expectation(deaths_counted=False))
        recoveries = {fault.kind: after_standstill(checked.audit, fault) for fault in running.faults}
        for kind, recovery in recoveries.items():
            running.tell(kind, recovery, times=1)
        checked.assert_clean()
        for kind, recovery in recoveries.items():
            assert recovery.seconds, f"{kind}: no job was in work at that moment"
            assert not recovery.not_again, kind
