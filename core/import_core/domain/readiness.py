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
    answered_at: float | None = None
    answers: int = 0
    """In a row."""

    def after_answer(self, now: float) -> Presence:
        """It answered; the first answer of all is believed at once."""
        answers = self.answers + 1
        there = self.there or self.answered_at is None or answers >= ANSWERS_UNTIL_BACK
        return Presence(there, now, answers)

    def after_failure(self, now: float) -> Presence:
        """It did not answer."""
        lately = self.answered_at is not None and now - self.answered_at < AWAY_AFTER_SECONDS
        return Presence(self.there and lately, self.answered_at, 0)


def why_not_ready(neighbours: Mapping[str, Presence]) -> str | None:
    """Which neighbours, by name, are away, in words; None: all are there."""
    away = [name for name, presence in neighbours.items() if not presence.there]
    if not away:
        return None
    return f"no answer from {' and '.join(away)}"
