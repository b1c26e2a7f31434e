"""Steps after the import: recorded with the products they are for, read as batches, ended behind the claim."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from import_core.adapters.postgres.claims import (
    PAGE_TRANSACTION_SECONDS,
    finish_in,
    lock_claim,
    release_in,
)
from import_core.adapters.postgres.embedding_setups import without_outdated
from import_core.adapters.postgres.gone_products import forget_products
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify_in
from import_core.adapters.postgres.notifications_outbox import note_steps_of
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.step_figures import count_given_up
from import_core.adapters.postgres.step_rows import (
    COLUMNS,
    StepWrite,
    known_from_row,
    lock_rows,
    write_rows,
)
from import_core.domain.jobs import Claim, JobState, WaitingReason
from import_core.domain.step_changes import archived_steps, judged_steps, without_job
from import_core.domain.steps import (
    BATCH_SIZES,
    BatchEnd,
    KnownStep,
    StepDone,
    StepEnd,
    StepFailed,
    StepImage,
    StepKind,
    StepPostponed,
    StepProduct,
    StepState,
    asked_steps,
    following_steps,
    plan_steps,
)

# The state of a product that steps are about: its content, its status and its images by place.
CONTENT_HASH = """
encode(sha256(convert_to(concat_ws(E'\\n', p."contentHash", coalesce(p.status, ''), (
    SELECT string_agg(concat_ws(' ', i.position, coalesce(i.sha256, i.key), i."altText"), E'\\n'
        ORDER BY i.position, i."sourceUrl")
    FROM "ProductImage" i WHERE i."productId" = p.id)), 'UTF8')), 'hex')
"""
PRODUCTS = """
SELECT id FROM "Product" WHERE "companyId" = %s AND "importSource" = %s AND "externalId" = ANY(%s)
"""
HASHES = f"""SELECT p.id, {CONTENT_HASH} FROM "Product" p WHERE p.id = ANY(%s)"""
# When the product, what was asked of it, or what was decided on it last changed.
VERSION = """
(greatest(extract(epoch FROM s.updated_at), extract(epoch FROM coalesce(p."updatedAt", p."createdAt")),
    extract(epoch FROM (SELECT d.decided_at FROM imports.quality_decision d WHERE d.product_id = p.id)))
    * 1000000)::bigint
"""
PARENT_OF = 'SELECT "parentId" FROM "ProductImportJob" WHERE id = %s'
BATCH = f"""
SELECT {COLUMNS}, p.id, {CONTENT_HASH}, p.title, p.description, p.price, p.currency, p.vendor, p."productType",
    p.status, p.tags, {VERSION}
FROM imports.product_step s LEFT JOIN "Product" p ON p.id = s.product_id
WHERE s.batch_id = %s AND s.state = 'Due' ORDER BY s.product_id LIMIT %s
"""
IMAGES = """
SELECT "productId", key, "contentType", width, height, sha256, "altText", position FROM "ProductImage"
WHERE "productId" = ANY(%s) ORDER BY "productId", position, "sourceUrl"
"""
# An ImportJob that is cancelled, suspended or deleted waits for batches that end right now, or they see it. The
# parent comes first, then the claim: whoever takes jobs away ends the claims of batches after their parent's row.
LOCK_PARENT = 'SELECT status FROM "ProductImportJob" WHERE id = %s FOR SHARE'
# In the order in which a page upserts them, which then waits here and not for rows of steps.
LOCK_CATALOGUE = """
SELECT id FROM "Product" WHERE id = ANY(%s) ORDER BY "externalId", id FOR NO KEY UPDATE
"""
IN_BATCH = "SELECT product_id FROM imports.product_step WHERE batch_id = %s"
FORGET = "DELETE FROM imports.product_step WHERE product_id = ANY(%s)"

Write = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step job stands for, as it was read; `gone`: products that are not there any more."""

    kind: StepKind
    parent_id: str
    rows: Sequence[KnownStep]
    products: Sequence[StepProduct]
    gone: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a batch's job has ended: None where it is due again."""

    state: JobState | None


async def record_steps(
    connection: Connection,
    claim: Claim,
    kinds: Sequence[StepKind],
    *,
    import_source: str,
    external_ids: Sequence[str],
    sizes: Mapping[StepKind, int] = BATCH_SIZES,
) -> None:
    """Record what a page's products have to go through, with the first batches, inside the page's transaction."""
    company = claim.job.company_id
    cursor = await connection.execute(PRODUCTS, (company, import_source, list(external_ids)))
    known, hashes = await _lock(connection, [row[0] for row in await cursor.fetchall()])
    if StepKind.EMBEDDING in kinds:
        known = await without_outdated(connection, known)
    writes = [
        StepWrite(replace(row, company_id=company))
        for product_id, content_hash in hashes.items()
        for row in plan_steps(
            kinds,
            content_hash,
            known.get(product_id, ()),
            product_id=product_id,
            job_id=claim.job.id,
        )
    ]
    await write_rows(connection, writes, sizes=sizes)


async def _lock(
    connection: Connection, product_ids: Sequence[str]
) -> tuple[dict[str, Sequence[KnownStep]], dict[str, str]]:
    """Lock the rows of products, then read the products' states: what another import wrote before is seen."""
    known: dict[str, Sequence[KnownStep]] = {**await lock_rows(connection, sorted(product_ids))}
    cursor = await connection.execute(HASHES, (list(product_ids),))
    return known, dict(await cursor.fetchall())


async def record_archived(
    connection: Connection,
    claim: Claim,
    product_ids: Sequence[str],
    *,
    sizes: Mapping[StepKind, int] = BATCH_SIZES,
) -> None:
    """Have archived products taken out of the indexes, inside the transaction that archives them.

    The step of embeddings only where the ImportJob asks for it, as it holds up what follows where nobody takes it.
    """
    taking_out = {StepKind.INDEX, *asked_steps(claim.job.spec)} & {StepKind.EMBEDDING, StepKind.INDEX}
    known, hashes = await _lock(connection, product_ids)
    writes = [
        StepWrite(row)
        for product_id, rows in known.items()
        for row in archived_steps(taking_out, hashes[product_id], rows, job_id=claim.job.id)
    ]
    await write_rows(connection, writes, sizes=sizes)


async def judge_steps(
    connection: Connection, product_ids: Sequence[str], kind: StepKind, *, halts: bool
) -> list[str]:
    """Let products go on that a step has halted, or halt them, because a person says so; returns which.

    Inside the caller's transaction. The next steps' batches belong to no ImportJob.
    """
    known = await lock_rows(connection, sorted(product_ids))
    changed = {product_id: judged_steps(kind, rows, halts=halts) for product_id, rows in known.items()}
    writes = [StepWrite(row) for rows in changed.values() for row in rows]
    await write_rows(connection, writes, owned=False)
    # Also where there are none: dispatch is woken by it.
    jobs = {row.job_id for rows in changed.values() for row in rows if row.job_id is not None}
    await notify_in(connection, PROGRESS_CHANNEL, sorted(jobs) or ["none"])
    return [product_id for product_id, rows in changed.items() if rows]


class StepStore:
    """Batches of steps. Methods raise DatabaseUnavailableError when the database is away.

    `sizes`: products of one batch, at most. The operator, people and workers of other settings make batches, too: of a
    larger one the rest is due again, in batches of this size, when its job ends.
    """

    def __init__(self, database: Database, *, sizes: Mapping[StepKind, int] = BATCH_SIZES) -> None:
        self._database = database
        self._sizes = sizes

    async def read(self, job_id: str, kind: StepKind) -> Batch:
        """The products of a step job, with their images; the first ones of one that is too large."""
        async with self._database.connection() as connection:
            parent = await (await connection.execute(PARENT_OF, (job_id,))).fetchone()
            rows = await (await connection.execute(BATCH, (job_id, self._sizes[kind]))).fetchall()
            found = [row for row in rows if row[11] is not None]
            cursor = await connection.execute(IMAGES, ([row[11] for row in found],))
            images: dict[str, list[StepImage]] = {}
            for product_id, *values in await cursor.fetchall():
                images.setdefault(product_id, []).append(StepImage(*values))
        return Batch(
            kind=kind,
            parent_id=(parent and parent[0]) or job_id,
            rows=[known_from_row(row) for row in found],
            products=[_product(row, images.get(row[11], [])) for row in found],
            gone=[row[0] for row in rows if row[11] is None],
        )

    async def end(self, claim: Claim, batch: Batch, end: BatchEnd, *, write: Write | None = None) -> Ended:
        """End a batch in one transaction: what the step keeps, its rows, those of the next step, and the job.

        A row that changed meanwhile is not marked: it is due again in a batch of its own. Raises ClaimLostError
        when the claim has ended; nothing is written then.
        """
        job_id = claim.job.id
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            owned = batch.parent_id != job_id
            cancelled = owned and await _lock_parent(connection, batch.parent_id)
            await lock_claim(connection, claim)
            await connection.execute(LOCK_CATALOGUE, ([row.product_id for row in batch.rows],))
            rows = await self._lock(connection, job_id, batch)
            if write is not None:
                await write(connection)
            if batch.gone:
                await connection.execute(FORGET, (list(batch.gone),))
                await forget_products(connection, batch.gone)
            hashes = {product.product_id: product.content_hash for product in batch.products}
            writes = _writes(job_id, rows, end, hashes, cancelled=batch.parent_id if cancelled else None)
            again = end.job_again and not cancelled and any(_stays(item.row, job_id) for item in writes)
            if not again:
                writes = [_out_of(job_id, item) for item in writes]
            await write_rows(connection, writes, owned=owned, sizes=self._sizes)
            # Also imports that have asked for these products since: the rows are theirs.
            told = {item.row.job_id for item in writes if item.row.job_id is not None}
            await note_steps_of(connection, told, batch_of=batch.parent_id)
            ended = await _end_job(connection, claim, end, again=again)
            await notify_in(connection, PROGRESS_CHANNEL, sorted(told | {batch.parent_id}))
            own = [item for item in writes if item.row.kind is batch.kind]
            dead = [(job_id, batch.kind, item.reason) for item in own if item.row.state is StepState.DEAD]
            await count_given_up(connection, dead)
        return ended

    async def _lock(self, connection: Connection, job_id: str, batch: Batch) -> dict[str, list[KnownStep]]:
        inside = await (await connection.execute(IN_BATCH, (job_id,))).fetchall()
        products = {row.product_id for row in batch.rows} | {row[0] for row in inside}
        return await lock_rows(connection, sorted(products - set(batch.gone)))


async def _lock_parent(connection: Connection, parent_id: str) -> bool:
    """Keep the ImportJob's row as it is until the transaction ends; returns whether it is cancelled."""
    row = await (await connection.execute(LOCK_PARENT, (parent_id,))).fetchone()
    return row is not None and row[0] == JobState.CANCELLED


def _writes(
    job_id: str,
    rows: Mapping[str, Sequence[KnownStep]],
    end: BatchEnd,
    hashes: Mapping[str, str],
    *,
    cancelled: str | None,
) -> list[StepWrite]:
    """All rows that the end of a batch changes; `cancelled`: the batch's ImportJob, where it is."""
    ends = {item.row.product_id: item for item in end.ends}
    writes: list[StepWrite] = []
    for product_id, known in rows.items():
        ended = ends.get(product_id)
        changed: dict[StepKind, StepWrite] = {}
        for row in known:
            if row.batch_id != job_id:
                continue
            if ended is None or row.state is not StepState.DUE or row.content_hash != ended.row.content_hash:
                changed[row.kind] = StepWrite(row)
                continue
            after = _after(row, ended, hashes.get(product_id), stays=end.job_again)
            changed[row.kind] = after
            if not after.row.state.is_open:
                changed |= {item.kind: StepWrite(item) for item in following_steps(after.row, known)}
        if cancelled is not None:
            changed |= _without(cancelled, known, changed)
        writes += changed.values()
    return writes


def _without(
    job_id: str, known: Sequence[KnownStep], changed: Mapping[StepKind, StepWrite]
) -> dict[StepKind, StepWrite]:
    """What differs from `changed` once an ImportJob is cancelled: another's products may be in its batches."""
    now = [changed[row.kind].row if row.kind in changed else row for row in known]
    return {
        row.kind: replace(changed[row.kind], row=row) if row.kind in changed else StepWrite(row)
        for row in without_job(now, job_id)
    }


def _after(row: KnownStep, ended: StepEnd, content_hash: str | None, *, stays: bool) -> StepWrite:
    """The row after its try; `stays`: one that is tried again stays in its batch."""
    outcome, told = ended.outcome, ended.row
    changed = replace(
        row, state=told.state, attempts=told.attempts, retryable=told.retryable, halts=told.halts
    )
    if isinstance(outcome, StepDone):
        done = replace(changed, batch_id=None)
        return StepWrite(done, done_hash=content_hash, result=outcome.result)
    if isinstance(outcome, StepPostponed):
        return StepWrite(
            replace(row, batch_id=None),
            outcome.waiting_reason,
            outcome.message,
            delay_seconds=outcome.seconds,
            waiting_reason=outcome.waiting_reason,
        )
    if ended.retry_after is None:
        return StepWrite(replace(changed, batch_id=None), outcome.reason, outcome.message)
    kept = changed if stays else replace(changed, batch_id=None)
    return StepWrite(kept, outcome.reason, outcome.message, delay_seconds=ended.retry_after)


def _stays(row: KnownStep, job_id: str) -> bool:
    return row.state is StepState.DUE and row.batch_id == job_id


def _out_of(job_id: str, write: StepWrite) -> StepWrite:
    """The same, in no batch that has ended."""
    return replace(write, row=replace(write.row, batch_id=None)) if write.row.batch_id == job_id else write


async def _end_job(connection: Connection, claim: Claim, end: BatchEnd, *, again: bool) -> Ended:
    failure = end.failure
    if again:
        await release_in(
            connection,
            claim,
            delay_seconds=end.delay_seconds,
            tries=1,
            waiting_reason=WaitingReason.RETRY,
            message=_sentence(failure),
        )
        return Ended(None)
    state = JobState.COMPLETED if failure is None else JobState.FAILED
    await finish_in(
        connection,
        claim,
        state,
        reason=failure.reason if failure else None,
        message=_sentence(failure),
    )
    return Ended(state)


def _sentence(failure: StepFailed | None) -> str | None:
    return failure.message if failure else None


def _product(row: Sequence[Any], images: Sequence[StepImage]) -> StepProduct:
    """Read a row of BATCH: its columns of the product are behind those of the step."""
    product_id, content_hash, title, description, price, currency, vendor, kind, status, tags, version = row[
        11:
    ]
    return StepProduct(
        product_id=product_id,
        company_id=row[9],
        content_hash=content_hash,
        title=title or "",
        description=description,
        price=price,
        currency=currency,
        vendor=vendor,
        product_type=kind,
        status=status,
        tags=tuple(tags or ()),
        images=tuple(images),
        version=version,
    )
