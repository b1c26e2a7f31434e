"""How sessions with PostgreSQL begin: our own, and those that a pooler lends for the time of a transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.rows import TupleRow
from psycopg.types.datetime import TimestamptzLoader

from import_core.observability.logs import get_logger

log = get_logger(__name__)

STATEMENT_TIMEOUT_SECONDS = 10
TRANSACTION_TIMEOUT_SECONDS = 15
"""A pooler is to set both on its sessions (docs/how-to/install.md, Poolers)."""

OWN_SESSION: dict[str, Any] = {
    "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c TimeZone=UTC",
    "prepare_threshold": 5,
}
POOLER_SESSION: dict[str, Any] = {"prepare_threshold": None}
"""RDS Proxy refuses `options`, and lends a session with prepared statements to one client for ever; PgBouncer refuses
`options` too, or heeds a few of them, and before 1.21 loses statements with the next transaction."""

# Limits in milliseconds; 0: there is none.
SESSION = """
SELECT name, setting::bigint FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')
"""


class UtcLoader(TimestamptzLoader):
    """Reads times as UTC, whatever the zone of the session that they happen to come from."""

    def load(self, data: Buffer) -> datetime:
        """Read a time with its offset. Raises DataError for what Python can't hold, as infinity."""
        return super().load(data).astimezone(UTC)


class Pooler:
    """What the pooler's sessions were found to be like; all are set up by it in the same way."""

    def __init__(self) -> None:
        self.limits_transactions = False
        """Whether it ends long transactions by itself."""
        self._warned = False

    async def meet(self, connection: AsyncConnection[TupleRow]) -> None:
        """Prepare a new connection to it; warn once where its sessions have no limits."""
        connection.adapters.register_loader("timestamptz", UtcLoader)
        cursor = await connection.execute(SESSION)
        limits: dict[str, int] = dict(await cursor.fetchall())
        self.limits_transactions = 0 < limits["transaction_timeout"] <= TRANSACTION_TIMEOUT_SECONDS * 1000
        missing = [
            f"{name} = '{seconds}s'"
            for name, seconds in (
                ("statement_timeout", STATEMENT_TIMEOUT_SECONDS),
                ("transaction_timeout", TRANSACTION_TIMEOUT_SECONDS),
            )
            if not 0 < limits[name] <= seconds * 1000
        ]
        if missing and not self._warned:
            self._warned = True
            log.warning("database.pooler_without_limits", missing=missing)
