"""What happens to step jobs when others than their workers decide: cancelled, suspended, dead, swept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from import_core.adapters.postgres.gone_products import forget_products
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, PROGRESS_CHANNEL, notify_in
from import_core.adapters.postgres.notifications_outbox import note_steps_of
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.step_figures import count_ended, count_given_up, prune_figures
from import_core.adapters.postgres.step_rows import StepWrite, lock_rows, write_rows
from import_core.domain.jobs import JobState
from import_core.domain.step_changes import without_job
from import_core.domain.steps import KnownStep, StepCounts, StepKind, StepState, count_states, following_steps

CANCELLED_AT_ONCE = 500
"""Step jobs, and ten times as many rows, that one transaction cancels or suspends; the next goes on."""
ROWS_AT_ONCE = 5_000
SWEPT_AT_ONCE = 500
KEPT_SECONDS = 3_600.0
"""A finished step job stays this long: what counts and judges finished jobs looks no further back."""
START = ("", "")
QUEUES = tuple(kind.value for kind in StepKind)

# By index import_job_steps.
OPEN_JOBS = """
SELECT id, "parentId" FROM "ProductImportJob"
WHERE "parentId" = ANY(%s) AND "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
ORDER BY "parentId", id LIMIT %s
"""
RUNNING_OR_FREE = """
SELECT id FROM "ProductImportJob"
WHERE "parentId" = ANY(%s) AND "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
  AND suspended IS NOT TRUE
ORDER BY "parentId", id LIMIT %s
"""
END_CLAIMS = """
DELETE FROM imports.claim WHERE job_id = ANY(ARRAY(
    SELECT job_id FROM imports.claim WHERE job_id = ANY(%s) ORDER BY job_id FOR UPDATE))
RETURNING job_id
"""
CANCEL_JOBS = """
UPDATE "ProductImportJob"
SET status = 'CANCELLED', "completedAt" = now(), "updatedAt" = now(), "waitingReason" = NULL,
    "errorMessage" = %s, dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('PENDING', 'IN_PROGRESS')
    ORDER BY id FOR UPDATE))
RETURNING id
"""
# By index product_step_job.
ROWS_OF_JOBS = """
SELECT product_id FROM imports.product_step
WHERE job_id = ANY(%s) AND step = ANY(%s) AND state IN ('Due', 'Waiting') LIMIT %s
"""
# Of products whose rows are locked. The rows keep their batch, which is cancelled too and lets go of them.
CANCEL_ROWS = """
UPDATE imports.product_step SET state = 'Cancelled', updated_at = clock_timestamp()
WHERE product_id = ANY(%s) AND job_id = ANY(%s) AND step = ANY(%s) AND state IN ('Due', 'Waiting')
"""
STILL_OPEN = """
SELECT DISTINCT product_id FROM imports.product_step WHERE product_id = ANY(%s) AND state IN ('Due', 'Waiting')
ORDER BY product_id
"""
SUSPEND = """
UPDATE "ProductImportJob" j
SET status = 'PENDING', suspended = true, dispatch = coalesce(j.dispatch, 0) + 1, "dispatchedAt" = NULL,
    "updatedAt" = now()
WHERE j.id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('PENDING', 'IN_PROGRESS')
    ORDER BY id FOR UPDATE))
"""
RESUME = """
UPDATE "ProductImportJob" SET suspended = false, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob"
    WHERE "parentId" = ANY(%s) AND "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
      AND suspended IS TRUE
    ORDER BY id LIMIT %s FOR UPDATE))
"""
# An ImportJob that has ended keeps the word for the batches that are still to come.
MARK_FINISHED = """
UPDATE "ProductImportJob" SET suspended = %s, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('COMPLETED', 'FAILED')
    ORDER BY id FOR UPDATE))
"""
# Those that nobody has decided otherwise about since, and that have batches for it; the row of one that has ended need
# not tell. A batch that is made meanwhile follows its ImportJob's row. With LIMIT, as the planner else may read the
# batches of all.
TO_HOLD = """
SELECT id FROM "ProductImportJob" j
WHERE id = ANY(%(ids)s) AND (status NOT IN ('PENDING', 'IN_PROGRESS') OR (suspended IS TRUE) = %(suspended)s)
  AND (SELECT true FROM "ProductImportJob" b
      WHERE b."parentId" = j.id AND b."parentId" IS NOT NULL AND b.status IN ('PENDING', 'IN_PROGRESS')
        AND (b.suspended IS TRUE) <> %(suspended)s
      LIMIT 1)
ORDER BY id FOR NO KEY UPDATE OF j
"""
# Skips from parent to parent of open step jobs through index import_job_steps: past 'z' there is no id of a step job,
# which are uuids. A place in the whole key, as the planner reads all that follows where it is asked for the next parent
# alone and has not yet analysed the rows. Its own parent is a job without an ImportJob: nobody's to cancel.
CANCELLED_PARENTS = """
WITH RECURSIVE parent AS (
    (SELECT "parentId" AS id FROM "ProductImportJob"
    WHERE "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
    ORDER BY "parentId", id LIMIT 1)
    UNION ALL
    SELECT (SELECT "parentId" FROM "ProductImportJob"
        WHERE "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
          AND ("parentId", id) > (parent.id, 'z') AND "parentId" <> parent.id
        ORDER BY "parentId", id LIMIT 1)
    FROM parent WHERE parent.id IS NOT NULL
)
SELECT p.id FROM parent p JOIN "ProductImportJob" j ON j.id = p.id
WHERE j.status = 'CANCELLED' AND j."parentId" IS NULL LIMIT %(limit)s
"""
ENDED_JOBS = """
SELECT id, status, coalesce("failureReason", 'Failed'), coalesce("errorMessage", ''), "parentId"
FROM "ProductImportJob" WHERE id = ANY(%s)
"""
HELD_BY = "SELECT DISTINCT product_id FROM imports.product_step WHERE batch_id = ANY(%s) LIMIT %s"
LET_GO = "UPDATE imports.product_step SET batch_id = NULL WHERE batch_id = ANY(%s) AND state <> 'Due'"
# By index import_job_finished; cancelled ones by import_job_status_created, among the oldest of that state.
SWEEPABLE = """
SELECT id FROM "ProductImportJob"
WHERE coalesce(queue, 'product-imports') = %(queue)s AND status IN ('COMPLETED', 'FAILED')
  AND "completedAt" < now() - %(seconds)s * interval '1 second' AND "parentId" IS NOT NULL
ORDER BY "completedAt" LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
SWEEPABLE_CANCELLED = """
SELECT id FROM "ProductImportJob"
WHERE "parentId" IS NOT NULL AND status = 'CANCELLED'
  AND coalesce("completedAt", "updatedAt") < now() - %(seconds)s * interval '1 second'
ORDER BY "parentId", id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
# By the key, a page at a time; those in a batch are forgotten by that.
FORGET_GONE = """
WITH page AS (
    SELECT product_id, step, batch_id FROM imports.product_step WHERE (product_id, step) > (%(product)s, %(step)s)
    ORDER BY product_id, step LIMIT %(limit)s
), gone AS (
    DELETE FROM imports.product_step s USING page
    WHERE s.product_id = page.product_id AND s.step = page.step AND s.batch_id IS NULL
      AND NOT EXISTS (SELECT FROM "Product" p WHERE p.id = page.product_id)
    RETURNING s.product_id
)
SELECT last.product_id, last.step, (SELECT array_agg(DISTINCT product_id) FROM gone), (SELECT count(*) FROM page)
FROM (SELECT product_id, step FROM page ORDER BY product_id DESC, step DESC LIMIT 1) last
"""
DELETE_JOBS = 'DELETE FROM "ProductImportJob" WHERE id = ANY(%s)'
DELETE_CHECKPOINTS = "DELETE FROM imports.checkpoint WHERE job_id = ANY(%s)"
COUNTS = """
SELECT job_id, step, state, count(*) FROM imports.product_step WHERE job_id = ANY(%s)
GROUP BY job_id, step, state
"""


@dataclass(frozen=True, slots=True)
class CancelledSteps:
    """ImportJobs that had open step jobs, and whether there may be more of them."""

    parents: frozenset[str] = frozenset()
    more: bool = False


async def cancel_steps(connection: Connection, parent_ids: Sequence[str], *, message: str) -> CancelledSteps:
    """Cancel open steps and step jobs of ImportJobs, at most CANCELLED_AT_ONCE jobs.

    The transaction has ended the ImportJobs before, so that no worker of theirs adds to them.
    """
    parents = list(parent_ids)
    if not parents:
        return CancelledSteps()
    cursor = await connection.execute(ROWS_OF_JOBS, (parents, list(QUEUES), ROWS_AT_ONCE))
    cancelled = sorted({row[0] for row in await cursor.fetchall()})
    more = cursor.rowcount == ROWS_AT_ONCE
    # All rows of a product at once, in their order: others of it are written below, where it goes on for another job.
    await lock_rows(connection, cancelled)
    await connection.execute(CANCEL_ROWS, (cancelled, parents, list(QUEUES)))
    found = await (await connection.execute(OPEN_JOBS, (parents, CANCELLED_AT_ONCE))).fetchall()
    jobs = [row[0] for row in found]
    if jobs:
        taken = await _end_claims(connection, jobs)
        await connection.execute(CANCEL_JOBS, (message, jobs))
        taken += await _end_claims(connection, jobs)
        await settle_batches(connection, jobs)
        await notify_in(connection, CONTROL_CHANNEL, taken)
    await _let_others_go_on(connection, cancelled)
    return CancelledSteps(frozenset(row[1] for row in found), more or len(jobs) == CANCELLED_AT_ONCE)


async def _let_others_go_on(connection: Connection, product_ids: Collection[str]) -> None:
    """Make due what waited for a step that was cancelled, but is asked for by another ImportJob."""
    if not product_ids:
        return
    found = await (await connection.execute(STILL_OPEN, (list(product_ids),))).fetchall()
    known = await lock_rows(connection, [row[0] for row in found])
    await write_rows(
        connection, [StepWrite(row) for rows in known.values() for row in without_job(rows, None)]
    )


async def suspend_steps(connection: Connection, parent_ids: Sequence[str]) -> bool:
    """Take step jobs of ImportJobs back and hold them; returns whether there may be more of them.

    What others ask for goes on, in batches of its own.
    """
    if not parent_ids:
        return False
    cursor = await connection.execute(RUNNING_OR_FREE, (list(parent_ids), CANCELLED_AT_ONCE))
    jobs = [row[0] for row in await cursor.fetchall()]
    if not jobs:
        return False
    taken = await _end_claims(connection, jobs)
    await connection.execute(SUSPEND, (jobs,))
    taken += await _end_claims(connection, jobs)
    await _free_others(connection, jobs, parent_ids)
    await notify_in(connection, CONTROL_CHANNEL, taken)
    return len(jobs) == CANCELLED_AT_ONCE


async def _free_others(connection: Connection, job_ids: list[str], parent_ids: Collection[str]) -> None:
    """Put rows that other ImportJobs ask for out of suspended batches into new ones.

    All rows of the batches are locked: who is just asking for one waits, and then sees that its batch is suspended.
    """
    held = await (await connection.execute(HELD_BY, (job_ids, None))).fetchall()
    known = await lock_rows(connection, sorted(row[0] for row in held))
    others = [
        StepWrite(row)
        for rows in known.values()
        for row in rows
        if row.state is StepState.DUE and row.batch_id is None and row.job_id not in parent_ids
    ]
    await write_rows(connection, others)


async def resume_steps(connection: Connection, parent_ids: Sequence[str]) -> bool:
    """Let the step jobs of ImportJobs go on; returns whether there may be more of them."""
    if not parent_ids:
        return False
    cursor = await connection.execute(RESUME, (list(parent_ids), CANCELLED_AT_ONCE))
    return cursor.rowcount == CANCELLED_AT_ONCE


async def hold_all_steps(database: Database, parent_ids: Sequence[str], *, suspended: bool) -> None:
    """Suspend or resume the step jobs of ImportJobs to the last one, in a transaction for each CANCELLED_AT_ONCE.

    An unfinished ImportJob that is not so itself (any more) is left alone. Raises DatabaseUnavailableError.
    """
    act = suspend_steps if suspended else resume_steps
    more = bool(parent_ids)
    while more:
        async with database.transaction() as connection:
            # The parents first, as whoever ends a batch does.
            cursor = await connection.execute(TO_HOLD, {"ids": list(parent_ids), "suspended": suspended})
            more = await act(connection, [row[0] for row in await cursor.fetchall()])


async def settle_batches(connection: Connection, job_ids: Sequence[str]) -> None:
    """Bring the rows of batches whose jobs have ended, by whomever, to what that means for them.

    Those of a failed job are dead, those of a cancelled one's ImportJob cancelled; others are due again in a new batch.
    """
    ids = list(job_ids)
    if not ids:
        return
    held = await (await connection.execute(HELD_BY, (ids, ROWS_AT_ONCE))).fetchall()
    if not held:
        return
    cursor = await connection.execute(ENDED_JOBS, (ids,))
    ended = {row[0]: _EndedJob(*row) for row in await cursor.fetchall()}
    inside = await _rows_inside(connection, ids)
    known = await lock_rows(connection, sorted(row[0] for row in held))
    owned: list[StepWrite] = []
    others: list[StepWrite] = []
    for rows in known.values():
        for row in rows:
            batch = inside.get((row.product_id, row.kind))
            if batch is None or row.state is not StepState.DUE or row.batch_id is not None:
                continue
            job = ended.get(batch)
            (owned if job is None or job.is_owned else others).extend(_after(row, rows, job))
    await write_rows(connection, owned)
    await write_rows(connection, others, owned=False)
    await connection.execute(LET_GO, (ids,))
    given_up = [
        item.row for item in (*owned, *others) if item.row.state in {StepState.DEAD, StepState.HALTED}
    ]
    await note_steps_of(connection, {row.job_id for row in given_up if row.job_id is not None})
    told = {item.row.job_id for item in (*owned, *others) if item.row.job_id is not None}
    await notify_in(connection, PROGRESS_CHANNEL, sorted(told))
    dead = [(item.row, item.reason) for item in (*owned, *others) if item.row.state is StepState.DEAD]
    batches = [(inside.get((row.product_id, row.kind)), row.kind, reason) for row, reason in dead]
    await count_given_up(
        connection, [(batch, kind, why) for batch, kind, why in batches if batch is not None]
    )


@dataclass(frozen=True, slots=True)
class _EndedJob:
    """A row of ENDED_JOBS."""

    id: str
    state: str
    reason: str
    message: str
    parent: str | None

    @property
    def is_owned(self) -> bool:
        """Whether it belongs to an ImportJob, and ends with that."""
        return self.parent != self.id


def _after(row: KnownStep, rows: Sequence[KnownStep], job: _EndedJob | None) -> list[StepWrite]:
    """The row, and what changes behind it, after its batch's job; that may be another ImportJob's than the row."""
    if job is not None and job.state == JobState.FAILED:
        dead = replace(row, state=StepState.DEAD, retryable=True)
        following = following_steps(dead, rows)
        return [StepWrite(dead, job.reason, job.message), *(StepWrite(item) for item in following)]
    if job is not None and job.state == JobState.CANCELLED:
        stopped = without_job(rows, job.parent if job.is_owned else row.job_id)
        if any(item.kind is row.kind for item in stopped):
            return [StepWrite(item) for item in stopped]
        return [StepWrite(row), *(StepWrite(item) for item in stopped)]
    return [StepWrite(row)]


async def _rows_inside(connection: Connection, job_ids: list[str]) -> dict[tuple[str, StepKind], str]:
    cursor = await connection.execute(
        "SELECT product_id, step, batch_id FROM imports.product_step WHERE batch_id = ANY(%s)", (job_ids,)
    )
    return {(row[0], StepKind(row[1])): row[2] for row in await cursor.fetchall()}


class StepControl:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cancel_leftovers(self, *, message: str, limit: int = 50) -> bool:
        """Cancel what is left of steps whose ImportJobs are cancelled; returns whether there may be more."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(CANCELLED_PARENTS, {"limit": limit})
            parents = [row[0] for row in await cursor.fetchall()]
            return (await cancel_steps(connection, parents, message=message)).more

    async def hold(self, suspended: Mapping[str, bool]) -> None:
        """Suspend or resume the steps of ImportJobs, by id; those that have ended are marked so first."""
        for value in (True, False):
            ids = sorted(job_id for job_id, wanted in suspended.items() if wanted is value)
            if not ids:
                continue
            async with self._database.transaction() as connection:
                await connection.execute(MARK_FINISHED, (value, ids))
            await hold_all_steps(self._database, ids, suspended=value)

    async def sweep(self, *, seconds: float = KEPT_SECONDS, limit: int = SWEPT_AT_ONCE) -> int:
        """Delete step jobs that ended over `seconds` ago, at most `limit` of each queue; returns how many.

        They stay in the figures of their days.
        """
        swept = 0
        statements = [(SWEEPABLE, queue) for queue in QUEUES] + [(SWEEPABLE_CANCELLED, "")]
        for statement, queue in statements:
            values = {"queue": queue, "seconds": seconds, "limit": limit}
            async with self._database.transaction() as connection:
                jobs = [row[0] for row in await (await connection.execute(statement, values)).fetchall()]
                if not jobs:
                    continue
                await settle_batches(connection, jobs)
                await connection.execute(DELETE_CHECKPOINTS, (jobs,))
                await count_ended(connection, jobs)
                await connection.execute(DELETE_JOBS, (jobs,))
                swept += len(jobs)
        async with self._database.transaction() as connection:
            await prune_figures(connection)
        return swept

    async def forget_gone(self, after: tuple[str, str], *, limit: int = ROWS_AT_ONCE) -> tuple[str, str]:
        """Forget products that are gone, among the next `limit` rows of steps; returns where to go on."""
        values = {"product": after[0], "step": after[1], "limit": limit}
        async with self._database.transaction() as connection:
            row = await (await connection.execute(FORGET_GONE, values)).fetchone()
            if row is not None and row[2]:
                await forget_products(connection, row[2])
        if row is None or row[3] < limit:
            return START
        return row[0], row[1]

    async def counts(self, job_ids: Sequence[str]) -> dict[str, dict[StepKind, StepCounts]]:
        """Products of ImportJobs by step and state; jobs without any are left out."""
        async with self._database.connection() as connection:
            return await count_steps(connection, job_ids)


async def count_steps(
    connection: Connection, job_ids: Sequence[str]
) -> dict[str, dict[StepKind, StepCounts]]:
    """Products of ImportJobs by step and state; jobs without any are left out."""
    states: dict[str, dict[StepKind, dict[StepState, int]]] = {}
    for job_id, step, state, number in await (await connection.execute(COUNTS, (list(job_ids),))).fetchall():
        states.setdefault(job_id, {}).setdefault(StepKind(step), {})[StepState(state)] = number
    return {
        job_id: {kind: count_states(found[kind]) for kind in StepKind if kind in found}
        for job_id, found in states.items()
    }


async def _end_claims(connection: Connection, job_ids: list[str]) -> list[str]:
    cursor = await connection.execute(END_CLAIMS, (sorted(job_ids),))
    return [row[0] for row in await cursor.fetchall()]
