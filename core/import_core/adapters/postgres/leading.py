"""Who leads where there is no Lease: whoever's session holds an advisory lock, for as long as the session lives."""

from __future__ import annotations

import hashlib

from import_core.adapters.postgres.pool import Connection, Database, translated
from import_core.domain.errors import DatabaseUnavailableError

LEADER_LOCK = 0x6C656164  # "lead"; the second half of the key is the name's
QUIET_SECONDS = 10
"""The server ends a session that is silent for so long: its process hangs, or its machine is gone."""

# So that the server itself notices a holder that is gone without a word, within QUIET_SECONDS.
BEGIN = f"""
SELECT set_config('idle_session_timeout', '{QUIET_SECONDS}s', false),
    set_config('tcp_user_timeout', '{QUIET_SECONDS}s', false),
    set_config('statement_timeout', '{QUIET_SECONDS}s', false)
"""
TAKE = "SELECT pg_try_advisory_lock(%s, %s)"
# A standby has no lock of ours that counts.
STILL = "SELECT NOT pg_is_in_recovery()"


class LeaderLock:
    """One session's hold on the lock of a name. Never through a pooler: it lends sessions to others."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big", signed=True)
        self._connection: Connection | None = None
        self._held = False

    async def take_or_keep(self) -> bool:
        """Whether this session holds the lock now: it had it, or it was free.

        Raises DatabaseUnavailableError where nobody can say; the session is then given up.
        """
        try:
            if self._connection is None:
                self._connection = await self._database.dedicated(purpose="lead")
                await self._ask(BEGIN)
            self._held = await (self._still_holds() if self._held else self._take())
        except BaseException:
            await self.release()
            raise
        return self._held

    async def release(self) -> None:
        """End the session, and the lock with it."""
        connection, self._connection, self._held = self._connection, None, False
        if connection is not None:
            await connection.close()

    async def _take(self) -> bool:
        return await self._ask(TAKE, (LEADER_LOCK, self._key))

    async def _still_holds(self) -> bool:
        if not await self._ask(STILL):
            raise DatabaseUnavailableError("PostgreSQL is a standby, nothing can be written to it")
        return True

    async def _ask(self, statement: str, parameters: tuple[int, int] | None = None) -> bool:
        if self._connection is None:
            return False
        with translated():
            row = await (await self._connection.execute(statement, parameters)).fetchone()
        return bool(row and row[0])
