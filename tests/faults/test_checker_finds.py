"""The checker finds what it is there for: with a bug planted and a fault that brings it out, it says so.

Small loads: these hold the checker to account and not the system. The same faults without a bug are clean: in
the scenario that the case names, or in a run of their own.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from bullmq import Queue  # type: ignore[import-untyped]

from faults.conftest import WORKERS
from faults.expected import Expectation
from faults.planted import BUGS
from faults.planting import Planting, planting
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.test_pods_lost import MOVED_ON
from faults.world import FaultWorld
from import_core.adapters.redis.queue import MESSAGE_NAME, MESSAGE_OPTIONS, QUEUE_PREFIX
from import_core.domain.jobs import DEFAULT_QUEUE, Message

SETTLE_SECONDS = 25.0
END_LEASES = """
UPDATE imports.claim SET expires_at = clock_timestamp() - interval '1 second' WHERE job_id = ANY(%s)
"""
AHEAD = """
SELECT count(*) FROM imports.checkpoint c JOIN "ProductImportJob" j ON j.id = c.job_id
WHERE j."objectName" = ANY(%s) AND c.pages = 0
"""
RUNNING = """
SELECT id, dispatch FROM "ProductImportJob" WHERE "objectName" = ANY(%s) AND status = 'IN_PROGRESS'
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A bug, whose it is, the fault that brings it out, and what the checker must say of it.

    `clean_in`: the test of the same fault without a bug, if another one has it.
    """

    bug: str
    process: str
    fault: Callable[[Scenario], Awaitable[None]]
    says: str
    clean_in: str | None = None
    jobs: int = 16
    latency_seconds: float = 0.3


async def kill_all_workers(running: Scenario) -> None:
    """All workers die at once."""
    for worker in running.world.workers():
        running.faults.append(running.world.kill(worker, "worker killed"))


async def kill_after_the_first_ends(running: Scenario) -> None:
    """All workers die when some jobs have ended."""
    await running.until_ended(3)
    await kill_all_workers(running)


async def kill_while_counters_are_ahead(running: Scenario) -> None:
    """All workers die when counters tell of pages that are not committed; as they should be, when jobs have ended."""

    async def look() -> bool:
        ahead = await running.world.rows(AHEAD, list(running.load.jobs))
        return int(ahead[0][0]) >= 3 or (await running.states())[0] >= 3

    await running.world.eventually(look, "counters are ahead, or 3 jobs have ended", seconds=60)
    await kill_all_workers(running)


async def sleep_past_the_lease(running: Scenario) -> None:
    """A worker is stopped, its leases run out, its jobs run elsewhere, and it wakes up."""
    world = running.world
    worker = await world.busiest()
    world.signal(worker, signal.SIGSTOP, "worker stopped")
    try:
        held = await world.held_by(worker)
        await world.rows(END_LEASES, list(held))

        async def moved_on() -> bool:
            rows = await world.rows(MOVED_ON, list(held), list(held.values()))
            return int(rows[0][0]) == len(held)

        await world.eventually(moved_on, "its jobs run elsewhere", seconds=60)
    finally:
        world.signal(worker, signal.SIGCONT, "worker woken")


async def forget_everything(running: Scenario) -> None:
    """Redis is emptied, and a worker dies."""
    await running.until_running(10)
    async with running.world.redis() as client:
        await client.flushall()
    running.world.kill(running.world.workers()[0], "worker killed")


async def give_messages_twice(running: Scenario) -> None:
    """Messages of jobs that run already come once more, under ids that BullMQ does not know."""
    await running.until_running(5)
    rows = await running.world.rows(RUNNING, list(running.load.jobs))
    async with running.world.redis() as client:
        queue = Queue(DEFAULT_QUEUE, {"connection": client, "prefix": QUEUE_PREFIX})
        for job_id, dispatch in rows:
            message = Message(job_id, dispatch)
            options = {**MESSAGE_OPTIONS, "jobId": f"{message.queue_id}-again"}
            await queue.add(MESSAGE_NAME, message.to_data(), options)


CASES = [
    Case(
        "acknowledge-before-commit",
        "worker",
        kill_after_the_first_ends,
        says=r"product \S+ is missing|COMPLETED without a checkpoint",
        clean_in="test_a_worker_killed_every_second_for_a_minute",
    ),
    Case(
        "no-fencing",
        "worker",
        sleep_past_the_lease,
        says=r"wrote page \d+ of job \S+, which (nobody|\S+) held",
        clean_in="test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes",
        latency_seconds=3.0,
    ),
    Case(
        "reconcile-off",
        "operator",
        forget_everything,
        says=r"is (PENDING|IN_PROGRESS)",
        clean_in="test_redis_forgets_everything",
        jobs=40,
        latency_seconds=1.0,
    ),
    Case(
        "progress-before-commit",
        "worker",
        kill_while_counters_are_ahead,
        says=r"counts \d+ products at page 0, before",
        clean_in="test_a_worker_killed_every_second_for_a_minute",
    ),
    Case(
        "double-dispatch",
        "worker",
        give_messages_twice,
        says=r"was claimed \d+ times|was claimed while another claim stood",
        latency_seconds=1.5,
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planted(
    fault_world: FaultWorld, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planting]:
    """Operators and workers of which each test says which bug they have."""
    async with planting(fault_world, tmp_path_factory.mktemp("plans"), workers=WORKERS) as planted:
        yield planted


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def without_bugs(planted: Planting) -> None:
    """Run everything as it is."""
    await asyncio.gather(planted.operators(), planted.workers())


def test_every_bug_has_its_case() -> None:
    assert [case.bug for case in CASES] == list(BUGS)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_can_still_be_planted(bug: str) -> None:
    """In a process of its own; the long tests would find out too, but later."""
    plant = f"from faults.planted import BUGS; BUGS[{bug!r}]()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", plant], check=True, timeout=60, env=environment)


async def findings_of(case: Case, world: FaultWorld, report: FaultReport, name: str) -> tuple[str, ...]:
    """What the checker says after the case's fault."""
    # One job for each company, so that no other job brings what this one lost.
    async with scenario(
        world,
        report,
        name,
        jobs=case.jobs,
        companies=case.jobs,
        latency_seconds=case.latency_seconds,
        under_way=0,
    ) as running:
        await running.submit()
        await case.fault(running)
        await running.settle(seconds=SETTLE_SECONDS)
        # An operator that has just started can't tell a lease that ran out from an outage of the database.
        checked = await running.check(Expectation(deaths_counted=False))
        return checked.findings


@pytest.mark.long
@pytest.mark.usefixtures("without_bugs")
@pytest.mark.parametrize("case", [case for case in CASES if not case.clean_in], ids=lambda case: case.bug)
async def test_the_fault_alone_leaves_nothing_to_find(
    case: Case, world: FaultWorld, fault_report: FaultReport
) -> None:
    findings = await findings_of(case, world, fault_report, f"sound{CASES.index(case)}")
    assert not findings, "\n".join(findings)


@pytest.mark.long
@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.bug)
async def test_a_planted_bug_is_found(
    case: Case, planted: Planting, fault_world: FaultWorld, fault_report: FaultReport
) -> None:
    await planted.workers(bug=case.bug if case.process == "worker" else None)
    if case.process == "operator":
        await planted.operators(bug=case.bug)
    try:
        findings = await findings_of(case, fault_world, fault_report, f"planted{CASES.index(case)}")
    finally:
        if case.process == "operator":
            await planted.operators()
    assert any(re.search(case.says, finding) for finding in findings), findings
