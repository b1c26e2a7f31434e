"""The course of one scenario: submit the load, break things, let it come to rest, look at everything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from e2e.world import NAMESPACE

from faults.audit import Audit
from faults.checker import Checked, Expectation, active_messages, check, check_queue, expire_locks
from faults.load import Load, connect_companies, forget, plan_load, submit
from faults.recovery import Recovery
from faults.report import FaultReport
from faults.statuses import StatusRecorder
from faults.world import Fault, FaultWorld
from import_core.domain.reopening import RETRY_ITEMS_ANNOTATION

log = logging.getLogger(__name__)

SETTLE_SECONDS = 240.0
OBJECTS_SECONDS = 60.0
QUEUE_SECONDS = 30.0
LOOK_SECONDS = 0.5
STALLED_SECONDS = 90.0
"""BullMQ looks every 30 s for messages without a lock, and acts at the second look."""

NAMES = 'SELECT id, "objectName" FROM "ProductImportJob" WHERE "objectName" = ANY(%s)'

WITH_ITEM_ERRORS = """
SELECT DISTINCT j."objectName" FROM imports.item_error e JOIN "ProductImportJob" j ON j.id = e.job_id
WHERE j."objectName" = ANY(%s)
"""
WAITING = """
SELECT count(*) FROM "ProductImportJob"
WHERE status = 'PENDING' AND "dispatchedAt" IS NOT NULL AND "objectName" = ANY(%s)
"""
STATES = """
SELECT count(*) FILTER (WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED')),
       count(*) FILTER (WHERE status = 'IN_PROGRESS')
FROM "ProductImportJob" WHERE "objectName" = ANY(%s)
"""


@dataclass
class Scenario:
    """One scenario while it runs. `faults` collects what was broken, for the times of recovery."""

    world: FaultWorld
    load: Load
    recorder: StatusRecorder
    report: FaultReport
    faults: list[Fault] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic, kw_only=True)

    async def submit(self) -> None:
        """Submit all jobs of the load."""
        await submit(self.world, self.load)
        self.note("submitted")

    def note(self, what: str) -> None:
        """Tell a person who watches (`--log-cli-level=INFO`) where the scenario stands."""
        log.info("%s: %s after %.1f s", self.load.scenario, what, time.monotonic() - self.started)

    def submitting(self) -> asyncio.Task[None]:
        """Submit while other things happen; await the task in the end."""
        return asyncio.create_task(self.submit())

    async def states(self) -> tuple[int, int]:
        """How many jobs have ended, and how many are in progress."""
        rows = await self.world.rows(STATES, list(self.load.jobs))
        return int(rows[0][0]), int(rows[0][1])

    async def until_running(self, number: int = 5, *, seconds: float = 60) -> None:
        """Wait until so many jobs are in progress at the same time, or none is left to be."""

        async def look() -> bool:
            ended, running = await self.states()
            return running >= number or ended == len(self.load.jobs)

        await self.world.eventually(look, f"{number} jobs run", seconds=seconds)
        self.note(f"{number} jobs run")

    async def until_waiting(self, number: int = 5, *, seconds: float = 60) -> None:
        """Wait until so many jobs are handed over to Redis and not yet taken from there."""

        async def look() -> bool:
            rows = await self.world.rows(WAITING, list(self.load.jobs))
            return int(rows[0][0]) >= number

        await self.world.eventually(look, f"{number} jobs wait in Redis", seconds=seconds)

    async def settle(self, *, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until every job has ended, every object says so, and Redis has forgotten them.

        What has not come to rest in time is left to the checker, which says what it is.
        """
        expected = len(self.load.jobs)

        async def rows_ended() -> bool:
            try:
                return (await self.states())[0] >= expected
            except psycopg.OperationalError:
                return False

        if await _within(seconds, rows_ended):
            self.note("all rows have ended")
            await self.recorder.until_final(expected, seconds=OBJECTS_SECONDS)
            names = await self.names()

            async def queue_is_empty() -> bool:
                return not await check_queue(self.world, names)

            await _within(QUEUE_SECONDS, queue_is_empty)
        self.note("settled")

    async def names(self) -> dict[str, str]:
        """The jobs' names by the ids of their rows."""
        rows = await self.world.rows(NAMES, list(self.load.jobs))
        return {str(row[0]): str(row[1]) for row in rows}

    async def until_redis_forgot(self) -> None:
        """Let the locks of unacknowledged messages run out, and wait until nothing of the jobs is left."""
        names = await self.names()
        await expire_locks(self.world, await active_messages(self.world, names))

        async def nothing_left() -> bool:
            return not await active_messages(self.world, names) and not await check_queue(self.world, names)

        await self.world.eventually(nothing_left, "Redis has forgotten the jobs", seconds=STALLED_SECONDS)

    async def retry_failed_items(self) -> set[str]:
        """Ask for the items that failed again, as a person does; returns the names of their jobs.

        An image that can't be downloaded while its link is broken fails alone: its job ends all the same.
        """
        jobs = list(self.load.jobs)
        names = {str(row[0]) for row in await self.world.rows(WITH_ITEM_ERRORS, jobs)}
        for name in names:
            outcome = await self.world.kubectl(
                *("annotate", "importjob", name, "-n", NAMESPACE, f"{RETRY_ITEMS_ANNOTATION}=1")
            )
            assert outcome.code == 0, outcome.err

        async def all_done() -> bool:
            rows = await self.world.rows(WITH_ITEM_ERRORS, jobs)
            return not rows and (await self.states())[0] == len(jobs)

        await self.world.eventually(all_done, f"the items of {names} are imported", seconds=SETTLE_SECONDS)
        await self.settle()
        return names

    async def check(self, expectation: Expectation | None = None) -> Checked:
        """Read everything and look for what is not as promised."""
        checked = await check(self.world, self.load, self.recorder, expectation)
        self.note(f"checked, {len(checked.findings)} findings")
        return checked

    def tell(
        self, fault: str, recovery: Recovery, *, bound: str | None = None, times: int | None = None
    ) -> None:
        """Put a recovery into the report."""
        self.report.add(
            self.load.scenario,
            fault,
            recovery,
            faults=len(self.faults) if times is None else times,
            jobs=len(self.load.jobs),
            total_seconds=time.monotonic() - self.started,
            bound=bound,
        )


@asynccontextmanager
async def scenario(
    world: FaultWorld,
    report: FaultReport,
    name: str,
    *,
    jobs: int = 300,
    companies: int = 100,
    latency_seconds: float = 0.3,
) -> AsyncIterator[Scenario]:
    """Run a scenario inside the block: its companies are connected, and its objects go at the end.

    `name` is lower-case letters and digits, and unlike any other scenario's of the session.
    """
    load = plan_load(world, name, jobs=jobs, companies=companies, latency_seconds=latency_seconds)
    started = time.monotonic()
    await connect_companies(world, load)
    recorder = StatusRecorder(world.installation.kubeconfig, load.labels)
    try:
        async with recorder.recording():
            yield Scenario(world, load, recorder, report, started=started)
    finally:
        await forget(world, load)


def first_after(audit: Audit, at: datetime) -> float | None:
    """Seconds from a moment to the next hand-over of any job; None: none came."""
    later = [moment for _, _, moment in audit.hand_overs if moment > at]
    return (min(later) - at).total_seconds() if later else None


async def _within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        if await holds():
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)
