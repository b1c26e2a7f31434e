"""Which of the ImportJobs that the operator holds may be recorded next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from import_core.domain.backpressure import IntakeState, room
from import_core.domain.dispatch import Candidate, choose
from import_core.domain.jobs import Tier

BACKPRESSURE = "Backpressure"
"""The refusal's reason: the job is held until there is room, and recorded then by itself."""
SOON_MESSAGE = "The import queue is filling up."


@dataclass(frozen=True, slots=True)
class Held:
    """An ImportJob without a row that there may be no room for."""

    uid: str
    company_id: str
    tier: Tier
    since: datetime
    """When the object was created."""


def choose_admitted(
    held: Iterable[Held], intake: IntakeState, *, added: int, limit: int, now: datetime
) -> list[str]:
    """The uids to record now, at most `limit`, in the dispatcher's order: tier, fair share, age.

    `added` jobs were recorded since the depth was measured.
    """
    rooms = {tier: room(tier, intake) - added for tier in Tier}
    candidates = [
        Candidate(each.uid, each.company_id, each.tier, each.since) for each in held if rooms[each.tier] > 0
    ]
    order = choose(candidates, shares={}, needed=limit, now=now).chosen
    admitted: list[str] = []
    for candidate in order:
        if len(admitted) < rooms[candidate.tier]:
            admitted.append(candidate.job_id)
    return admitted


def held_message(refusal: str | None) -> str:
    """What a held job says: why, and that nobody has to do anything."""
    return f"{refusal or SOON_MESSAGE} The job is kept and taken by itself when there is room."
