"""Writes decisions on numbers of workers to PostgreSQL, where they wait for whoever asks why; best-effort."""

from __future__ import annotations

from import_core.adapters.postgres.decisions import DecisionStore
from import_core.domain.errors import DatabaseUnavailableError
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState

INTERVAL_SECONDS = 60.0
PAUSE_SECONDS = 0.5
BATCH = 100


class DecisionLoop:
    """Takes `state.scaling.decisions`, which forgets the oldest where it gets too long."""

    def __init__(self, state: OperatorState, decisions: DecisionStore) -> None:
        self._state = state
        self._decisions = decisions

    def loop(self) -> Loop:
        """Woken by decisions."""
        return Loop(
            "decisions",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.scaling.decisions_made,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Write one batch; while the database is away, they wait."""
        waiting = self._state.scaling.decisions
        batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
        if not batch:
            return
        try:
            await self._decisions.add(self._state.namespace, batch)
        except DatabaseUnavailableError:
            room = (waiting.maxlen or len(batch)) - len(waiting)
            waiting.extendleft(reversed(batch[-room:] if room else ()))
            raise
        if waiting:
            self._state.scaling.decisions_made.set()
