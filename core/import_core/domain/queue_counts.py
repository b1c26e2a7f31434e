"""How many jobs of a queue are in which state, told apart so that each job is counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COUNTED_UP_TO = 100_001
"""No count goes further: more than that is seen to be too much as well."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What PostgreSQL was asked, each part up to COUNTED_UP_TO.

    `due`: pending, due and not suspended, in whatever state of hand-over. `held`: those of them that are not handed
    over, because their company or connection is paused. `oldest_seconds`: age of the oldest due job that is not
    held, None where there is none.
    """

    due: int = 0
    dispatched: int = 0
    held: int = 0
    delayed: int = 0
    suspended: int = 0
    active: int = 0
    busy_workers: int = 0
    completed: int = 0
    failed: int = 0
    oldest_seconds: float | None = None
    dispatch_paused: bool = False
    """Nothing of the whole queue is handed out."""

    def by_state(self) -> Mapping[str, int]:
        """The counts as label values of imports_queue_jobs."""
        waiting = max(0, self.due - self.dispatched - self.held)
        paused = min(COUNTED_UP_TO, self.suspended + self.held)
        if self.dispatch_paused:
            waiting, paused = 0, min(COUNTED_UP_TO, paused + waiting)
        return {
            "waiting": waiting,
            "dispatched": self.dispatched,
            "active": self.active,
            "delayed": self.delayed,
            "paused": paused,
            "completed": self.completed,
            "failed": self.failed,
        }

    def oldest_waiting_seconds(self) -> float:
        """Age of the oldest job that waits for its turn, 0 where none does."""
        return 0.0 if self.dispatch_paused or self.oldest_seconds is None else max(0.0, self.oldest_seconds)
