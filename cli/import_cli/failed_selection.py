"""Which failed jobs `kubectl imports retry-failed` means, counted before anything is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from import_cli.sources import Sources, Stores
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reports import FailedFilter, FailedJob

NAMES = 3
"""So many jobs of a reason are named."""
REASONS = 50
OTHER_REASONS = "(other reasons)"
NO_REASON = "(none given)"


class Way(StrEnum):
    """How a failed job is retried."""

    OBJECT = "object"
    ROW = "row"
    GONE = "gone"
    """Not at all: its object is gone, and a row does not run without the object that it came from."""


@dataclass(slots=True)
class ReasonGroup:
    """The jobs that failed for a reason, and some of their names."""

    number: int = 0
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """How many jobs would be retried in which way, grouped by reason: memory does not grow with their number."""

    ways: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    reasons: dict[str, ReasonGroup] = field(default_factory=dict)

    @property
    def retried(self) -> int:
        """How many can be retried."""
        return self.ways[Way.OBJECT] + self.ways[Way.ROW]

    def add(self, job: FailedJob, way: Way) -> None:
        """Count one job."""
        self.ways[way] += 1
        if way is Way.GONE:
            return
        reason = job.reason or NO_REASON
        if reason not in self.reasons and len(self.reasons) >= REASONS:
            reason = OTHER_REASONS
        group = self.reasons.setdefault(reason, ReasonGroup())
        group.number += 1
        if len(group.names) < NAMES:
            group.names.append(job.name or job.job_id)


class Selection:
    """The failed jobs that a filter names, and which of them have their object."""

    def __init__(self, stores: Stores, wanted: FailedFilter, objects: frozenset[str]) -> None:
        self._stores = stores
        self._wanted = wanted
        self._objects = objects

    async def pages(self) -> AsyncIterator[dict[Way, list[FailedJob]]]:
        """The jobs page by page, by the way that they are retried in; none is met twice."""
        async for page in self._stores.reports.failed_jobs(self._wanted):
            yield self._by_way(page)

    def _by_way(self, page: Iterable[FailedJob]) -> dict[Way, list[FailedJob]]:
        found: dict[Way, list[FailedJob]] = {way: [] for way in Way}
        for job in page:
            if job.object_uid is None or job.name is None:
                found[Way.ROW].append(job)
            else:
                found[Way.OBJECT if job.object_uid in self._objects else Way.GONE].append(job)
        return found

    async def plan(self) -> Plan:
        """Count them all."""
        plan = Plan()
        async for page in self.pages():
            for way, jobs in page.items():
                for job in jobs:
                    plan.add(job, way)
        return plan


async def object_uids(sources: Sources) -> frozenset[str]:
    """The uids of the namespace's ImportJobs; admission and the sweep bound their number."""
    return frozenset(
        [str(body["metadata"]["uid"]) async for body in sources.kube.list(IMPORT_JOB, sources.namespace)]
    )
