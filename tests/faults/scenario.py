"""The course of one scenario: submit the load, break things, let it come to rest, look at everything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import psycopg
from e2e.world import NAMESPACE

from faults.audit import Audit
from faults.checker import Checked, active_messages, check, check_queue, expire_locks
from faults.expected import FINAL_STATES, Expectation
from faults.load import JOBS, Load, connect_companies, forget, plan_load, slow_down, submit
from faults.recovery import Recovery
from faults.report import FaultReport
from faults.statuses import StatusRecorder
from faults.step_checker import steps_left
from faults.step_rules import check_enriched
from faults.world import Fault, FaultWorld
from import_core.adapters.tasks import end_tasks
from import_core.domain.reopening import RETRY_ITEMS_ANNOTATION

log = logging.getLogger(__name__)

SETTLE_SECONDS = 240.0
OBJECTS_SECONDS = 60.0
QUEUE_SECONDS = 30.0
LOOK_SECONDS = 0.5
STALLED_SECONDS = 90.0
"""BullMQ looks every 30 s for messages without a lock, and acts at the second look."""

UNDER_WAY = 300
"""Jobs that were submitted and had not ended when the first fault came."""
LATE = 20
"""Jobs that are submitted while things break."""
SUBMITTING_SECONDS, QUICK_SECONDS = 4.0, 0.05
"""What a provider's call takes until the load is submitted, and once nothing is broken any more."""
NETWORK_REASONS = frozenset({("download", "Unreachable"), ("download", "Timeout"), ("download", "TooSlow")})
"""Stages and reasons of items that fail because nobody can be reached."""

NAMES = """
WITH import AS (SELECT id, "objectName" AS name FROM "ProductImportJob" WHERE "objectName" = ANY(%s))
SELECT id, name FROM import
UNION ALL
SELECT b.id, concat(i.name, ' ', b.queue) FROM "ProductImportJob" b JOIN import i ON i.id = b."parentId"
"""

ITEM_ERRORS = """
SELECT j."objectName", e.stage, e.reason FROM imports.item_error e JOIN "ProductImportJob" j ON j.id = e.job_id
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
    """One scenario while it runs. `faults` collects what was broken, for the times of recovery.

    `under_way`: how many jobs must have been submitted and not ended at the first fault; 0: a small load,
    whose faults need not hit anything.
    """

    world: FaultWorld
    load: Load
    recorder: StatusRecorder
    report: FaultReport
    faults: list[Fault] = field(default_factory=list)
    under_way: int = field(default=UNDER_WAY, kw_only=True)
    started: float = field(default_factory=time.monotonic, kw_only=True)
    submitted: dict[str, datetime] = field(default_factory=dict, kw_only=True)
    """When the API server had taken the jobs, by their names."""
    items_retried: int = field(default=0, kw_only=True)

    async def submit(self, *, first: int = 0, last: int | None = None) -> None:
        """Submit the jobs `first` to `last` (all); the shops are slow until they are submitted."""
        if self.under_way:
            await slow_down(self.load, max(SUBMITTING_SECONDS, self.load.latency_seconds))
        await submit(self.world, self.load, first=first, last=last)
        now = datetime.now(UTC)
        self.submitted |= dict.fromkeys(list(self.load.jobs)[first:last], now)
        await slow_down(self.load, self.load.latency_seconds)
        self.note("submitted")

    @asynccontextmanager
    async def submitting(self, *, late: int = LATE, every: float = 0.3) -> AsyncIterator[None]:
        """Submit the load, the last jobs of it one by one inside the block; all of them are after it."""
        await self.submit(last=-late)
        task = asyncio.create_task(self._submit_late(late, every))
        try:
            yield
            await task
        finally:
            await end_tasks([task])

    async def _submit_late(self, late: int, every: float) -> None:
        for number in range(len(self.load.jobs) - late, len(self.load.jobs)):
            await submit(self.world, self.load, first=number, last=number + 1)
            await asyncio.sleep(every)
        self.note("the rest submitted")

    def note(self, what: str) -> None:
        """Tell a person who watches (`--log-cli-level=INFO`) where the scenario stands."""
        log.info("%s: %s after %.1f s", self.load.scenario, what, time.monotonic() - self.started)

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

    async def until_ended(self, number: int, *, seconds: float = 60) -> None:
        """Wait until so many jobs have ended."""

        async def look() -> bool:
            return (await self.states())[0] >= number

        await self.world.eventually(look, f"{number} jobs have ended", seconds=seconds)

    async def until_waiting(self, number: int = 5, *, seconds: float = 60) -> None:
        """Wait until so many jobs are handed over to Redis and not yet taken from there."""

        async def look() -> bool:
            rows = await self.world.rows(WAITING, list(self.load.jobs))
            return int(rows[0][0]) >= number

        await self.world.eventually(look, f"{number} jobs wait in Redis", seconds=seconds)

    async def settle(self, *, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until every job has ended, every object says so, and Redis has forgotten them.

        What has not come to rest in time is left to the checker, which says what it is. Nothing is broken
        any more, so the shops are quick from now on.
        """
        if self.under_way:
            await slow_down(self.load, QUICK_SECONDS)
        expected = len(self.load.jobs)

        async def rows_ended() -> bool:
            try:
                return (await self.states())[0] >= expected
            except psycopg.OperationalError:
                return False

        if await _within(seconds, rows_ended):
            self.note("all rows have ended")
            await self.recorder.until_final(expected, seconds=OBJECTS_SECONDS)
            await self._settle_steps(seconds)
            names = await self.names()

            async def queue_is_empty() -> bool:
                return not await check_queue(self.world, names)

            await _within(QUEUE_SECONDS, queue_is_empty)
        self.note("settled")

    async def _settle_steps(self, seconds: float) -> None:
        """Wait until all steps have ended and the objects of the imports say so."""
        if not self.load.has_steps:
            return

        async def steps_ended() -> bool:
            return await steps_left(self.world, self.load) == 0

        if not await _within(seconds, steps_ended):
            return
        self.note("all steps have ended")
        asking = {name for name, company in self.load.jobs.items() if company.steps}

        async def objects_say_so() -> bool:
            return not list(check_enriched(asking, self.recorder.histories.values()))

        await _within(OBJECTS_SECONDS, objects_say_so)

    async def names(self) -> dict[str, str]:
        """The jobs' names by the ids of their rows, those of their steps' batches included."""
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
        Any other failure is none that a broken link explains, and nobody repairs it here.
        """
        jobs = list(self.load.jobs)
        errors = await self.world.rows(ITEM_ERRORS, jobs)
        others = [row for row in errors if (row[1], row[2]) not in NETWORK_REASONS]
        assert not others, f"items failed otherwise than by a broken link: {others}"
        self.items_retried = len(errors)
        names = {str(row[0]) for row in errors}
        for name in names:
            outcome = await self.world.kubectl(
                *("annotate", "importjob", name, "-n", NAMESPACE, f"{RETRY_ITEMS_ANNOTATION}=1")
            )
            assert outcome.code == 0, outcome.err

        async def all_done() -> bool:
            rows = await self.world.rows(ITEM_ERRORS, jobs)
            return not rows and (await self.states())[0] == len(jobs)

        await self.world.eventually(all_done, f"the items of {names} are imported", seconds=SETTLE_SECONDS)
        await self.settle()
        return names

    async def check(self, expectation: Expectation | None = None) -> Checked:
        """Read everything and look for what is not as promised, and for faults that hit nothing."""
        checked = await check(self.world, self.load, self.recorder, expectation)
        if self.under_way:
            submitted = {job.id: self.submitted.get(job.name) for job in checked.jobs}
            missed = faults_without_work(checked.audit, self.faults, submitted, self.under_way)
            checked = replace(checked, findings=(*checked.findings, *missed))
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
            items_retried=self.items_retried,
        )


@asynccontextmanager
async def scenario(
    world: FaultWorld,
    report: FaultReport,
    name: str,
    *,
    jobs: int = JOBS,
    companies: int = 100,
    latency_seconds: float = 0.3,
    under_way: int = UNDER_WAY,
    enriched_every: int = 0,
) -> AsyncIterator[Scenario]:
    """Run a scenario inside the block: its companies are connected, and its objects go at the end.

    `name` is lower-case letters and digits, and unlike any other scenario's of the session. `under_way`: see
    Scenario; with 0 all catalogues are of one page. `enriched_every`: of so many companies one has imports
    that ask for steps; the test needs the fixture step_workers then.
    """
    load = plan_load(
        world,
        name,
        jobs=jobs,
        companies=companies,
        latency_seconds=latency_seconds,
        large=under_way > 0,
        enriched_every=enriched_every,
    )
    started = time.monotonic()
    await slow_down(load, load.latency_seconds)
    await connect_companies(world, load)
    recorder = StatusRecorder(world.installation.kubeconfig, load.labels)
    try:
        async with recorder.recording():
            yield Scenario(world, load, recorder, report, under_way=under_way, started=started)
    finally:
        await forget(world, load)


def faults_without_work(
    audit: Audit, faults: Sequence[Fault], submitted: Mapping[str, datetime | None], least: int
) -> Iterator[str]:
    """Faults at which no claim stood, and a first one at which fewer than `least` jobs were under way.

    `submitted`: when the jobs were, by their ids; None: after the first fault.
    """
    if not faults:
        yield "nothing was broken"
        return
    first = min(fault.at for fault in faults)
    ended = {change.job_id for change in audit.states if change.after in FINAL_STATES and change.at <= first}
    there = {job_id for job_id, at in submitted.items() if at is not None and at <= first}
    if len(there - ended) < least:
        yield f"only {len(there - ended)} jobs were under way at the first fault, {least} are needed"
    for fault in faults:
        if not any(claim.stood(fault.at) for claim in audit.claims):
            yield f"no job was in work at {fault.at:%H:%M:%S}: {fault.kind}"


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
