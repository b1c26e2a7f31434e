"""The dead-letter queue: steps of products that are invalid or out of tries, until a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from import_core.adapters.postgres.dead_letter_choice import IN_NAMESPACE, Choice, choice_of
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Database, server_time
from import_core.adapters.postgres.step_rows import StepWrite, lock_rows, write_rows
from import_core.domain.dead_letters import DeadFilter, DeadLetter, DeadReason, DeadReasons, DeadStep
from import_core.domain.steps import KnownStep, StepKind, StepState, following_steps

COUNTED = 100_000
COUNTED_OF_JOB = 1_000
BATCH = 200
"""Products retried or discarded in one transaction."""
REASONS_SHOWN = 50

EXAMINED = 5_000
"""Dead steps that one statement looks at."""
MOST_STATEMENTS = 20
"""Of one page, which is short, and not the last, where they find no more."""

LETTER = """
    s.product_id, s.step, s.company_id, s.job_id, s.attempts, s.retryable, s.reason, s.message, s.content_hash,
    s.created_at, s.updated_at, p."externalId", p."importSource", p.title
"""
# A number of rows is looked at, newest first, by keyset over index product_step_dead; of a company by
# product_step_dead_company. Those of one job (product_step_job) or of some products (the key) are few enough to be
# sorted. Of those that are looked at the ones that are meant are taken, and the last says where to go on. A limit that
# the planner does not know looks like many rows to it: products are looked up one by one all the same.
IN_ORDER = "ORDER BY s.updated_at DESC, s.product_id DESC, s.step DESC"
BY_INDEX = f"""
    SELECT s.* FROM imports.product_step s
    WHERE {{found}} AND (s.updated_at, s.product_id, s.step) < (%(at)s, %(product_after)s, %(step_after)s)
    {IN_ORDER} LIMIT %(examined)s
"""
NARROW = f"""
    SELECT s.* FROM (SELECT s.* FROM imports.product_step s WHERE {{found}} OFFSET 0) s
    WHERE (s.updated_at, s.product_id, s.step) < (%(at)s, %(product_after)s, %(step_after)s)
    {IN_ORDER} LIMIT %(examined)s
"""
DEAD = f"""
WITH s AS MATERIALIZED (
    SELECT s.product_id, s.step, s.company_id, s.job_id, s.attempts, s.retryable, s.reason, s.message,
        s.content_hash, s.created_at, s.updated_at, {{meant}} AS meant, row_number() OVER ({IN_ORDER}) AS place
    FROM ({{rows}}) s)
SELECT s.meant, s.place, {LETTER}
FROM s LEFT JOIN LATERAL (
    SELECT p."externalId", p."importSource", p.title FROM "Product" p WHERE p.id = s.product_id LIMIT 1) p ON s.meant
WHERE s.meant OR s.place = (SELECT max(place) FROM s)
ORDER BY s.place LIMIT %(limit)s
"""
# The newest ones up to a cap, in the same way; the row without a step says how many were looked at.
REASONS = """
WITH s AS MATERIALIZED (
    SELECT s.step, coalesce(s.reason, '') AS reason, s.updated_at, s.retryable, {meant} AS meant FROM ({rows}) s)
SELECT step, reason, count(*) FILTER (WHERE meant), max(updated_at) FILTER (WHERE meant),
    bool_or(retryable) FILTER (WHERE meant), count(*)
FROM s GROUP BY GROUPING SETS ((step, reason), ())
HAVING grouping(step) = 1 OR bool_or(meant)
ORDER BY grouping(step) DESC, 3 DESC, step, reason LIMIT %(shown)s + 2
"""
# In whichever state it is, by the key.
ONE = f"""
SELECT {LETTER}, s.state
FROM imports.product_step s LEFT JOIN "Product" p ON p.id = s.product_id
WHERE s.product_id = %(product)s AND s.step = %(step)s
  AND (%(namespace)s::text IS NULL OR {IN_NAMESPACE})
"""
FACTS = """
SELECT p.title, p.price, p.currency, p.vendor, p."productType", p.status,
    (SELECT count(*) FROM "ProductImage" i WHERE i."productId" = p.id)
FROM "Product" p WHERE p.id = %s
"""
# By index product_step_job.
OF_JOBS = """
SELECT j.id, (SELECT count(*) FROM (
    SELECT FROM imports.product_step s
    WHERE s.job_id = j.id AND s.step = ANY(%(steps)s) AND s.state = 'Dead' LIMIT %(most)s) dead)
FROM unnest(%(jobs)s::text[]) AS j (id)
"""
# By the partial indexes of rows in a batch and of dead ones; what waits for an earlier step is in no batch.
SUMMARY = """
SELECT k.step,
    (SELECT count(*) FROM (
        SELECT step FROM imports.product_step WHERE batch_id IS NOT NULL LIMIT %(most)s) d WHERE d.step = k.step),
    (SELECT count(*) FROM (
        SELECT step FROM imports.product_step WHERE state = 'Dead' LIMIT %(most)s) d WHERE d.step = k.step)
FROM unnest(%(steps)s::text[]) AS k (step)
"""
ALL_STEPS = """
SELECT s.step, s.state, s.attempts, s.reason, s.message, s.job_id, s.updated_at, s.result
FROM imports.product_step s WHERE s.product_id = %s
"""


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a product, in whichever state."""

    step: StepKind
    state: StepState
    attempts: int
    reason: str | None
    message: str | None
    job_id: str | None
    changed_at: datetime
    result: Any


@dataclass(frozen=True, slots=True)
class DeadPosition:
    """Where a list of dead letters goes on: after the one of this time, product and step."""

    died_at: datetime
    product_id: str
    step: str


NEWEST = DeadPosition(datetime.max.replace(tzinfo=UTC), "", "")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """What a person has to see of a product to know what is wrong with it."""

    title: str | None
    price: Decimal | None
    currency: str | None
    vendor: str | None
    product_type: str | None
    status: str | None
    images: int


@dataclass(frozen=True, slots=True)
class StepSummary:
    """Products that a step is due for, and for which it is dead; each counted up to COUNTED."""

    step: StepKind
    due: int
    dead: int


class DeadLetterStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: DeadFilter, *, after: DeadPosition = NEWEST, limit: int = BATCH
    ) -> tuple[list[DeadLetter], DeadPosition | None]:
        """The next dead letters, those that died last first, and where the page after them begins, if any.

        A page may be short, or empty, and not the last: what is looked at for it is bounded.
        """
        letters: list[DeadLetter] = []
        async with self._database.connection() as connection:
            choice = await choice_of(connection, wanted)
            statement = statement_of(DEAD, choice)
            examined = limit
            for _ in range(MOST_STATEMENTS):
                bounds = {"examined": examined, "limit": limit - len(letters)}
                rows = await (
                    await connection.execute(statement, {**choice.values, **_place(after), **bounds})
                ).fetchall()
                found, following = _read(rows, **bounds)
                letters += found
                if following is None or len(letters) >= limit:
                    return letters, following
                after, examined = following, min(5 * examined, EXAMINED)
        return letters, after

    async def now(self) -> datetime:
        """The time by the clock that deaths are noted by."""
        async with self._database.connection() as connection:
            return await server_time(connection)

    async def reasons(self, wanted: DeadFilter, *, most: int = COUNTED) -> DeadReasons:
        """Why those that are meant died, of the `most` that died last; REASONS_SHOWN at most."""
        async with self._database.connection() as connection:
            choice = await choice_of(connection, wanted)
            values = {**choice.values, **_place(NEWEST), "examined": most, "shown": REASONS_SHOWN}
            rows = await (await connection.execute(statement_of(REASONS, choice), values)).fetchall()
        (_, _, total, _, _, looked_at), *counted = rows
        reasons = [DeadReason(DeadStep(row[0]), *row[1:5]) for row in counted[:REASONS_SHOWN]]
        return DeadReasons(reasons, total, len(counted) > REASONS_SHOWN, counted_all=looked_at < most)

    async def read(
        self, product_id: str, step: StepKind, *, namespace: str | None = None
    ) -> tuple[DeadLetter, StepState] | None:
        """One product's step and its state, which need not be Dead (any more); None where there is none."""
        values = {"product": product_id, "step": step.value, "namespace": namespace}
        async with self._database.connection() as connection:
            row = await (await connection.execute(ONE, values)).fetchone()
        return None if row is None else (_letter(row[:-1]), StepState(row[-1]))

    async def facts(self, product_id: str) -> ProductFacts | None:
        """The product as it is now; None: it is gone."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(FACTS, (product_id,))).fetchone()
        return None if row is None else ProductFacts(*row)

    async def of_jobs(self, job_ids: Sequence[str], *, most: int = COUNTED_OF_JOB) -> dict[str, int]:
        """Dead letters of products that these jobs brought, each job's counted up to `most`."""
        values = {"jobs": list(job_ids), "steps": [kind.value for kind in StepKind], "most": most}
        async with self._database.connection() as connection:
            return dict(await (await connection.execute(OF_JOBS, values)).fetchall())

    async def summary(self, *, most: int = COUNTED) -> list[StepSummary]:
        """What is due and dead of each step, of all companies."""
        values = {"most": most, "steps": [kind.value for kind in StepKind]}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(SUMMARY, values)).fetchall()
        return [StepSummary(StepKind(row[0]), row[1], row[2]) for row in rows]

    async def steps_of(self, product_id: str) -> list[StepView]:
        """All steps of a product, in their order."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(ALL_STEPS, (product_id,))).fetchall()
        found = {StepKind(row[0]): StepView(StepKind(row[0]), StepState(row[1]), *row[2:]) for row in rows}
        return [found[kind] for kind in StepKind if kind in found]

    async def change(self, letters: Sequence[DeadLetter], state: StepState, *, by: str | None = None) -> int:
        """Retry (DUE) or discard (DISCARDED) dead steps; returns how many. One that is not dead any more is left out.

        Those that are due have all their tries again, those behind them wait, and their batches belong to no ImportJob:
        it may be long gone. Discarded ones are taken again when the product changes. `by`: who wants it, which is kept
        in the row, of a retry until the step's next end.
        """
        changed = 0
        for start in range(0, len(letters), BATCH):
            batch = letters[start : start + BATCH]
            wanted = {(letter.product_id, letter.step.kind): letter for letter in batch}
            products = sorted({letter.product_id for letter in batch if letter.product_id is not None})
            async with self._database.transaction() as connection:
                known = await lock_rows(connection, products)
                writes = []
                for rows in known.values():
                    for row in rows:
                        letter = wanted.get((row.product_id, row.kind))
                        if row.state is StepState.DEAD and letter is not None:
                            writes += _after(row, rows, state, letter, by)
                            changed += 1
                await write_rows(connection, writes, owned=False)
                jobs = sorted({letter.job_id for letter in batch if letter.job_id is not None})
                # Also where there are none: dispatch is woken by it.
                await notify_in(connection, PROGRESS_CHANNEL, jobs or ["none"])
        return changed


def statement_of(form: str, choice: Choice) -> str:
    """DEAD or REASONS for a choice: with the conditions that it has, and no others."""
    rows = (NARROW if choice.is_narrow else BY_INDEX).format(found=choice.found)
    return form.format(rows=rows, meant=choice.meant)


def _place(after: DeadPosition) -> dict[str, object]:
    return {"at": after.died_at, "product_after": after.product_id, "step_after": after.step}


def _read(
    rows: Sequence[Sequence[Any]], *, examined: int, limit: int
) -> tuple[list[DeadLetter], DeadPosition | None]:
    """The letters among rows of DEAD, and where to go on, if that was not all."""
    letters = [_letter(row[2:]) for row in rows if row[0]]
    if not rows or (len(letters) < limit and rows[-1][1] < examined):
        return letters, None
    last = _letter(rows[-1][2:])
    return letters, DeadPosition(last.died_at, last.product_id or "", last.step.value)


def _after(
    row: KnownStep, rows: Sequence[KnownStep], state: StepState, letter: DeadLetter, by: str | None
) -> list[StepWrite]:
    if state is StepState.DISCARDED:
        message = letter.message if by is None else f"{letter.message or ''} (discarded by {by})".lstrip()
        return [StepWrite(replace(row, state=state), letter.reason, message)]
    due = replace(row, state=state, attempts=0, retryable=True)
    message = None if by is None else f"retried by {by}"
    return [StepWrite(due, None, message), *(StepWrite(item) for item in following_steps(due, rows))]


def _letter(row: Sequence[Any]) -> DeadLetter:
    return DeadLetter(row[0], DeadStep(row[1]), *row[2:])
