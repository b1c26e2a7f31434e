"""Marks of incremental re-imports: one for each connection, read and moved behind the claim."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.claims import PAGE_TRANSACTION_SECONDS, lock_claim
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.removals import Owner
from import_core.domain.item_errors import DISCARDED_STAGE
from import_core.domain.jobs import CHECKPOINT_VERSION, Claim
from import_core.domain.reimport import LASTING_REASONS, LASTING_STAGES, Listing, Mark

# The time is taken here, before the first call: what changes while the listing runs is listed again next time.
STATE = """
SELECT clock_timestamp(), c.reimport, coalesce(c.pages, 0), m.fingerprint, m.listed_at, m.incrementals
FROM (SELECT) one
LEFT JOIN imports.checkpoint c ON c.job_id = %(job)s
LEFT JOIN imports.reimport_mark m ON m.company_id = %(company)s AND m.import_source = %(source)s
    AND m.connection = %(connection)s
"""
# The listing is kept with the checkpoint and goes with it, so a run from the start decides anew.
KEEP_LISTING = """
INSERT INTO imports.checkpoint AS c (job_id, version, cursor, progress, pages, started_at, reimport)
VALUES (%(job)s, %(version)s, NULL, '{}', 0, (SELECT "startedAt" FROM "ProductImportJob" WHERE id = %(job)s),
    %(listing)s)
ON CONFLICT (job_id) DO UPDATE SET reimport = excluded.reimport
"""
# Other settings write other rows from the first page on, also where the run then fails: from here on nobody
# knows which rows are whose.
VOID = """
DELETE FROM imports.reimport_mark WHERE company_id = %(company)s AND import_source = %(source)s
    AND connection = %(connection)s AND fingerprint <> %(fingerprint)s
"""
# Counted as they begin: those that fail bring the next full one nearer, too.
COUNT_INCREMENTAL = """
UPDATE imports.reimport_mark SET incrementals = incrementals + 1 WHERE company_id = %(company)s
    AND import_source = %(source)s AND connection = %(connection)s AND fingerprint = %(fingerprint)s
"""
PASSING_FAILURES = """
SELECT count(*) FROM (
    SELECT FROM imports.item_error WHERE job_id = %s AND stage <> ALL(%s) AND reason <> ALL(%s) LIMIT 1) failed
"""
# Of two runs at once, the one that read a product first may have written it last: neither knows what it left
# behind. By the index on (companyId, status).
_ALONE = """
    NOT EXISTS (SELECT FROM "ProductImportJob" o
        WHERE o."companyId" = %(company)s AND o.provider = %(connection)s AND o.id <> %(job)s
          AND (o.status = 'IN_PROGRESS' OR o."completedAt" >= %(begun_at)s
               OR o.status = 'PENDING' AND EXISTS (SELECT FROM imports.checkpoint c WHERE c.job_id = o.id)))
"""
MOVE_BY_FULL = f"""
INSERT INTO imports.reimport_mark AS m
    (company_id, import_source, connection, fingerprint, listed_at, full_at, incrementals, job_id)
SELECT %(company)s, %(source)s, %(connection)s, %(fingerprint)s, %(begun_at)s, %(begun_at)s, 0, %(job)s
WHERE {_ALONE}
ON CONFLICT (company_id, import_source, connection) DO UPDATE SET fingerprint = excluded.fingerprint,
    listed_at = excluded.listed_at, full_at = excluded.full_at, incrementals = 0, job_id = excluded.job_id
WHERE m.listed_at < excluded.listed_at
RETURNING 1
"""
# Never inserts: without the mark that it began at, an incremental run proves nothing.
MOVE_BY_INCREMENTAL = f"""
UPDATE imports.reimport_mark m SET listed_at = %(begun_at)s, job_id = %(job)s
WHERE m.company_id = %(company)s AND m.import_source = %(source)s AND m.connection = %(connection)s
  AND m.fingerprint = %(fingerprint)s AND m.listed_at < %(begun_at)s AND {_ALONE}
RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class ReimportState:
    """What a run has to know before its first call. `now` is PostgreSQL's time.

    `listing` is an earlier try's; `has_pages`: that try has committed pages, so the listing must go on.
    """

    now: datetime
    mark: Mark | None
    listing: Listing | None
    has_pages: bool


class ReimportStore:
    """Marks in PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self, claim: Claim, owner: Owner) -> ReimportState:
        """Read the connection's mark and the job's listing."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(STATE, _scope(claim, owner))
            (row,) = await cursor.fetchall()
        now, listing, pages, fingerprint, listed_at, incrementals = row
        return ReimportState(
            now,
            Mark(fingerprint, listed_at, incrementals) if fingerprint is not None else None,
            Listing.from_json(listing) if listing is not None else None,
            pages > 0,
        )

    async def begin(self, claim: Claim, owner: Owner, listing: Listing) -> None:
        """Keep what the run lists, before it lists it. Raises ClaimLostError; nothing is written then."""
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await lock_claim(connection, claim)
            await _void(connection, claim, owner, listing.fingerprint)
            scope = {**_scope(claim, owner), "fingerprint": listing.fingerprint}
            if listing.since is not None:
                await connection.execute(COUNT_INCREMENTAL, scope)
            await connection.execute(
                KEEP_LISTING,
                {"job": claim.job.id, "version": CHECKPOINT_VERSION, "listing": Jsonb(listing.to_json())},
            )

    async def void(self, claim: Claim, owner: Owner, fingerprint: str) -> None:
        """Forget a mark of other settings, before a run that moves none writes by its own. Raises ClaimLostError."""
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await lock_claim(connection, claim)
            await _void(connection, claim, owner, fingerprint)

    async def passing_failures(self, job_id: str) -> int:
        """1 where an item of the job failed for a reason that may pass, else 0."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                PASSING_FAILURES, (job_id, [*LASTING_STAGES, DISCARDED_STAGE], list(LASTING_REASONS))
            )
            ((number,),) = await cursor.fetchall()
        return int(number)

    async def move(self, claim: Claim, owner: Owner, listing: Listing) -> bool:
        """Move the mark to where the listing began, never back; returns whether it moved.

        It stays where another job of the connection ran meanwhile. Raises ClaimLostError.
        """
        statement = MOVE_BY_FULL if listing.since is None else MOVE_BY_INCREMENTAL
        parameters = {
            **_scope(claim, owner),
            "fingerprint": listing.fingerprint,
            "begun_at": listing.begun_at,
        }
        async with self._database.transaction(timeout_seconds=PAGE_TRANSACTION_SECONDS) as connection:
            await lock_claim(connection, claim)
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchone() is not None


async def _void(connection: Connection, claim: Claim, owner: Owner, fingerprint: str) -> None:
    await connection.execute(VOID, {**_scope(claim, owner), "fingerprint": fingerprint})


def _scope(claim: Claim, owner: Owner) -> dict[str, str]:
    return {
        "job": claim.job.id,
        "company": owner.company_id,
        "source": owner.import_source,
        "connection": owner.connection,
    }
