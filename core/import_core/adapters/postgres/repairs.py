"""Repairs of rows and claims that disagree with each other, and the end of claims whose jobs have stalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from import_core.adapters.postgres.leftovers import forget_seen
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.step_control import settle_batches
from import_core.domain.failures import DEATHS_UNTIL_SUSPECTED, Fail, Retry
from import_core.domain.jobs import Message
from import_core.domain.repairs import StalledClaim

LIMIT = 500

# The platform may have ended a job by its own SQL, or deleted its row. Claims are few, and so are the rows
# of the partial index import_job_in_progress, which this anti-join reads; neither is read in full by chance.
CLAIMS_WITHOUT_JOB = """
DELETE FROM imports.claim WHERE job_id IN (
    SELECT k.job_id FROM imports.claim k
    WHERE NOT EXISTS (
        SELECT FROM "ProductImportJob" j WHERE j.id = k.job_id AND j.status = 'IN_PROGRESS')
    ORDER BY k.job_id LIMIT %s FOR UPDATE OF k SKIP LOCKED)
RETURNING job_id
"""
# Every write of ours makes or ends a claim together with the state, so a row without one was written by hand.
# One that was never handed over is none of ours: whatever imported before this may still work on it. In no order: a
# row that is locked is passed over, so nobody waits, and a batch reads no more than it frees.
JOBS_WITHOUT_CLAIM = """
UPDATE "ProductImportJob" SET status = 'PENDING', "notBefore" = NULL, "updatedAt" = now(),
    dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = NULL
WHERE status = 'IN_PROGRESS' AND id = ANY(ARRAY(
    SELECT j.id FROM "ProductImportJob" j
    WHERE j.status = 'IN_PROGRESS' AND j.dispatch > 0
      AND NOT EXISTS (SELECT FROM imports.claim k WHERE k.job_id = j.id)
    LIMIT %s FOR UPDATE OF j SKIP LOCKED))
RETURNING id
"""
# A message is of use while its row waits under the same hand-over number.
USEFUL = """
SELECT t.id, t.dispatch FROM unnest(%s::text[], %s::integer[]) AS t (id, dispatch)
JOIN "ProductImportJob" j ON j.id = t.id AND j.dispatch = t.dispatch
WHERE j.status = 'PENDING' AND j."dispatchedAt" IS NOT NULL AND j.suspended IS NOT TRUE
"""
QUIET = """
clock_timestamp() - greatest(k.claimed_at, coalesce(c.updated_at, k.claimed_at)) >= %(quiet)s * interval '1 second'
"""
# A suspected job that is not alone yet waits for its worker's other jobs: it has no work to show.
STALLED = f"""
SELECT k.job_id, k.claim_id, k.worker_id, coalesce(j.attempt, 0),
    extract(epoch FROM clock_timestamp() - greatest(k.claimed_at, coalesce(c.updated_at, k.claimed_at)))::float8,
    extract(epoch FROM clock_timestamp() - coalesce(j."startedAt", k.claimed_at))::float8, j."parentId" IS NOT NULL
FROM imports.claim k
JOIN "ProductImportJob" j ON j.id = k.job_id AND j.status = 'IN_PROGRESS'
LEFT JOIN imports.checkpoint c ON c.job_id = k.job_id
WHERE {QUIET} AND (k.suspected OR coalesce(j.deaths, 0) < {DEATHS_UNTIL_SUSPECTED})
ORDER BY k.job_id LIMIT %(limit)s
"""
# Two statements: the second sees what was committed while the first waited for nobody. A claim that is
# locked right now commits a page, which is progress.
LOCK_CLAIMS = (
    "SELECT job_id FROM imports.claim WHERE claim_id = ANY(%s) ORDER BY job_id FOR UPDATE SKIP LOCKED"
)
END_STALLED = f"""
WITH ended AS (
    DELETE FROM imports.claim WHERE (job_id, claim_id) IN (
        SELECT k.job_id, k.claim_id FROM imports.claim k LEFT JOIN imports.checkpoint c ON c.job_id = k.job_id
        WHERE k.job_id = ANY(%(locked)s) AND k.claim_id = ANY(%(claims)s) AND {QUIET})
    RETURNING job_id)
UPDATE "ProductImportJob" j SET
    "updatedAt" = now(), dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL,
    status = CASE WHEN t.failed THEN 'FAILED' ELSE 'PENDING' END,
    "completedAt" = CASE WHEN t.failed THEN now() END,
    "itemsOnly" = CASE WHEN NOT t.failed THEN j."itemsOnly" END, "failureReason" = t.reason, "errorMessage" = t.message,
    attempt = coalesce(j.attempt, 0) + t.tries, "waitingReason" = t.waiting,
    "notBefore" = CASE WHEN NOT t.failed THEN clock_timestamp() + t.delay * interval '1 second' END
FROM ended JOIN unnest(%(jobs)s::text[], %(failed)s::boolean[], %(reasons)s::text[], %(messages)s::text[],
    %(tries)s::integer[], %(waiting)s::text[], %(delays)s::float8[])
    AS t (id, failed, reason, message, tries, waiting, delay) ON t.id = ended.job_id
WHERE j.id = ended.job_id AND j.status = 'IN_PROGRESS' RETURNING j.id
"""


class RepairStore:
    """Repairs in PostgreSQL. Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end_claims_without_job(self, *, limit: int = LIMIT) -> list[str]:
        """End claims whose jobs are not in progress, and tell their workers; returns at most `limit` ids."""
        return await self._repair(CLAIMS_WITHOUT_JOB, limit, tell_workers=True)

    async def free_jobs_without_claim(self, *, limit: int = LIMIT) -> list[str]:
        """Make rows in progress that no worker holds due again; returns at most `limit` ids."""
        return await self._repair(JOBS_WITHOUT_CLAIM, limit, tell_workers=False)

    async def _repair(self, statement: str, limit: int, *, tell_workers: bool) -> list[str]:
        async with self._database.transaction() as connection:
            cursor = await connection.execute(statement, (limit,))
            found = [row[0] for row in await cursor.fetchall()]
            if found and tell_workers:
                await notify_in(connection, CONTROL_CHANNEL, found)
        return found

    async def outdated(self, messages: Sequence[Message]) -> list[Message]:
        """Those of the messages that no worker may act on: the row has moved on, or there is none."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                USEFUL, ([m.job_id for m in messages], [m.dispatch for m in messages])
            )
            useful = {Message(row[0], row[1]) for row in await cursor.fetchall()}
        return [message for message in messages if message not in useful]

    async def stalled(self, *, quiet_seconds: float, limit: int = LIMIT) -> list[StalledClaim]:
        """Claimed jobs without a checkpoint for `quiet_seconds` since their claim or their last one."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(STALLED, {"quiet": quiet_seconds, "limit": limit})
            return [StalledClaim(row[0], str(row[1]), *row[2:]) for row in await cursor.fetchall()]

    async def end_stalled(
        self, decisions: Mapping[StalledClaim, Fail | Retry], *, quiet_seconds: float
    ) -> set[str]:
        """End these claims as decided and tell their workers; returns the ids of the jobs that were.

        One that made a checkpoint meanwhile, or is about to, is left alone.
        """
        claims = [UUID(stalled.claim_id) for stalled in decisions]
        async with self._database.transaction(timeout_seconds=10) as connection:
            cursor = await connection.execute(LOCK_CLAIMS, (claims,))
            locked = [row[0] for row in await cursor.fetchall()]
            parameters = {"quiet": quiet_seconds, "locked": locked, "claims": claims, **_columns(decisions)}
            cursor = await connection.execute(END_STALLED, parameters)
            ended = [row[0] for row in await cursor.fetchall()]
            failed = {found.job_id for found, decision in decisions.items() if isinstance(decision, Fail)}
            failed.intersection_update(ended)
            await forget_seen(connection, sorted(failed))
            await settle_batches(connection, sorted(failed))
            await notify_in(connection, CONTROL_CHANNEL, ended)
        return set(ended)


def _columns(decisions: Mapping[StalledClaim, Fail | Retry]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        name: [] for name in ("jobs", "failed", "reasons", "messages", "tries", "waiting", "delays")
    }
    for stalled, decision in decisions.items():
        row = (
            (stalled.job_id, True, decision.reason, decision.message, 0, None, 0.0)
            if isinstance(decision, Fail)
            else (
                *(stalled.job_id, False, None, decision.message),
                *(decision.tries, decision.waiting_reason, decision.delay_seconds),
            )
        )
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return columns
