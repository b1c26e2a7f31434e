"""The dead-letter queue: steps of products that are invalid or out of tries, until a person decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from import_core.adapters.postgres.catalogue_versions import NEWEST_JOBS
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.step_rows import StepWrite, lock_rows, write_rows
from import_core.domain.steps import KnownStep, StepKind, StepState, following_steps

COUNTED = 100_000
COUNTED_OF_JOB = 1_000
BATCH = 200
"""Products retried or discarded in one transaction."""
REASONS_SHOWN = 50

LETTER = """
    s.product_id, s.step, s.company_id, s.job_id, s.attempts, s.retryable, s.reason, s.message, s.content_hash,
    s.created_at, s.updated_at, p."externalId", p."importSource", p.title
"""
# Of a namespace is what its jobs brought, and those of none. Where the job's row is gone the company's newest jobs
# say whose it is, as they do for its catalogue (catalogue_versions); what nobody imports any more is nobody's.
IN_NAMESPACE = f"""
(%(namespace)s::text IS NULL OR coalesce(
    (SELECT coalesce(j.namespace, %(namespace)s) = %(namespace)s FROM "ProductImportJob" j WHERE j.id = s.job_id),
    (SELECT bool_or(coalesce(newest.namespace, %(namespace)s) = %(namespace)s) FROM (
        SELECT c.namespace FROM "ProductImportJob" c WHERE c."companyId" = s.company_id AND c."parentId" IS NULL
        ORDER BY c."createdAt" DESC, c.id DESC LIMIT {NEWEST_JOBS}) newest)))
"""
CHOSEN = f"""
s.state = 'Dead'
  AND (%(until)s::timestamptz IS NULL OR s.updated_at <= %(until)s)
  AND (%(company)s::text IS NULL OR s.company_id = %(company)s)
  AND (%(job)s::text IS NULL OR s.job_id = %(job)s)
  AND (%(step)s::text IS NULL OR s.step = %(step)s)
  AND (%(reason)s::text IS NULL OR coalesce(s.reason, '') = %(reason)s)
  AND (%(product)s::text IS NULL OR s.product_id = %(product)s OR p."externalId" = %(product)s)
  AND {IN_NAMESPACE}
"""
# Newest first, by keyset over index product_step_dead; of a company by product_step_dead_company.
DEAD = f"""
SELECT {LETTER}
FROM imports.product_step s LEFT JOIN "Product" p ON p.id = s.product_id
WHERE (s.updated_at, s.product_id, s.step) < (%(at)s, %(product_after)s, %(step_after)s) AND {CHOSEN}
ORDER BY s.updated_at DESC, s.product_id DESC, s.step DESC LIMIT %(limit)s
"""
# By the same indexes, newest first, up to a cap.
REASONS = f"""
SELECT step, reason, count(*), max(updated_at), bool_or(retryable), sum(count(*)) OVER (), count(*) OVER () FROM (
    SELECT s.step, coalesce(s.reason, '') AS reason, s.updated_at, s.retryable
    FROM imports.product_step s LEFT JOIN "Product" p ON p.id = s.product_id
    WHERE {CHOSEN} ORDER BY s.updated_at DESC LIMIT %(most)s) dead
GROUP BY step, reason ORDER BY count(*) DESC, step, reason LIMIT %(shown)s
"""
# In whichever state it is, by the key.
ONE = f"""
SELECT {LETTER}, s.state
FROM imports.product_step s LEFT JOIN "Product" p ON p.id = s.product_id
WHERE s.product_id = %(product)s AND s.step = %(step)s AND {IN_NAMESPACE}
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
NOW = "SELECT clock_timestamp()"
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
class DeadLetter:
    """A step of a product that failed for good; external id, source and title None: the product is gone."""

    product_id: str
    step: StepKind
    company_id: str
    job_id: str | None
    attempts: int
    retryable: bool
    """Out of tries; else invalid."""
    reason: str | None
    message: str | None
    content_hash: str
    recorded_at: datetime
    died_at: datetime
    external_id: str | None
    import_source: str | None
    title: str | None


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
class DeadFilter:
    """Which dead letters are meant; None: any. `product` is the product's row id or its id at the source.

    `namespace`: whose jobs brought the products; `until`: what died later is not meant.
    """

    company: str | None = None
    job: str | None = None
    step: StepKind | None = None
    product: str | None = None
    reason: str | None = None
    namespace: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeadPosition:
    """Where a list of dead letters goes on: after the one of this time, product and step."""

    died_at: datetime
    product_id: str
    step: str


NEWEST = DeadPosition(datetime.max.replace(tzinfo=UTC), "", "")


@dataclass(frozen=True, slots=True)
class DeadReason:
    """How many dead letters of a step there are for a reason, empty where none is known."""

    step: StepKind
    reason: str
    count: int
    newest_at: datetime
    retryable: bool
    """Some of them were out of tries; else all are invalid."""


@dataclass(frozen=True, slots=True)
class DeadReasons:
    """The most frequent reasons first, REASONS_SHOWN at most; `total` of all, counted up to COUNTED."""

    reasons: Sequence[DeadReason]
    total: int
    more_reasons: bool


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
class Acted:
    """What a bounded action has changed; `more`: there are others that were meant."""

    changed: int
    more: bool


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

    async def pages(self, wanted: DeadFilter, *, page_size: int = BATCH) -> AsyncIterator[list[DeadLetter]]:
        """Dead letters in pages, those that died last first; none is met twice."""
        after: DeadPosition | None = NEWEST
        while after is not None:
            letters, after = await self.page(wanted, after=after, limit=page_size)
            if letters:
                yield letters

    async def page(
        self, wanted: DeadFilter, *, after: DeadPosition = NEWEST, limit: int = BATCH
    ) -> tuple[list[DeadLetter], DeadPosition | None]:
        """The next dead letters, those that died last first, and where the page after them begins, if any."""
        values = _values(wanted) | {
            "at": after.died_at,
            "product_after": after.product_id,
            "step_after": after.step,
            "limit": limit,
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(DEAD, values)).fetchall()
        letters = [_letter(row) for row in rows]
        if len(letters) < limit:
            return letters, None
        last = letters[-1]
        return letters, DeadPosition(last.died_at, last.product_id, last.step.value)

    async def now(self) -> datetime:
        """The time by the clock that deaths are noted by."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(NOW)).fetchone()
        return datetime.now(UTC) if row is None else row[0]

    async def reasons(self, wanted: DeadFilter, *, most: int = COUNTED) -> DeadReasons:
        """Why those that are meant died, of the `most` that died last."""
        values = _values(wanted) | {"most": most, "shown": REASONS_SHOWN}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(REASONS, values)).fetchall()
        reasons = [DeadReason(StepKind(row[0]), *row[1:5]) for row in rows]
        return DeadReasons(
            reasons, int(rows[0][5]) if rows else 0, more_reasons=bool(rows) and rows[0][6] > len(rows)
        )

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

    async def retry(self, letters: Sequence[DeadLetter], *, by: str | None = None) -> int:
        """Make dead steps due again, with all their tries, and those behind them wait; returns how many.

        Their batches belong to no ImportJob: it may be long gone. One that is not dead any more is left out. `by`: who
        wants it, which is kept in the row until the step's next end.
        """
        return await self._change(letters, StepState.DUE, by)

    async def discard(self, letters: Sequence[DeadLetter], *, by: str | None = None) -> int:
        """Take dead steps out of the queue; the products take them again when they change. Returns how many.

        `by`: who gives them up, which is kept in the row.
        """
        return await self._change(letters, StepState.DISCARDED, by)

    async def act(self, wanted: DeadFilter, state: StepState, *, by: str, most: int) -> Acted:
        """Retry (DUE) or discard (DISCARDED) the `most` of those that are meant that died last.

        What was done until an error stays so; the same call goes on with the rest.
        """
        changed, left = 0, most
        after: DeadPosition | None = NEWEST
        while after is not None and left > 0:
            letters, after = await self.page(wanted, after=after, limit=min(BATCH, left))
            changed += await self._change(letters, state, by)
            left -= len(letters)
        return Acted(changed, after is not None and bool((await self.page(wanted, after=after, limit=1))[0]))

    async def _change(self, letters: Sequence[DeadLetter], state: StepState, by: str | None) -> int:
        changed = 0
        for start in range(0, len(letters), BATCH):
            batch = letters[start : start + BATCH]
            wanted = {(letter.product_id, letter.step) for letter in batch}
            async with self._database.transaction() as connection:
                known = await lock_rows(connection, sorted({letter.product_id for letter in batch}))
                writes = []
                for rows in known.values():
                    for row in rows:
                        if row.state is StepState.DEAD and (row.product_id, row.kind) in wanted:
                            writes += _after(row, rows, state, batch, by)
                            changed += 1
                await write_rows(connection, writes, owned=False)
                jobs = sorted({letter.job_id for letter in batch if letter.job_id is not None})
                # Also where there are none: dispatch is woken by it.
                await notify_in(connection, PROGRESS_CHANNEL, jobs or ["none"])
        return changed


def _after(
    row: KnownStep,
    rows: Sequence[KnownStep],
    state: StepState,
    letters: Sequence[DeadLetter],
    by: str | None,
) -> list[StepWrite]:
    if state is StepState.DISCARDED:
        told = next(
            letter for letter in letters if (letter.product_id, letter.step) == (row.product_id, row.kind)
        )
        message = told.message if by is None else f"{told.message or ''} (discarded by {by})".lstrip()
        return [StepWrite(replace(row, state=state), told.reason, message)]
    due = replace(row, state=state, attempts=0, retryable=True)
    message = None if by is None else f"retried by {by}"
    return [StepWrite(due, None, message), *(StepWrite(item) for item in following_steps(due, rows))]


def _letter(row: Sequence[Any]) -> DeadLetter:
    return DeadLetter(row[0], StepKind(row[1]), *row[2:])


def _values(wanted: DeadFilter) -> dict[str, Any]:
    return {
        "company": wanted.company,
        "job": wanted.job,
        "step": wanted.step.value if wanted.step else None,
        "product": wanted.product,
        "reason": wanted.reason,
        "namespace": wanted.namespace,
        "until": wanted.until,
    }
