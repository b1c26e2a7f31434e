"""Redis forgets everything while hundreds of jobs are in flight: PostgreSQL has the backlog, so seconds are lost."""

from __future__ import annotations

from datetime import UTC, datetime

from faults.recovery import after_loss_of_messages
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld

RUN_AGAIN_SECONDS = 60.0


async def test_redis_forgets_everything(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "flushall", latency_seconds=0.5) as running:
        submitting = running.submitting()
        await running.until_running(10)
        async with world.redis() as client:
            running.faults.append(Fault("FLUSHALL", datetime.now(UTC)))
            await client.flushall()
        await submitting
        await running.settle()
        checked = await running.check()
        recovery = after_loss_of_messages(checked.audit, running.faults[0])
        running.tell("FLUSHALL", recovery, bound=f"max ≤ {RUN_AGAIN_SECONDS:g}")
        checked.assert_clean()
        assert recovery.seconds, "no job was handed over and unclaimed at that moment"
        assert max(recovery.seconds) <= RUN_AGAIN_SECONDS
