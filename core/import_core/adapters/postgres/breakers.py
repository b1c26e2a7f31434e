"""Circuit breakers in PostgreSQL: one row for a connection, changed under its lock by the domain's decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.notifications import BREAKER_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain import breaker as decisions
from import_core.domain.breaker import CLOSED, Admission, Breaker, BreakerPolicy
from import_core.domain.resources.import_provider import BreakerState

TRANSACTION_SECONDS = 5.0
TEXT_LIMIT = 500
WAKE_BATCH = 500
OPEN_LIMIT = 1000
"""Breakers that are not closed, of which one look shows at most so many."""
LATE_SECONDS = 60
"""A job that was on its way back while its breaker closed has arrived after this time."""

COLUMNS = """state, failures, opened_at, probe_at, probe_holder, probe_until, forced_by, forced_reason"""
READ = f"""
SELECT {COLUMNS}, clock_timestamp() FROM (SELECT) one
LEFT JOIN imports.breaker ON namespace = %s AND name = %s
"""
READ_MANY = f"SELECT name, {COLUMNS} FROM imports.breaker WHERE namespace = %s AND name = ANY(%s)"
NOT_CLOSED = f"""
SELECT name, {COLUMNS} FROM imports.breaker
WHERE namespace = %s AND state <> 'Closed' ORDER BY name LIMIT %s
"""
CREATE = "INSERT INTO imports.breaker (namespace, name) VALUES (%s, %s) ON CONFLICT DO NOTHING"
LOCK = f"SELECT {COLUMNS} FROM imports.breaker WHERE namespace = %s AND name = %s FOR UPDATE"
NOW = "SELECT clock_timestamp()"
WRITE = """
UPDATE imports.breaker SET (state, failures, opened_at, probe_at, probe_holder, probe_until, forced_by,
    forced_reason) = (%s, %s, %s, %s, %s, %s, %s, %s)
WHERE namespace = %s AND name = %s
"""
# A check of the connection is as good a probe as a job, and the only one where no job waits. After the breaker
# closed it finds out at once what the status says.
CHECK_AT = """
UPDATE imports.connection SET check_due_at = coalesce(%s, clock_timestamp()) WHERE namespace = %s AND name = %s
"""
FORGET = "DELETE FROM imports.breaker WHERE namespace = %s AND name = %s"
# One job for each probe: whoever comes first waits for its time, the others for the breaker's closing.
AWAIT_PROBE = """
WITH known AS (
    SELECT state, probe_at, awaited_probe_at FROM imports.breaker
    WHERE namespace = %(namespace)s AND name = %(name)s AND state <> 'Closed' FOR UPDATE
)
UPDATE imports.breaker b SET waited_at = clock_timestamp(),
    awaited_probe_at = CASE WHEN k.state = 'Open' THEN k.probe_at ELSE k.awaited_probe_at END
FROM known k WHERE b.namespace = %(namespace)s AND b.name = %(name)s
RETURNING k.state = 'Open' AND k.probe_at IS NOT NULL AND k.probe_at IS DISTINCT FROM k.awaited_probe_at
"""
TO_WAKE = """
SELECT name FROM imports.breaker
WHERE namespace = %s AND state = 'Closed' AND waited_at IS NOT NULL ORDER BY name LIMIT %s
"""
# Written letter by letter as in the partial index import_job_breaker_open.
WAKE = """
UPDATE "ProductImportJob" SET "notBefore" = NULL, "waitingReason" = NULL, "updatedAt" = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM "ProductImportJob"
    WHERE provider = %s AND status = 'PENDING' AND "waitingReason" = 'BreakerOpen'
      AND (namespace = %s OR namespace IS NULL)
    LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id
"""
ALL_WOKEN = f"""
UPDATE imports.breaker SET waited_at = NULL, awaited_probe_at = NULL
WHERE namespace = %s AND name = %s AND state = 'Closed'
  AND waited_at < clock_timestamp() - interval '{LATE_SECONDS} seconds'
"""


@dataclass(frozen=True, slots=True)
class Look:
    """A breaker as it was at the database's time `at`."""

    breaker: Breaker
    at: datetime


class BreakerStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, namespace: str, name: str) -> Look:
        """The breaker of a connection; a closed one where it never failed."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ, (namespace, name))
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - the statement yields one row, whatever is there
        return Look(_breaker(row[:-1]), row[-1])

    async def read_many(self, namespace: str, names: Sequence[str]) -> dict[str, Breaker]:
        """The breakers of these connections; those that never failed are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ_MANY, (namespace, list(names)))
            return {row[0]: _breaker(row[1:]) for row in await cursor.fetchall()}

    async def not_closed(self, namespace: str, *, limit: int = OPEN_LIMIT) -> dict[str, Breaker]:
        """Breakers of a namespace that are open or half-open, by the connection's name."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(NOT_CLOSED, (namespace, limit))
            return {row[0]: _breaker(row[1:]) for row in await cursor.fetchall()}

    async def enter(self, namespace: str, name: str, *, holder: str, lease_seconds: float) -> Admission:
        """Ask whether a call may be sent; a probe is taken, and to be told of by one of the next three."""
        admission = Admission(CLOSED)

        def decide(breaker: Breaker, now: datetime) -> Breaker:
            nonlocal admission
            admission = decisions.admit(breaker, holder=holder, now=now, lease_seconds=lease_seconds)
            return admission.after

        await self._change(namespace, name, decide)
        return admission

    async def succeeded(self, namespace: str, name: str, *, holder: str | None) -> Breaker:
        """A call was answered; `holder` is set where it was a probe."""
        return await self._change(
            namespace, name, lambda breaker, _: decisions.after_success(breaker, holder=holder)
        )

    async def failed(
        self, namespace: str, name: str, *, holder: str | None, policy: BreakerPolicy
    ) -> Breaker:
        """A call failed."""
        return await self._change(
            namespace,
            name,
            lambda breaker, now: decisions.after_failure(breaker, holder=holder, policy=policy, now=now),
        )

    async def abandoned(self, namespace: str, name: str, *, holder: str) -> Breaker:
        """A probe came to no end."""
        return await self._change(
            namespace, name, lambda breaker, now: decisions.after_abandoning(breaker, holder=holder, now=now)
        )

    async def open_by_hand(self, namespace: str, name: str, *, by: str, reason: str | None) -> Breaker:
        """Open until `reset`."""
        words = reason[:TEXT_LIMIT] if reason else None
        return await self._change(
            namespace,
            name,
            lambda breaker, now: decisions.opened_by_hand(breaker, by=by[:TEXT_LIMIT], reason=words, now=now),
        )

    async def reset(self, namespace: str, name: str) -> None:
        """Close, whatever it was."""
        await self._change(namespace, name, lambda _breaker, _now: CLOSED)

    async def forget(self, namespace: str, name: str) -> None:
        """Drop the breaker of a connection whose object is gone, and let its jobs find that out."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, (namespace, name))
            await connection.execute(WAKE, (name, namespace, WAKE_BATCH))

    async def await_probe(self, namespace: str, name: str) -> float:
        """Seconds for which a job shall wait that was not let through; 0 where it is closed by now."""
        async with self._database.transaction(timeout_seconds=TRANSACTION_SECONDS) as connection:
            cursor = await connection.execute(AWAIT_PROBE, {"namespace": namespace, "name": name})
            row = await cursor.fetchone()
            if row is None:
                return 0.0
            cursor = await connection.execute(READ, (namespace, name))
            look = await cursor.fetchone()
        assert look is not None  # noqa: S101 - the statement yields one row, whatever is there
        return decisions.waiting_time(_breaker(look[:-1]), look[-1], is_first=row[0])

    async def wake_waiting(self, namespace: str, *, connections: int = 100) -> tuple[list[str], bool]:
        """Make jobs due whose breaker has closed, a batch of each connection; their ids, and whether more are."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(TO_WAKE, (namespace, connections))
            names = [row[0] for row in await cursor.fetchall()]
        woken: list[str] = []
        more = len(names) == connections
        for name in names:
            async with self._database.connection() as connection:
                cursor = await connection.execute(WAKE, (name, namespace, WAKE_BATCH))
                batch = [row[0] for row in await cursor.fetchall()]
                if len(batch) < WAKE_BATCH:
                    await connection.execute(ALL_WOKEN, (namespace, name))
            woken += batch
            more = more or len(batch) == WAKE_BATCH
        return woken, more

    async def _change(
        self, namespace: str, name: str, decide: Callable[[Breaker, datetime], Breaker]
    ) -> Breaker:
        async with self._database.transaction(timeout_seconds=TRANSACTION_SECONDS) as connection:
            before = await self._lock(connection, namespace, name)
            after = decide(before, await _now(connection))
            if after == before:
                return after
            await connection.execute(
                WRITE,
                (
                    after.state.value,
                    after.failures,
                    after.opened_at,
                    after.probe_at,
                    after.probe_holder,
                    after.probe_until,
                    after.forced_by,
                    after.forced_reason,
                    namespace,
                    name,
                ),
            )
            changed = after.state is not before.state or after.probe_at != before.probe_at
            if changed and after.state is not BreakerState.HALF_OPEN:
                await connection.execute(CHECK_AT, (after.probe_at, namespace, name))
            if after.state is not before.state or bool(after.failures) != bool(before.failures):
                await notify_in(connection, BREAKER_CHANNEL, [f"{namespace}/{name}"])
        return after

    async def _lock(self, connection: Connection, namespace: str, name: str) -> Breaker:
        for _ in range(3):
            cursor = await connection.execute(LOCK, (namespace, name))
            row = await cursor.fetchone()
            if row is not None:
                return _breaker(row)
            await connection.execute(CREATE, (namespace, name))
        raise RuntimeError("a row that was just made is gone again")


async def _now(connection: Connection) -> datetime:
    """The database's time, asked once the lock is held."""
    row = await (await connection.execute(NOW)).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    moment: datetime = row[0]
    return moment


def _breaker(row: Sequence[object]) -> Breaker:
    if row[0] is None:
        return CLOSED
    return Breaker(BreakerState(row[0]), *row[1:])  # type: ignore[arg-type]
