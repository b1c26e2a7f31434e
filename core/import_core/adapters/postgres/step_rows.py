"""Rows of imports.product_step, and the step jobs that stand for batches of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from uuid import uuid4

from import_core.adapters.postgres.pool import Connection
from import_core.domain.jobs import WaitingReason
from import_core.domain.steps import BATCH_SIZES, KnownStep, StepKind, StepState, in_batches

# A batch whose job has ended or is suspended holds no row any more, whatever the row says: who asks for such a row gets
# it in a batch of its own.
COLUMNS = """
    s.product_id, s.step, s.content_hash, s.state, s.attempts, s.retryable, s.halts,
    (SELECT b.id FROM "ProductImportJob" b WHERE b.id = s.batch_id AND b.status IN ('PENDING', 'IN_PROGRESS')
        AND b.suspended IS NOT TRUE),
    s.job_id, s.company_id, s.done_hash IS NOT NULL
"""
# In the order of the key, here as in every statement that locks several: so no two wait for each other in a circle.
LOCK_PRODUCTS = """
SELECT count(*) FROM (
    SELECT FROM imports.product_step WHERE product_id = ANY(%s) ORDER BY product_id, step FOR UPDATE) locked
"""
# In a statement of its own, which sees what was committed by those for whom the lock was waited.
READ_PRODUCTS = f"""
SELECT {COLUMNS} FROM imports.product_step s WHERE s.product_id = ANY(%s) ORDER BY s.product_id, s.step
"""
# What a step has kept of its last success stays until the next one.
WRITE_ROWS = """
INSERT INTO imports.product_step AS s
    (product_id, step, company_id, job_id, batch_id, content_hash, done_hash, state, attempts, retryable, halts,
     reason, message, result, done_at)
SELECT r.product_id, r.step, r.company_id, r.job_id, r.batch_id, r.content_hash, r.done_hash, r.state, r.attempts,
    r.retryable, r.halts, r.reason, r.message, r.result,
    CASE WHEN r.done_hash IS NOT NULL THEN clock_timestamp() END
FROM jsonb_to_recordset(%s::jsonb) AS r (
    product_id text, step text, company_id text, job_id text, batch_id text, content_hash text, done_hash text,
    state text, attempts integer, retryable boolean, halts boolean, reason text, message text, result jsonb)
ORDER BY r.product_id, r.step
ON CONFLICT (product_id, step) DO UPDATE SET
    job_id = excluded.job_id, batch_id = excluded.batch_id, content_hash = excluded.content_hash,
    done_hash = coalesce(excluded.done_hash, s.done_hash), state = excluded.state, attempts = excluded.attempts,
    retryable = excluded.retryable, halts = excluded.halts, reason = excluded.reason, message = excluded.message,
    result = coalesce(excluded.result, s.result), done_at = coalesce(excluded.done_at, s.done_at),
    updated_at = clock_timestamp()
"""
# A batch belongs to the ImportJob whose products it takes a step with, and is suspended as that is. A job without
# one is its own parent: a person has made it due again, and the ImportJob may be long gone.
INSERT_JOBS = """
INSERT INTO "ProductImportJob"
    (id, "companyId", provider, status, namespace, queue, suspended, attempt, deaths, dispatch, "parentId",
     "correlationId", "notBefore", "waitingReason", "createdAt", "updatedAt")
SELECT t.id, t.company, t.step, 'PENDING', p.namespace, t.step, t.owned AND p.suspended IS TRUE, 0, 0, 0,
    CASE WHEN t.owned THEN t.origin ELSE t.id END,
    coalesce(p."correlationId", p."objectUid", t.origin),
    CASE WHEN t.delay > 0 THEN clock_timestamp() + t.delay * interval '1 second' END,
    CASE WHEN t.delay > 0 THEN t.waiting END, now(), now()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::boolean[], %s::float8[], %s::text[])
    AS t (id, company, step, origin, owned, delay, waiting)
LEFT JOIN "ProductImportJob" p ON p.id = t.origin
"""


@dataclass(frozen=True, slots=True)
class StepWrite:
    """A row as it is to be; `done_hash` and `result` where the step was done just now."""

    row: KnownStep
    reason: str | None = None
    message: str | None = None
    done_hash: str | None = None
    result: Mapping[str, Any] | None = None
    delay_seconds: float = 0.0
    """Until the batch of a row that gets a new one is due."""
    waiting_reason: str = WaitingReason.RETRY
    """Why it waits so long; rows that wait for different reasons are in different batches."""


def known_from_row(row: Sequence[Any]) -> KnownStep:
    """Read a row of COLUMNS."""
    return KnownStep(
        product_id=row[0],
        kind=StepKind(row[1]),
        content_hash=row[2],
        state=StepState(row[3]),
        attempts=row[4],
        retryable=row[5],
        halts=row[6],
        batch_id=row[7],
        job_id=row[8],
        company_id=row[9],
        was_done=row[10],
    )


async def lock_rows(connection: Connection, product_ids: Sequence[str]) -> dict[str, list[KnownStep]]:
    """Lock all rows of these products; returns them by product."""
    ids = list(product_ids)
    await connection.execute(LOCK_PRODUCTS, (ids,))
    cursor = await connection.execute(READ_PRODUCTS, (ids,))
    found: dict[str, list[KnownStep]] = {}
    for row in await cursor.fetchall():
        known = known_from_row(row)
        found.setdefault(known.product_id, []).append(known)
    return found


async def write_rows(
    connection: Connection,
    writes: Sequence[StepWrite],
    *,
    owned: bool = True,
    sizes: Mapping[StepKind, int] = BATCH_SIZES,
) -> list[str]:
    """Write rows, those that are due and in no batch in new ones; returns the ids of the new jobs.

    `owned`: the new jobs belong to the rows' ImportJobs, and end with them.
    """
    if not writes:
        return []
    placed, jobs = _place(writes, sizes)
    if jobs:
        await connection.execute(
            INSERT_JOBS,
            (
                [job.id for job in jobs],
                [job.company_id for job in jobs],
                [job.kind.value for job in jobs],
                [job.origin for job in jobs],
                [owned and job.origin is not None for job in jobs],
                [job.delay_seconds for job in jobs],
                [job.waiting_reason for job in jobs],
            ),
        )
    await connection.execute(WRITE_ROWS, (json.dumps([_document(write) for write in placed]),))
    return [job.id for job in jobs]


@dataclass(frozen=True, slots=True)
class _NewJob:
    id: str
    company_id: str
    kind: StepKind
    origin: str | None
    delay_seconds: float
    waiting_reason: str


def _place(
    writes: Sequence[StepWrite], sizes: Mapping[StepKind, int]
) -> tuple[list[StepWrite], list[_NewJob]]:
    """Put rows that are due and in no batch into new ones."""
    placed = [write for write in writes if not _needs_batch(write.row)]
    waiting = sorted((write for write in writes if _needs_batch(write.row)), key=_group)
    jobs: list[_NewJob] = []
    for (company_id, origin, kind, reason), group in groupby(waiting, key=_group):
        by_row = {(write.row.product_id, write.row.kind): write for write in group}
        for batch in in_batches([write.row for write in by_row.values()], sizes[StepKind(kind)]):
            batched = [by_row[row.product_id, row.kind] for row in batch]
            delay = max(write.delay_seconds for write in batched)
            job = _NewJob(str(uuid4()), company_id, StepKind(kind), origin or None, delay, reason)
            jobs.append(job)
            placed += [replace(write, row=replace(write.row, batch_id=job.id)) for write in batched]
    return placed, jobs


def _needs_batch(row: KnownStep) -> bool:
    return row.state is StepState.DUE and row.batch_id is None


def _group(write: StepWrite) -> tuple[str, str, str, str]:
    return write.row.company_id, write.row.job_id or "", write.row.kind.value, write.waiting_reason


def _document(write: StepWrite) -> dict[str, Any]:
    row = write.row
    return {
        "product_id": row.product_id,
        "step": row.kind.value,
        "company_id": row.company_id,
        "job_id": row.job_id,
        "batch_id": row.batch_id,
        "content_hash": row.content_hash,
        "done_hash": write.done_hash,
        "state": row.state.value,
        "attempts": row.attempts,
        "retryable": row.retryable,
        "halts": row.halts,
        "reason": write.reason,
        "message": write.message,
        "result": write.result,
    }
