"""Quality control in PostgreSQL: what was decided on each product, what waits for a person, the day's budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.adapters.postgres.pool import Connection, Database, server_time
from import_core.adapters.postgres.quality_following import Change, follow_decisions, lock_followers
from import_core.domain.errors import HandBackError
from import_core.domain.jobs import WaitingReason
from import_core.domain.quality import (
    DecidedBy,
    Decision,
    Reason,
    Verdict,
    reason_documents,
    reasons_of,
)

TRANSACTION_SECONDS = 15.0
BATCH = 500
"""Products decided in one transaction."""
PAGE = 500
NOTE_LIMIT = 500
DAYS_KEPT = 60

# A person's word on the same state stays, whoever comes later. What was flagged before waits since then.
WRITE = """
INSERT INTO imports.quality_decision AS d
    (product_id, company_id, content_hash, decision, reasons, decided_by, person, note, decided_at, flagged_at)
SELECT product_id, company_id, content_hash, decision, reasons::jsonb, decided_by, person, note, now(),
    CASE WHEN decision = 'flagged' THEN now() END
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    AS given (product_id, company_id, content_hash, decision, reasons, decided_by, person, note)
ORDER BY product_id
ON CONFLICT (product_id) DO UPDATE SET
    company_id = excluded.company_id, content_hash = excluded.content_hash, decision = excluded.decision,
    reasons = excluded.reasons, decided_by = excluded.decided_by, decided_at = excluded.decided_at,
    person = excluded.person, note = excluded.note,
    flagged_at = CASE WHEN excluded.decision = 'flagged' THEN coalesce(d.flagged_at, excluded.flagged_at) END
WHERE NOT (d.decided_by = 'person' AND d.content_hash = excluded.content_hash)
RETURNING product_id
"""
STANDING = "SELECT product_id, decision FROM imports.quality_decision WHERE product_id = ANY(%s)"
BY_PEOPLE = """
SELECT p.product_id, p.decision, p.person, p.note FROM imports.quality_person p
JOIN unnest(%s::text[], %s::text[]) AS given (product_id, content_hash)
    ON p.product_id = given.product_id AND p.content_hash = given.content_hash
"""
ITEM = """
    d.product_id, d.company_id, d.content_hash, d.decision, d.reasons, d.decided_by, d.person, d.note, d.decided_at,
    d.flagged_at, p.title, now() - d.flagged_at
"""
# By keyset over the partial index, oldest first; products that the platform deleted are left out.
FLAGGED = """
SELECT {item} FROM imports.quality_decision d JOIN "Product" p ON p.id = d.product_id
WHERE d.decision = 'flagged' AND (d.flagged_at, d.product_id) > (%(after)s, %(after_id)s)
    AND d.flagged_at <= %(before)s {company}
    AND (%(reason)s::text IS NULL OR d.reasons @> jsonb_build_array(jsonb_build_object('code', %(reason)s::text)))
ORDER BY d.flagged_at, d.product_id LIMIT %(limit)s
"""
OF_COMPANY = "AND d.company_id = %(company)s"
FIND = f"""
SELECT {ITEM} FROM imports.quality_decision d JOIN "Product" p ON p.id = d.product_id
WHERE d.product_id = ANY(%s) ORDER BY d.product_id
"""
WITHHELD = """
SELECT product_id FROM imports.quality_decision WHERE product_id = ANY(%s) AND decision <> 'approved'
"""
# Only in the state that the person saw, and only where it changes something.
DECIDE = """
WITH given AS (
    SELECT d.product_id, d.decision AS before FROM imports.quality_decision d
    JOIN unnest(%(products)s::text[], %(hashes)s::text[]) AS chosen (product_id, content_hash)
        ON d.product_id = chosen.product_id AND d.content_hash = chosen.content_hash
    WHERE NOT (d.decided_by = 'person' AND d.decision = %(decision)s)
    ORDER BY d.product_id FOR UPDATE OF d)
UPDATE imports.quality_decision d SET decision = %(decision)s, decided_by = 'person', person = %(person)s,
    note = %(note)s, decided_at = now(), flagged_at = NULL
FROM given WHERE d.product_id = given.product_id
RETURNING d.product_id, d.company_id, d.content_hash, given.before
"""
KEEP_WORD = """
INSERT INTO imports.quality_person (product_id, content_hash, decision, person, note)
SELECT product_id, content_hash, %s, %s, %s
FROM unnest(%s::text[], %s::text[]) AS given (product_id, content_hash) ORDER BY product_id
ON CONFLICT (product_id, content_hash) DO UPDATE SET decision = excluded.decision, person = excluded.person,
    note = excluded.note, decided_at = now()
"""
# Counted before the call, so that no crash makes a day's calls more than its budget. Seconds until the next day where
# nothing is left.
TAKE = """
INSERT INTO imports.model_budget AS b (purpose, day, calls)
VALUES (%(purpose)s, (now() AT TIME ZONE 'UTC')::date, 1)
ON CONFLICT (purpose, day) DO UPDATE SET calls = b.calls + 1 WHERE b.calls < %(most)s
RETURNING calls
"""
NEXT_DAY = """
SELECT extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'
    - (now() AT TIME ZONE 'UTC'))::float8
"""
FORGET_DAYS = """
DELETE FROM imports.model_budget WHERE purpose = %s AND day < (now() AT TIME ZONE 'UTC')::date - %s::integer
"""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on a product in one state, to be written; `person` and `note` where it is a person's."""

    product_id: str
    company_id: str
    content_hash: str
    decision: Decision
    person: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What a person decided on a state of a product."""

    decision: Decision
    person: str
    note: str | None


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A decision as a person sees it; `waiting_seconds` is how long it has waited for one, None: it does not."""

    product_id: str
    company_id: str
    content_hash: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    decided_by: DecidedBy
    person: str | None
    note: str | None
    decided_at: datetime
    flagged_at: datetime | None
    title: str
    waiting_seconds: float | None


@dataclass(frozen=True, slots=True)
class FlaggedFilter:
    """Which flagged products are meant: those that were flagged until `before`. None: any."""

    before: datetime
    company: str | None = None
    reason: str | None = None


async def write_decisions(connection: Connection, decisions: Iterable[Decided]) -> None:
    """Keep decisions, inside the caller's transaction; a person's on the same state stay.

    Raises HandBackError where a person has decided otherwise since the batch began: what goes on, and what does not,
    has to be told by that.
    """
    decided = {one.product_id: one for one in decisions}
    rows = [
        (
            one.product_id,
            one.company_id,
            one.content_hash,
            one.decision.verdict.value,
            json.dumps(reason_documents(one.decision.reasons)),
            one.decision.decided_by.value,
            one.person,
            one.note,
        )
        for one in decided.values()
    ]
    if not rows:
        return
    cursor = await connection.execute(WRITE, [list(column) for column in zip(*rows, strict=True)])
    left = set(decided) - {row[0] for row in await cursor.fetchall()}
    if left:
        cursor = await connection.execute(STANDING, (sorted(left),))
        standing: dict[str, str] = dict(await cursor.fetchall())
        if any(standing.get(name) != decided[name].decision.verdict for name in left):
            raise HandBackError("A person has decided on products of this batch meanwhile.")


async def decide(
    connection: Connection,
    chosen: Sequence[tuple[str, str]],
    *,
    verdict: Verdict,
    person: str,
    note: str | None = None,
) -> list[Change]:
    """Write a person's decision on products in the state that a content hash names, inside the caller's transaction.

    `chosen`: product id and content hash of each. Returns what has changed: a product in another state by now, and one
    that a person has decided the same way, is left as it is. What follows from it is done in the same transaction.
    """
    if verdict not in {Verdict.APPROVED, Verdict.REJECTED}:
        raise ValueError("a person approves or rejects")
    words = note[:NOTE_LIMIT] if note else None
    await lock_followers(connection, [product for product, _ in chosen])
    cursor = await connection.execute(
        DECIDE,
        {
            "products": [product for product, _ in chosen],
            "hashes": [content_hash for _, content_hash in chosen],
            "decision": verdict.value,
            "person": person,
            "note": words,
        },
    )
    changes = [
        Change(product, company, content_hash, Verdict(before), verdict)
        for product, company, content_hash, before in await cursor.fetchall()
    ]
    if changes:
        states = [change.product_id for change in changes], [change.content_hash for change in changes]
        await connection.execute(KEEP_WORD, (verdict.value, person, words, *states))
        await follow_decisions(connection, changes)
    return changes


class QualityStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_people(self, products: Sequence[tuple[str, str]]) -> dict[str, Word]:
        """People's decisions on products in exactly these states (id, content hash), by id."""
        ids, hashes = [one for one, _ in products], [other for _, other in products]
        async with self._database.connection() as connection:
            cursor = await connection.execute(BY_PEOPLE, (ids, hashes))
            return {
                row[0]: Word(Decision(Verdict(row[1]), DecidedBy.PERSON), row[2], row[3])
                for row in await cursor.fetchall()
            }

    async def withheld(self, product_ids: Sequence[str]) -> set[str]:
        """Those of the products that were checked and not approved."""
        async with self._database.connection() as connection:
            return await self.withheld_in(connection, product_ids)

    async def withheld_in(self, connection: Connection, product_ids: Sequence[str]) -> set[str]:
        """The same, inside the caller's transaction: final there, where it has locked the products' steps."""
        cursor = await connection.execute(WITHHELD, (list(product_ids),))
        return {row[0] for row in await cursor.fetchall()}

    async def now(self) -> datetime:
        """The database's time."""
        async with self._database.connection() as connection:
            return await server_time(connection)

    async def flagged(
        self, wanted: FlaggedFilter, *, after: ReviewItem | None = None, limit: int = PAGE
    ) -> list[ReviewItem]:
        """Products that wait for a person, those that wait longest first; `after`: the last one of the page before."""
        statement = FLAGGED.format(item=ITEM, company=OF_COMPANY if wanted.company is not None else "")
        values = {
            "after": after.flagged_at if after is not None else "-infinity",
            "after_id": after.product_id if after is not None else "",
            "before": wanted.before,
            "company": wanted.company,
            "reason": wanted.reason,
            "limit": limit,
        }
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, values)
            return [_item(row) for row in await cursor.fetchall()]

    async def find(self, product_ids: Sequence[str]) -> list[ReviewItem]:
        """What was decided on these products; unknown ones are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(FIND, (list(product_ids),))
            return [_item(row) for row in await cursor.fetchall()]

    async def decide(
        self, chosen: Sequence[tuple[str, str]], *, verdict: Verdict, person: str, note: str | None = None
    ) -> list[Change]:
        """Decide on up to BATCH products in one transaction, as `decide` says."""
        if len(chosen) > BATCH:
            raise ValueError(f"at most {BATCH} products are decided at once")
        async with self._database.transaction(timeout_seconds=TRANSACTION_SECONDS) as connection:
            return await decide(connection, chosen, verdict=verdict, person=person, note=note)


class DayBudget:
    """Calls of a paid model that a day (UTC) may have, over all workers; exact, and not forgotten when Redis is."""

    def __init__(self, database: Database, *, purpose: str, most: int) -> None:
        self._database = database
        self._purpose = purpose
        self._most = most

    async def take(self) -> None:
        """Count one call before it is sent. Raises HandBackError until the next day where none is left."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(TAKE, {"purpose": self._purpose, "most": self._most})
            row = await cursor.fetchone()
            if row is not None:
                if row[0] == 1:
                    await connection.execute(FORGET_DAYS, (self._purpose, DAYS_KEPT))
                return
            left = await (await connection.execute(NEXT_DAY)).fetchone()
        assert left is not None  # noqa: S101 - a SELECT without FROM
        raise HandBackError(
            f"The {self._most:,} calls of a day for {self._purpose} are used up.",
            retry_after=left[0],
            waiting_reason=WaitingReason.PROVIDER_LIMIT,
        )


def _item(row: Sequence[Any]) -> ReviewItem:
    product, company, content_hash, decision, reasons, decided_by, *others, title, age = row
    person, note, decided_at, flagged_at = others
    return ReviewItem(
        *(product, company, content_hash, Verdict(decision), reasons_of(reasons), DecidedBy(decided_by)),
        *(person, note, decided_at, flagged_at, title),
        age.total_seconds() if age is not None else None,
    )
