"""What a queue's jobs amount to, counted in products and images: waiting, running, and finished since a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.rows import current_progress, progress_from_json
from import_core.domain.work_counting import (
    IMAGES_PER_PRODUCT,
    FinishedJob,
    RunningJob,
    Source,
    WaitingJobs,
    WorkSeen,
)

WORK_CAP = 5_000
"""Due rows whose work is counted; the rest is taken to be like them. Far more than all workers can do at once."""
RUNNING_LIMIT = 20_000
FINISHED_LIMIT = 500
SIZES_AT_ONCE = 200
SAMPLE = 20
"""Finished jobs of a company that tell how large its next one will be."""

# Due rows by index import_job_due, up to the cap, as the depth counts them. Only a job that has started has a
# checkpoint, which is then one probe; what is left of it is in its counters, its images as many as so far.
WAITING = f"""
SELECT company, namespace, provider, count(*), count(left_units), coalesce(sum(left_units), 0)::float8 FROM (
    SELECT j."companyId" AS company, coalesce(j.namespace, '') AS namespace, j.provider,
        CASE WHEN c.total IS NOT NULL THEN greatest(c.total - c.done, 0)
            * (1 + CASE WHEN c.done > 0 THEN c.images / c.done ELSE {IMAGES_PER_PRODUCT} END) END AS left_units
    FROM (
        SELECT id, "companyId", namespace, provider, "startedAt" FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
          AND coalesce("notBefore", timestamptz '-infinity') <= now()
        LIMIT %(cap)s) j
    LEFT JOIN LATERAL (
        SELECT (p.progress ->> 'products_total')::float8 AS total,
            coalesce((p.progress ->> 'products_imported')::float8, 0)
                + coalesce((p.progress ->> 'products_unchanged')::float8, 0)
                + coalesce((p.progress ->> 'products_failed')::float8, 0) AS done,
            coalesce((p.progress ->> 'images_total')::float8, 0) AS images
        FROM imports.checkpoint p WHERE p.job_id = j.id AND j."startedAt" IS NOT NULL LIMIT 1) c ON true) due
GROUP BY company, namespace, provider
"""
# Claims are few: workers x concurrency.
RUNNING = """
SELECT k.job_id, j."companyId", coalesce(j.namespace, ''), j.provider, k.claimed_at,
    k.claimed_at - j."startedAt" < interval '1 second', c.progress, k.live_progress, c.pages, now()
FROM (SELECT * FROM imports.claim WHERE queue = %(queue)s LIMIT %(limit)s) k
JOIN "ProductImportJob" j ON j.id = k.job_id
LEFT JOIN imports.checkpoint c ON c.job_id = k.job_id
"""
# The newest ends by index import_job_finished. A job that was handed over once and ended has dispatch 2.
FINISHED = """
SELECT j.id, j."companyId", coalesce(j.namespace, ''), j.provider, j."startedAt", j."completedAt",
    coalesce(j.dispatch, 0) <= 2 AND coalesce(j.attempt, 0) = 0, j.status = 'COMPLETED', c.progress, c.pages
FROM (
    SELECT id, "companyId", namespace, provider, "startedAt", "completedAt", dispatch, attempt, status
    FROM "ProductImportJob"
    WHERE coalesce(queue, 'product-imports') = %(queue)s AND status IN ('COMPLETED', 'FAILED')
      AND "completedAt" > %(since)s
    ORDER BY "completedAt" DESC LIMIT %(limit)s) j
LEFT JOIN imports.checkpoint c ON c.job_id = j.id
WHERE j."startedAt" IS NOT NULL
"""
# Some finished jobs of each company, by index import_job_company_status, and of them those of the connection.
SIZES = """
SELECT s.company, s.namespace, s.provider, avg(units)::float8
FROM unnest(%(companies)s::text[], %(namespaces)s::text[], %(providers)s::text[])
    AS s (company, namespace, provider)
CROSS JOIN LATERAL (
    SELECT coalesce((c.progress ->> 'products_imported')::float8, 0)
        + coalesce((c.progress ->> 'products_unchanged')::float8, 0)
        + coalesce((c.progress ->> 'products_failed')::float8, 0)
        + coalesce((c.progress ->> 'images_total')::float8, 0) AS units
    FROM (
        SELECT id, namespace, provider FROM "ProductImportJob"
        WHERE "companyId" = s.company AND status = 'COMPLETED' AND "parentId" IS NULL LIMIT %(sample)s) j
    JOIN imports.checkpoint c ON c.job_id = j.id
    WHERE j.provider = s.provider AND coalesce(j.namespace, '') = s.namespace) f
GROUP BY s.company, s.namespace, s.provider
"""
NOW = "SELECT now()"


class WorkStore:
    """Counts of work. Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, queue: str, *, since: datetime | None, cap: int = WORK_CAP) -> WorkSeen:
        """What waits (up to `cap` rows), runs, and has finished after `since`; None: within the last hour.

        An end is dated by the beginning of its transaction, so one that commits during a look may be in neither this
        look nor the next, or in both. This is harmless: rates and sizes are averages of many ends, to which it is one
        more or less, and what waits and runs is read anew each time.
        """
        values = {"queue": queue, "cap": cap, "limit": RUNNING_LIMIT}
        async with self._database.transaction() as connection:
            row = await (await connection.execute(NOW)).fetchone()
            assert row is not None  # noqa: S101 - a SELECT without FROM
            at: datetime = row[0]
            waiting = await (await connection.execute(WAITING, values)).fetchall()
            running = await (await connection.execute(RUNNING, values)).fetchall()
            first = datetime.fromtimestamp(at.timestamp() - 3600.0, at.tzinfo)
            values = {"queue": queue, "since": since or first, "limit": FINISHED_LIMIT}
            finished = await (await connection.execute(FINISHED, values)).fetchall()
        return WorkSeen(
            at=at,
            waiting=tuple(WaitingJobs(Source(*row[:3]), row[3], row[4], row[5]) for row in waiting),
            running=tuple(
                RunningJob(
                    job_id=row[0],
                    source=Source(*row[1:4]),
                    claimed_at=row[4],
                    first_run=bool(row[5]),
                    progress=current_progress(row[6], row[7]),
                    pages=row[8] or 0,
                )
                for row in running
            ),
            finished=tuple(
                FinishedJob(
                    job_id=row[0],
                    source=Source(*row[1:4]),
                    started_at=row[4],
                    completed_at=row[5],
                    first_run=row[6],
                    succeeded=row[7],
                    progress=progress_from_json(row[8]),
                    pages=row[9] or 0,
                )
                for row in finished
            ),
        )

    async def sizes(self, sources: Sequence[Source]) -> dict[Source, float]:
        """Units of a job of these sources, by some that they finished; those without any are left out.

        At most SIZES_AT_ONCE of them are asked for.
        """
        asked = sources[:SIZES_AT_ONCE]
        values = {
            "companies": [source.company for source in asked],
            "namespaces": [source.namespace for source in asked],
            "providers": [source.provider for source in asked],
            "sample": SAMPLE,
        }
        async with self._database.connection() as connection:
            cursor = await connection.execute(SIZES, values)
            return {Source(*row[:3]): row[3] for row in await cursor.fetchall()}
