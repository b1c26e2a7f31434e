"""Circuit breakers in PostgreSQL: one row for a connection, changed under its lock by the domain's decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.notifications import BREAKER_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Connection, Database, server_time
from import_core.domain import breaker as decisions
from import_core.domain.breaker import CLOSED, Admission, Breaker, BreakerPolicy
from import_core.domain.resources.import_provider import BreakerState

TRANSACTION_SECONDS = 5.0
TEXT_LIMIT = 500
OPEN_LIMIT = 1000
"""Breakers that are not closed, of which one look shows at most so many."""

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
ORPHANS = """
SELECT name FROM imports.breaker WHERE namespace = %s AND NOT name = ANY(%s) ORDER BY name LIMIT %s
"""
FORGET = "DELETE FROM imports.breaker WHERE namespace = %s AND name = %s"


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

    async def abandoned(self, namespace: str, name: str, *, holder: str, policy: BreakerPolicy) -> Breaker:
        """A probe came to no end."""
        return await self._change(
            namespace,
            name,
            lambda breaker, now: decisions.after_abandoning(breaker, holder=holder, policy=policy, now=now),
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

    async def orphans(self, namespace: str, listed: Sequence[str], *, limit: int = OPEN_LIMIT) -> list[str]:
        """Connections of breakers that are not among `listed`, `limit` at most."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ORPHANS, (namespace, list(listed), limit))
            return [row[0] for row in await cursor.fetchall()]

    async def forget(self, namespace: str, name: str) -> None:
        """Drop the breaker of a connection whose object is gone: its jobs go, and find that out."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, (namespace, name))

    async def _change(
        self, namespace: str, name: str, decide: Callable[[Breaker, datetime], Breaker]
    ) -> Breaker:
        async with self._database.transaction(timeout_seconds=TRANSACTION_SECONDS) as connection:
            before = await self._lock(connection, namespace, name)
            after = decide(before, await server_time(connection))
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


def _breaker(row: Sequence[object]) -> Breaker:
    if row[0] is None:
        return CLOSED
    return Breaker(BreakerState(row[0]), *row[1:])  # type: ignore[arg-type]
