"""The worker of each step is killed when its batch went through the step and nothing of it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from faults.points import Point
from faults.recovery import after_kills
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import FaultWorld
from import_core.domain.steps import StepKind

JOBS = 40
COMPANIES = 20
AGAIN_SECONDS = 60.0
"""Each step has one worker here, whose successor has to start first."""
APPROVED = """
SELECT count(*) FROM imports.quality_decision WHERE company_id = ANY(%s) AND decision = 'approved'
"""


@pytest.mark.long
async def test_a_worker_of_each_step_is_killed_in_the_middle_of_a_batch(
    world: FaultWorld, fault_report: FaultReport, step_points: Mapping[StepKind, Point]
) -> None:
    async with scenario(
        world,
        fault_report,
        "stepkills",
        jobs=JOBS,
        companies=COMPANIES,
        latency_seconds=0.1,
        under_way=0,
        enriched_every=1,
    ) as running:
        before = {kind: world.step_workers(kind) for kind in StepKind}
        for point in step_points.values():
            point.arm()
        await running.submit()
        running.faults += await asyncio.gather(
            *(step_points[kind].death(world, before[kind]) for kind in StepKind)
        )
        await running.settle()
        checked = await running.check()
        recovery = after_kills(checked.steps.audit, running.faults)
        running.tell("step's worker killed", recovery, bound=f"max ≤ {AGAIN_SECONDS:g}")
        checked.assert_clean()
        assert len({fault.pod for fault in running.faults}) == len(StepKind)
        assert len(recovery.seconds) >= len(StepKind), "a kill hit no batch"
        assert not recovery.not_again
        assert max(recovery.seconds) <= AGAIN_SECONDS
        approved = await world.rows(APPROVED, [company.id for company in running.load.companies])
        assert approved[0][0] > 0, "no product went through all steps"
