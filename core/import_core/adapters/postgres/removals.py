"""Products that are gone from the source: what a run has seen, what it has not, and archiving the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from import_core.adapters.postgres.catalogue_versions import bump
from import_core.adapters.postgres.claims import PAGE_TRANSACTION_SECONDS, lock_claim
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.steps import record_archived
from import_core.domain.jobs import Claim
from import_core.domain.steps import BATCH_SIZES, StepKind

BATCH = 500
"""Products archived in one transaction."""

RECORD_SEEN = """
INSERT INTO imports.seen_product (job_id, external_id) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING
"""
# Rows from before connections were kept, or of an import that changed nothing: written once, then never again.
# In the order of the ids, as products are upserted, so that two jobs don't wait for each other in a circle.
OWN_SEEN = """
UPDATE "Product" p SET connection = %(connection)s
FROM (SELECT id FROM "Product"
      WHERE "companyId" = %(company)s AND "importSource" = %(source)s AND "externalId" = ANY(%(ids)s)
        AND connection IS NULL
      ORDER BY "externalId" FOR UPDATE) unowned
WHERE p.id = unowned.id
"""

_OWN = """
    p."companyId" = %(company)s AND p."importSource" = %(source)s AND p.connection = %(connection)s
    AND lower(p.status) IS DISTINCT FROM 'archived'
"""
_GONE = """
    NOT EXISTS (SELECT FROM imports.seen_product s WHERE s.job_id = %(job)s AND s.external_id = p."externalId")
"""
# What another job of the connection wrote since this run began was at the source then, whatever this one saw:
# it may be newer than the listing. A confirmed job starts anew, so the start is the one kept with the pages;
# where none was kept, nothing is known to be gone.
MEASURE = f"""
WITH known AS (
    SELECT c.started_at AS since,
        EXISTS (SELECT FROM imports.seen_product s WHERE s.job_id = j.id) AS has_seen
    FROM "ProductImportJob" j LEFT JOIN imports.checkpoint c ON c.job_id = j.id WHERE j.id = %(job)s
)
SELECT known.since, known.has_seen, owned.missing, owned.present
FROM known, LATERAL (
    SELECT count(*) AS present,
        count(*) FILTER (WHERE coalesce(p."updatedAt", '-infinity') < known.since AND {_GONE}) AS missing
    FROM "Product" p WHERE {_OWN}) owned
"""
# The content's hash goes with it, so that a product that comes back is written, whatever its status was. It is hidden
# at once; out of another search index than PostgreSQL it is taken by the index's step, which follows.
ARCHIVE = f"""
WITH gone AS (
    SELECT p.id FROM "Product" p
    WHERE {_OWN} AND p."externalId" > %(after)s AND coalesce(p."updatedAt", '-infinity') < %(since)s AND {_GONE}
    ORDER BY p."externalId" LIMIT %(limit)s FOR UPDATE OF p
), archived AS (
    UPDATE "Product" p SET status = 'archived', "contentHash" = NULL, "updatedAt" = now()
    FROM gone WHERE p.id = gone.id RETURNING p.id, p."externalId"
), unlisted AS (
    DELETE FROM imports.search_document d USING archived WHERE d.product_id = archived.id
)
SELECT count(*), max("externalId"), array_agg(id) FROM archived
"""
# Counted here and not by the worker, which may not know whether its last transaction was committed.
COUNT_ARCHIVED = """
UPDATE imports.checkpoint SET progress = jsonb_set(progress, '{products_archived}',
    to_jsonb(coalesce((progress ->> 'products_archived')::integer, 0) + %s::integer))
WHERE job_id = %s RETURNING (progress ->> 'products_archived')::integer
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose products: of one company, from one type of provider, by one connection (an ImportProvider's name)."""

    company_id: str
    import_source: str
    connection: str


@dataclass(frozen=True, slots=True)
class Removals:
    """A connection's products that are not archived: how many there are, and how many were not seen.

    `since`: only rows older than this, the run's start, count as missing; None where none do. `has_seen`: the
    run has kept any id at all.
    """

    present: int
    missing: int
    since: datetime | None
    has_seen: bool


@dataclass(frozen=True, slots=True)
class ArchivedBatch:
    """`archived`: products that the job has archived so far, in all its tries; `last`: the greatest external id
    of this transaction's, None where nothing was left to archive."""

    archived: int
    last: str | None


class RemovalStore:
    """Archives products of one run, under its claim. Methods raise DatabaseUnavailableError.

    `batch`: products archived in one transaction; `batch_sizes`: products of one job of a step that follows.
    """

    def __init__(
        self,
        database: Database,
        *,
        batch: int = BATCH,
        batch_sizes: Mapping[StepKind, int] = BATCH_SIZES,
    ) -> None:
        self._database = database
        self._batch = batch
        self._batch_sizes = batch_sizes

    async def measure(self, claim: Claim, owner: Owner) -> Removals:
        """Count what is there and what the run did not see; raises ClaimLostError."""
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await lock_claim(connection, claim)
            cursor = await connection.execute(MEASURE, _scope(claim, owner))
            since, has_seen, missing, present = await _one(cursor)
        return Removals(present, missing, since, has_seen)

    async def archive(
        self, claim: Claim, owner: Owner, *, since: datetime | None, after: str, limit: int
    ) -> ArchivedBatch:
        """Archive the next unseen products in the order of their external ids, behind `after`, at most `limit`.

        They are counted in the checkpoint in the same transaction. Raises ClaimLostError; nothing is written
        then.
        """
        limits = {"since": since, "after": after, "limit": min(limit, self._batch)}
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await lock_claim(connection, claim)
            cursor = await connection.execute(ARCHIVE, {**_scope(claim, owner), **limits})
            products, last, ids = await _one(cursor)
            if ids:
                await record_archived(connection, claim, ids, sizes=self._batch_sizes)
            cursor = await connection.execute(COUNT_ARCHIVED, (products, claim.job.id))
            (archived,) = await _one(cursor)
            if products:
                await bump(connection, [owner.company_id])
        return ArchivedBatch(archived, last)


async def record_seen(connection: Connection, job_id: str, owner: Owner, external_ids: Sequence[str]) -> None:
    """Keep the ids that a page showed, inside its transaction, and make rows without a connection this one's."""
    ids = list(external_ids)
    await connection.execute(RECORD_SEEN, (job_id, ids))
    await connection.execute(
        OWN_SEEN,
        {
            "connection": owner.connection,
            "company": owner.company_id,
            "source": owner.import_source,
            "ids": ids,
        },
    )


async def _one(cursor: AsyncCursor[TupleRow]) -> TupleRow:
    row = await cursor.fetchone()
    if row is None:
        raise LookupError("the job has a claim, but no row or no checkpoint")
    return row


def _scope(claim: Claim, owner: Owner) -> dict[str, Any]:
    return {
        "job": claim.job.id,
        "company": owner.company_id,
        "source": owner.import_source,
        "connection": owner.connection,
    }
