"""Provider connections: checks that the operator asks for and a worker makes, since only workers read Secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database

CHECK_EVERY_SECONDS = 300
CHECK_LEASE_SECONDS = 60

# A new or changed provider is due for a check at once.
REQUEST = """
INSERT INTO imports.connection AS c (namespace, name, uid, generation) VALUES (%s, %s, %s, %s)
ON CONFLICT (namespace, name) DO UPDATE SET
    uid = excluded.uid, generation = excluded.generation, check_due_at = clock_timestamp()
WHERE c.uid <> excluded.uid OR c.generation <> excluded.generation
"""
# What changed may be what made the connection fail, so a breaker that is open on its account lets it be tried.
PROBE_NOW = """
UPDATE imports.breaker SET probe_at = clock_timestamp()
WHERE namespace = %s AND name = %s AND state = 'Open' AND forced_by IS NULL
"""
FORGET = "DELETE FROM imports.connection WHERE namespace = %s AND name = %s AND uid = %s"
# Taking a check pushes its time on, so that a worker that dies on it delays it by a lease only.
TAKE_DUE = """
UPDATE imports.connection SET check_due_at = clock_timestamp() + %s * interval '1 second'
WHERE (namespace, name) IN (
    SELECT namespace, name FROM imports.connection
    WHERE namespace = %s AND check_due_at <= clock_timestamp()
    ORDER BY check_due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING name, uid, generation
"""
# While the breaker is open, the next check is its next probe.
RECORD_RESULT = """
UPDATE imports.connection c SET reachable = %s, credentials_valid = %s, reason = %s, message = %s,
    checked_at = clock_timestamp(), checked_generation = %s,
    check_due_at = coalesce(
        (SELECT b.probe_at FROM imports.breaker b
         WHERE b.namespace = c.namespace AND b.name = c.name AND b.state = 'Open'),
        clock_timestamp() + %s * interval '1 second')
WHERE c.namespace = %s AND c.name = %s AND c.uid = %s AND c.generation = %s
"""
POSTPONE = """
UPDATE imports.connection SET check_due_at = clock_timestamp() + %s * interval '1 second'
WHERE namespace = %s AND name = %s AND uid = %s
"""
READ = """
SELECT namespace, name, uid, checked_generation, reachable, credentials_valid, reason, message, checked_at
FROM imports.connection WHERE namespace = %s AND name = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found; None: not known (an unreachable provider says nothing of the credentials)."""

    reachable: bool | None
    credentials_valid: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """The last check of a connection; `checked_at` None: not checked yet."""

    namespace: str
    name: str
    uid: str
    checked_generation: int | None
    result: CheckResult | None
    checked_at: datetime | None


class ConnectionStore:
    """Connections in PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request_check(self, namespace: str, name: str, uid: str, generation: int) -> None:
        """Ask for a check of a new or changed connection; the same generation again asks for nothing."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(REQUEST, (namespace, name, uid, generation))
            if cursor.rowcount:
                await connection.execute(PROBE_NOW, (namespace, name))

    async def forget(self, namespace: str, name: str, uid: str) -> None:
        """Drop a connection whose object is gone."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, (namespace, name, uid))

    async def take_due(self, namespace: str) -> tuple[str, str, int] | None:
        """Take one due check of a namespace: (name, uid, generation)."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(TAKE_DUE, (CHECK_LEASE_SECONDS, namespace))
            row = await cursor.fetchone()
            return (row[0], row[1], row[2]) if row else None

    async def postpone(self, namespace: str, name: str, uid: str, *, seconds: float) -> None:
        """Have a check that was taken made later."""
        async with self._database.connection() as connection:
            await connection.execute(POSTPONE, (seconds, namespace, name, uid))

    async def record_result(
        self, namespace: str, name: str, uid: str, generation: int, result: CheckResult
    ) -> None:
        """Record a check; dropped when the connection has changed meanwhile."""
        async with self._database.connection() as connection:
            await connection.execute(
                RECORD_RESULT,
                (
                    result.reachable,
                    result.credentials_valid,
                    result.reason,
                    result.message,
                    generation,
                    CHECK_EVERY_SECONDS,
                    namespace,
                    name,
                    uid,
                    generation,
                ),
            )

    async def read(self, namespace: str, names: Sequence[str]) -> list[ConnectionState]:
        """The states of these connections; unknown ones are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ, (namespace, list(names)))
            states = []
            for row in await cursor.fetchall():
                result = CheckResult(row[4], row[5], row[6], row[7]) if row[8] is not None else None
                states.append(ConnectionState(row[0], row[1], row[2], row[3], result, row[8]))
            return states
