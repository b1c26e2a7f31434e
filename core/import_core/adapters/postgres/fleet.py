"""The workers of each queue, by their own word: each enters itself, and says every 15 s that it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database

SILENT_SECONDS = 45
"""Three signs of life left out: such a worker counts no more, whatever has become of it."""

# Rows of workers are few: one for each process of the last day.
READY = """
SELECT queue, count(*), sum(concurrency) FROM imports.worker
WHERE state = 'ready' AND seen_at > clock_timestamp() - %s * interval '1 second' GROUP BY queue
"""
REPLACED = """
SELECT pod_uid, max(started_at) FROM imports.worker WHERE pod_uid <> '' GROUP BY pod_uid HAVING count(*) > 1
"""


@dataclass(frozen=True, slots=True)
class ReadyWorkers:
    """Workers of one queue that take jobs, and so many jobs at once."""

    workers: int = 0
    jobs: int = 0


class FleetStore:
    """Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ready(self) -> Mapping[str, ReadyWorkers]:
        """Ready workers by queue; a queue without any is left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READY, (SILENT_SECONDS,))
            return {row[0]: ReadyWorkers(int(row[1]), int(row[2])) for row in await cursor.fetchall()}

    async def replaced(self) -> Mapping[str, datetime]:
        """Pods of which several processes are entered, and the start of the newest of each."""
        async with self._database.connection() as connection:
            return dict(await (await connection.execute(REPLACED)).fetchall())
