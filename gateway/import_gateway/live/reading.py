"""Reads what listeners see: many jobs in one statement, with estimates from rates that are measured now and then."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.dead_letters import DeadLetterStore
from import_core.adapters.postgres.failed_items import FailedItemStore
from import_core.adapters.postgres.jobs import DEPTH_CAP, JobStore
from import_core.adapters.postgres.reports import ReportStore
from import_core.adapters.postgres.views import JobViews
from import_core.domain.jobs import JobRow, JobState
from import_core.domain.steps import asked_steps
from import_gateway.access.brief_cache import BriefCache
from import_gateway.api.models import Estimate, Import
from import_gateway.api.presenting import estimate_of, present_object, present_row
from import_gateway.objects import Objects

RATES_SECONDS = 10.0
BATCH = 500
_FINISHED = {JobState.COMPLETED, JobState.FAILED}
MOST_OBJECTS = 20
"""Objects that the live events ask for at once; jobs have no row for a moment only, or because they were refused."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast a queue goes: jobs that run now, and how long one takes."""

    running: int
    average_seconds: float | None


class JobReader:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(
        self,
        database: Database,
        kube: Objects,
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self.jobs = JobStore(database)
        self.views = JobViews(database)
        self.reports = ReportStore(database)
        self._letters = DeadLetterStore(database)
        self._items = FailedItemStore(database)
        self._namespace = namespace
        self._rates: BriefCache[Rates] = BriefCache(seconds=lambda _: RATES_SECONDS, most=100, clock=clock)

    async def read(self, job_ids: Sequence[str], *, estimates: bool = True) -> dict[str, Import]:
        """Jobs by id; those without a row are left out."""
        found: dict[str, Import] = {}
        for start in range(0, len(job_ids), BATCH):
            rows = await self.jobs.read(job_ids[start : start + BATCH])
            found |= await self.present(rows, estimates=estimates)
        return found

    async def read_objects(self, views: Sequence[Import]) -> dict[str, Import]:
        """Jobs that have no row, as their objects are now; those whose object is gone are left out.

        Raises KubernetesUnavailableError and ObjectForbiddenError.
        """
        found = {}
        for view in views:
            body = await self._kube.get(IMPORT_JOB, view.namespace, view.name)
            if body is not None and body["metadata"]["uid"] == view.id:
                found[view.id] = present_object(body)
        return found

    async def present(self, rows: Mapping[str, JobRow], *, estimates: bool = True) -> dict[str, Import]:
        """What is shown of these rows."""
        now = datetime.now(UTC)
        known = await self._estimates(list(rows.values()), now) if estimates else {}
        stepping = [row.id for row in rows.values() if asked_steps(row.spec)]
        dead = Counter(await self._letters.of_jobs(stepping) if stepping else {})
        failed = [
            row.id for row in rows.values() if row.state in _FINISHED and row.progress.products_failed > 0
        ]
        dead.update(await self._items.of_jobs(failed) if failed else {})
        return {
            job_id: present_row(
                row,
                namespace=self._namespace,
                now=now,
                estimate=known.get(job_id),
                dead_letters=dead[job_id],
            )
            for job_id, row in rows.items()
        }

    async def rates(self, queue: str) -> Rates:
        """How fast a queue goes; measured at most every RATES_SECONDS."""

        async def measure() -> Rates:
            depth = (await self.jobs.depth([queue]))[queue]
            return Rates(depth.claimed, await self.reports.average_duration())

        return await self._rates.get(queue, measure)

    async def _estimates(self, rows: Sequence[JobRow], now: datetime) -> dict[str, Estimate | None]:
        waiting: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            if row.state is JobState.PENDING and not row.suspended:
                waiting[row.queue].append(row.id)
        places: dict[str, int] = {}
        rates: dict[str, Rates] = {}
        for queue, ids in waiting.items():
            places |= await self.views.places(queue, ids)
            rates[queue] = await self.rates(queue)
        unknown = Rates(0, None)
        return {
            row.id: estimate_of(
                row,
                now=now,
                place=places.get(row.id, DEPTH_CAP),
                running=rates.get(row.queue, unknown).running,
                average_seconds=rates.get(row.queue, unknown).average_seconds,
            )
            for row in rows
        }
