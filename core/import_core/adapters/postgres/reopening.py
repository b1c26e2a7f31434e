"""Finished jobs that run again, because a person asked for it: each request is honoured once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import psycopg

from import_core.adapters.postgres.jobs import record_batch
from import_core.adapters.postgres.leftovers import delete_leftovers
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.errors import DatabaseUnavailableError, RemovalsNotConfirmedError
from import_core.domain.item_errors import DISCARDED_STAGE
from import_core.domain.jobs import JobRequest, JobState
from import_core.domain.reopening import HonouredRequests
from import_core.domain.steps import StepKind

BATCH = 500

Value = TypeVar("Value")
Step = Callable[[Connection, Mapping[str, Value]], Awaitable[tuple[list[str], bool]]]
"""Changes rows of a batch in a transaction: the ids that changed, and whether another step is needed."""

_STEPS = ", ".join(f"'{kind.value}'" for kind in StepKind)
# A few index entries for each job tell of open steps, an EXISTS may be planned as a hash of all of them: its batches,
# and its products in batches of earlier imports (index product_step_job, whose key is here in full).
HONOURED = f"""
SELECT id, status, coalesce(generation, 0), "failureReason", "retryToken", "itemsRetryToken", "confirmedRemovals",
    coalesce((SELECT true FROM "ProductImportJob" s WHERE s."parentId" = j.id AND s."parentId" IS NOT NULL
        AND s.status IN ('PENDING', 'IN_PROGRESS') LIMIT 1),
        (SELECT true FROM imports.product_step o WHERE o.job_id = j.id AND o.step IN ({_STEPS})
        AND o.state IN ('Due', 'Waiting') LIMIT 1), false)
FROM "ProductImportJob" j WHERE id = ANY(%s)
"""

# Only a finished job is reopened, and only for a value that it has not been reopened for: asking twice, or by
# two operators at once, is harmless. The first start goes, because the time limit counts from it, and its
# age in the queue, which lets it rise, counts from now. Rows are locked in the order of their ids, so that two
# of these can't wait for each other.
REOPEN = """
WITH asked AS (
    SELECT j.id, t.value FROM "ProductImportJob" j
    JOIN unnest(%s::text[], %s::{type}[]) AS t (id, value) USING (id)
    WHERE {due} ORDER BY j.id FOR UPDATE OF j)
UPDATE "ProductImportJob" j SET
    status = 'PENDING', attempt = 0, deaths = 0, dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL,
    "notBefore" = NULL, "startedAt" = NULL, "completedAt" = NULL, "failureReason" = NULL, "errorMessage" = NULL,
    "waitingReason" = NULL, "queuedAt" = now(), "updatedAt" = now(), {changes}
FROM asked t WHERE j.id = t.id
RETURNING j.id
"""
# A confirmation is for the removals that one run has found: a run from the start asks again. The negative
# generation keeps the old annotation, which still stands, from answering for it.
RETRY_DUE = """j.status IN ('COMPLETED', 'FAILED') AND j."retryToken" IS DISTINCT FROM t.value"""
RETRY = REOPEN.format(
    type="text",
    due=f"""{RETRY_DUE}
        AND NOT EXISTS (SELECT FROM imports.checkpoint c WHERE c.job_id = j.id)
        AND NOT EXISTS (SELECT FROM imports.item_error e WHERE e.job_id = j.id)
        AND NOT EXISTS (SELECT FROM imports.seen_product s WHERE s.job_id = j.id)""",
    changes=""""retryToken" = t.value, "itemsOnly" = NULL, "confirmedRemovals" = -abs(j."confirmedRemovals")""",
)
# While its row is locked and finished, nobody adds to what a job has left behind.
LOCK_FOR_RETRY = f"""
SELECT j.id FROM "ProductImportJob" j
JOIN unnest(%s::text[], %s::text[]) AS t (id, value) USING (id)
WHERE {RETRY_DUE} ORDER BY j.id FOR UPDATE OF j
"""
_FAILED_ITEMS = f"""(
    SELECT FROM imports.item_error e WHERE e.job_id = j.id AND e.stage <> '{DISCARDED_STAGE}')"""
RETRY_ITEMS = REOPEN.format(
    type="text",
    due=f"""j.status IN ('COMPLETED', 'FAILED') AND j."itemsRetryToken" IS DISTINCT FROM t.value
        AND EXISTS {_FAILED_ITEMS}""",
    changes=""""itemsRetryToken" = t.value, "itemsOnly" = true""",
)
# A request that found nothing to do is honoured too, or it would come true after a later run. Looked at once
# more: a run may have ended, with failed items, since the statement before.
NOTHING_TO_RETRY = f"""
UPDATE "ProductImportJob" j SET "itemsRetryToken" = t.value, "updatedAt" = now()
FROM unnest(%s::text[], %s::text[]) AS t (id, value)
WHERE j.id = t.id AND j.status IN ('COMPLETED', 'FAILED') AND j."itemsRetryToken" IS DISTINCT FROM t.value
    AND NOT EXISTS {_FAILED_ITEMS}
"""
CONFIRM_REMOVALS = REOPEN.format(
    type="bigint",
    due=f"""j.status = 'FAILED' AND j."failureReason" = '{RemovalsNotConfirmedError.reason}'
        AND coalesce(j.generation, 0) = t.value AND abs(j."confirmedRemovals") IS DISTINCT FROM t.value""",
    changes=""""confirmedRemovals" = t.value, "itemsOnly" = NULL""",
)


class ReopeningStore:
    """Reopens finished rows. Every method raises DatabaseUnavailableError when the database is away.

    `check` is called before each commit, and undoes it by raising: who has stopped to lead without knowing
    it yet would honour an old value once more.
    """

    def __init__(self, database: Database, *, check: Callable[[], None] | None = None) -> None:
        self._database = database
        self._check = check

    async def honoured(self, job_ids: Sequence[str]) -> dict[str, HonouredRequests]:
        """By id, how jobs stand and which requests they have honoured; ids without a row are left out."""
        found: dict[str, HonouredRequests] = {}
        for start in range(0, len(job_ids), BATCH):
            async with self._database.connection() as connection:
                cursor = await connection.execute(HONOURED, (list(job_ids[start : start + BATCH]),))
                for job_id, state, *rest in await cursor.fetchall():
                    found[job_id] = HonouredRequests(JobState(state), *rest)
        return found

    async def retry(
        self, tokens: Mapping[str, str], *, requests: Mapping[str, JobRequest] | None = None
    ) -> list[str]:
        """Have jobs run again from the start, by id and token; returns the ids that will.

        Their checkpoints, item errors and seen products go first, a bounded number of rows in each
        transaction; a job runs again once all of its own are gone. `requests`: the jobs' present specs, which
        replace older ones in the same transaction.
        """

        async def step(connection: Connection, batch: Mapping[str, str]) -> tuple[list[str], bool]:
            cursor = await connection.execute(LOCK_FOR_RETRY, (list(batch), list(batch.values())))
            due = [row[0] for row in await cursor.fetchall()]
            clean = not due or await delete_leftovers(connection, due)
            reopened = await _reopen(connection, RETRY, batch)
            await _renew_specs(connection, reopened, requests)
            return reopened, not clean

        return await self._in_batches(tokens, step)

    async def retry_items(
        self, tokens: Mapping[str, str], *, requests: Mapping[str, JobRequest] | None = None
    ) -> list[str]:
        """Have jobs import their failed items again, by id and token; returns the ids that will.

        A job without failed items stays finished, and the token counts as honoured. `requests`: see `retry`.
        """

        async def step(connection: Connection, batch: Mapping[str, str]) -> tuple[list[str], bool]:
            reopened = await _reopen(connection, RETRY_ITEMS, batch)
            await connection.execute(NOTHING_TO_RETRY, (list(batch), list(batch.values())))
            await _renew_specs(connection, reopened, requests)
            return reopened, False

        return await self._in_batches(tokens, step)

    async def confirm_removals(self, generations: Mapping[str, int]) -> list[str]:
        """Have jobs that stopped and asked archive what is gone, by id and the generation that was confirmed.

        Returns the ids that will. They keep their checkpoint.
        """

        async def step(connection: Connection, batch: Mapping[str, int]) -> tuple[list[str], bool]:
            return await _reopen(connection, CONFIRM_REMOVALS, batch), False

        return await self._in_batches(generations, step)

    async def _in_batches(self, values: Mapping[str, Value], step: Step[Value]) -> list[str]:
        """Take steps with each batch, a transaction each, until it is done; returns the ids that changed.

        A batch that takes longer than a statement may is halved, so that one job (a locked row, say) does not
        keep the others from running; the error of one that is alone is raised at the end.
        """
        changed: list[str] = []
        waiting = _batches(values)
        failure: DatabaseUnavailableError | None = None
        while waiting:
            batch = waiting.pop()
            try:
                async with self._database.transaction() as connection:
                    found, more = await step(connection, batch)
                    if self._check is not None:
                        self._check()
            except DatabaseUnavailableError as error:
                if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                    raise
                if len(batch) > 1:
                    waiting += _halves(batch)
                else:
                    failure = error
                continue
            changed += found
            if more:
                waiting.append(batch)
        if failure is not None:
            raise failure
        return changed


def _batches(values: Mapping[str, Value]) -> list[dict[str, Value]]:
    items = list(values.items())
    return [dict(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]


def _halves(batch: Mapping[str, Value]) -> list[dict[str, Value]]:
    items, middle = list(batch.items()), len(batch) // 2
    return [dict(items[:middle]), dict(items[middle:])]


async def _reopen(connection: Connection, statement: str, values: Mapping[str, object]) -> list[str]:
    cursor = await connection.execute(statement, (list(values), list(values.values())))
    return [row[0] for row in await cursor.fetchall()]


async def _renew_specs(
    connection: Connection, reopened: Sequence[str], requests: Mapping[str, JobRequest] | None
) -> None:
    newer = [requests[job_id] for job_id in reopened if job_id in requests] if requests else []
    if newer:
        await record_batch(connection, newer)
