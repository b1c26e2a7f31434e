"""Counts the due jobs that no worker would get, for which no workers are to be started."""

from __future__ import annotations

from import_core.adapters.postgres.held import HeldStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.observability.logs import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""Dearer to count than the depth; a breaker stays open for a minute."""


class HeldMeasure:
    """Remembers the last look, of all queues at once."""

    def __init__(self, held: HeldStore) -> None:
        self._held = held
        self._counts: dict[str, int] = {}
        self._looked_at = float("-inf")

    async def look(self, queues: list[str], now: float) -> None:
        """Count anew where it is time to. What can't be counted is taken to be none: then nothing is taken off."""
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self._counts = await self._held.count(queues)
        except DatabaseUnavailableError as error:
            log.warning("held.unknown", message=error.message)
            self._counts = {}

    def of(self, queue: str) -> int:
        """Held jobs of a queue, as last counted."""
        return self._counts.get(queue, 0)
