"""Products that finished imports have given up: read as dead letters, import by import, and discarded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from import_core.adapters.postgres.dead_letters import COUNTED, COUNTED_OF_JOB
from import_core.adapters.postgres.failed_item_choice import (
    EXAMINED,
    IS_OLD,
    JOB,
    PRODUCT_FAILED,
    ItemsChoice,
    items_choice,
)
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
from import_core.domain.item_errors import DISCARDED_STAGE
from import_core.domain.jobs import JobState, ObjectReference

MOST_STATEMENTS = 20
"""Of one page, which is short, and not the last, where they find no more; as many for the reasons."""

OF_JOBS = f"""
SELECT j.id, CASE WHEN {IS_OLD} THEN 0 ELSE (SELECT count(*) FROM (
    SELECT FROM imports.item_error e WHERE e.job_id = j.id AND {PRODUCT_FAILED} LIMIT %(most)s) failed) END
FROM "ProductImportJob" j WHERE j.id = ANY(%(jobs)s) AND j.status IN ('COMPLETED', 'FAILED')
"""
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
                found, stopped = await _items(connection, choice, meant, place, limit - len(letters))
                letters += found
                if len(letters) >= limit:
                    last = letters[-1]
                    job = next(job for job in imports if job.id == last.job_id)
                    return letters, ItemPosition(job.created_at, job.id, last.external_id)
                if stopped is None and len(imports) < EXAMINED:
                    return letters, None
                after = stopped or ItemPosition(imports[-1].created_at, imports[-1].id, None)
        return letters, after

    async def reasons(self, wanted: DeadFilter) -> DeadReasons:
        """Why imports gave products up: the newest EXAMINED * MOST_STATEMENTS of them, and COUNTED errors of theirs."""
        counts: dict[tuple[str, bool], tuple[int, datetime]] = {}
        after, left = NEWEST_ITEM, COUNTED
        async with self._database.connection() as connection:
            choice = await items_choice(connection, wanted)
            for _ in range(MOST_STATEMENTS):
                imports, meant = await _imports(connection, choice, after)
                values = {
                    **choice.values,
                    "jobs": [job.id for job in meant],
                    "ends": [job.ended_at for job in meant],
                    "most": left,
                }
                (total, *rows) = await (await connection.execute(choice.count, values)).fetchall()
                for stage, reason, number, newest, _ in rows:
                    key = (reason, may_pass(stage, reason))
                    before, at = counts.get(key, (0, newest))
                    counts[key] = (before + number, max(at, newest))
                left -= total[-1]
                if left <= 0:
                    break
                if len(imports) < EXAMINED:
                    return _as_reasons(counts, counted_all=True)
                after = ItemPosition(imports[-1].created_at, imports[-1].id, None)
        return _as_reasons(counts, counted_all=False)

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
            only = "e.job_id = t.id AND e.external_id = %(external_id)s"
            choice = ItemsChoice("", "true", only, "true", {"external_id": external_id})
            found, _ = await _items(connection, choice, [job], {}, 1)
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

    async def discard(self, letters: Sequence[DeadLetter], *, by: str) -> tuple[int, set[str]]:
        """Give products up for good: they stay among the import's errors, and are not imported again by its retries.

        Returns how many, and which imports have not ended (any more): theirs are left as they are. `by`: who gives them
        up, which is kept.
        """
        jobs = {letter.job_id for letter in letters if letter.job_id is not None}
        async with self._database.transaction() as connection:
            cursor = await connection.execute(LOCK_FINISHED, (sorted(jobs),))
            finished = {row[0] for row in await cursor.fetchall()}
            chosen = [letter for letter in letters if letter.job_id in finished]
            values = {
                "jobs": [letter.job_id for letter in chosen],
                "external_ids": [letter.external_id for letter in chosen],
                "by": f" (discarded by {by})",
            }
            row = await (await connection.execute(DISCARD, values)).fetchone()
            if finished:
                await notify_in(connection, PROGRESS_CHANNEL, sorted(finished))
        return 0 if row is None else int(row[0]), jobs - finished


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
    rows = await (await connection.execute(choice.imports, values)).fetchall()
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
) -> tuple[list[DeadLetter], ItemPosition | None]:
    """The next failed products of these imports, and where it stopped before it had looked at all, if so."""
    values = {
        **choice.values,
        "jobs": [job.id for job in jobs],
        "companies": [job.company_id for job in jobs],
        "providers": [job.provider for job in jobs],
        "afters": [afters.get(job.id) for job in jobs],
        "limit": limit,
    }
    letters, stopped = [], None
    for place, external_id, stage, *rest in await (await connection.execute(choice.items, values)).fetchall():
        job = jobs[place - 1]
        if stage is None:
            stopped = ItemPosition(job.created_at, job.id, external_id)
        else:
            letters.append(_letter(job, (external_id, stage, *rest)))
    return letters, stopped


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
