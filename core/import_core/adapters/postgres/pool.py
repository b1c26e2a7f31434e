"""Connections to PostgreSQL: one pool per process, with time limits, and driver errors turned into ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError

Connection = AsyncConnection[TupleRow]

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 10
CHECKOUT_TIMEOUT_SECONDS = 10.0
BORROW_TIMEOUT_SECONDS = 40.0
"""A whole use of a connection, checkout included: the last resort where a host is gone without a word."""
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A half-open connection is noticed after 25 s when idle, and after 20 s while something that was sent is
not acknowledged: keepalives alone are not sent then (libpq connection parameters; RFC 5482)."""


class Database:
    """A pool of connections in autocommit mode; transactions are opened explicitly."""

    def __init__(self, url: str, *, application: str, minimum: int = 1, maximum: int = 10) -> None:
        self.url = url
        self.application = application
        self._pool = AsyncConnectionPool[Connection](
            url,
            min_size=minimum,
            max_size=maximum,
            open=False,
            timeout=CHECKOUT_TIMEOUT_SECONDS,
            max_lifetime=1800,
            reconnect_timeout=30,
            check=AsyncConnectionPool.check_connection,
            kwargs={
                "autocommit": True,
                "row_factory": tuple_row,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": application,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c TimeZone=UTC",
                "prepare_threshold": 5,
                **KEEPALIVE,
            },
        )

    async def open(self, *, wait_seconds: float | None = None) -> None:
        """Start the pool; with `wait_seconds`, return only when a connection stands.

        Raises DatabaseUnavailableError when none stands in time.
        """
        await self._pool.open(wait=False)
        if wait_seconds is not None:
            try:
                await self._pool.wait(timeout=wait_seconds)
            except PoolTimeout as error:
                raise DatabaseUnavailableError(
                    f"PostgreSQL did not accept a connection within {wait_seconds:g} s"
                ) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection.

        Raises DatabaseUnavailableError for everything that passes by itself, and SchemaMismatchError where a table
        or a column is missing.
        """
        async with (
            translated(),
            asyncio.timeout(BORROW_TIMEOUT_SECONDS),
            self._pool.connection() as connection,
        ):
            yield connection

    @asynccontextmanager
    async def transaction(self, *, timeout_seconds: float | None = None) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction that the server ends after `timeout_seconds`."""
        async with self.connection() as connection, connection.transaction():
            if timeout_seconds is not None:
                await connection.execute(
                    "SELECT set_config('transaction_timeout', %s, true)",
                    (f"{int(timeout_seconds * 1000)}ms",),
                )
            yield connection

    async def dedicated(self, *, purpose: str = "listen") -> Connection:
        """A connection outside the pool, for LISTEN and the like; the caller closes it.

        `purpose` ends its name in pg_stat_activity.

        Raises DatabaseUnavailableError.
        """
        async with translated():
            return await AsyncConnection.connect(
                self.url,
                autocommit=True,
                row_factory=tuple_row,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                application_name=f"{self.application}-{purpose}",
                **KEEPALIVE,  # type: ignore[arg-type]
            )


_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,  # a connection to the old primary, or to a standby, in a failover
    PoolTimeout,
    TimeoutError,
)
_MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn errors of the driver that pass by themselves, or with a migration, into ours."""
    try:
        yield
    except _MISSING as error:
        raise SchemaMismatchError(
            "The database has not the tables of the import operator: another one is meant, or it is not migrated"
        ) from error
    except _PASSING as error:
        # The driver's text may hold the address but never the password; one line is enough.
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DatabaseUnavailableError(f"PostgreSQL is not available: {detail}") from error
