"""Deletes old rows of finished jobs, and what no run needs any more, at a bounded rate; needs PostgreSQL alone."""

from __future__ import annotations

import time

from import_core.adapters.postgres.decisions import PRUNED_AT_ONCE, DecisionStore
from import_core.adapters.postgres.history import HistoryStore
from import_core.adapters.postgres.leftovers import DELETED_AT_ONCE
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
IDLE_SECONDS = 300.0
"""Between two looks for old rows, when the last one left none."""


class HistoryLoop:
    """One batch a second while there are old rows."""

    def __init__(
        self, namespace: str, history: HistoryStore, *, days: float, decisions: DecisionStore | None = None
    ) -> None:
        self._decisions = decisions
        self._namespace = namespace
        self._history = history
        self._days = days
        self._due = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("history", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Delete one batch of each."""
        if time.monotonic() < self._due:
            return
        more = await self._delete_finished() if self._days else False
        forgotten = await self._history.forget_unneeded()
        if forgotten:
            log.info("history.forgotten", seenProducts=forgotten)
        pruned = await self._decisions.prune() if self._decisions is not None else 0
        if not more and forgotten < DELETED_AT_ONCE and pruned < PRUNED_AT_ONCE:
            self._due = time.monotonic() + IDLE_SECONDS

    async def _delete_finished(self) -> bool:
        deleted = await self._history.delete_finished(self._namespace, days=self._days)
        if deleted.jobs:
            metrics.HISTORY_SWEPT.inc(deleted.jobs)
            log.info("history.deleted", jobs=deleted.jobs)
        return deleted.more
