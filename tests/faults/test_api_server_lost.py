"""The API server is away for a minute: what was submitted goes on, and what it missed is told afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from faults.recovery import Recovery
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld

AWAY_SECONDS = 60.0


@pytest.mark.long
async def test_jobs_go_on_while_the_api_server_is_away(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "noapi", latency_seconds=0.5) as running:
        await running.submit()
        await running.until_running(10)
        stopped = datetime.now(UTC)
        running.faults.append(Fault("API server stopped", stopped))
        await world.faults.api_server.stop()
        try:
            await asyncio.sleep(AWAY_SECONDS)
            ended_meanwhile, _ = await running.states()
        finally:
            await world.faults.api_server.start()
        back = datetime.now(UTC)
        await running.settle()
        told = (datetime.now(UTC) - back).total_seconds()
        checked = await running.check()
        running.tell("API server stopped", Recovery((told,)))
        checked.assert_clean()
        claimed = [
            claim for claim in checked.audit.claims if stopped + timedelta(seconds=10) < claim.taken_at < back
        ]
        assert claimed or ended_meanwhile == len(running.load.jobs), "nothing was handed out meanwhile"
