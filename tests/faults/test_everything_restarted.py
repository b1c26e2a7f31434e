"""Everything is stopped in the middle of the work and started again: what was submitted is still there and goes on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from faults.recovery import Recovery
from faults.report import FaultReport
from faults.scenario import first_after, scenario
from faults.world import Fault, FaultWorld


@pytest.mark.long
async def test_everything_is_stopped_and_started_again(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "restart", latency_seconds=0.5) as running:
        await running.submit()
        await running.until_running(10)
        ended, _ = await running.states()
        assert ended < len(running.load.jobs), "nothing was left to go on with"
        running.faults.append(Fault("everything stopped", datetime.now(UTC)))
        await world.installation.stop()
        await world.installation.start()
        back = datetime.now(UTC)
        await running.settle()
        checked = await running.check()
        waited = first_after(checked.audit, back)
        running.tell("everything stopped", Recovery((waited,) if waited is not None else ()))
        checked.assert_clean()
