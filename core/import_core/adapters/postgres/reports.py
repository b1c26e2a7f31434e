"""Read-only questions that people ask: failures of late, failed items, how long jobs take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database

# All by (status, "createdAt"): newest rows first, never the whole history.
RECENT_FAILURES = """
SELECT id, namespace, "objectName", "companyId", provider, "failureReason", "errorMessage", "completedAt"
FROM "ProductImportJob" WHERE status = 'FAILED' ORDER BY "createdAt" DESC LIMIT %s
"""
AVERAGE_DURATION = """
SELECT extract(epoch FROM avg("completedAt" - "startedAt"))::float8 FROM (
    SELECT "startedAt", "completedAt" FROM "ProductImportJob"
    WHERE status = 'COMPLETED' ORDER BY "createdAt" DESC LIMIT %s) recent
"""
STATES = """
SELECT s.state, (SELECT count(*) FROM (SELECT FROM "ProductImportJob" WHERE status = s.state LIMIT %s) n)
FROM unnest(%s::text[]) AS s (state)
"""
ITEM_ERRORS = """
SELECT external_id, stage, url, reason, message, created_at FROM imports.item_error
WHERE job_id = %s ORDER BY created_at, external_id, stage, url LIMIT %s
"""
ITEM_ERROR_REASONS = """
SELECT stage, reason, count(*) FROM imports.item_error WHERE job_id = %s GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed."""

    job_id: str
    namespace: str | None
    name: str | None
    company_id: str
    provider: str
    reason: str | None
    message: str | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A product or image that failed; `url` is empty for products."""

    external_id: str
    stage: str
    url: str
    reason: str
    message: str
    at: datetime


class ReportStore:
    """Reports from PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_failures(self, *, limit: int = 5) -> list[Failure]:
        """The newest failed jobs."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(RECENT_FAILURES, (limit,))
            return [Failure(*row) for row in await cursor.fetchall()]

    async def average_duration(self, *, of: int = 200) -> float | None:
        """Mean seconds from start to end of the newest completed jobs; None where there are none."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(AVERAGE_DURATION, (of,))
            row = await cursor.fetchone()
            return row[0] if row else None

    async def states(self, states: list[str], *, cap: int = 100_000) -> dict[str, int]:
        """Rows by state, each counted up to `cap`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(STATES, (cap, states))
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def item_failures(self, job_id: str, *, limit: int = 100) -> list[ItemFailure]:
        """A job's failed items, oldest first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ITEM_ERRORS, (job_id, limit))
            return [ItemFailure(*row) for row in await cursor.fetchall()]

    async def item_failure_reasons(self, job_id: str) -> list[tuple[str, str, int]]:
        """(stage, reason, count) of a job's failed items, most frequent first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ITEM_ERROR_REASONS, (job_id,))
            return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]
