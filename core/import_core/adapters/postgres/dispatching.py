"""Hand-over of due rows to Redis: which rows, their hand-over number, and rows that got lost on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.queue_state import QueueState, read_states
from import_core.domain.dispatch import RECENT_STARTS, WINDOW_LIMIT, Candidate
from import_core.domain.jobs import Message, known_tier

DISPATCH_LOCK = 0x6469737061746368  # "dispatch"; two operators for a moment dispatch one after the other
PAGE = 500
PROBE_SECONDS = 30
"""A job that was handed over to probe its connection has asked by then, or something happened to it."""

# Written letter by letter as in the partial index import_job_next. The collation, by which nothing but equality and
# the index's own order is asked, is there for the planner: it keeps every other index of the table out of these
# statements. Without it, and while the table's statistics know nothing of rows that came just now, each looks as cheap,
# and one is taken that reads and sorts the whole backlog for each connection.
UNDISPATCHED = """coalesce(queue, 'product-imports') = %(queue)s AND status COLLATE "C" = 'PENDING'
    AND suspended IS NOT TRUE AND "dispatchedAt" IS NULL"""
CONNECTION = """"companyId", coalesce(namespace, ''), provider"""
CONNECTION_KEY = """"companyId" COLLATE "C", coalesce(namespace, ''), provider"""
IN_ORDER = f"coalesce(queue, 'product-imports'), {CONNECTION_KEY}"
OF_COMPANY = """"companyId" COLLATE "C" = """
OF_CONNECTION = f"""{UNDISPATCHED} AND {OF_COMPANY}k.company AND coalesce(namespace, '') = k.namespace
    AND provider = k.provider"""
# A row that the platform inserted may name no namespace: it is its connection's, whichever that is.
PAUSED_CONNECTION = """EXISTS (SELECT FROM imports.pause p WHERE
        (p.scope = 'company' AND p.name = {company})
        OR (p.scope = 'provider' AND p.name = {provider} AND (p.namespace = {namespace} OR {namespace} = '')))"""
PAUSED_ROW = PAUSED_CONNECTION.format(
    company='j."companyId"', namespace="coalesce(j.namespace, '')", provider="j.provider"
)
# What is not closed holds its jobs. When its probe is due one of them may go; it gets PROBE_SECONDS to ask, and
# another one follows where it never did.
OPEN_BREAKER = """SELECT FROM imports.breaker b WHERE b.state <> 'Closed' AND b.name = k.provider
        AND (b.namespace = k.namespace OR k.namespace = '')"""
PROBE_DUE = f"""b.forced_by IS NULL AND coalesce(b.probe_until, b.probe_at, '-infinity') <= now()
        AND (b.handed_over_at IS NULL OR b.handed_over_at < coalesce(b.probe_until, b.probe_at)
             OR b.handed_over_at < now() - interval '{PROBE_SECONDS} seconds')"""
# The oldest due rows of each company, over its `connection (company, namespace, provider)`s: one index probe
# for each, however long its backlog is, and a paused or failing one is passed over as a whole. From degraded
# on, rows of BASIC companies are due a while later, so that the others come first.
OF_EACH_COMPANY = f""", served AS MATERIALIZED (
    SELECT k.*, EXISTS ({OPEN_BREAKER}) AS probes FROM connection k
    WHERE NOT {PAUSED_CONNECTION.format(company="k.company", namespace="k.namespace", provider="k.provider")}
      AND NOT EXISTS ({OPEN_BREAKER} AND NOT ({PROBE_DUE}))
)
SELECT id, company, queued_at, tier, interrupted FROM (
    SELECT row.id, k.company, row.queued_at, row.interrupted, coalesce(c.tier::text, 'BASIC') AS tier,
        row_number() OVER (PARTITION BY k.company ORDER BY row.queued_at, row.id) AS place
    FROM served k
    LEFT JOIN "Company" c ON c.id = k.company
    CROSS JOIN LATERAL (
        SELECT id, coalesce("queuedAt", "createdAt") AS queued_at, interrupted IS TRUE AS interrupted
        FROM "ProductImportJob"
        WHERE {OF_CONNECTION} AND coalesce("notBefore", timestamptz '-infinity') <= now()
          AND coalesce("queuedAt", "createdAt") <=
              CASE WHEN %(basic_delay)s::float8 > 0 AND coalesce(c.tier::text, 'BASIC') NOT IN ('PRO', 'ENTERPRISE')
              THEN now() - %(basic_delay)s::float8 * interval '1 second' ELSE timestamptz 'infinity' END
        ORDER BY coalesce("queuedAt", "createdAt"), id LIMIT CASE WHEN k.probes THEN 1 ELSE %(limit)s END) row) r
WHERE place <= %(limit)s
"""
# Every connection with a row that waits, by a loose scan of the same index.
HEADS = f"""
WITH RECURSIVE connection (company, namespace, provider) AS (
    (SELECT {CONNECTION} FROM "ProductImportJob" WHERE {UNDISPATCHED}
     ORDER BY {IN_ORDER} LIMIT 1)
    UNION ALL
    SELECT next.* FROM connection k CROSS JOIN LATERAL (
        SELECT {CONNECTION} FROM "ProductImportJob"
        WHERE {UNDISPATCHED} AND ({CONNECTION_KEY}) > (k.company, k.namespace, k.provider)
        ORDER BY {IN_ORDER} LIMIT 1) next
)
{OF_EACH_COMPANY}"""
# More rows of some companies, where the choice took all that were known of them.
MORE = f"""
WITH RECURSIVE connection (company, namespace, provider) AS (
    SELECT first.* FROM unnest(%(companies)s::text[]) AS wanted (company) CROSS JOIN LATERAL (
        SELECT {CONNECTION} FROM "ProductImportJob" WHERE {UNDISPATCHED} AND {OF_COMPANY}wanted.company
        ORDER BY {IN_ORDER} LIMIT 1) first
    UNION ALL
    SELECT next.* FROM connection k CROSS JOIN LATERAL (
        SELECT {CONNECTION} FROM "ProductImportJob"
        WHERE {UNDISPATCHED} AND {OF_COMPANY}k.company
          AND (coalesce(namespace, ''), provider) > (k.namespace, k.provider)
        ORDER BY {IN_ORDER} LIMIT 1) next
)
{OF_EACH_COMPANY}"""
# Jobs of a company that are under way count against its share, and those among the last that were started:
# else companies with long backlogs would take turns at few places, and a newcomer would wait for them all.
SHARES = """
SELECT "companyId", count(*) FROM (
    SELECT "companyId" FROM "ProductImportJob"
    WHERE status = 'IN_PROGRESS' AND coalesce(queue, 'product-imports') = %(queue)s
    UNION ALL
    SELECT "companyId" FROM "ProductImportJob"
    WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
      AND "dispatchedAt" IS NOT NULL
    UNION ALL
    (SELECT company_id FROM imports.job_start WHERE queue = %(queue)s
     ORDER BY started_at DESC LIMIT %(starts)s)) f
GROUP BY "companyId"
"""
# A row that the platform suspends by its own SQL keeps its hand-over, which nobody can claim: it takes no
# room in the window and is not repaired. Once it is resumed, it is overdue.
UNCLAIMED = """
SELECT count(*) FROM "ProductImportJob"
WHERE coalesce(queue, 'product-imports') = %s AND status = 'PENDING' AND suspended IS NOT TRUE
  AND "dispatchedAt" IS NOT NULL
"""
# Jobs that were chosen while their connection's breaker is not closed: they go to probe, or not at all.
OF_OPEN_BREAKERS = """
SELECT k.id, b.namespace, b.name FROM imports.breaker b
JOIN (SELECT id, provider, coalesce(namespace, '') AS namespace FROM "ProductImportJob" WHERE id = ANY(%s)) k
    ON b.name = k.provider AND (b.namespace = k.namespace OR k.namespace = '')
WHERE b.state <> 'Closed'
"""
# A breaker that a worker changes right now is passed over, as it is no more what was looked at.
TAKE_PROBES = f"""
UPDATE imports.breaker SET handed_over_at = clock_timestamp()
WHERE (namespace, name) IN (
    SELECT b.namespace, b.name FROM imports.breaker b
    JOIN unnest(%s::text[], %s::text[]) AS t (namespace, name) ON t.namespace = b.namespace AND t.name = b.name
    WHERE b.state <> 'Closed' AND {PROBE_DUE} FOR UPDATE OF b SKIP LOCKED)
RETURNING namespace, name
"""
# Here and in the next two a row that is locked right now is passed over: one that somebody holds must not
# keep the others from being handed over, and who waits for no lock can't wait for each other.
HAND_OVER = """
UPDATE "ProductImportJob"
SET dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = clock_timestamp(), "notBefore" = NULL,
    "waitingReason" = NULL, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob"
    WHERE id = ANY(%s) AND status = 'PENDING' AND suspended IS NOT TRUE AND "dispatchedAt" IS NULL
    FOR UPDATE SKIP LOCKED))
RETURNING id, dispatch, "correlationId"
"""
# A paused queue takes back what no worker has claimed; its messages in Redis are outdated by that.
TAKE_BACK = """
UPDATE "ProductImportJob"
SET dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = NULL, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob"
    WHERE coalesce(queue, 'product-imports') = %s AND status = 'PENDING' AND "dispatchedAt" IS NOT NULL
    LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id
"""
# The same for paused companies and connections.
TAKE_BACK_PAUSED = f"""
UPDATE "ProductImportJob"
SET dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = NULL, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob" j
    WHERE coalesce(queue, 'product-imports') = %s AND status = 'PENDING' AND "dispatchedAt" IS NOT NULL
      AND {PAUSED_ROW}
    LIMIT %s FOR UPDATE OF j SKIP LOCKED))
RETURNING id
"""
ANY_PAUSE = "SELECT EXISTS (SELECT FROM imports.pause)"
# By index job_start_time, up to as many as matter.
STARTED = """
SELECT count(*) FROM (
    SELECT FROM imports.job_start
    WHERE queue = %(queue)s
      AND started_at > coalesce(%(since)s::timestamptz, clock_timestamp() - %(seconds)s * interval '1 second')
    LIMIT %(limit)s) started
"""
MOMENT = "SELECT clock_timestamp() - %s * interval '1 second'"
# By keyset: rows that are handed over again get a later time and are not met twice.
OVERDUE = """
SELECT id, dispatch, "dispatchedAt" FROM "ProductImportJob"
WHERE coalesce(queue, 'product-imports') = %(queue)s AND status = 'PENDING' AND suspended IS NOT TRUE
  AND "dispatchedAt" IS NOT NULL AND "dispatchedAt" < %(before)s AND ("dispatchedAt", id) > (%(after)s, %(after_id)s)
ORDER BY "dispatchedAt", id LIMIT %(limit)s
"""
# Guarded by the hand-over number that was looked at: a row that was claimed meanwhile is left alone.
HAND_OVER_AGAIN = """
WITH lost AS (
    SELECT j.id FROM "ProductImportJob" j
    JOIN unnest(%s::text[], %s::integer[]) AS t (id, dispatch) ON t.id = j.id AND t.dispatch = j.dispatch
    WHERE j.status = 'PENDING' AND j.suspended IS NOT TRUE AND j."dispatchedAt" IS NOT NULL
    FOR UPDATE OF j SKIP LOCKED)
UPDATE "ProductImportJob" j
SET dispatch = j.dispatch + 1, "dispatchedAt" = clock_timestamp(), "updatedAt" = now()
FROM lost WHERE j.id = lost.id
RETURNING j.id, j.dispatch, j."correlationId"
"""


class DispatchStore:
    """Dispatching in PostgreSQL. Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> DispatchTransaction:
        """One hand-over: `async with store.transaction() as hand_over: …`."""
        return DispatchTransaction(self._database)

    async def unclaimed(self, queue: str) -> int:
        """Rows handed over and not claimed yet."""
        async with self._database.connection() as connection:
            return await _count(connection, UNCLAIMED, queue)

    async def overdue(
        self, queue: str, *, older_than_seconds: float, page: int = PAGE
    ) -> AsyncIterator[list[Message]]:
        """Yield hand-overs not claimed for a time, oldest first, in pages; those made meanwhile are not."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(MOMENT, (older_than_seconds,))).fetchone()
        position = {
            "queue": queue,
            "before": row and row[0],
            "after": "-infinity",
            "after_id": "",
            "limit": page,
        }
        while True:
            async with self._database.connection() as connection:
                rows = await (await connection.execute(OVERDUE, position)).fetchall()
            if rows:
                yield [Message(row[0], row[1]) for row in rows]
            if len(rows) < page:
                return
            position |= {"after": rows[-1][2], "after_id": rows[-1][0]}

    async def hand_over_again(self, lost: Sequence[Message]) -> list[Message]:
        """Give lost hand-overs a new number; those claimed or given up meanwhile are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                HAND_OVER_AGAIN, ([m.job_id for m in lost], [m.dispatch for m in lost])
            )
            return [Message(row[0], row[1], correlation_id=row[2]) for row in await cursor.fetchall()]


class DispatchTransaction:
    """A hand-over under the dispatch lock: look, decide, commit; Redis is told afterwards."""

    def __init__(self, database: Database) -> None:
        self._context = database.transaction(timeout_seconds=10)
        self._connection: Connection | None = None

    async def __aenter__(self) -> DispatchTransaction:
        self._connection = await self._context.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._context.__aexit__(*details)  # type: ignore[arg-type]

    @property
    def connection(self) -> Connection:
        """The connection, inside `async with` only."""
        if self._connection is None:
            raise RuntimeError("the dispatch transaction is not open")
        return self._connection

    async def lock(self) -> bool:
        """Take the dispatch lock until the end of the transaction; False: somebody else dispatches."""
        cursor = await self.connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (DISPATCH_LOCK,))
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def state(self, queue: str) -> QueueState:
        """What is known and wished of the queue."""
        return (await read_states(self.connection, [queue]))[queue]

    async def take_back(self, queue: str, *, limit: int = WINDOW_LIMIT) -> list[str]:
        """Make hand-overs that no worker has claimed undone; returns at most `limit` ids."""
        cursor = await self.connection.execute(TAKE_BACK, (queue, limit))
        return [row[0] for row in await cursor.fetchall()]

    async def take_back_paused(self, queue: str, *, limit: int = WINDOW_LIMIT) -> list[str]:
        """The same for those of paused companies and connections."""
        row = await (await self.connection.execute(ANY_PAUSE)).fetchone()
        if row != (True,):
            return []
        cursor = await self.connection.execute(TAKE_BACK_PAUSED, (queue, limit))
        return [row[0] for row in await cursor.fetchall()]

    async def started(
        self, queue: str, *, seconds: float = 0.0, since: datetime | None = None, limit: int
    ) -> int:
        """Jobs that workers have started `since` a time, or else within the last `seconds`; counted to `limit`."""
        values = {"queue": queue, "seconds": seconds, "since": since, "limit": limit}
        row = await (await self.connection.execute(STARTED, values)).fetchone()
        return int(row[0]) if row else 0

    async def unclaimed(self, queue: str) -> int:
        """Rows handed over and not claimed yet."""
        return await _count(self.connection, UNCLAIMED, queue)

    async def shares(self, queue: str) -> dict[str, int]:
        """What each company has had: jobs that run or are handed over, and recent starts."""
        cursor = await self.connection.execute(SHARES, {"queue": queue, "starts": RECENT_STARTS})
        return {row[0]: row[1] for row in await cursor.fetchall()}

    async def heads(self, queue: str, *, basic_delay_seconds: float = 0.0) -> list[Candidate]:
        """The oldest due row of each company; those of BASIC companies are due so much later."""
        cursor = await self.connection.execute(
            HEADS, {"queue": queue, "limit": 1, "basic_delay": basic_delay_seconds}
        )
        return [_candidate(row) for row in await cursor.fetchall()]

    async def more(
        self, queue: str, companies: Sequence[str], *, limit: int, basic_delay_seconds: float = 0.0
    ) -> list[Candidate]:
        """The oldest `limit` due rows of each of these companies."""
        cursor = await self.connection.execute(
            MORE,
            {
                "queue": queue,
                "companies": list(companies),
                "limit": limit,
                "basic_delay": basic_delay_seconds,
            },
        )
        return [_candidate(row) for row in await cursor.fetchall()]

    async def hand_over(self, job_ids: Sequence[str]) -> list[Message]:
        """Give rows their next hand-over number, in the order given; of a failing connection one at most, to probe."""
        held = await self._held(job_ids)
        job_ids = [job_id for job_id in job_ids if job_id not in held]
        cursor = await self.connection.execute(HAND_OVER, (job_ids,))
        messages = {row[0]: Message(row[0], row[1], correlation_id=row[2]) for row in await cursor.fetchall()}
        return [messages[job_id] for job_id in job_ids if job_id in messages]

    async def _held(self, job_ids: Sequence[str]) -> set[str]:
        """Those of open breakers, but for one of each whose probe is due and is taken by that."""
        cursor = await self.connection.execute(OF_OPEN_BREAKERS, (list(job_ids),))
        breaker_of = {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
        if not breaker_of:
            return set()
        namespaces, names = zip(*set(breaker_of.values()), strict=True)
        cursor = await self.connection.execute(TAKE_PROBES, (list(namespaces), list(names)))
        taken = {(row[0], row[1]) for row in await cursor.fetchall()}
        held = set(breaker_of)
        for job_id in job_ids:
            breaker = breaker_of.get(job_id)
            if breaker in taken:
                taken.discard(breaker)
                held.discard(job_id)
        return held


async def _count(connection: Connection, statement: str, queue: str) -> int:
    cursor = await connection.execute(statement, (queue,))
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


def _candidate(row: tuple[object, ...]) -> Candidate:
    job_id, company_id, queued_at, tier, interrupted = row
    return Candidate(
        str(job_id),
        str(company_id),
        known_tier(tier),
        queued_at,  # type: ignore[arg-type]
        bool(interrupted),
    )
