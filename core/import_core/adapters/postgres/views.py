"""What the gateway shows of jobs: pages of a list, jobs by name, places in the queue, failed items, workers.

Every statement reads a bounded number of rows by an index, however many match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.reports import ItemFailure
from import_core.adapters.postgres.rows import JOB_COLUMNS, JOB_TABLES, job_from_row
from import_core.domain.jobs import JobRow, JobState

EXAMINED = 500
"""Rows (of each state) that one page of a list looks at; a page may be short, or empty, and not be the last."""

# Newest first, by keyset over ("createdAt", id). Without a company: the newest of each wanted state by
# import_job_shown, merged; with one: the company's by import_job_company_shown. Step jobs are not shown.
BY_STATE = """
SELECT newest.id, newest."createdAt", newest.namespace, newest.status
FROM unnest(%(states)s::text[]) AS s (state), LATERAL (
    SELECT id, "createdAt", namespace, status FROM "ProductImportJob"
    WHERE status = s.state AND "parentId" IS NULL AND ("createdAt", id) < (%(before)s, %(before_id)s)
    ORDER BY "createdAt" DESC, id DESC LIMIT %(examined)s) newest
ORDER BY newest."createdAt" DESC, newest.id DESC LIMIT %(examined)s
"""
BY_COMPANY = """
SELECT id, "createdAt", namespace, status FROM "ProductImportJob"
WHERE "companyId" = %(company)s AND "parentId" IS NULL AND ("createdAt", id) < (%(before)s, %(before_id)s)
ORDER BY "createdAt" DESC, id DESC LIMIT %(examined)s
"""
ROWS = f"""SELECT {JOB_COLUMNS} FROM {JOB_TABLES} WHERE j.id = ANY(%s)"""

# The newest job of an object's name, by import_job_object.
BY_NAME = """
SELECT id FROM "ProductImportJob" WHERE namespace = %s AND "objectName" = %s ORDER BY "createdAt" DESC LIMIT 1
"""

# Claims are few (workers x concurrency); those of other namespaces are left out afterwards.
RUNNING = """
SELECT k.job_id FROM imports.claim k CROSS JOIN LATERAL (
    SELECT FROM "ProductImportJob" j
    WHERE j.id = k.job_id AND coalesce(j.namespace, %(namespace)s) = %(namespace)s AND j."parentId" IS NULL
    LIMIT 1) job
ORDER BY k.claimed_at DESC LIMIT %(limit)s
"""
# The newest rows of a state, by import_job_shown.
NEWEST = """
SELECT id FROM (
    SELECT id, namespace, "createdAt" FROM "ProductImportJob"
    WHERE status = %(state)s AND "parentId" IS NULL ORDER BY "createdAt" DESC LIMIT %(examined)s) newest
WHERE coalesce(namespace, %(namespace)s) = %(namespace)s ORDER BY "createdAt" DESC LIMIT %(limit)s
"""
# The rows that wait longest, by import_job_shown; those that are held back come last.
WAITING = """
SELECT id FROM (
    SELECT id, namespace, suspended, coalesce("queuedAt", "createdAt") AS queued_at FROM "ProductImportJob"
    WHERE status = 'PENDING' AND "parentId" IS NULL ORDER BY "createdAt" LIMIT %(examined)s) oldest
WHERE coalesce(namespace, %(namespace)s) = %(namespace)s
ORDER BY suspended IS TRUE, queued_at, id LIMIT %(limit)s
"""

# Places of many waiting jobs at once: one pass over the due rows of a queue, up to the cap.
PLACES = """
SELECT id, place FROM (
    SELECT id, row_number() OVER (ORDER BY queued_at) - 1 AS place FROM (
        SELECT id, coalesce("queuedAt", "createdAt") AS queued_at FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
          AND coalesce("notBefore", timestamptz '-infinity') <= now()
        LIMIT %(cap)s) due) ranked
WHERE id = ANY(%(ids)s)
"""

# By keyset over index item_error_job.
ITEM_ERRORS = """
SELECT external_id, stage, url, reason, message, created_at, {document} FROM imports.item_error
WHERE job_id = %(job)s AND (external_id, stage, url) > (%(external_id)s, %(stage)s, %(url)s)
ORDER BY external_id, stage, url LIMIT %(limit)s
"""

# Workers are few; what they hold is counted from the claims.
WORKERS = """
SELECT w.worker_id, w.queue, w.pod_name, w.concurrency, w.state, w.started_at, w.seen_at,
    (SELECT count(*) FROM imports.claim k WHERE k.worker_id = w.worker_id)
FROM imports.worker w WHERE w.namespace = %s AND w.seen_at > clock_timestamp() - interval '1 minute'
ORDER BY w.started_at, w.worker_id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a list goes on: after the job of this time and id."""

    created_at: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, newest first; `next` is None when there are no more."""

    jobs: list[JobRow]
    next: Position | None


@dataclass(frozen=True, slots=True)
class ItemPosition:
    """Where a list of failed items goes on."""

    external_id: str = ""
    stage: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker process that was seen within the last minute."""

    worker_id: str
    queue: str
    pod: str
    concurrency: int
    state: str
    started_at: datetime
    seen_at: datetime
    jobs: int


class JobViews:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        *,
        namespace: str,
        states: Sequence[JobState],
        company: str | None,
        limit: int,
        after: Position | None,
    ) -> JobPage:
        """The next jobs of a namespace, and of none, in these states."""
        wanted_states, examined = [state.value for state in states], max(EXAMINED, limit + 1)
        wanted = {
            "states": wanted_states,
            "company": company,
            "before": after.created_at if after else datetime.max.replace(tzinfo=UTC),
            "before_id": after.job_id if after else "",
            "examined": examined,
        }
        statement = BY_STATE if company is None else BY_COMPANY
        async with self._database.connection() as connection:
            looked = await (await connection.execute(statement, wanted)).fetchall()
            fitting = [
                Position(created_at, job_id)
                for job_id, created_at, found_in, state in looked
                if (found_in or namespace) == namespace and state in wanted_states
            ]
            shown = fitting[:limit]
            rows = await (await connection.execute(ROWS, ([place.job_id for place in shown],))).fetchall()
        jobs = {job.id: job for job in map(job_from_row, rows)}
        further: Position | None = None
        if len(fitting) > limit:
            further = shown[-1]
        elif len(looked) == examined:
            further = Position(looked[-1][1], looked[-1][0])
        return JobPage([jobs[place.job_id] for place in shown if place.job_id in jobs], further)

    async def newest_named(self, namespace: str, name: str) -> str | None:
        """Id of the newest job of an object's name; the object may be gone."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(BY_NAME, (namespace, name))).fetchone()
            return row[0] if row else None

    async def running(self, namespace: str, *, limit: int) -> list[str]:
        """Ids of claimed jobs, the last claimed first."""
        return await self._ids(RUNNING, {"namespace": namespace, "limit": limit})

    async def newest(self, namespace: str, state: JobState, *, limit: int) -> list[str]:
        """Ids of the jobs in a state that were submitted last."""
        values = {"namespace": namespace, "state": state.value, "limit": limit, "examined": EXAMINED}
        return await self._ids(NEWEST, values)

    async def waiting(self, namespace: str, *, limit: int) -> list[str]:
        """Ids of waiting jobs, those first that have waited longest."""
        return await self._ids(WAITING, {"namespace": namespace, "limit": limit, "examined": EXAMINED})

    async def places(self, queue: str, job_ids: Sequence[str]) -> dict[str, int]:
        """How many due jobs of the queue are older than each of these; those beyond DEPTH_CAP are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                PLACES, {"queue": queue, "cap": DEPTH_CAP, "ids": list(job_ids)}
            )
            return {row[0]: int(row[1]) for row in await cursor.fetchall()}

    async def item_errors(
        self, job_id: str, *, limit: int, after: ItemPosition, documents: bool
    ) -> list[ItemFailure]:
        """A job's failed items by external id; with their source documents of up to 64 KiB each if asked."""
        statement = ITEM_ERRORS.format(document="document" if documents else "NULL")
        values = {
            "job": job_id,
            "external_id": after.external_id,
            "stage": after.stage,
            "url": after.url,
            "limit": limit,
        }
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, values)
            return [ItemFailure(*row) for row in await cursor.fetchall()]

    async def workers(self, namespace: str, *, limit: int) -> list[WorkerView]:
        """Workers that are there, the oldest first."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(WORKERS, (namespace, limit))
            return [WorkerView(*row) for row in await cursor.fetchall()]

    async def _ids(self, statement: str, values: Mapping[str, Any]) -> list[str]:
        async with self._database.connection() as connection:
            return [row[0] for row in await (await connection.execute(statement, values)).fetchall()]
