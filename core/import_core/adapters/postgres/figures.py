"""Figures of the last days: how many jobs ended and how, how long they took, why they failed.

Each statement reads a bounded number of rows by index import_job_finished, queue by queue; a day with more jobs than
that says that it has at least so many. Step jobs are deleted an hour after their end: what was added up of them then is
in imports.step_figure, and read in the same statement, so that none is missed or counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.step_figures import BUCKET_SECONDS

DAY_CAP = 10_001
"""Jobs of one queue and day are counted up to here; deleted step jobs come on top."""
NEWEST = 2_000
"""Durations and reasons are those of so many of a queue's newest jobs, and of deleted step jobs."""
REASONS = 10
STATEMENT_SECONDS = 10.0

# A day is a day in UTC, and "today" is the database's. By the key of step_figure, which has nothing of imports.
PER_DAY = """
SELECT q.queue, d.day, count(*) FILTER (WHERE j.status = 'COMPLETED') + coalesce(max(s.completed), 0),
    count(*) FILTER (WHERE j.status = 'FAILED') + coalesce(max(s.failed), 0), count(j.status) = %(cap)s
FROM unnest(%(queues)s::text[]) AS q (queue)
CROSS JOIN (
    SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') - n * interval '1 day') AT TIME ZONE 'UTC' AS day
    FROM generate_series(0, %(days)s - 1) AS n) d
LEFT JOIN LATERAL (
    SELECT (sum(f.number) FILTER (WHERE f.outcome = 'Completed'))::bigint AS completed,
        (sum(f.number) FILTER (WHERE f.outcome = 'Failed'))::bigint AS failed
    FROM imports.step_figure f
    WHERE f.queue = q.queue AND f.day = (d.day AT TIME ZONE 'UTC')::date
      AND f.namespace IN ('', %(namespace)s)) s ON true
LEFT JOIN LATERAL (
    SELECT f.status FROM (
        SELECT status, namespace FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = q.queue AND status IN ('COMPLETED', 'FAILED')
          AND "completedAt" >= d.day AND "completedAt" < d.day + interval '1 day' LIMIT %(cap)s) f
    WHERE coalesce(f.namespace, %(namespace)s) = %(namespace)s) j ON true
GROUP BY q.queue, d.day ORDER BY d.day, q.queue
"""
_NEWEST = """
    SELECT status, namespace, "startedAt", "completedAt", "failureReason" FROM "ProductImportJob"
    WHERE coalesce(queue, 'product-imports') = q.queue AND status IN ('COMPLETED', 'FAILED')
      AND "completedAt" >= now() - %(days)s * interval '1 day'
    ORDER BY "completedAt" DESC LIMIT %(newest)s"""
_ADDED_UP = """
    imports.step_figure f
    WHERE f.queue = q.queue AND f.day > (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
      AND f.namespace IN ('', %(namespace)s)"""
DURATIONS = f"""
SELECT queue, max(total)::bigint, min(seconds) FILTER (WHERE upto >= 0.5 * total),
    min(seconds) FILTER (WHERE upto >= 0.95 * total)
FROM (
    SELECT q.queue, j.seconds, sum(j.jobs) OVER (PARTITION BY q.queue ORDER BY j.seconds) AS upto,
        sum(j.jobs) OVER (PARTITION BY q.queue) AS total
    FROM unnest(%(queues)s::text[]) AS q (queue), LATERAL (
        SELECT extract(epoch FROM "completedAt" - "startedAt")::float8 AS seconds, 1::bigint AS jobs
        FROM ({_NEWEST}) n
        WHERE status = 'COMPLETED' AND "startedAt" IS NOT NULL
          AND coalesce(namespace, %(namespace)s) = %(namespace)s
        UNION ALL
        SELECT {BUCKET_SECONDS}, f.number FROM {_ADDED_UP}
          AND f.outcome = 'Completed' AND f.duration_bucket > 0) j) r
GROUP BY queue ORDER BY queue
"""
FAILURES = f"""
SELECT q.queue, j.reason, sum(j.jobs)::bigint, sum(j.products)::bigint
FROM unnest(%(queues)s::text[]) AS q (queue), LATERAL (
    SELECT coalesce("failureReason", 'Unknown') AS reason, 1::bigint AS jobs, 0::bigint AS products
    FROM ({_NEWEST}) n
    WHERE status = 'FAILED' AND coalesce(namespace, %(namespace)s) = %(namespace)s
    UNION ALL
    SELECT f.reason, CASE f.outcome WHEN 'Failed' THEN f.number ELSE 0 END,
        CASE f.outcome WHEN 'GivenUp' THEN f.number ELSE 0 END
    FROM {_ADDED_UP} AND f.outcome IN ('Failed', 'GivenUp')) j
GROUP BY 1, 2 ORDER BY sum(j.jobs) + sum(j.products) DESC, 1, 2 LIMIT %(reasons)s
"""


@dataclass(frozen=True, slots=True)
class DayCount:
    """How a queue's jobs ended that ended on a day; `at_least`: there were more than are counted."""

    queue: str
    day: datetime
    completed: int
    failed: int
    at_least: bool


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds from the first start to completion, of a queue's newest completed jobs and all deleted step jobs.

    Those of deleted ones are rounded up, by at most a tenth.
    """

    queue: str
    jobs: int
    median_seconds: float
    p95_seconds: float


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many of a queue's newest jobs, and of all deleted step jobs, failed for a reason.

    `products`: how many a step gave up for it, in batches of whatever end; each time where it was more than once.
    """

    queue: str
    reason: str
    jobs: int
    products: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All of them; days in order, reasons the most frequent first."""

    days: list[DayCount]
    durations: list[Duration]
    failures: list[FailureCount]


class FigureStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, *, namespace: str, queues: Sequence[str], days: int) -> Figures:
        """The figures of the last `days` days, today among them, of these queues."""
        values = {
            "namespace": namespace,
            "queues": list(queues),
            "days": days,
            "cap": DAY_CAP,
            "newest": NEWEST,
            "reasons": REASONS,
        }
        async with self._database.transaction(timeout_seconds=STATEMENT_SECONDS) as connection:
            per_day = await (await connection.execute(PER_DAY, values)).fetchall()
            durations = await (await connection.execute(DURATIONS, values)).fetchall()
            failures = await (await connection.execute(FAILURES, values)).fetchall()
        return Figures(
            [DayCount(*row) for row in per_day],
            [Duration(*row) for row in durations],
            [FailureCount(*row) for row in failures],
        )
