"""Jobs as rows: recording, reading, cancelling, and the depth of the queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.leftovers import forget_seen
from import_core.adapters.postgres.notifications import (
    CONTROL_CHANNEL,
    LIVE_CHANNEL,
    PROGRESS_CHANNEL,
    notify_in,
)
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.rows import JOB_COLUMNS, JOB_TABLES, job_from_row
from import_core.adapters.postgres.step_control import (
    cancel_steps,
    count_steps,
    resume_steps,
    suspend_steps,
)
from import_core.domain.jobs import JobRequest, JobRow
from import_core.domain.steps import asked_steps

DEPTH_CAP = 20_001
"""Depth is counted up to here: twice the overload threshold, so every decision sees what it needs."""
BATCH = 500

# A recorded object takes over a later generation of its spec while the job is not running; a finished
# job keeps the spec it ran with. The id is the object's uid: recording twice is harmless. A row that no
# transaction has replaced or locked (xmax 0) is new. Here as in every statement that waits for locks of
# several rows, they are taken in the order of the ids, so that no two wait for each other.
RECORD = """
INSERT INTO "ProductImportJob" AS j
    (id, "companyId", provider, status, namespace, "objectName", "objectUid", generation, spec, queue, suspended,
     attempt, deaths, dispatch, "retryToken", "itemsRetryToken", "correlationId", "createdAt", "updatedAt")
SELECT id, company, provider, 'PENDING', namespace, object_name, object_uid, generation, spec, queue, suspended,
    0, 0, 0, retry, retry_items, correlation, now(), now()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[], %s::jsonb[],
            %s::text[], %s::boolean[], %s::text[], %s::text[], %s::text[])
    AS t (id, company, provider, namespace, object_name, object_uid, generation, spec, queue, suspended,
          retry, retry_items, correlation)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    spec = excluded.spec, generation = excluded.generation, suspended = excluded.suspended, "updatedAt" = now(),
    "dispatchedAt" = CASE WHEN excluded.suspended THEN NULL ELSE j."dispatchedAt" END,
    dispatch = CASE WHEN excluded.suspended THEN coalesce(j.dispatch, 0) + 1 ELSE j.dispatch END
WHERE j.status = 'PENDING' AND coalesce(j.generation, 0) < excluded.generation
RETURNING id, xmax = 0
"""

# What RECORD would leave as it is: to find that out it locks the row, which writes to it.
KNOWN = """
SELECT t.id FROM unnest(%s::text[], %s::bigint[]) AS t (id, generation)
JOIN "ProductImportJob" j ON j.id = t.id AND coalesce(j.generation, 0) >= t.generation AND j.suspended IS NOT TRUE
"""

# Ending a job's claim comes before the change of its row: locks are taken in the order claim, job, as
# everywhere. The worker finds its claim gone at its next write or renewal. Done once more after the job is
# locked: a worker that claimed it between the two statements would else go on with a job that was taken away.
END_CLAIMS = """
DELETE FROM imports.claim WHERE job_id = ANY(ARRAY(
    SELECT job_id FROM imports.claim WHERE job_id = ANY(%s) ORDER BY job_id FOR UPDATE))
RETURNING job_id
"""
# A running job that was suspended goes back with its checkpoint; so does one that has just gone back itself.
SUSPEND_JOBS = """
WITH held AS (
    SELECT j.id FROM "ProductImportJob" j
    JOIN unnest(%s::text[], %s::bigint[]) AS t (id, generation) ON t.id = j.id
    WHERE j.status = 'IN_PROGRESS'
       OR (j.status = 'PENDING' AND j.suspended IS NOT TRUE AND coalesce(j.generation, 0) <= t.generation)
    ORDER BY j.id FOR UPDATE OF j)
UPDATE "ProductImportJob" j
SET status = 'PENDING', suspended = true, dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL,
    "updatedAt" = now()
FROM held WHERE j.id = held.id
"""

READ = f"SELECT {JOB_COLUMNS} FROM {JOB_TABLES} WHERE j.id = ANY(%s)"

CANCEL_JOBS = """
UPDATE "ProductImportJob"
SET status = 'CANCELLED', "completedAt" = now(), "updatedAt" = now(), "waitingReason" = NULL,
    "errorMessage" = %s, dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('PENDING', 'IN_PROGRESS')
    ORDER BY id FOR UPDATE))
RETURNING id
"""

# Due PENDING rows by index import_job_due, up to the cap; claimed jobs are few (workers x concurrency).
DEPTH = """
SELECT q.queue,
    (SELECT count(*) FROM (
        SELECT FROM "ProductImportJob"
        WHERE coalesce(queue, 'product-imports') = q.queue AND status = 'PENDING' AND suspended IS NOT TRUE
          AND coalesce("notBefore", timestamptz '-infinity') <= now()
        LIMIT %s) due),
    (SELECT count(*) FROM imports.claim k WHERE k.queue = q.queue),
    (SELECT count(DISTINCT worker_id) FROM imports.claim k WHERE k.queue = q.queue)
FROM unnest(%s::text[]) AS q (queue)
"""

# The place of a waiting job: due rows of the same queue that are older. Tiers and fairness move it, so it
# is an estimate and says so where it is shown.
PLACE = """
SELECT count(*) FROM (
    SELECT FROM "ProductImportJob" o
    WHERE coalesce(o.queue, 'product-imports') = %s AND o.status = 'PENDING' AND o.suspended IS NOT TRUE
      AND coalesce(o."notBefore", timestamptz '-infinity') <= now()
      AND coalesce(o."queuedAt", o."createdAt") < %s
    LIMIT %s) ahead
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much work a queue holds: `due` rows (capped at DEPTH_CAP), `claimed` jobs, `busy_workers`."""

    due: int
    claimed: int
    busy_workers: int

    @property
    def total(self) -> int:
        """The one definition of depth, for scaling, health and admission (docs/reference/lifecycle.md)."""
        return self.due + self.claimed


@dataclass(frozen=True, slots=True)
class Recorded:
    """`new`: ids that had no row.

    `steps_left`: jobs that may have more step jobs than went with them, and whether those are to be suspended: what
    `StepControl.hold` is for.
    """

    new: Sequence[str]
    steps_left: Mapping[str, bool]


class JobStore:
    """Jobs in PostgreSQL. Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, requests: Sequence[JobRequest]) -> Recorded:
        """Record jobs, or newer generations of waiting ones; at most 500 a transaction; idempotent.

        Running ones that are suspended are taken from their workers in the same transaction, with as many of their step
        jobs as it may take. After an error nobody knows which of more than 500 were new.
        """
        new: list[str] = []
        steps_left: dict[str, bool] = {}
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            held = {request.id: request.generation for request in batch if request.suspended}
            free = [request.id for request in batch if not request.suspended]
            more_held = False
            async with self._database.transaction() as connection:
                taken = await _end_claims(connection, list(held))
                recorded = await record_batch(connection, batch)
                if held:
                    await connection.execute(SUSPEND_JOBS, (list(held), list(held.values())))
                    more_held = await suspend_steps(connection, list(held))
                more_free = await resume_steps(connection, free)
                taken += await _end_claims(connection, list(held))
                await notify_in(connection, CONTROL_CHANNEL, taken)
                await notify_in(connection, LIVE_CHANNEL, [*recorded, *held])
            new += recorded
            if more_held:
                steps_left |= dict.fromkeys(held, True)
            if more_free:
                steps_left |= dict.fromkeys(free, False)
        return Recorded(new, steps_left)

    async def unrecorded(self, requests: Sequence[JobRequest]) -> list[JobRequest]:
        """Those of at most 500 jobs that have to be recorded; the rows of the others say the same already.

        One that is suspended, or asks for steps, has more than its row and is never left out.
        """
        plain = [each for each in requests if not each.suspended and not asked_steps(each.spec)]
        if not plain:
            return list(requests)
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                KNOWN, ([each.id for each in plain], [each.generation for each in plain])
            )
            known = {row[0] for row in await cursor.fetchall()}
        return [each for each in requests if each.id not in known]

    async def read(self, job_ids: Sequence[str]) -> dict[str, JobRow]:
        """Rows by id, at most 500 a statement; ids without a row are left out."""
        found: dict[str, JobRow] = {}
        for start in range(0, len(job_ids), BATCH):
            async with self._database.connection() as connection:
                cursor = await connection.execute(READ, (list(job_ids[start : start + BATCH]),))
                for row in await cursor.fetchall():
                    job = job_from_row(row)
                    found[job.id] = job
        return found

    async def with_steps(self, jobs: Sequence[JobRow]) -> list[JobRow]:
        """The same, with their products by step counted where they ask for steps; each costs as many index entries."""
        asking = [job.id for job in jobs if asked_steps(job.spec)]
        if not asking:
            return list(jobs)
        async with self._database.connection() as connection:
            counts = await count_steps(connection, asking)
        return [replace(job, steps=counts.get(job.id, {})) for job in jobs]

    async def cancel(self, job_ids: Sequence[str], *, message: str, tell: bool = False) -> list[str]:
        """Cancel waiting and running jobs, with their steps; returns the ids of those that had any work left.

        `tell`: the operator, which then writes it into the objects' status; it knows of its own doing.
        """
        cancelled: list[str] = []
        for start in range(0, len(job_ids), BATCH):
            batch = list(job_ids[start : start + BATCH])
            more = True
            while more:
                async with self._database.transaction() as connection:
                    done, more = await _cancel(connection, batch, message=message)
                    if tell:
                        await notify_in(connection, PROGRESS_CHANNEL, done)
                cancelled += [job_id for job_id in done if job_id not in cancelled]
        return cancelled

    async def depth(self, queues: Sequence[str], *, cap: int = DEPTH_CAP) -> dict[str, Depth]:
        """Depth of each queue, one statement for all; a queue without rows has depth zero.

        Due rows are counted up to `cap`.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(DEPTH, (cap, list(queues)))
            return {
                row[0]: Depth(due=row[1], claimed=row[2], busy_workers=row[3])
                for row in await cursor.fetchall()
            }

    async def place(self, job: JobRow, *, cap: int = DEPTH_CAP) -> int:
        """About how many due jobs of the queue are older than `job`, up to `cap`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(PLACE, (job.queue, job.queued_at, cap))
            row = await cursor.fetchone()
            return int(row[0]) if row else 0


async def record_batch(connection: Connection, requests: Sequence[JobRequest]) -> list[str]:
    """Record at most BATCH jobs on a connection, which may be inside a transaction; returns the new ones' ids."""
    cursor = await connection.execute(
        RECORD,
        (
            [r.id for r in requests],
            [r.company_id for r in requests],
            [r.provider for r in requests],
            [r.namespace for r in requests],
            [r.origin.name if r.origin else None for r in requests],
            [r.origin.uid if r.origin else None for r in requests],
            [r.generation for r in requests],
            [Jsonb(r.spec) for r in requests],
            [r.queue for r in requests],
            [r.suspended for r in requests],
            [r.retry_token for r in requests],
            [r.items_retry_token for r in requests],
            [r.correlation_id for r in requests],
        ),
    )
    return [job_id for job_id, new in await cursor.fetchall() if new]


async def cancel_batch(connection: Connection, job_ids: Sequence[str], *, message: str) -> list[str]:
    """Cancel at most BATCH jobs on a connection inside a transaction; returns those that had any work left.

    Of their steps as many go as one transaction may cancel; the rest follows with the next comparison.
    """
    return (await _cancel(connection, job_ids, message=message))[0]


async def _cancel(connection: Connection, job_ids: Sequence[str], *, message: str) -> tuple[list[str], bool]:
    """Cancel jobs and their steps; returns those that had any work left, and whether more steps may be left."""
    batch = list(job_ids)
    taken = await _end_claims(connection, batch)
    cursor = await connection.execute(CANCEL_JOBS, (message, batch))
    cancelled = [row[0] for row in await cursor.fetchall()]
    taken += await _end_claims(connection, batch)
    await forget_seen(connection, cancelled)
    steps = await cancel_steps(connection, batch, message=message)
    await notify_in(connection, CONTROL_CHANNEL, taken)
    await notify_in(connection, LIVE_CHANNEL, cancelled)
    return [*cancelled, *sorted(steps.parents.difference(cancelled))], steps.more


async def _end_claims(connection: Connection, job_ids: list[str]) -> list[str]:
    """End claims of workers that still run; returns the jobs that they must be told of."""
    if not job_ids:
        return []
    cursor = await connection.execute(END_CLAIMS, (job_ids,))
    return [row[0] for row in await cursor.fetchall()]
