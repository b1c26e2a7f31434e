"""Whether a process may call itself ready: its neighbours answered lately. Pure, and slow to change its mind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AWAY_AFTER_SECONDS = 6.0
"""A neighbour that was there is called away when it has not answered for so long: one lost packet is nothing."""
ANSWERS_UNTIL_BACK = 2
"""A neighbour that was away must answer so often in a row: one that comes and goes is not back."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of one neighbour; times are seconds of a monotonic clock."""

    there: bool = False
    """At its last answer or failure; `is_there` tells of now."""
    answered_at: float | None = None
    answers: int = 0
    """In a row."""

    def after_answer(self, now: float) -> Presence:
        """It answered; the first answer of all is believed at once, one after a long silence is not."""
        answers = self.answers + 1 if self._lately(now) else 1
        there = self.is_there(now) or self.answered_at is None or answers >= ANSWERS_UNTIL_BACK
        return Presence(there, now, answers)

    def after_failure(self, now: float) -> Presence:
        """It did not answer."""
        return Presence(self.is_there(now), self.answered_at, 0)

    def is_there(self, now: float) -> bool:
        """Whether it is there: a question that still waits for its answer must not hide a long silence."""
        return self.there and self._lately(now)

    def _lately(self, now: float) -> bool:
        return self.answered_at is not None and now - self.answered_at < AWAY_AFTER_SECONDS


def why_not_ready(neighbours: Mapping[str, Presence], now: float) -> str | None:
    """Which neighbours, by name, are away at `now`, in words; None: all are there."""
    away = [name for name, presence in neighbours.items() if not presence.is_there(now)]
    if not away:
        return None
    return f"no answer from {' and '.join(away)}"
