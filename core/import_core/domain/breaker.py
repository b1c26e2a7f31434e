"""Circuit breaker of one provider connection: when calls go through, and what each call's end makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from import_core.domain.resources.import_provider import BreakerState

MOST_FAILURES = 1_000_000
"""Counting stops there: an outage of months must not overflow a column."""
FORCED_LOOK_SECONDS = 600.0
"""Who is refused by a breaker that was opened by hand is told to ask again after this time."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """What a connection's spec asks for."""

    failure_threshold: int = 5
    open_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A connection's breaker; the default is one that nothing is known of. Times are the database's."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Failures since the last success."""
    opened_at: datetime | None = None
    """When the outage began, through all probes that failed; None while closed."""
    probe_at: datetime | None = None
    """From when on one call may probe; None while closed, and while opened by hand."""
    probe_holder: str | None = None
    """The one call that probes, while half-open."""
    probe_until: datetime | None = None
    """When the holder loses that right, because it seems to be dead."""
    forced_by: str | None = None
    """Who opened it by hand; it then stays open until a person resets it."""
    forced_reason: str | None = None

    @property
    def is_forced(self) -> bool:
        """Whether a person opened it."""
        return self.forced_by is not None


CLOSED = Breaker()


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call may be sent: `wait_seconds` is None if it may; `is_probe`: its end decides."""

    after: Breaker
    wait_seconds: float | None = None
    is_probe: bool = False


def admit(breaker: Breaker, *, holder: str, now: datetime, lease_seconds: float) -> Admission:
    """Decide on a call: it goes through, or probes as the only one, or has to wait.

    A probe is `holder`'s for `lease_seconds` at most; one that ended without a word is followed by another.
    """
    if breaker.state is BreakerState.CLOSED:
        return Admission(breaker)
    wait = seconds_until_probe(breaker, now)
    if wait > 0:
        return Admission(breaker, wait_seconds=wait)
    probing = replace(
        breaker,
        state=BreakerState.HALF_OPEN,
        probe_holder=holder,
        probe_until=now + timedelta(seconds=lease_seconds),
    )
    return Admission(probing, is_probe=True)


def seconds_until_probe(breaker: Breaker, now: datetime) -> float:
    """Seconds until a call may go through or probe, by what is known now; 0: at once."""
    if breaker.state is BreakerState.CLOSED:
        return 0.0
    if breaker.is_forced:
        return FORCED_LOOK_SECONDS
    moment = breaker.probe_until if breaker.state is BreakerState.HALF_OPEN else breaker.probe_at
    return max(0.0, (moment - now).total_seconds()) if moment is not None else 0.0


def after_success(breaker: Breaker, *, holder: str | None) -> Breaker:
    """What a call that was answered makes of it; `holder`: it was a probe.

    Only the probe closes: an answer to a call from before it opened says nothing of now.
    """
    if breaker.state is BreakerState.CLOSED:
        return CLOSED
    return CLOSED if _is_probe_of(breaker, holder) else breaker


def after_failure(
    breaker: Breaker, *, holder: str | None, policy: BreakerPolicy, now: datetime, cap: int = MOST_FAILURES
) -> Breaker:
    """What a call that failed makes of it; one from before it opened changes nothing."""
    if breaker.state is not BreakerState.CLOSED and not _is_probe_of(breaker, holder):
        return breaker
    failures = min(breaker.failures + 1, cap)
    if breaker.state is BreakerState.CLOSED and failures < policy.failure_threshold:
        return replace(breaker, failures=failures)
    return Breaker(
        BreakerState.OPEN,
        failures,
        opened_at=breaker.opened_at or now,
        probe_at=now + timedelta(seconds=policy.open_seconds),
    )


def after_abandoning(breaker: Breaker, *, holder: str, policy: BreakerPolicy, now: datetime) -> Breaker:
    """A probe that was not sent, or was cut off: it says nothing, and what stopped it may well stop the next."""
    if not _is_probe_of(breaker, holder):
        return breaker
    return replace(
        breaker,
        state=BreakerState.OPEN,
        probe_at=now + timedelta(seconds=policy.open_seconds),
        probe_holder=None,
        probe_until=None,
    )


def opened_by_hand(breaker: Breaker, *, by: str, reason: str | None, now: datetime) -> Breaker:
    """Open until a person resets it; a probe under way decides nothing any more."""
    return Breaker(
        BreakerState.OPEN,
        breaker.failures,
        opened_at=breaker.opened_at or now,
        forced_by=by,
        forced_reason=reason,
    )


def _is_probe_of(breaker: Breaker, holder: str | None) -> bool:
    return breaker.state is BreakerState.HALF_OPEN and holder is not None and breaker.probe_holder == holder
