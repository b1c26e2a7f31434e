"""Paused queues: written by a person's command, read by the dispatcher and by whoever shows jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database

PAUSED = "SELECT paused FROM imports.queue_state WHERE queue = %s"
READ = """
SELECT queue, paused, reason, changed_by, changed_at FROM imports.queue_state WHERE queue = ANY(%s)
"""
# The time is that of the last change: saying the same once more changes only its reason.
SET_PAUSED = """
INSERT INTO imports.queue_state AS s (queue, paused, reason, changed_by)
VALUES (%(queue)s, %(paused)s, %(reason)s, %(by)s)
ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused, reason = excluded.reason,
    changed_by = excluded.changed_by,
    changed_at = CASE WHEN s.paused = excluded.paused THEN s.changed_at ELSE clock_timestamp() END
"""
TEXT_LIMIT = 500


@dataclass(frozen=True, slots=True)
class QueueState:
    """Whether a queue is paused, since when, why and by whom; a queue nobody ever paused has no time."""

    paused: bool = False
    reason: str | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None


class QueueStateStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, queues: Sequence[str]) -> dict[str, QueueState]:
        """The state of each of these queues."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ, (list(queues),))
            known = {row[0]: QueueState(*row[1:]) for row in await cursor.fetchall()}
        return {queue: known.get(queue, QueueState()) for queue in queues}

    async def set_paused(self, queue: str, paused: bool, *, reason: str | None, changed_by: str) -> None:
        """Pause a queue, or let it go on. The dispatcher sees it within its next round, a second at most."""
        async with self._database.connection() as connection:
            await connection.execute(
                SET_PAUSED,
                {
                    "queue": queue,
                    "paused": paused,
                    "reason": reason[:TEXT_LIMIT] if reason else None,
                    "by": changed_by[:TEXT_LIMIT],
                },
            )
