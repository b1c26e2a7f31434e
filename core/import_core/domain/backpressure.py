"""How healthy a queue is, and who may still add jobs to it: pure decisions with hysteresis."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from import_core.domain.jobs import Tier

RECOVERY_SHARE = 0.9
"""A level is left downwards at this share of the threshold that led to it, so that it does not flap."""
FIRST_RETRY_SECONDS = 10
LONGEST_RETRY_SECONDS = 3600
UNKNOWN_RETRY_SECONDS = 300
"""When to ask again while nobody can say how fast the queue shrinks."""
BY_HAND_RETRY_SECONDS = 600
"""When to ask again after a person has stopped intake."""


class HealthLevel(StrEnum):
    """How deep a queue is, in words."""

    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    CRITICAL = "Critical"
    OVERLOAD = "Overload"

    @property
    def number(self) -> int:
        """0 for healthy up to 3 for overload: the value of the metric."""
        return _LEVELS.index(self)

    def is_at_least(self, other: HealthLevel) -> bool:
        """Whether the queue is as bad as `other`, or worse."""
        return self.number >= other.number


_LEVELS = tuple(HealthLevel)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which depth on a queue is how bad, and how long it takes to trust that it is better."""

    degraded_above: int = 1000
    critical_above: int = 5000
    overload_above: int = 10_000
    improved_seconds: float = 300.0
    """Intake that the operator stopped resumes when the queue was out of overload for so long."""
    basic_delay_seconds: float = 300.0
    """From degraded on, jobs of BASIC companies start no sooner than this after they were queued."""

    def above(self, level: HealthLevel) -> int:
        """The depth above which the queue has this level; -1 for healthy."""
        return (-1, self.degraded_above, self.critical_above, self.overload_above)[level.number]

    def left_at(self, level: HealthLevel) -> int:
        """The depth at which a queue of this level is better than that."""
        return math.floor(self.above(level) * RECOVERY_SHARE)


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """What was last known of a queue; a queue that was never measured counts as healthy."""

    level: HealthLevel = HealthLevel.HEALTHY
    since: datetime | None = None
    """Since when it has this level."""
    depth: int | None = None
    """The last depth that could be measured."""
    measured_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """Whether new jobs are taken at all. `by` None: the operator decides; else a person did, and that holds."""

    stopped: bool = False
    by: str | None = None
    reason: str | None = None
    since: datetime | None = None
    improved_since: datetime | None = None
    """While stopped: since when the queue has been out of overload."""

    @property
    def opened_by_hand(self) -> bool:
        """Whether a person wants all jobs taken although the queue is full."""
        return not self.stopped and self.by is not None


@dataclass(frozen=True, slots=True)
class IntakeState:
    """All that a decision on a new job needs to know of its queue."""

    health: QueueHealth = field(default_factory=QueueHealth)
    intake: Intake = field(default_factory=Intake)
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def depth(self) -> int:
        """The last known depth; 0 where none ever was."""
        return self.health.depth or 0


@dataclass(frozen=True, slots=True)
class IntakeRefusal:
    """Why a new job is not taken now, for the person who submitted it."""

    message: str
    retry_after_seconds: int


def next_health(
    previous: QueueHealth, depth: int | None, thresholds: Thresholds, now: datetime
) -> QueueHealth:
    """The queue's health after a look. It worsens at once and improves at RECOVERY_SHARE of a threshold.

    An unknown depth is never read as zero: everything stays as it was.
    """
    if depth is None:
        return previous
    level = max((each for each in _LEVELS if depth > thresholds.above(each)), key=lambda each: each.number)
    while level.number < previous.level.number and depth > thresholds.left_at(_LEVELS[level.number + 1]):
        level = _LEVELS[level.number + 1]
    since = previous.since if level is previous.level and previous.since is not None else now
    return QueueHealth(level, since, depth, now)


def next_intake(intake: Intake, health: QueueHealth, thresholds: Thresholds, now: datetime) -> Intake:
    """Whether new jobs are taken after a look at the queue's health.

    The operator stops intake in overload and resumes it when the queue was better for a time. What a person
    stopped stays stopped. What a person opened in spite of the queue stays open until the queue is below
    critical, where the operator would take every job by itself.
    """
    if intake.opened_by_hand:
        return intake if health.level.is_at_least(HealthLevel.CRITICAL) else Intake(since=now)
    if intake.by is not None:
        return intake
    overloaded = health.level is HealthLevel.OVERLOAD
    if intake.stopped:
        return _after_stop(intake, overloaded, thresholds, now)
    if not overloaded:
        return intake
    reason = f"more than {thresholds.overload_above:,} jobs wait or run"
    return Intake(stopped=True, reason=reason, since=now)


def unmeasured(intake: Intake) -> Intake:
    """The same after a look that could not measure the queue: nobody knows whether it is still better."""
    return replace(intake, improved_since=None)


def _after_stop(intake: Intake, overloaded: bool, thresholds: Thresholds, now: datetime) -> Intake:
    if overloaded:
        return replace(intake, improved_since=None)
    improved_since = intake.improved_since or now
    if (now - improved_since).total_seconds() >= thresholds.improved_seconds:
        return Intake(since=now)
    return replace(intake, improved_since=improved_since)


def decide_intake(
    tier: Tier, intake: IntakeState, *, starts_per_minute: float | None
) -> IntakeRefusal | None:
    """Whether a company of this tier may add a job: None, or a refusal that says when to come back.

    `starts_per_minute` is the queue's measured pace, None or 0 where there is none.
    """
    word, level = intake.intake, intake.health.level
    if word.stopped and word.by is not None:
        why = f" ({word.reason})" if word.reason else ""
        return IntakeRefusal(
            f"New imports are not taken at the moment{why}. Please try again later.", BY_HAND_RETRY_SECONDS
        )
    if word.stopped:
        seconds = _seconds_until(intake, HealthLevel.OVERLOAD, starts_per_minute)
        if seconds is not None:
            seconds += intake.thresholds.improved_seconds
        if seconds is not None and tier is not Tier.ENTERPRISE:
            seconds = max(seconds, _seconds_until(intake, HealthLevel.CRITICAL, starts_per_minute) or 0.0)
        return _refusal(f"The import queue is full ({intake.depth:,} imports wait or run)", seconds)
    if word.opened_by_hand or tier is Tier.ENTERPRISE or not level.is_at_least(HealthLevel.CRITICAL):
        return None
    return _refusal(
        f"The import queue is very long ({intake.depth:,} imports wait or run), and {tier.value} companies"
        " can't add to it now",
        _seconds_until(intake, HealthLevel.CRITICAL, starts_per_minute),
    )


def room(tier: Tier, intake: IntakeState) -> int:
    """How many jobs of a tier may be taken before its next refusal, by the last known depth."""
    if intake.intake.stopped:
        return 0
    if intake.intake.opened_by_hand:
        return intake.thresholds.overload_above
    limit = intake.thresholds.overload_above
    if tier is not Tier.ENTERPRISE:
        if intake.health.level.is_at_least(HealthLevel.CRITICAL):
            return 0
        limit = intake.thresholds.critical_above
    return max(0, limit - intake.depth)


def _seconds_until(intake: IntakeState, level: HealthLevel, starts_per_minute: float | None) -> float | None:
    """Seconds until the queue is better than `level`, if nothing is added; None where it can't be told."""
    surplus = intake.depth - intake.thresholds.left_at(level)
    if surplus <= 0:
        return 0.0
    return surplus * 60.0 / starts_per_minute if starts_per_minute else None


def _refusal(what: str, seconds: float | None) -> IntakeRefusal:
    if seconds is None:
        return IntakeRefusal(f"{what}. Please try again in some minutes.", UNKNOWN_RETRY_SECONDS)
    # Bounded first: at next to no pace the time is beyond all numbers.
    wait = math.ceil(min(LONGEST_RETRY_SECONDS, max(FIRST_RETRY_SECONDS, seconds)))
    return IntakeRefusal(f"{what}. There should be room {_in_words(seconds)}; please try again then.", wait)


def _in_words(seconds: float) -> str:
    if seconds > LONGEST_RETRY_SECONDS:
        return "in more than an hour"
    if seconds <= 60:
        return "within a minute"
    return f"in about {math.ceil(seconds / 60)} minutes"
