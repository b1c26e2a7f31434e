"""Read-only questions that people ask: failures, failed items, how long jobs take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from import_core.adapters.postgres.pool import Database, server_time
from import_core.domain.errors import DatabaseUnavailableError

STATE_CAP = 100_001
"""Rows of a state are counted up to here."""
RECENT = 500
NAMED = 10_000
REASONS = 50
FAILED_PAGE = 5000
MEASURED_SECONDS = 86_400.0
"""Older jobs say nothing about how fast jobs run now."""

# All by import_job_shown, so without step jobs: newest rows first, never the whole history. Of the newest jobs those
# that failed last: a job may have waited long before it failed.
RECENT_FAILURES = """
SELECT * FROM (
    SELECT id, namespace, "objectName", "companyId", provider, "failureReason", "errorMessage", "completedAt"
    FROM "ProductImportJob" WHERE status = 'FAILED' AND "parentId" IS NULL ORDER BY "createdAt" DESC LIMIT %s) newest
ORDER BY "completedAt" DESC NULLS LAST LIMIT %s
"""
AVERAGE_DURATION = """
SELECT extract(epoch FROM avg("completedAt" - "startedAt"))::float8 FROM (
    SELECT "startedAt", "completedAt" FROM "ProductImportJob"
    WHERE status = 'COMPLETED' AND "parentId" IS NULL ORDER BY "createdAt" DESC LIMIT %s) recent
WHERE "completedAt" > now() - %s * interval '1 second'
"""
STATES = """
SELECT s.state, (SELECT count(*) FROM (
    SELECT FROM "ProductImportJob" WHERE status = s.state AND "parentId" IS NULL LIMIT %s) n)
FROM unnest(%s::text[]) AS s (state)
"""
NEWEST_FINISHED = """
SELECT newest.id FROM unnest(ARRAY['FAILED', 'COMPLETED', 'CANCELLED']) AS s (state), LATERAL (
    SELECT id, namespace, "objectName", "createdAt" FROM "ProductImportJob"
    WHERE status = s.state AND "parentId" IS NULL ORDER BY "createdAt" DESC LIMIT %s) newest
WHERE newest.namespace = %s AND newest."objectName" = %s ORDER BY newest."createdAt" DESC LIMIT 1
"""
# By keyset over (status, "createdAt"): each statement reads one page of rows however few of them match, and
# returns the page's last key also when none does. A retry makes a row's end later than `before` or none.
FAILED_JOBS = """
WITH page AS (
    SELECT id, "createdAt", namespace, "objectName", "objectUid", "companyId", provider, "failureReason",
        coalesce("completedAt", "updatedAt") AS ended
    FROM "ProductImportJob" WHERE status = 'FAILED' AND "parentId" IS NULL
      AND ("createdAt", id) > (%(after)s, %(after_id)s)
    ORDER BY "createdAt", id LIMIT %(limit)s),
last AS (SELECT "createdAt", id FROM page ORDER BY "createdAt" DESC, id DESC LIMIT 1)
SELECT last."createdAt", last.id, p.id, p."objectName", p."objectUid", p."companyId", p.provider, p."failureReason"
FROM last LEFT JOIN page p ON coalesce(p.namespace, %(namespace)s) = %(namespace)s AND p.ended <= %(before)s
    AND (%(since)s::timestamptz IS NULL OR p.ended >= %(since)s)
    AND (%(company)s::text IS NULL OR p."companyId" = %(company)s)
    AND (%(provider)s::text IS NULL OR p.provider = %(provider)s)
    AND (%(reason)s::text IS NULL OR p."failureReason" = %(reason)s)
ORDER BY p."createdAt", p.id
"""
ITEM_ERRORS = """
SELECT external_id, stage, url, reason, message, created_at, {document} FROM imports.item_error
WHERE job_id = %s ORDER BY created_at, external_id, stage, url LIMIT %s
"""
ITEM_ERROR_REASONS = """
SELECT sum(count(*)) OVER ()::bigint, stage, reason, count(*) FROM imports.item_error
WHERE job_id = %s GROUP BY stage, reason ORDER BY 4 DESC, stage, reason LIMIT %s
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
class FailedJob:
    """A failed row; `object_uid` None: it came from no object."""

    job_id: str
    name: str | None
    object_uid: str | None
    company_id: str
    provider: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class FailedFilter:
    """Which failed jobs are meant: those of a namespace and those of none, that ended from `since` to `before`.

    None: any.
    """

    namespace: str
    before: datetime
    since: datetime | None = None
    company: str | None = None
    provider: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A product or image that failed; `url` is empty for products, `document` is the source's JSON if asked for."""

    external_id: str
    stage: str
    url: str
    reason: str
    message: str
    at: datetime
    document: Any = None


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many items of a job failed at a stage for a reason."""

    stage: str
    reason: str
    count: int


@asynccontextmanager
async def readable() -> AsyncIterator[None]:
    """Turn a database's refusals into errors that a person can act on.

    Raises DatabaseUnavailableError where reading its tables is not allowed or the address is not understood.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseUnavailableError(f"PostgreSQL refuses: {error.diag.message_primary}") from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # Not the driver's text: it quotes the address, and so the password.
        raise DatabaseUnavailableError("PostgreSQL's driver does not understand the address") from error


@asynccontextmanager
async def writable(purpose: str) -> AsyncIterator[None]:
    """Turn the refusal of a write into an error that says what `purpose` needs ("to pause a queue").

    Raises DatabaseUnavailableError.
    """
    advice = f"a database user that may write is needed {purpose}: docs/reference/command-line.md#rights"
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseUnavailableError(
            f"PostgreSQL refuses: {error.diag.message_primary}; {advice}"
        ) from error
    except DatabaseUnavailableError as error:
        if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
            raise DatabaseUnavailableError(f"PostgreSQL is read-only here; {advice}") from error
        raise


class ReportStore:
    """Reports from PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_failures(self, *, limit: int = 5) -> list[Failure]:
        """Of the newest jobs that failed, those that did so last, the latest first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(RECENT_FAILURES, (RECENT, limit))
            return [Failure(*row) for row in await cursor.fetchall()]

    async def now(self) -> datetime:
        """The database's time, by which rows are dated."""
        async with self._database.connection() as connection:
            return await server_time(connection)

    async def failed_jobs(
        self, wanted: FailedFilter, *, page_size: int = FAILED_PAGE
    ) -> AsyncIterator[list[FailedJob]]:
        """Failed jobs in the order of their creation, in pages of at most `page_size`; none is met twice."""
        position: dict[str, Any] = {
            **asdict(wanted),
            "after": datetime.min.replace(tzinfo=UTC),
            "after_id": "",
            "limit": page_size,
        }
        while True:
            async with self._database.connection() as connection:
                rows = await (await connection.execute(FAILED_JOBS, position)).fetchall()
            if not rows:
                return
            found = [FailedJob(*row[2:]) for row in rows if row[2] is not None]
            if found:
                yield found
            position |= {"after": rows[0][0], "after_id": rows[0][1]}

    async def average_duration(
        self, *, of: int = 200, within_seconds: float = MEASURED_SECONDS
    ) -> float | None:
        """Mean seconds from start to end of the newest completed jobs that ended of late; None without any."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(AVERAGE_DURATION, (of, within_seconds))
            row = await cursor.fetchone()
            return row[0] if row else None

    async def states(self, states: list[str], *, cap: int = STATE_CAP) -> dict[str, int]:
        """Rows by state, each counted up to `cap`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(STATES, (cap, states))
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def newest_finished(self, namespace: str, name: str, *, among: int = NAMED) -> str | None:
        """Id of the newest finished job of an object's name, among the newest of each final state, or None."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(NEWEST_FINISHED, (among, namespace, name))
            row = await cursor.fetchone()
            return row[0] if row else None

    async def item_failures(
        self, job_id: str, *, limit: int = 100, documents: bool = False
    ) -> list[ItemFailure]:
        """A job's failed items, oldest first; with their source documents of up to 64 KiB each if asked."""
        statement = ITEM_ERRORS.format(document="document" if documents else "NULL")
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, (job_id, limit))
            return [ItemFailure(*row) for row in await cursor.fetchall()]

    async def item_failure_reasons(
        self, job_id: str, *, limit: int = REASONS
    ) -> tuple[int, list[ReasonCount]]:
        """How many items of a job failed, and why: the most frequent reasons first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ITEM_ERROR_REASONS, (job_id, limit))
            rows = await cursor.fetchall()
            return (rows[0][0] if rows else 0), [ReasonCount(*row[1:]) for row in rows]
