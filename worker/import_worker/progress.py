"""Tells operator and gateway that jobs have moved: at most one NOTIFY a second, at once for starts and ends."""

from __future__ import annotations

import asyncio

import structlog

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify
from import_core.domain.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)

BATCH_SECONDS = 1.0
URGENT_SECONDS = 0.05
"""Least time between two payloads: every NOTIFY takes a lock that all writers of the database share."""


class ProgressNotifier:
    """Collects job ids and sends each once a batch. Hints may be lost: whoever listens reads rows again."""

    def __init__(self, database: Database, *, batch_seconds: float = BATCH_SECONDS) -> None:
        self._database = database
        self._batch_seconds = batch_seconds
        self._pending: dict[str, None] = {}
        self._some = asyncio.Event()
        self._urgent = asyncio.Event()

    def changed(self, job_id: str) -> None:
        """The job's counters have changed; told within a second."""
        self._pending[job_id] = None
        self._some.set()

    def changed_state(self, job_id: str) -> None:
        """The job was claimed or has ended; told at once, because a place is taken or free."""
        self.changed(job_id)
        self._urgent.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._some.wait()
            await self.flush()
            await asyncio.sleep(URGENT_SECONDS)
            try:
                async with asyncio.timeout(self._batch_seconds):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    async def flush(self) -> None:
        """Send what is pending; kept for the next time when the database is away."""
        job_ids = list(self._pending)
        self._pending.clear()
        self._some.clear()
        self._urgent.clear()
        if not job_ids:
            return
        try:
            await notify(self._database, PROGRESS_CHANNEL, job_ids)
        except DatabaseUnavailableError as error:
            log.warning("progress.not_sent", jobs=len(job_ids), detail=error.message)
            for job_id in job_ids:
                self.changed(job_id)
