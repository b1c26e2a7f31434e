"""NOTIFY and LISTEN: hints that something changed; whoever listens reads the rows again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import psycopg

from import_core.adapters.postgres.pool import Connection, Database, translated

PROGRESS_CHANNEL = "imports_progress"
"""Payload: job ids, comma-separated, whose progress or state changed."""
LIVE_CHANNEL = "imports_live"
"""Payload: job ids, comma-separated, that were recorded, cancelled or reopened: for live events alone."""
CONNECTION_CHANNEL = "imports_connection"
"""Payload: namespace/name of a provider connection that was checked."""
CONTROL_CHANNEL = "imports_control"
"""Payload: job ids, comma-separated, that were taken from workers which still run."""
GUARD_CHANNEL = "imports_guard"
"""Payload: a namespace whose withheld cancellations a person has confirmed."""
QUEUE_CHANNEL = "imports_queue"
"""Payload: a queue whose health, intake or pause changed, or `company` or `provider` where such a pause did."""
BREAKER_CHANNEL = "imports_breaker"
"""Payload: namespace/name of a provider connection whose circuit breaker changed."""
DRAIN_CHANNEL = "imports_drain"
"""Payload: uids of pods, comma-separated, whose workers are asked to drain or to take jobs again."""
DRAINED_CHANNEL = "imports_drained"
"""Payload: uid of a pod whose worker has drained."""
PAYLOAD_LIMIT = 7000  # NOTIFY takes at most 8,000 bytes (PostgreSQL documentation, sql-notify)
LISTEN_CHECK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Notification:
    """One hint. `channel` None: the connection was made anew, anything may have been missed."""

    channel: str | None
    payload: str


async def notify(database: Database, channel: str, values: Sequence[str]) -> None:
    """Send values in as few payloads as fit. Raises DatabaseUnavailableError."""
    async with database.connection() as connection:
        await notify_in(connection, channel, values)


async def notify_in(connection: Connection, channel: str, values: Sequence[str]) -> None:
    """Send values on this connection; inside a transaction they are heard when it commits."""
    for payload in _payloads(values):
        await connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


async def listen(database: Database, channels: Sequence[str]) -> AsyncIterator[Notification]:
    """Yield hints until the connection breaks, first one with `channel` None.

    Raises DatabaseUnavailableError when the connection can't be made or breaks; the caller waits and
    calls again. The connection is direct, never through a pooler: LISTEN belongs to a session.
    """
    connection = await database.dedicated()
    try:
        # A standby, as the address may name for a moment in a failover, refuses to listen.
        with translated():
            async with asyncio.timeout(LISTEN_CHECK_SECONDS):
                for channel in channels:
                    await connection.execute(
                        psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel))
                    )
        yield Notification(None, "")
        while True:
            with translated():
                async for notification in connection.notifies(timeout=LISTEN_CHECK_SECONDS):
                    yield Notification(notification.channel, notification.payload)
            # A silent connection is asked for a sign of life; a dead one raises here.
            with translated():
                async with asyncio.timeout(LISTEN_CHECK_SECONDS):
                    await connection.execute("SELECT 1")
    finally:
        await connection.close()


def _payloads(values: Sequence[str]) -> list[str]:
    payloads: list[str] = []
    current = ""
    for value in values:
        if current and len(current) + 1 + len(value) > PAYLOAD_LIMIT:
            payloads.append(current)
            current = value
        else:
            current = f"{current},{value}" if current else value
    return [*payloads, current] if current else payloads
