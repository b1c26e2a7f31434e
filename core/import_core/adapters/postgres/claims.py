"""Claims: a worker's lease on a job, and the ways it ends. Only PostgreSQL decides who works on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.leftovers import forget_seen
from import_core.adapters.postgres.notifications_outbox import note_items_of
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.rows import (
    CLAIMED_COLUMNS,
    cursor_from_json,
    job_from_row,
    progress_from_json,
    progress_to_json,
)
from import_core.adapters.postgres.step_control import settle_batches
from import_core.domain.errors import ClaimLostError, RemovalsNotConfirmedError
from import_core.domain.failures import DEATHS_UNTIL_SUSPECTED
from import_core.domain.jobs import (
    ITEMS_CHECKPOINT_VERSION,
    Checkpoint,
    Claim,
    JobState,
    Message,
    Progress,
    known_tier,
)

LEASE_SECONDS = 60.0
PAGE_TRANSACTION_SECONDS = 15.0

# One statement: a claim is worth one round trip. It needs the row's state and hand-over to match the
# message, so a stale message changes nothing. A claim that is there all the same (somebody set the row
# back by hand) is taken over, and so fenced off.
CLAIM = f"""
WITH taken AS (
    UPDATE "ProductImportJob"
    SET status = 'IN_PROGRESS', "startedAt" = coalesce("startedAt", now()), "updatedAt" = now(),
        "waitingReason" = NULL, "errorMessage" = NULL, interrupted = NULL
    WHERE id = %(job)s AND status = 'PENDING' AND dispatch = %(dispatch)s AND "dispatchedAt" IS NOT NULL
      AND suspended IS NOT TRUE
    RETURNING *
), claimed AS (
    INSERT INTO imports.claim AS c (job_id, claim_id, worker_id, queue, dispatch, expires_at, template_hash)
    SELECT id, %(claim)s, %(worker)s, coalesce(queue, 'product-imports'), dispatch,
        clock_timestamp() + %(lease)s * interval '1 second', %(template)s
    FROM taken
    ON CONFLICT (job_id) DO UPDATE SET claim_id = excluded.claim_id, worker_id = excluded.worker_id,
        queue = excluded.queue, dispatch = excluded.dispatch, suspected = false,
        claimed_at = clock_timestamp(), expires_at = excluded.expires_at, live_progress = NULL,
        template_hash = excluded.template_hash
    RETURNING c.job_id, c.worker_id, c.live_progress
), started AS (
    INSERT INTO imports.job_start (queue, company_id)
    SELECT coalesce(queue, 'product-imports'), "companyId" FROM taken
), first_job AS (
    UPDATE imports.worker SET first_job_at = clock_timestamp()
    WHERE worker_id = %(worker)s AND first_job_at IS NULL AND EXISTS (SELECT FROM taken)
)
SELECT {CLAIMED_COLUMNS}, c.version, c.cursor, c.pages,
    (SELECT t.tier::text FROM "Company" t WHERE t.id = j."companyId"),
    CASE WHEN j."startedAt" = now()
        THEN extract(epoch FROM now() - coalesce(j."queuedAt", j."createdAt"))::float8 END
FROM taken j JOIN claimed k ON k.job_id = j.id LEFT JOIN imports.checkpoint c ON c.job_id = j.id
"""

# From here on the worker's death is this job's doing, and it has work to show.
MARK_ALONE = """
UPDATE imports.claim SET suspected = true, claimed_at = clock_timestamp()
WHERE job_id = %s AND claim_id = %s AND expires_at > clock_timestamp() RETURNING 1
"""

# An expired claim is never revived: the reaper may be about to hand the job to somebody else. A row that a
# page's transaction holds is passed over, not waited for: one slow page must not hold up the other leases.
RENEW = """
WITH asked AS (
    SELECT * FROM unnest(%s::text[], %s::uuid[], %s::jsonb[]) AS t (job_id, claim_id, progress)
), free AS (
    SELECT c.job_id FROM imports.claim c JOIN asked t USING (job_id, claim_id)
    WHERE c.expires_at > clock_timestamp() FOR UPDATE OF c SKIP LOCKED
), renewed AS (
    UPDATE imports.claim c
    SET expires_at = clock_timestamp() + %s * interval '1 second', live_progress = t.progress
    FROM asked t JOIN free USING (job_id)
    WHERE c.job_id = t.job_id AND c.claim_id = t.claim_id RETURNING c.claim_id
)
SELECT c.claim_id, EXISTS (SELECT FROM renewed r WHERE r.claim_id = c.claim_id)
FROM asked t JOIN imports.claim c USING (job_id, claim_id) WHERE c.expires_at > clock_timestamp()
"""

# The fence: every write of a worker happens behind this lock.
LOCK_CLAIM = """
SELECT 1 FROM imports.claim WHERE job_id = %s AND claim_id = %s AND expires_at > clock_timestamp() FOR UPDATE
"""

# The end of a claim and what comes of its job are one statement, the claim first: locks are taken in the
# order claim, job, everywhere. No row back means that the claim had ended, and that nothing was written.
END_CLAIM = """
WITH ended AS (
    DELETE FROM imports.claim
    WHERE job_id = %(job)s AND claim_id = %(claim)s AND expires_at > clock_timestamp()
    RETURNING job_id, template_hash
), told AS (
    INSERT INTO imports.run_end (template_hash, job_id, outcome)
    SELECT template_hash, job_id, %(outcome)s FROM ended WHERE template_hash IS NOT NULL{told_where}){also}
UPDATE "ProductImportJob" j SET
    "updatedAt" = now(), dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL, {changes}
FROM ended WHERE j.id = ended.job_id AND j.status = 'IN_PROGRESS' RETURNING 1
"""
# What the job saw at the source is needed no more, unless a person's word may still let it archive the rest.
FINISH = END_CLAIM.format(
    told_where="",
    also=f""", unneeded AS (
    DELETE FROM imports.seen_product s USING ended
    WHERE s.job_id = ended.job_id AND %(reason)s::text IS DISTINCT FROM '{RemovalsNotConfirmedError.reason}')""",
    changes="""status = %(state)s, "completedAt" = now(), "failureReason" = %(reason)s,
    "errorMessage" = %(message)s, "waitingReason" = NULL, "itemsOnly" = NULL""",
)
# One that is due again at once, without a try used up, was interrupted by its worker's stop. A try that is not used
# up says nothing of the worker's version.
RELEASE = END_CLAIM.format(
    told_where=" AND %(tries)s > 0",
    also="",
    changes="""status = 'PENDING', attempt = coalesce(j.attempt, 0) + %(tries)s,
    "notBefore" = CASE WHEN %(delay)s > 0 THEN clock_timestamp() + %(delay)s * interval '1 second' END,
    "waitingReason" = %(waiting)s, "errorMessage" = %(message)s,
    interrupted = CASE WHEN %(tries)s = 0 AND %(delay)s = 0 THEN true END""",
)

# The end of a worker process, seen or presumed. A suspected job ran alone, so its death is its own doing.
_END = """
WITH ended AS (
    DELETE FROM imports.claim WHERE job_id IN ({ended})
    RETURNING job_id, worker_id, suspected, template_hash
), told AS (
    INSERT INTO imports.run_end (template_hash, job_id, outcome)
    SELECT template_hash, job_id, 'died' FROM ended WHERE template_hash IS NOT NULL AND %s)
SELECT job_id, worker_id, suspected FROM ended
"""
END_EXPIRED = _END.format(
    ended="""
    SELECT job_id FROM imports.claim WHERE expires_at < clock_timestamp()
    ORDER BY job_id LIMIT %s FOR UPDATE SKIP LOCKED"""
)
END_OF_WORKERS = _END.format(
    ended="""
    SELECT job_id FROM imports.claim WHERE worker_id = ANY(%s) ORDER BY job_id FOR UPDATE SKIP LOCKED"""
)
HOLDERS = "SELECT DISTINCT worker_id FROM imports.claim WHERE worker_id = ANY(%s)"
# A page's transaction that holds the row is a sign of life.
SHORTEN = """
WITH doubtful AS (
    SELECT job_id FROM imports.claim
    WHERE worker_id = ANY(%s) AND expires_at > clock_timestamp() + %s * interval '1 second'
    FOR UPDATE SKIP LOCKED)
UPDATE imports.claim c SET expires_at = clock_timestamp() + %s * interval '1 second'
FROM doubtful d WHERE c.job_id = d.job_id
"""
AFTER_DEATH = """
UPDATE "ProductImportJob" j SET
    status = CASE WHEN t.suspected THEN 'FAILED' ELSE 'PENDING' END,
    "completedAt" = CASE WHEN t.suspected THEN now() END,
    "failureReason" = CASE WHEN t.suspected THEN %s END,
    "errorMessage" = CASE WHEN t.suspected
        THEN 'the job ran alone on a worker and the worker ' || %s || ', after ' || coalesce(j.deaths, 0)
            || ' deaths before'
        END,
    "itemsOnly" = CASE WHEN NOT t.suspected THEN j."itemsOnly" END,
    "notBefore" = NULL, "updatedAt" = now(), deaths = coalesce(j.deaths, 0) + %s,
    interrupted = CASE WHEN NOT t.suspected THEN true END,
    dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL
FROM unnest(%s::text[], %s::boolean[]) AS t (job_id, suspected)
WHERE j.id = t.job_id AND j.status = 'IN_PROGRESS' RETURNING j.id, j.status
"""


# Failure reason of a suspected job, and what happened to its worker.
_DIED = ("WorkerKilled", "died")
_OUT_OF_MEMORY = ("OutOfMemory", "was killed because it ran out of memory")


@dataclass(frozen=True, slots=True)
class Renewal:
    """Claim ids that were renewed, and those that stand but are held by a page's transaction right now."""

    confirmed: frozenset[str]
    busy: frozenset[str]


@dataclass(frozen=True, slots=True)
class EndedClaim:
    """A claim that ended because its worker did."""

    job_id: str
    worker_id: str
    suspected: bool


class ClaimStore:
    """Claims in PostgreSQL. Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database, *, template_hash: str | None = None) -> None:
        """`template_hash`: the version of its pool's template that this worker runs."""
        self._database = database
        self._template_hash = template_hash

    async def claim(
        self, message: Message, *, worker_id: str, lease_seconds: float = LEASE_SECONDS
    ) -> Claim | None:
        """Claim the job of a message, or return None where the message is outdated."""
        claim_id = uuid4()
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                CLAIM,
                {
                    "job": message.job_id,
                    "dispatch": message.dispatch,
                    "claim": claim_id,
                    "worker": worker_id,
                    "lease": lease_seconds,
                    "template": self._template_hash,
                },
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        job = job_from_row(row)
        suspected = job.deaths >= DEATHS_UNTIL_SUSPECTED
        version, position, pages, tier, waited = row[-5:]
        known = version is not None and version <= ITEMS_CHECKPOINT_VERSION
        checkpoint = None
        if known:
            place, items = cursor_from_json(version, position)
            checkpoint = Checkpoint(place, progress_from_json(row[22]), pages, items)
        return Claim(
            str(claim_id), worker_id, job, checkpoint, lease_seconds, suspected, known_tier(tier), waited
        )

    async def mark_alone(self, claim: Claim) -> None:
        """Tell that a suspected job runs alone from now on, so that a death of its worker fails it.

        Raises ClaimLostError.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(MARK_ALONE, (claim.job.id, UUID(claim.claim_id)))
            if await cursor.fetchone() is None:
                raise ClaimLostError

    async def renew(
        self, claims: Sequence[tuple[str, str, Progress]], *, lease_seconds: float = LEASE_SECONDS
    ) -> Renewal:
        """Renew (job id, claim id, live counters)."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                RENEW,
                (
                    [job_id for job_id, _, _ in claims],
                    [UUID(claim_id) for _, claim_id, _ in claims],
                    [Jsonb(progress_to_json(progress)) for _, _, progress in claims],
                    lease_seconds,
                ),
            )
            rows = await cursor.fetchall()
        return Renewal(
            confirmed=frozenset(str(claim_id) for claim_id, renewed in rows if renewed),
            busy=frozenset(str(claim_id) for claim_id, renewed in rows if not renewed),
        )

    async def finish(
        self,
        claim: Claim,
        state: JobState,
        *,
        reason: str | None,
        message: str | None,
        gave_up: bool = True,
    ) -> None:
        """End the job as `state`; a batch that fails takes its products with it.

        `gave_up`: products may have failed for good, which webhooks are told of. Raises ClaimLostError when the claim
        has ended before.
        """
        if state is not JobState.FAILED and not gave_up:
            async with self._database.connection() as connection:
                await finish_in(connection, claim, state, reason=reason, message=message)
            return
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await finish_in(connection, claim, state, reason=reason, message=message)
            if state is JobState.FAILED:
                await settle_batches(connection, [claim.job.id])
            await note_items_of(connection, claim.job.id)

    async def release(
        self,
        claim: Claim,
        *,
        delay_seconds: float,
        tries: int,
        waiting_reason: str | None,
        message: str | None,
    ) -> None:
        """Give the job back with its checkpoint, due after a delay; `tries` is 1 for a failure of its own.

        Raises ClaimLostError.
        """
        async with self._database.connection() as connection:
            await release_in(
                connection,
                claim,
                delay_seconds=delay_seconds,
                tries=tries,
                waiting_reason=waiting_reason,
                message=message,
            )

    async def end_expired(self, *, limit: int = 500, count_deaths: bool = True) -> list[EndedClaim]:
        """End claims whose lease has run out and make their jobs due again; at most `limit` a call.

        `count_deaths` False: the database itself was away, so a lease that ran out says nothing of its
        worker, and no job is suspected or blamed for it.
        """
        return await self._end(END_EXPIRED, (limit,), _DIED, count_deaths=count_deaths)

    async def end_of_workers(
        self, worker_ids: Sequence[str], *, out_of_memory: bool = False
    ) -> list[EndedClaim]:
        """End the claims of worker processes that have ended, by the processes' own ids.

        A claim that is locked right now stays; `holders` tells whose.
        `out_of_memory`: they were killed for it, which is the reason that a suspected job fails with.
        """
        cause = _OUT_OF_MEMORY if out_of_memory else _DIED
        return await self._end(END_OF_WORKERS, (list(worker_ids),), cause)

    async def holders(self, worker_ids: Sequence[str]) -> set[str]:
        """Those of the worker processes that have claims."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(HOLDERS, (list(worker_ids),))
            return {row[0] for row in await cursor.fetchall()}

    async def shorten(self, worker_ids: Sequence[str], *, lease_seconds: float) -> int:
        """Let the leases of these processes run out sooner unless they renew them; returns their number."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(SHORTEN, (list(worker_ids), lease_seconds, lease_seconds))
            return cursor.rowcount

    async def _end(
        self,
        statement: str,
        parameters: tuple[object, ...],
        cause: tuple[str, str],
        *,
        count_deaths: bool = True,
    ) -> list[EndedClaim]:
        async with self._database.transaction() as connection:
            cursor = await connection.execute(statement, (*parameters, count_deaths))
            ended = [EndedClaim(*row) for row in await cursor.fetchall()]
            if ended:
                cursor = await connection.execute(
                    AFTER_DEATH,
                    (
                        *cause,
                        int(count_deaths),
                        [e.job_id for e in ended],
                        [e.suspected and count_deaths for e in ended],
                    ),
                )
                rows = await cursor.fetchall()
                failed = [row[0] for row in rows if row[1] == JobState.FAILED]
                await forget_seen(connection, failed)
                await settle_batches(connection, failed)
            return ended


async def lock_claim(connection: Connection, claim: Claim) -> None:
    """Lock the claim's row inside a transaction. Raises ClaimLostError when it is gone or has expired."""
    cursor = await connection.execute(LOCK_CLAIM, (claim.job.id, UUID(claim.claim_id)))
    if await cursor.fetchone() is None:
        raise ClaimLostError


async def finish_in(
    connection: Connection, claim: Claim, state: JobState, *, reason: str | None, message: str | None
) -> None:
    """End the job as `state` on a connection, which may be inside a transaction. Raises ClaimLostError."""
    outcome = "completed" if state is JobState.COMPLETED else "failed"
    changes = {"state": state.value, "reason": reason, "message": message, "outcome": outcome}
    await _end_claim(connection, FINISH, claim, changes)


async def release_in(
    connection: Connection,
    claim: Claim,
    *,
    delay_seconds: float,
    tries: int,
    waiting_reason: str | None,
    message: str | None,
) -> None:
    """Give the job back on a connection, which may be inside a transaction. Raises ClaimLostError."""
    changes = {
        "delay": delay_seconds,
        "tries": tries,
        "waiting": waiting_reason,
        "message": message,
        "outcome": "retried",
    }
    await _end_claim(connection, RELEASE, claim, changes)


async def _end_claim(connection: Connection, sql: str, claim: Claim, changes: Mapping[str, object]) -> None:
    cursor = await connection.execute(sql, {"job": claim.job.id, "claim": UUID(claim.claim_id), **changes})
    if await cursor.fetchone() is None:
        raise ClaimLostError
