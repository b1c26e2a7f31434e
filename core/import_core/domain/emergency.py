"""The emergency pause of dispatch: when the system itself fails, nothing more starts, then a few jobs are tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from import_core.domain import errors

FINISHED_LOOKED_AT = 50
"""Finished jobs that the share of successes is taken of."""
OF_ONE_COMPANY = FINISHED_LOOKED_AT // 2
"""Of one company at most so many of them: its failures alone are never more than half."""
TRIAL_JOBS = 5
"""Finished jobs that decide a trial."""
TRIAL_STARTS = 10
"""Jobs that start during a trial at most."""
OUTAGE_JOBS = 5
"""So many jobs must wait for the object store, and none succeed, …"""
OUTAGE_SECONDS = 60.0
"""… for so long, until it counts as down."""
OWN_FAILURES = frozenset(
    {
        "InvalidInput",
        errors.CredentialsError.reason,
        errors.ProviderRejectedError.reason,
        errors.ProviderNotFoundError.reason,
        errors.ProviderUnavailableError.reason,
        errors.ProviderThrottledError.reason,
        errors.CompanyMismatchError.reason,
        errors.InvalidMappingError.reason,
        errors.RemovalsNotConfirmedError.reason,
        errors.CatalogueIncompleteError.reason,
        errors.CatalogueTooLargeError.reason,
        errors.DeadlineExceededError.reason,
    }
)
"""Failures that lie with one company or its provider: the system does what it should."""


class EmergencyPhase(StrEnum):
    """What dispatch does."""

    NONE = "None"
    PAUSED = "Paused"
    TRYING = "Trying"


@dataclass(frozen=True, slots=True)
class EmergencyPolicy:
    """When dispatch pauses by itself, and how it goes on."""

    min_success_percent: int = 50
    """Paused when fewer of the last FINISHED_LOOKED_AT jobs succeeded; 0: never, for no reason."""
    pause_seconds: float = 300.0
    """So long nothing starts; then a few jobs are tried."""


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
class Outage:
    """Since when jobs wait for the object store while none succeeds."""

    since: datetime | None = None

    def after_look(self, *, waiting: int, succeeded_lately: bool, now: datetime) -> Outage:
        """Take in that `waiting` jobs were given back because of it."""
        if waiting < OUTAGE_JOBS or succeeded_lately:
            return Outage()
        return Outage(self.since or now)

    def down(self, now: datetime) -> str | None:
        """The part that is down: a short outage or a failover is waited out without a pause."""
        lasts = self.since is not None and (now - self.since).total_seconds() >= OUTAGE_SECONDS
        return "the object store" if lasts else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for or against the system: the newest finished jobs since `counted_from`, and its parts."""

    succeeded: int = 0
    failed: int = 0
    down: str | None = None
    """Name of a part that every job needs and that does not answer."""
    waiting: bool = True
    """Whether dispatch has any job to hand out: one that is due and not paused, or on its way to a worker."""
    running: bool = True
    """Whether any job is under way."""

    @property
    def finished(self) -> int:
        """Jobs looked at."""
        return self.succeeded + self.failed


def next_emergency(emergency: Emergency, seen: Evidence, policy: EmergencyPolicy, now: datetime) -> Emergency:
    """Where the pause stands after a look.

    A part that is down, or too few successes, pauses. After a while a few jobs are tried: if they succeed,
    dispatch goes on; if they fail it pauses again; and as long as they do neither, a few more are tried.
    """
    if policy.min_success_percent == 0:
        off = emergency.phase is EmergencyPhase.NONE
        return emergency if off else Emergency(since=now, counted_from=now)
    if emergency.phase is EmergencyPhase.NONE:
        reason = _reason(seen, policy, enough=FINISHED_LOOKED_AT)
        return emergency if reason is None else Emergency(EmergencyPhase.PAUSED, reason, now, now)
    waited = (now - (emergency.since or now)).total_seconds() >= policy.pause_seconds
    if emergency.phase is EmergencyPhase.TRYING:
        return _after_trial(emergency, seen, policy, now, waited=waited)
    if seen.down is not None or not waited:
        return emergency
    return Emergency(EmergencyPhase.TRYING, emergency.reason, now, now)


def _after_trial(
    emergency: Emergency, seen: Evidence, policy: EmergencyPolicy, now: datetime, *, waited: bool
) -> Emergency:
    reason = _reason(seen, policy, enough=TRIAL_JOBS)
    if reason is not None:
        return Emergency(EmergencyPhase.PAUSED, reason, now, now)
    if seen.succeeded >= TRIAL_JOBS:
        return Emergency(since=now, counted_from=now)
    if not waited or seen.running:
        return emergency
    if not seen.waiting:
        # Nothing left to try.
        return Emergency(since=now, counted_from=now)
    reason = _reason(seen, policy, enough=1)
    if reason is not None:
        return Emergency(EmergencyPhase.PAUSED, reason, now, now)
    # Given back (their provider's limit, an open breaker), or their own failures: that says nothing of the
    # system, and what they have shown so far counts on.
    return replace(emergency, since=now)


def _reason(seen: Evidence, policy: EmergencyPolicy, *, enough: int) -> str | None:
    if seen.down is not None:
        return f"{seen.down} does not answer"
    if seen.finished < enough or seen.succeeded * 100 >= policy.min_success_percent * seen.finished:
        return None
    if enough < FINISHED_LOOKED_AT:
        return f"only {seen.succeeded} of the {seen.finished} jobs that were tried succeeded"
    return f"only {seen.succeeded} of the last {seen.finished} jobs succeeded"
