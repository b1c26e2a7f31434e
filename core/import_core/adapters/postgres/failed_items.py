"""Products that finished imports have given up: read as dead letters, import by import, and discarded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from import_core.adapters.postgres.dead_letters import COUNTED, COUNTED_OF_JOB
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.dead_letters import (
    DeadFilter,
    DeadLetter,
    DeadReason,
    DeadReasons,
    DeadStep,
    may_pass,
)
from import_core.domain.item_errors import DISCARDED_STAGE, PRODUCT_STAGES
from import_core.domain.jobs import JobState, ObjectReference

EXAMINED = 500
"""Imports that one statement looks at."""
MOST_STATEMENTS = 20
"""Of one page, which is short, and not the last, where they find no more; as many for the reasons."""
LATER = 50
"""Imports of the company after one's own among which one is looked for that has read the whole catalogue anew."""

_STAGES = ", ".join(f"'{stage}'" for stage in PRODUCT_STAGES)
# A product that failed as a whole. That an image failed is kept with the import's errors: the product is there.
PRODUCT_FAILED = f"e.url = '' AND e.stage IN ({_STAGES})"

JOB = """
    j.id, j."companyId", j.provider, j.status, j.namespace, j."objectName", j."objectUid", j."createdAt",
    coalesce(j."completedAt", j."updatedAt"), j."itemsRetryToken"
"""
# What a later import of the same connection has read anew is that one's, whether it failed again or not. One that
# lists changes alone, or chose other products, says nothing of it.
IS_OLD = f"""EXISTS (SELECT FROM (
    SELECT l.id, l.provider, l.namespace, l.status, l.spec, l."completedAt" FROM "ProductImportJob" l
    WHERE l."companyId" = j."companyId" AND l."parentId" IS NULL AND (l."createdAt", l.id) > (j."createdAt", j.id)
    ORDER BY l."createdAt", l.id LIMIT {LATER}) later
  WHERE later.status = 'COMPLETED' AND later.provider = j.provider
    AND later.namespace IS NOT DISTINCT FROM j.namespace AND later."completedAt" > j."completedAt"
    AND later.spec -> 'filter' IS NOT DISTINCT FROM j.spec -> 'filter'
    AND (SELECT c.reimport ->> 'since' FROM imports.checkpoint c WHERE c.job_id = later.id) IS NULL)"""
# Finished imports, newest first, by keyset over index import_job_shown, both states merged; of a company by
# import_job_company_shown.
OF_ALL = """
SELECT newest.* FROM unnest(ARRAY['COMPLETED', 'FAILED']) AS s (state), LATERAL (
    SELECT j.* FROM "ProductImportJob" j
    WHERE j.status = s.state AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
    ORDER BY j."createdAt" DESC, j.id DESC LIMIT %(examined)s) newest
ORDER BY newest."createdAt" DESC, newest.id DESC LIMIT %(examined)s
"""
OF_COMPANY = """
SELECT j.* FROM "ProductImportJob" j
WHERE j."companyId" = %(company)s AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
ORDER BY j."createdAt" DESC, j.id DESC LIMIT %(examined)s
"""
OF_ONE = """
SELECT j.* FROM "ProductImportJob" j
WHERE j.id = %(job)s AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
"""
IMPORTS = f"""
SELECT {JOB}, j.status IN ('COMPLETED', 'FAILED') AND {{meant}}, {IS_OLD} AS is_old FROM ({{jobs}}) j
ORDER BY j."createdAt" DESC, j.id DESC
"""
# By index item_error_job, import by import, each up to what a page takes; the products' rows by their unique key.
ITEMS = f"""
SELECT found.place, found.external_id, found.stage, found.reason, found.message, found.created_at, p.*
FROM (
    SELECT t.place, t.company, t.provider, e.* FROM unnest(
        %(jobs)s::text[], %(companies)s::text[], %(providers)s::text[], %(afters)s::text[])
        WITH ORDINALITY AS t (id, company, provider, after, place), LATERAL (
        SELECT DISTINCT ON (e.external_id) e.external_id, e.stage, e.reason, e.message, e.created_at
        FROM imports.item_error e
        WHERE e.job_id = t.id AND {PRODUCT_FAILED} AND e.external_id >= coalesce(t.after, '')
          AND e.external_id IS DISTINCT FROM t.after AND {{meant}}
        ORDER BY e.external_id, e.created_at DESC LIMIT %(limit)s) e
    ORDER BY t.place, e.external_id LIMIT %(limit)s) found
LEFT JOIN LATERAL (
    SELECT p.id, p."importSource", p.title FROM "Product" p
    WHERE p."companyId" = found.company AND p."externalId" = found.external_id AND p.connection = found.provider
    LIMIT 1) p ON true
ORDER BY found.place, found.external_id
"""
COUNT = f"""
SELECT of_job.stage, of_job.reason, sum(of_job.number)::bigint, max(t.ended_at)
FROM unnest(%(jobs)s::text[], %(ends)s::timestamptz[]) AS t (id, ended_at), LATERAL (
    SELECT e.stage, e.reason, count(*) AS number FROM imports.item_error e
    WHERE e.job_id = t.id AND {PRODUCT_FAILED} AND {{meant}} GROUP BY e.stage, e.reason) of_job
GROUP BY of_job.stage, of_job.reason
"""
OF_JOBS = f"""
SELECT j.id, CASE WHEN {IS_OLD} THEN 0 ELSE (SELECT count(*) FROM (
    SELECT FROM imports.item_error e WHERE e.job_id = j.id AND {PRODUCT_FAILED} LIMIT %(most)s) failed) END
FROM "ProductImportJob" j WHERE j.id = ANY(%(jobs)s) AND j.status IN ('COMPLETED', 'FAILED')
"""
# Whose row a word names; a product that was never imported has none.
PRODUCT = """SELECT "companyId", "externalId" FROM "Product" WHERE id = %s"""
SOME_IMPORTS = f"""
SELECT {JOB}, {IS_OLD} FROM "ProductImportJob" j
WHERE j.id = ANY(%(jobs)s) AND j."parentId" IS NULL
  AND (%(namespace)s::text IS NULL OR coalesce(j.namespace, %(namespace)s) = %(namespace)s)
"""
# While a job's row is locked and finished, nobody else changes what it gave up.
LOCK_FINISHED = """
SELECT id FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('COMPLETED', 'FAILED') ORDER BY id FOR UPDATE
"""
DISCARD = f"""
WITH discarded AS (
    UPDATE imports.item_error e SET stage = '{DISCARDED_STAGE}', message = e.message || %(by)s
    FROM unnest(%(jobs)s::text[], %(external_ids)s::text[]) AS t (job_id, external_id)
    WHERE e.job_id = t.job_id AND e.external_id = t.external_id AND {PRODUCT_FAILED}
    RETURNING e.job_id, e.external_id)
SELECT count(DISTINCT (job_id, external_id)) FROM discarded
"""


@dataclass(frozen=True, slots=True)
class GivingImport:
    """An import that may have given products up."""

    id: str
    company_id: str
    provider: str
    state: JobState
    namespace: str | None
    origin: ObjectReference | None
    created_at: datetime
    ended_at: datetime
    """Where it has not ended: of its last change."""
    honoured_retry: str | None
    """The value that last had its failed items imported again."""
    is_old: bool
    """A later import of the connection has read the whole catalogue anew."""

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.origin.name if self.origin else self.id


@dataclass(frozen=True, slots=True)
class ItemPosition:
    """Where a list goes on: after this item of this import; `external_id` None: after the import."""

    created_at: datetime
    job_id: str
    external_id: str | None


NEWEST_ITEM = ItemPosition(datetime.max.replace(tzinfo=UTC), "", None)


@dataclass(frozen=True, slots=True)
class ItemsChoice:
    """A filter as conditions: which imports are looked at, which of them are meant, and which of their items."""

    jobs: str
    of_import: str
    of_item: str
    values: Mapping[str, Any]


class FailedItemStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: DeadFilter, *, after: ItemPosition = NEWEST_ITEM, limit: int
    ) -> tuple[list[DeadLetter], ItemPosition | None]:
        """Products that imports gave up, the newest imports first, and where the page after them begins, if any.

        A page may be short, or empty, and not the last: what is looked at for it is bounded.
        """
        letters: list[DeadLetter] = []
        async with self._database.connection() as connection:
            choice = await items_choice(connection, wanted)
            for _ in range(MOST_STATEMENTS):
                imports, meant = await _imports(connection, choice, after)
                if not imports:
                    return letters, None
                place = {imports[0].id: after.external_id} if imports[0].id == after.job_id else {}
                found = await _items(connection, choice, meant, place, limit - len(letters))
                letters += found
                if len(letters) >= limit:
                    last = letters[-1]
                    job = next(job for job in imports if job.id == last.job_id)
                    return letters, ItemPosition(job.created_at, job.id, last.external_id)
                if len(imports) < EXAMINED:
                    return letters, None
                after = ItemPosition(imports[-1].created_at, imports[-1].id, None)
        return letters, after

    async def reasons(self, wanted: DeadFilter) -> DeadReasons:
        """Why imports gave products up, in the newest EXAMINED * MOST_STATEMENTS imports, up to COUNTED products."""
        counts: dict[tuple[str, bool], tuple[int, datetime]] = {}
        after: ItemPosition | None = NEWEST_ITEM
        async with self._database.connection() as connection:
            choice = await items_choice(connection, wanted)
            for _ in range(MOST_STATEMENTS):
                if after is None or sum(number for number, _ in counts.values()) >= COUNTED:
                    break
                imports, meant = await _imports(connection, choice, after)
                is_last = len(imports) < EXAMINED
                after = None if is_last else ItemPosition(imports[-1].created_at, imports[-1].id, None)
                values = {
                    **choice.values,
                    "jobs": [job.id for job in meant],
                    "ends": [job.ended_at for job in meant],
                }
                rows = await (await connection.execute(COUNT.format(meant=choice.of_item), values)).fetchall()
                for stage, reason, number, newest in rows:
                    key = (reason, may_pass(stage, reason))
                    before, at = counts.get(key, (0, newest))
                    counts[key] = (before + number, max(at, newest))
        return _as_reasons(counts, counted_all=after is None)

    async def read(
        self, job_id: str, external_id: str, *, namespace: str | None = None
    ) -> tuple[DeadLetter, GivingImport] | None:
        """What an import says of a product that failed in it, and how the import stands; None: nothing (any more)."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(SOME_IMPORTS, {"jobs": [job_id], "namespace": namespace})
            row = await cursor.fetchone()
            if row is None:
                return None
            job = _import(row[:10], is_old=row[10])
            choice = ItemsChoice("", "true", "e.external_id = %(external_id)s", {"external_id": external_id})
            found = await _items(connection, choice, [job], {}, 1)
        return (found[0], job) if found else None

    async def imports(self, job_ids: Iterable[str]) -> dict[str, GivingImport]:
        """These imports by id, as they stand; those without a row are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(SOME_IMPORTS, {"jobs": list(job_ids), "namespace": None})
            return {row[0]: _import(row[:10], is_old=row[10]) for row in await cursor.fetchall()}

    async def of_jobs(self, job_ids: Sequence[str], *, most: int = COUNTED_OF_JOB) -> dict[str, int]:
        """How many products these imports gave up, each one's counted up to `most`; none that is not finished."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(OF_JOBS, {"jobs": list(job_ids), "most": most})
            return dict(await cursor.fetchall())

    async def discard(self, letters: Sequence[DeadLetter], *, by: str) -> int:
        """Give products up for good: they stay among the import's errors, and are not imported again by its retries.

        Returns how many. What an import that runs (again) has is left out. `by`: who gives them up, which is kept.
        """
        jobs = sorted({letter.job_id for letter in letters if letter.job_id is not None})
        async with self._database.transaction() as connection:
            finished = {row[0] for row in await (await connection.execute(LOCK_FINISHED, (jobs,))).fetchall()}
            chosen = [letter for letter in letters if letter.job_id in finished]
            values = {
                "jobs": [letter.job_id for letter in chosen],
                "external_ids": [letter.external_id for letter in chosen],
                "by": f" (discarded by {by})",
            }
            row = await (await connection.execute(DISCARD, values)).fetchone()
            if finished:
                await notify_in(connection, PROGRESS_CHANNEL, sorted(finished))
        return 0 if row is None else int(row[0])


async def items_choice(connection: Connection, wanted: DeadFilter) -> ItemsChoice:
    """The filter as conditions; the product's row is looked up first, as its company says whose imports to look at."""
    company, values, of_import, of_item = wanted.company, dict[str, Any](), ["true"], ["true"]
    if wanted.product is not None:
        row = await (await connection.execute(PRODUCT, (wanted.product,))).fetchone()
        if row is not None and company not in {None, row[0]}:
            row = None
        company = row[0] if row is not None else company
        values["external_ids"] = [wanted.product] if row is None else [wanted.product, row[1]]
        of_item.append("e.external_id = ANY(%(external_ids)s)")
    for name, value, condition, where in (
        ("reason", wanted.reason, "e.reason = %(reason)s", of_item),
        ("company", company, 'j."companyId" = %(company)s', of_import),
        ("job", wanted.job, "j.id = %(job)s", of_import),
        ("namespace", wanted.namespace, "coalesce(j.namespace, %(namespace)s) = %(namespace)s", of_import),
        ("until", wanted.until, 'coalesce(j."completedAt", j."updatedAt") <= %(until)s', of_import),
    ):
        if value is not None:
            values[name] = value
            where.append(condition)
    jobs = OF_ONE if wanted.job is not None else OF_COMPANY if company is not None else OF_ALL
    return ItemsChoice(jobs, " AND ".join(of_import), " AND ".join(of_item), values)


async def _imports(
    connection: Connection, choice: ItemsChoice, after: ItemPosition
) -> tuple[list[GivingImport], list[GivingImport]]:
    """The next imports, and those of them whose failed products are meant."""
    values = {
        **choice.values,
        "before": after.created_at,
        "before_id": after.job_id,
        "examined": EXAMINED + 1,
    }
    statement = IMPORTS.format(jobs=choice.jobs, meant=choice.of_import)
    rows = await (await connection.execute(statement, values)).fetchall()
    if after.external_id is None:
        rows = [row for row in rows if row[0] != after.job_id]
    imports = [_import(row[:10], is_old=row[11]) for row in rows]
    meant = {row[0] for row in rows if row[10] and not row[11]}
    return imports, [job for job in imports if job.id in meant]


async def _items(
    connection: Connection,
    choice: ItemsChoice,
    jobs: Sequence[GivingImport],
    afters: Mapping[str, str | None],
    limit: int,
) -> list[DeadLetter]:
    values = {
        **choice.values,
        "jobs": [job.id for job in jobs],
        "companies": [job.company_id for job in jobs],
        "providers": [job.provider for job in jobs],
        "afters": [afters.get(job.id) for job in jobs],
        "limit": limit,
    }
    rows = await (await connection.execute(ITEMS.format(meant=choice.of_item), values)).fetchall()
    return [_letter(jobs[row[0] - 1], row[1:]) for row in rows]


def _letter(job: GivingImport, row: Sequence[Any]) -> DeadLetter:
    external_id, stage, reason, message, created_at, product_id, import_source, title = row
    return DeadLetter(
        product_id=product_id,
        step=DeadStep.IMPORT,
        company_id=job.company_id,
        job_id=job.id,
        attempts=1,
        retryable=may_pass(stage, reason),
        reason=reason,
        message=message,
        content_hash=None,
        recorded_at=created_at,
        died_at=job.ended_at,
        external_id=external_id,
        import_source=import_source,
        title=title,
    )


def _import(row: Sequence[Any], *, is_old: bool) -> GivingImport:
    job_id, company, provider, state, namespace, name, uid, created_at, ended_at, honoured = row
    origin = ObjectReference(namespace, name, uid) if name and uid else None
    return GivingImport(
        job_id,
        company,
        provider,
        JobState(state),
        namespace,
        origin,
        created_at,
        ended_at,
        honoured,
        is_old=is_old,
    )


def _as_reasons(counts: Mapping[tuple[str, bool], tuple[int, datetime]], *, counted_all: bool) -> DeadReasons:
    """One row for each reason; retryable where some of it may pass."""
    by_reason = []
    for reason, group in groupby(sorted(counts), key=lambda key: key[0]):
        keys = list(group)
        number, newest = sum(counts[key][0] for key in keys), max(counts[key][1] for key in keys)
        by_reason.append(
            DeadReason(DeadStep.IMPORT, reason, number, newest, retryable=any(passing for _, passing in keys))
        )
    by_reason.sort(key=lambda row: (-row.count, row.reason))
    return DeadReasons(by_reason, sum(row.count for row in by_reason), False, counted_all=counted_all)
