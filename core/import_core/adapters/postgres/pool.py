"""Connections to PostgreSQL: one pool per process, with time limits, and driver errors turned into ours.

Where a pooler stands between (RDS Proxy, PgBouncer in transaction mode), its server connections are shared after every
transaction. So nothing that goes through the pool may leave a trace in a session: no SET, no session-level lock, no
LISTEN, no prepared statement. What needs a session uses `dedicated`.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import datetime

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from import_core.adapters.postgres.sessions import OWN_SESSION, POOLER_SESSION, Pooler
from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError

Connection = AsyncConnection[TupleRow]

CONNECT_TIMEOUT_SECONDS = 5
CHECKOUT_TIMEOUT_SECONDS = 10.0
BORROW_TIMEOUT_SECONDS = 40.0
"""A whole use of a connection, checkout included: the last resort where a host is gone without a word."""
FRESH_SECONDS = 1.0
"""A connection that was in use so lately is used again without a question."""
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
    """A pool of connections in autocommit mode; transactions are opened explicitly.

    `direct_url` leads to the server itself where `url` leads to a pooler; absent or equal: `url` does.
    """

    def __init__(
        self,
        url: str,
        *,
        application: str,
        direct_url: str | None = None,
        minimum: int = 1,
        maximum: int = 10,
    ) -> None:
        self.url = url
        self.application = application
        self._direct_url = direct_url or url
        self._pooler = Pooler() if self._direct_url != url else None
        self._pool = AsyncConnectionPool[Connection](
            url,
            min_size=minimum,
            max_size=maximum,
            open=False,
            timeout=CHECKOUT_TIMEOUT_SECONDS,
            max_lifetime=1800,
            reconnect_timeout=30,
            check=check_unless_fresh,
            configure=self._pooler.meet if self._pooler else None,
            kwargs={
                "autocommit": True,
                "row_factory": tuple_row,
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": application,
                **(POOLER_SESSION if self._pooler else OWN_SESSION),
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
        # The pool's own context manager would commit or roll back as well, which autocommit leaves nothing for.
        with translated():
            async with asyncio.timeout(BORROW_TIMEOUT_SECONDS):
                connection = await self._pool.getconn()
                try:
                    yield connection
                finally:
                    await self._pool.putconn(connection)

    @asynccontextmanager
    async def transaction(
        self, *, timeout_seconds: float | None = None, pipelined: bool = False
    ) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction that the server ends after `timeout_seconds`.

        A pooler that limits all transactions by itself is left to it: RDS Proxy would keep a
        connection that sets anything for one client alone.

        `pipelined`: statements are sent without waiting for the answers of those before, so one may fail as late as at
        a later one's fetch or at the end. Through a pooler they are waited for: not all poolers pass this on.
        """
        async with (
            self.connection() as connection,
            _pipeline(connection) if pipelined and self._pooler is None else nullcontext(),
            connection.transaction(),
        ):
            if timeout_seconds is not None and not (self._pooler and self._pooler.limits_transactions):
                await connection.execute(
                    sql.SQL("SET LOCAL transaction_timeout = {}").format(int(timeout_seconds * 1000))
                )
            yield connection

    async def dedicated(self, *, purpose: str = "listen") -> Connection:
        """A connection to the server itself, for LISTEN and the like; the caller closes it.

        `purpose` ends its name in pg_stat_activity.

        Raises DatabaseUnavailableError.
        """
        with translated():
            return await AsyncConnection.connect(
                self._direct_url,
                autocommit=True,
                row_factory=tuple_row,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                application_name=f"{self.application}-{purpose}",
                **KEEPALIVE,  # type: ignore[arg-type]
            )


async def server_time(connection: Connection) -> datetime:
    """PostgreSQL's time at this moment, by which rows are dated, also inside a transaction that began before."""
    row = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    moment: datetime = row[0]
    return moment


@asynccontextmanager
async def _pipeline(connection: Connection) -> AsyncIterator[None]:
    """A pipeline that ends with the first of its errors; the driver's own may end with what that made of the next."""
    try:
        async with connection.pipeline():
            yield
    except psycopg.errors.PipelineAborted as error:
        if isinstance(error.__context__, psycopg.Error):
            raise error.__context__ from None
        raise


async def check_unless_fresh(connection: Connection) -> None:
    """The pool's question whether a connection still works, asked of the server only where that is in doubt.

    A server that ends tells its clients, which makes the socket readable; one that is gone without a word is asked
    after FRESH_SECONDS. A round trip for every use would cost as much as most of our statements.
    """
    now = time.monotonic()
    used: float | None = getattr(connection, "checked_at", None)
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if used is None or now - used > FRESH_SECONDS or poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)
    connection.checked_at = now  # type: ignore[attr-defined]


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


@contextmanager
def translated() -> Iterator[None]:
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
