"""The emergency pause of dispatch: when the system itself fails, nothing more starts, then a few jobs are tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

FINISHED_LOOKED_AT = 50
"""Finished jobs that the share of successes is taken of."""


class EmergencyPhase(StrEnum):
    """What dispatch does."""

    NONE = "None"
    PAUSED = "Paused"
    TRYING = "Trying"


@dataclass(frozen=True, slots=True)
class EmergencyPolicy:
    """When dispatch pauses by itself, and how it goes on."""

    min_success_percent: int = 50
    """Paused when fewer of the last FINISHED_LOOKED_AT jobs succeeded."""
    pause_seconds: float = 300.0
    """So long nothing starts; then a few jobs are tried."""
    trial_jobs: int = 5
    """Jobs under way at the same time during a trial, and successes that end it."""


@dataclass(frozen=True, slots=True)
class Emergency:
    """Where the emergency pause of one queue stands."""

    phase: EmergencyPhase = EmergencyPhase.NONE
    reason: str | None = None
    since: datetime | None = None
    """When this phase began."""
    counted_from: datetime | None = None
    """Jobs that finished before are no more evidence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for or against the system: the newest finished jobs since `counted_from`, and its parts."""

    succeeded: int = 0
    failed: int = 0
    down: str | None = None
    """Name of a part that every job needs and that does not answer."""
    busy: bool = True
    """Whether any job is due or under way: without one a trial can't succeed."""

    @property
    def finished(self) -> int:
        """Jobs looked at."""
        return self.succeeded + self.failed


def next_emergency(emergency: Emergency, seen: Evidence, policy: EmergencyPolicy, now: datetime) -> Emergency:
    """Where the pause stands after a look.

    A part that is down, or too few successes, pauses. After a while a few jobs are tried: as many successes
    resume, as many failures (or a part that is down) pause again.
    """
    if emergency.phase is EmergencyPhase.NONE:
        reason = _reason(seen, policy, enough=FINISHED_LOOKED_AT)
        return emergency if reason is None else Emergency(EmergencyPhase.PAUSED, reason, now, now)
    waited = (now - (emergency.since or now)).total_seconds() >= policy.pause_seconds
    if emergency.phase is EmergencyPhase.PAUSED:
        if seen.down is not None or not waited:
            return emergency
        return Emergency(EmergencyPhase.TRYING, emergency.reason, now, now)
    reason = _reason(seen, policy, enough=policy.trial_jobs)
    if reason is not None:
        return Emergency(EmergencyPhase.PAUSED, reason, now, now)
    if seen.succeeded >= policy.trial_jobs or (waited and not seen.busy):
        return Emergency(since=now, counted_from=now)
    return emergency


def resumed_by_hand(emergency: Emergency, now: datetime) -> Emergency:
    """What a person's resume makes of it: earlier failures are no more evidence."""
    return replace(emergency, phase=EmergencyPhase.NONE, reason=None, since=now, counted_from=now)


def _reason(seen: Evidence, policy: EmergencyPolicy, *, enough: int) -> str | None:
    if seen.down is not None:
        return f"{seen.down} does not answer"
    if seen.finished < enough or seen.succeeded * 100 >= policy.min_success_percent * seen.finished:
        return None
    return f"only {seen.succeeded} of the last {seen.finished} jobs succeeded"
