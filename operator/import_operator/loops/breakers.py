"""Makes jobs due whose circuit breaker has closed, and counts the breakers by state.

The breakers themselves are the workers' work, in PostgreSQL: none of it needs an operator.
"""

from __future__ import annotations

from collections import Counter

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.domain.resources.import_provider import BreakerState
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState, type_of

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
PAUSE_SECONDS = 0.05


class BreakerLoop:
    """One batch of jobs of each connection a round; a round that leaves some is followed by another at once."""

    def __init__(self, state: OperatorState, breakers: BreakerStore) -> None:
        self._state = state
        self._breakers = breakers
        self._shown: set[tuple[str, str]] = set()

    def loop(self) -> Loop:
        """Woken by notifications of breakers."""
        return Loop(
            "breakers",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.breakers_changed,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Wake and count."""
        woken, more = await self._breakers.wake_waiting(self._state.namespace)
        if woken:
            metrics.JOBS_WOKEN.inc(len(woken))
            log.info("jobs.woken", jobs=len(woken))
            self._state.to_project.update(uid for uid in woken if self._state.jobs.get(uid) is not None)
            self._state.dispatch_wanted.set()
        if more:
            self._state.breakers_changed.set()
        await self._count()

    async def _count(self) -> None:
        not_closed = await self._breakers.not_closed(self._state.namespace)
        counts: Counter[tuple[str, str]] = Counter()
        for body in self._state.providers:
            breaker = not_closed.get(str(body["metadata"]["name"]))
            state = breaker.state if breaker is not None else BreakerState.CLOSED
            counts[type_of(body), state.value] += 1
        for labels in self._shown - set(counts):
            metrics.BREAKERS.labels(*labels).set(0)
        for labels, count in counts.items():
            metrics.BREAKERS.labels(*labels).set(count)
        self._shown |= set(counts)
