"""Figures of the last days for everybody who looks, read at most once a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.figures import FigureStore
from import_gateway.access.brief_cache import BriefCache
from import_gateway.api.figure_models import DayFigures, FailureFigure, Figures, QueueDuration
from import_gateway.live.queues import QueueReports

FIGURES_SECONDS = 60.0


class FigureReports:
    """Methods raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        queues: QueueReports,
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = FigureStore(database)
        self._queues = queues
        self._namespace = namespace
        self._answers: BriefCache[Figures] = BriefCache(
            seconds=lambda _: FIGURES_SECONDS, most=31, clock=clock
        )

    async def report(self, days: int) -> Figures:
        """The figures of so many days."""
        return await self._answers.get(days, lambda: self._read(days))

    async def _read(self, days: int) -> Figures:
        queues = await self._queues.served()
        found = await self._store.read(namespace=self._namespace, queues=queues, days=days)
        return Figures(
            days=[
                DayFigures(
                    day=row.day.astimezone(UTC).date(),
                    queue=row.queue,
                    completed=row.completed,
                    failed=row.failed,
                    is_at_least=row.at_least,
                )
                for row in found.days
            ],
            durations=[
                QueueDuration(
                    queue=row.queue,
                    jobs=row.jobs,
                    median_seconds=row.median_seconds,
                    p95_seconds=row.p95_seconds,
                )
                for row in found.durations
            ],
            failures=[
                FailureFigure(queue=row.queue, reason=row.reason, jobs=row.jobs, products=row.products)
                for row in found.failures
            ],
            measured_at=datetime.now(UTC),
        )
