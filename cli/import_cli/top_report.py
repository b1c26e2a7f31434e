"""What `kubectl imports top` shows: the status, and beside it each queue's pace, the workers and the running jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from import_cli.sources import NoDatabaseError, Sources, Stores
from import_cli.status_command import document as status_document
from import_cli.status_report import StatusReport, collect
from import_core.adapters.postgres.jobs import Depth
from import_core.adapters.postgres.paces import Pace
from import_core.adapters.postgres.queue_state import QueueState
from import_core.adapters.postgres.views import WorkerView
from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from import_core.domain.estimates import seconds_until_done
from import_core.domain.jobs import DEFAULT_QUEUE, JobRow

MOST_RUNNING = 500
"""Running jobs that are read; more are counted by their claims only."""
MOST_WORKERS = 1000


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One queue, now and in the last minutes."""

    queue: str
    state: QueueState
    depth: Depth
    pace: Pace


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A claimed job; seconds since it first started and until it is done, the latter None where unknown."""

    name: str
    company: str
    provider: str
    pod: str | None
    attempt: int
    done: int
    total: int | None
    images: int
    percent: int
    for_seconds: float
    to_go_seconds: float | None

    @property
    def per_minute(self) -> float | None:
        """Products done in a minute of its time so far."""
        return self.done * 60 / self.for_seconds if self.for_seconds >= 1 else None


@dataclass(frozen=True, slots=True)
class TopReport:
    """One screen; `at` is the database's time, or this machine's where there is none."""

    at: datetime
    status: StatusReport
    queues: Sequence[QueueLine] = ()
    workers: Sequence[WorkerView] = ()
    running: Sequence[RunningJob] = ()
    """Those that have run longest come first."""
    oldest_wait_seconds: float | None = None

    @property
    def jobs_of(self) -> Counter[str]:
        """How many of the running jobs are each provider's."""
        return Counter(job.provider for job in self.running)


async def collect_top(sources: Sources) -> TopReport:
    """Look at everything; without the database there is less to see, and the status says why."""
    status = await collect(sources)
    queues = sorted({pool.queue or DEFAULT_QUEUE for pool in status.pools}) or [DEFAULT_QUEUE]
    try:
        async with sources.stores() as stores:
            return await _with_rows(stores, status, queues)
    except (NoDatabaseError, DatabaseUnavailableError, SchemaMismatchError):
        # The status has asked the same database a moment ago, and its notes say what is wrong.
        return TopReport(datetime.now(UTC), status)


async def _with_rows(stores: Stores, status: StatusReport, queues: Sequence[str]) -> TopReport:
    now = await stores.reports.now()
    states = await stores.queues.read(queues)
    depths = await stores.jobs.depth(queues)
    lines = [QueueLine(queue, states[queue], depths[queue], await stores.paces.of(queue)) for queue in queues]
    workers = await stores.views.workers(status.namespace, limit=MOST_WORKERS)
    pods = {worker.worker_id: worker.pod for worker in workers}
    ids = await stores.views.running(status.namespace, limit=MOST_RUNNING)
    rows = (await stores.jobs.read(ids)).values()
    running = sorted(
        (_running(row, pods.get(row.claimed_by or ""), now) for row in rows if row.claimed_by),
        key=lambda job: -job.for_seconds,
    )
    waiting = await stores.views.waiting(status.namespace, limit=1)
    oldest = [row.queued_at for row in (await stores.jobs.read(waiting)).values()]
    wait = max(0.0, (now - oldest[0]).total_seconds()) if oldest else None
    return TopReport(now, status, lines, workers, running, wait)


def _running(row: JobRow, pod: str | None, now: datetime) -> RunningJob:
    started = row.started_at or now
    return RunningJob(
        row.origin.name if row.origin else row.id,
        row.company_id,
        row.provider,
        pod,
        row.attempt,
        row.progress.products_done,
        row.progress.products_total,
        row.progress.images_imported + row.progress.images_unchanged,
        row.progress.percent,
        max(0.0, (now - started).total_seconds()),
        seconds_until_done(row.progress, started_at=row.started_at, now=now),
    )


def document(report: TopReport) -> dict[str, Any]:
    """For programs: the status' document, with what is here beside it."""
    return {
        **status_document(report.status),
        "at": report.at,
        "oldestWaitSeconds": report.oldest_wait_seconds,
        "paces": [
            {
                "queue": line.queue,
                "due": line.depth.due,
                "running": line.depth.claimed,
                "startsPerMinute": line.state.starts_per_minute,
                "endsPerMinute": round(line.pace.per_minute, 2),
                "completed": line.pace.completed,
                "failed": line.pace.failed,
                "seconds": line.pace.seconds,
                "success": line.pace.success,
                "p95Seconds": line.pace.p95,
            }
            for line in report.queues
        ],
        "workers": [
            {
                "pod": worker.pod,
                "queue": worker.queue,
                "state": worker.state,
                "jobs": worker.jobs,
                "concurrency": worker.concurrency,
                "startedAt": worker.started_at,
                "seenAt": worker.seen_at,
            }
            for worker in report.workers
        ],
        "runningJobs": [_camel(job) for job in report.running],
    }


def _camel(job: RunningJob) -> dict[str, Any]:
    values = asdict(job)
    values["forSeconds"] = round(values.pop("for_seconds"), 1)
    to_go = values.pop("to_go_seconds")
    values["toGoSeconds"] = None if to_go is None else round(to_go, 1)
    values["productsPerMinute"] = None if job.per_minute is None else round(job.per_minute, 1)
    return values
