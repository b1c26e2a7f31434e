"""Counts a queue's jobs by state, for metrics: a bounded number of rows, all by index."""

from __future__ import annotations

from import_core.adapters.postgres.dispatching import (
    CONNECTION,
    CONNECTION_KEY,
    IN_ORDER,
    OF_CONNECTION,
    PAUSED_CONNECTION,
    UNDISPATCHED,
)
from import_core.adapters.postgres.pool import Database
from import_core.domain.queue_counts import COUNTED_UP_TO, QueueCounts

FINISHED_SECONDS = 3600

_PENDING = "coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING'"
_DUE = "coalesce(\"notBefore\", timestamptz '-infinity') <= now()"

# Connections with a row that waits are found by a loose scan of import_job_next, as dispatch does it; each then
# costs one probe for its oldest due row, and only paused ones are counted. Due and delayed rows by import_job_due,
# handed over ones by import_job_dispatched, suspended ones by import_job_suspended, ended ones by
# import_job_finished. Claims are as few as workers times their concurrency.
COUNTS = f"""
WITH RECURSIVE connection (company, namespace, provider) AS (
    (SELECT {CONNECTION} FROM "ProductImportJob" WHERE {UNDISPATCHED}
     ORDER BY {IN_ORDER} LIMIT 1)
    UNION ALL
    SELECT next.* FROM connection k CROSS JOIN LATERAL (
        SELECT {CONNECTION} FROM "ProductImportJob"
        WHERE {UNDISPATCHED} AND ({CONNECTION_KEY}) > (k.company, k.namespace, k.provider)
        ORDER BY {IN_ORDER} LIMIT 1) next
), judged AS MATERIALIZED (
    SELECT k.*, {PAUSED_CONNECTION.format(company="k.company", namespace="k.namespace", provider="k.provider")} AS held
    FROM connection k
)
SELECT
    (SELECT count(*) FROM (
        SELECT FROM "ProductImportJob" WHERE {_PENDING} AND suspended IS NOT TRUE AND {_DUE} LIMIT %(most)s) due),
    (SELECT count(*) FROM (
        SELECT FROM "ProductImportJob" WHERE {_PENDING} AND suspended IS NOT TRUE AND "dispatchedAt" IS NOT NULL
        LIMIT %(most)s) dispatched),
    (SELECT count(*) FROM (
        SELECT FROM judged k CROSS JOIN LATERAL (
            SELECT FROM "ProductImportJob"
            WHERE {OF_CONNECTION} AND {_DUE} LIMIT %(most)s) row
        WHERE k.held LIMIT %(most)s) held),
    (SELECT count(*) FROM (
        SELECT FROM "ProductImportJob" WHERE {_PENDING} AND suspended IS NOT TRUE
          AND coalesce("notBefore", timestamptz '-infinity') > now() LIMIT %(most)s) delayed),
    (SELECT count(*) FROM (
        SELECT FROM "ProductImportJob" WHERE {_PENDING} AND suspended IS TRUE LIMIT %(most)s) suspended),
    (SELECT count(*) FROM imports.claim k WHERE k.queue = %(queue)s),
    (SELECT count(DISTINCT worker_id) FROM imports.claim k WHERE k.queue = %(queue)s),
    ended.completed, ended.failed,
    extract(epoch FROM clock_timestamp() - least(
        (SELECT min(row.queued_at) FROM judged k CROSS JOIN LATERAL (
            SELECT coalesce("queuedAt", "createdAt") AS queued_at FROM "ProductImportJob"
            WHERE {OF_CONNECTION} AND {_DUE}
            ORDER BY coalesce("queuedAt", "createdAt"), id LIMIT 1) row
         WHERE NOT k.held),
        (SELECT min(queued_at) FROM (
            SELECT coalesce("queuedAt", "createdAt") AS queued_at FROM "ProductImportJob"
            WHERE {_PENDING} AND suspended IS NOT TRUE AND "dispatchedAt" IS NOT NULL LIMIT %(most)s) handed_over)
    ))::float8,
    coalesce((SELECT s.paused OR s.emergency_phase = 'Paused' FROM imports.queue_state s
              WHERE s.queue = %(queue)s), false)
FROM (
    SELECT count(*) FILTER (WHERE status = 'COMPLETED') AS completed,
        count(*) FILTER (WHERE status = 'FAILED') AS failed
    FROM (
        SELECT status FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = %(queue)s AND status IN ('COMPLETED', 'FAILED')
          AND "completedAt" > now() - %(seconds)s * interval '1 second'
        ORDER BY "completedAt" DESC LIMIT %(most)s) newest) ended
"""


class CountStore:
    """Counts in PostgreSQL. Raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self, queue: str, *, most: int = COUNTED_UP_TO) -> QueueCounts:
        """How many jobs of the queue are in which state; each part is counted up to `most`."""
        values = {"queue": queue, "most": most, "seconds": FINISHED_SECONDS}
        async with self._database.connection() as connection:
            row = await (await connection.execute(COUNTS, values)).fetchone()
        if row is None:
            return QueueCounts()
        return QueueCounts(
            due=row[0],
            dispatched=row[1],
            held=row[2],
            delayed=row[3],
            suspended=row[4],
            active=row[5],
            busy_workers=row[6],
            completed=row[7],
            failed=row[8],
            oldest_seconds=row[9],
            dispatch_paused=bool(row[10]),
        )
