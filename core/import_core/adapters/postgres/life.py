"""Asks PostgreSQL for signs of life, on a connection that nothing else uses."""

from __future__ import annotations

import asyncio
import os
import socket

from import_core.adapters.postgres.pool import Connection, Database, translated
from import_core.domain.errors import DatabaseUnavailableError

ANSWER_SECONDS = 2.5


class LifeSign:
    """One connection beside the pool: a pool that is busy or exhausted says nothing about the server."""

    def __init__(self, database: Database, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._database = database
        self._answer_seconds = answer_seconds
        self._connection: Connection | None = None

    async def ask(self) -> None:
        """Ask for a sign of life of a server that can be written to.

        Raises DatabaseUnavailableError when there is none within `answer_seconds` after the connection stood.
        """
        if self._connection is None:
            self._connection = await self._database.dedicated(purpose="presence")
        # A cancelled query would first try to cancel itself at the server, which may be out of reach.
        hang_up = asyncio.get_running_loop().call_later(self._answer_seconds, _hang_up, self._connection)
        try:
            with translated():
                row = await (await self._connection.execute("SELECT pg_is_in_recovery()")).fetchone()
        except BaseException:
            await self.close()
            raise
        finally:
            hang_up.cancel()
        if row and row[0]:
            # The address may name another server by now.
            await self.close()
            raise DatabaseUnavailableError("PostgreSQL is a standby, nothing can be written to it")

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _hang_up(connection: Connection) -> None:
    """Let a query that waits for an answer fail at once: its socket is at its end from now on."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
