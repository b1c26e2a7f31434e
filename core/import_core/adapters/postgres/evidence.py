"""What the guard looks at beside the depth: how many jobs start, and how the last ones ended."""

from __future__ import annotations

from datetime import datetime

from import_core.adapters.postgres.dispatching import HEADS, PAUSED_ROW
from import_core.adapters.postgres.pool import Database
from import_core.domain.emergency import (
    FINISHED_LOOKED_AT,
    OF_ONE_COMPANY,
    OUTAGE_SECONDS,
    OWN_FAILURES,
)
from import_core.domain.jobs import WaitingReason

EVIDENCE_SECONDS = 3600
"""Older ends say nothing about the system now."""
NEWEST = 500
KEPT_SECONDS = 3600 + 60
"""The queue limiter's longest window, and a little."""
PRUNE_BATCH = 10_000

# The newest ends by index import_job_finished; of one company at most half of what is looked at, so that one
# company's jobs alone can't pause those of others.
FINISHED = """
SELECT count(*) FILTER (WHERE status = 'COMPLETED'), count(*) FILTER (WHERE status = 'FAILED') FROM (
    SELECT status FROM (
        SELECT status, "completedAt",
            row_number() OVER (PARTITION BY "companyId" ORDER BY "completedAt" DESC) AS place
        FROM (
            SELECT status, "companyId", "completedAt", "failureReason" FROM "ProductImportJob"
            WHERE coalesce(queue, 'product-imports') = %(queue)s AND status IN ('COMPLETED', 'FAILED')
              AND "completedAt" > greatest(%(since)s::timestamptz, now() - %(seconds)s * interval '1 second')
            ORDER BY "completedAt" DESC LIMIT %(newest)s) newest
        WHERE status = 'COMPLETED' OR coalesce("failureReason", '') <> ALL(%(own)s)) counted
    WHERE place <= %(of_one)s ORDER BY "completedAt" DESC LIMIT %(limit)s) last
"""
# Of the rows that are due next, by index import_job_due: those that the object store's outage gave back. And
# whether any job succeeded meanwhile, by index import_job_finished.
STORAGE_OUTAGE = """
SELECT
    (SELECT count(*) FROM (
        SELECT "waitingReason" FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
          AND coalesce("notBefore", timestamptz '-infinity') > now()
        ORDER BY coalesce("notBefore", timestamptz '-infinity') LIMIT %(newest)s) next
     WHERE "waitingReason" = %(reason)s),
    EXISTS (
        SELECT FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'COMPLETED'
          AND status IN ('COMPLETED', 'FAILED') AND "completedAt" > now() - %(seconds)s * interval '1 second')
"""
STARTS_PER_MINUTE = """
SELECT count(*) FROM imports.job_start
WHERE queue = %s AND started_at > clock_timestamp() - interval '1 minute'
"""
# What dispatch has handed out and no worker has claimed yet, or can hand out: it passes paused ones over. A
# BASIC company's row that comes a while later counts, as it comes.
DISPATCHABLE = f"""
SELECT EXISTS (
    SELECT FROM "ProductImportJob" j
    WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
      AND "dispatchedAt" IS NOT NULL AND NOT {PAUSED_ROW})
OR EXISTS (SELECT FROM ({HEADS}) head)
"""
PRUNE = """
DELETE FROM imports.job_start WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM imports.job_start
    WHERE queue = %s AND started_at < clock_timestamp() - %s * interval '1 second' LIMIT %s))
"""


class EvidenceStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def finished(self, queue: str, *, since: datetime | None) -> tuple[int, int]:
        """How many of the newest finished jobs succeeded and failed; a job's own failures don't count."""
        values = {
            "queue": queue,
            "since": since,
            "seconds": EVIDENCE_SECONDS,
            "newest": NEWEST,
            "own": sorted(OWN_FAILURES),
            "of_one": OF_ONE_COMPANY,
            "limit": FINISHED_LOOKED_AT,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(FINISHED, values)).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    async def storage_outage(self, queue: str) -> tuple[int, bool]:
        """How many jobs wait because the object store did not answer, and whether any succeeded lately."""
        values = {
            "queue": queue,
            "newest": NEWEST,
            "reason": WaitingReason.STORAGE.value,
            "seconds": OUTAGE_SECONDS,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(STORAGE_OUTAGE, values)).fetchone()
        return (int(row[0]), bool(row[1])) if row else (0, False)

    async def dispatchable(self, queue: str) -> bool:
        """Whether dispatch has any job to hand out, or on its way to a worker; paused ones don't count."""
        values = {"queue": queue, "limit": 1, "basic_delay": 0.0}
        async with self._database.connection() as connection:
            row = await (await connection.execute(DISPATCHABLE, values)).fetchone()
        return row == (True,)

    async def starts_per_minute(self, queue: str) -> float:
        """Jobs that workers have started within the last minute."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(STARTS_PER_MINUTE, (queue,))).fetchone()
        return float(row[0]) if row else 0.0

    async def prune(self, queue: str) -> None:
        """Forget starts that no limit can ask for any more, a bounded number at a time."""
        async with self._database.connection() as connection:
            await connection.execute(PRUNE, (queue, KEPT_SECONDS, PRUNE_BATCH))
