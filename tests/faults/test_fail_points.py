"""The operator and a worker are killed at their own fail points while at least 300 jobs are under way.

A load is dear, so one serves a point of the operator and a point of a worker: both die within the same
seconds, which is worse than either alone. Each point has a test of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from signal import SIGTERM

import pytest
import pytest_asyncio
from e2e.world import NAMESPACE

from faults.checker import Checked
from faults.conftest import WORKERS
from faults.expected import FINAL_STATES, Expectation
from faults.load import JOBS, submit
from faults.planting import Planting, planting
from faults.points import Point
from faults.recovery import Recovery, after_giving_back, after_kills
from faults.report import FaultReport
from faults.scenario import UNDER_WAY, Scenario, first_after, scenario
from faults.world import Fault, FaultWorld
from import_core.fail_points import OPERATOR_POINTS, WORKER_POINTS

pytestmark = pytest.mark.long

LATE = 15
"""Jobs that are submitted while the points are armed: so the operator has something to record."""
SLOW_SECONDS = 1.5
"""What a call of a provider takes until the deaths, so that enough is under way."""
OPERATOR_BACK_SECONDS = 15.0
PAIRS = list(zip(OPERATOR_POINTS, WORKER_POINTS, strict=True))
"""Points that share a load. Claims end, and the operator with them, because the worker dies at its point."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a load in which two processes were killed."""

    running: Scenario
    checked: Checked
    operator: Fault
    worker: Fault
    worker_point: str

    def under_way(self, fault: Fault) -> int:
        """Jobs that had been submitted and had not ended when the process died."""
        ended = {s.job_id for s in self.checked.audit.states if s.after in FINAL_STATES and s.at <= fault.at}
        return len(self.running.load.jobs) - len(ended)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planted(
    fault_world: FaultWorld, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planting]:
    """Operators and workers of which each test says with which variables they start."""
    async with planting(fault_world, tmp_path_factory.mktemp("plans"), workers=WORKERS) as planted:
        yield planted


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=PAIRS, ids="+".join)
async def outcome(
    request: pytest.FixtureRequest,
    fault_world: FaultWorld,
    planted: Planting,
    fault_report: FaultReport,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Outcome]:
    """Kill an operator and a worker at their points in one load, and let it come to rest."""
    folder = tmp_path_factory.mktemp("markers")
    operator = Point(request.param[0], folder / "operator")
    worker = Point(request.param[1], folder / "worker")
    for point in (operator, worker):
        point.disarm()
    await asyncio.gather(
        planted.operators(environment=operator.environment),
        planted.workers(environment={**worker.environment, "GRACEFUL_STOP_SECONDS": "1"}),
    )
    name = f"point{PAIRS.index(request.param)}"
    async with scenario(fault_world, fault_report, name, latency_seconds=SLOW_SECONDS) as running:
        await running.submit(last=JOBS - LATE)
        await running.until_running(WORKERS)
        faults = await kill_both(running, operator, worker)
        running.faults += faults
        await running.settle()
        cancelled = frozenset(running.load.jobs) - frozenset(list(running.load.jobs)[: JOBS - 1])
        expected = Expectation(cancelled=cancelled if operator.name == "job.cancelled" else frozenset())
        yield Outcome(running, await running.check(expected), *faults, worker.name)


async def kill_both(running: Scenario, operator: Point, worker: Point) -> tuple[Fault, Fault]:
    """Arm both points and bring about what they wait for."""
    world = running.world
    operators, workers = world.operators(), world.workers()
    operator.arm()
    worker.arm()
    await submit(world, running.load, first=JOBS - LATE)
    if operator.name == "job.cancelled":
        last = list(running.load.jobs)[-1]
        deleted = await world.kubectl("delete", "importjob", last, "-n", NAMESPACE, "--wait=false")
        assert deleted.code == 0, deleted.err
    if worker.name == "job.released":
        world.signal(workers[0], SIGTERM, "asked to stop")
    return await operator.death(world, operators), await worker.death(world, workers)


async def test_the_operator_is_killed_at_a_fail_point(outcome: Outcome) -> None:
    outcome.checked.assert_clean()
    assert outcome.under_way(outcome.operator) >= UNDER_WAY
    takeover = first_after(outcome.checked.audit, outcome.operator.at)
    assert takeover is not None
    outcome.running.tell(
        outcome.operator.kind, Recovery((takeover,)), bound=f"≤ {OPERATOR_BACK_SECONDS:g}", times=1
    )
    assert takeover <= OPERATOR_BACK_SECONDS


async def test_a_worker_is_killed_at_a_fail_point(outcome: Outcome) -> None:
    outcome.checked.assert_clean()
    assert outcome.under_way(outcome.worker) >= UNDER_WAY
    # A worker that gives its jobs back may have given back the last of them when it dies at that point.
    recovery = (
        after_giving_back(outcome.checked.audit, outcome.worker)
        if outcome.worker_point == "job.released"
        else after_kills(outcome.checked.audit, [outcome.worker])
    )
    assert recovery.seconds, "the kill hit no job"
    assert not recovery.not_again
    outcome.running.tell(outcome.worker.kind, recovery, times=1)
