"""Shows waiting jobs whether their circuit breaker holds them, and counts the breakers by state.

The breakers themselves are the workers' work, in PostgreSQL; holding the jobs back is dispatch's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.domain.breaker import Breaker
from import_core.domain.projection import is_final
from import_core.domain.resources.import_provider import BreakerState
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState, name_of, provider_name_of, type_of, uid_of

INTERVAL_SECONDS = 5.0
PAUSE_SECONDS = 0.05


class BreakerLoop:
    """Compares the breakers that are not closed with those of the round before."""

    def __init__(self, state: OperatorState, breakers: BreakerStore) -> None:
        self._state = state
        self._breakers = breakers
        self._holding: set[str] = set()
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
        """Look, have jobs shown whose connection has changed, and count."""
        not_closed = await self._breakers.not_closed(self._state.namespace)
        self._note_holding(set(not_closed))
        self._count(not_closed)

    def _note_holding(self, holding: set[str]) -> None:
        changed = holding ^ self._holding
        if not changed:
            return
        if self._holding - holding:
            self._state.dispatch_wanted.set()
        self._holding = holding
        self._state.to_project.update(
            uid_of(body)
            for body in self._state.jobs
            if provider_name_of(body) in changed and not is_final(body)
        )

    def _count(self, not_closed: Mapping[str, Breaker]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for body in self._state.providers:
            breaker = not_closed.get(name_of(body))
            state = breaker.state if breaker is not None else BreakerState.CLOSED
            counts[type_of(body), state.value] += 1
        for labels in self._shown - set(counts):
            metrics.BREAKERS.labels(*labels).set(0)
        for labels, count in counts.items():
            metrics.BREAKERS.labels(*labels).set(count)
        self._shown |= set(counts)
