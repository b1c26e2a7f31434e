"""Deletes old rows of finished jobs at a bounded rate; on PostgreSQL alone, whatever else is away."""

from __future__ import annotations

import time

from import_core.adapters.postgres.history import HistoryStore
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
IDLE_SECONDS = 300.0
"""Between two looks for old rows, when the last one left none."""


class HistoryLoop:
    """One batch a second while there are old rows."""

    def __init__(self, namespace: str, history: HistoryStore, *, days: float) -> None:
        self._namespace = namespace
        self._history = history
        self._days = days
        self._due = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("history", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Delete one batch."""
        if not self._days or time.monotonic() < self._due:
            return
        deleted = await self._history.delete_finished(self._namespace, days=self._days)
        if not deleted.more:
            self._due = time.monotonic() + IDLE_SECONDS
        if deleted.jobs:
            metrics.HISTORY_SWEPT.inc(deleted.jobs)
            log.info("history.deleted", jobs=deleted.jobs)
