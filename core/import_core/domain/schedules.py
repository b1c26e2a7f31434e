"""What an ImportSchedule does at a moment: start a run, let it wait, or count it as missed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import merge
from itertools import islice, takewhile

from import_core.domain.cron import Cron, time_zone
from import_core.domain.resources.import_schedule import ConcurrencyPolicy, ImportSchedule

COUNTED_MISSED = 100
"""Missed runs are counted up to so many at once."""


class Waiting(StrEnum):
    """What a due run waits for; also the reason of the condition Held."""

    PREVIOUS_RUN = "PreviousRunActive"
    INTAKE_STOPPED = "IntakeStopped"
    INTAKE_UNKNOWN = "IntakeUnknown"
    NO_ROOM = "NoRoom"
    REFUSED = "Refused"


class Missed(StrEnum):
    """Why a run never starts."""

    DEADLINE = "deadline"
    SUPERSEDED = "superseded"
    NAME_TAKEN = "name_taken"


@dataclass(frozen=True, slots=True)
class Plan:
    """When a schedule's runs start. `share`, in [0, 1), is its own part of the jitter and never changes."""

    cron: Cron
    share: float = 0.0
    jitter: timedelta = timedelta()
    deadline: timedelta | None = None
    policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    suspended: bool = False

    def start_of(self, time: datetime) -> datetime:
        """When the run of that time starts: with its jitter, in whole seconds, and always before the next time."""
        if not self.jitter:
            return time
        longest = min(self.jitter, (self.cron.next(time) - time) / 2)
        return time + timedelta(seconds=int(self.share * longest.total_seconds()))


def plan_of(schedule: ImportSchedule) -> Plan:
    """The plan of a valid schedule."""
    spec, metadata = schedule.spec, schedule.metadata
    deadline = spec.starting_deadline_seconds
    return Plan(
        cron=Cron.parse(spec.schedule, time_zone(spec.time_zone)),
        share=jitter_share(metadata.namespace, metadata.name),
        jitter=timedelta(seconds=spec.jitter_seconds),
        deadline=None if deadline is None else timedelta(seconds=deadline),
        policy=spec.concurrency_policy,
        suspended=spec.suspend,
    )


def jitter_share(namespace: str, name: str) -> float:
    """A number in [0, 1) by the name, so that a schedule that is made anew keeps its place."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def job_name(schedule: str, time: datetime) -> str:
    """The name of the run's ImportJob: by its minute, so that nobody can create it twice."""
    return f"{schedule}-{int(time.timestamp()) // 60}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a schedule: runs of times up to `last` were started, up to `missed` are given up.

    `hindrance`: why no job could be created now, whatever the schedule says.
    """

    created_at: datetime
    last: datetime | None = None
    missed: datetime | None = None
    active: int = 0
    hindrance: Waiting | None = None

    @property
    def settled(self) -> datetime:
        """Nothing is due up to this time."""
        return max(time for time in (self.created_at, self.last, self.missed) if time is not None)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: start the run of the time `run`, or let the one of `due` wait, and give up `missed_count` runs.

    `look_at` is when the clock alone changes the decision.
    """

    run: datetime | None = None
    due: datetime | None = None
    waiting: Waiting | None = None
    missed_until: datetime | None = None
    missed_count: int = 0
    missed_reason: Missed | None = None
    next_start: datetime | None = None
    look_at: datetime | None = None


def decide(plan: Plan, seen: Seen, now: datetime) -> Decision:
    """Decide on the last run that is due; those before it that were not started are missed, as in a CronJob.

    A run that waits goes on waiting until it may start, its deadline is over, or the next one is due.
    """
    if plan.suspended:
        return Decision()
    next_start = _next_start(plan, seen.settled, now)
    due = _latest_due(plan, seen.settled, now)
    if due is None:
        return Decision(next_start=next_start, look_at=next_start)
    ends_at = None if plan.deadline is None else plan.start_of(due) + plan.deadline
    if ends_at is not None and now > ends_at:
        count = plan.cron.count(after=seen.settled, before=due, at_most=COUNTED_MISSED - 1) + 1
        return Decision(
            missed_until=due,
            missed_count=count,
            missed_reason=Missed.DEADLINE,
            next_start=next_start,
            look_at=next_start,
        )
    earlier = plan.cron.latest(after=seen.settled, until=due - timedelta(seconds=1))
    count = plan.cron.count(after=seen.settled, before=due, at_most=COUNTED_MISSED) if earlier else 0
    forbidden = plan.policy is ConcurrencyPolicy.FORBID and seen.active > 0
    waiting = Waiting.PREVIOUS_RUN if forbidden else seen.hindrance
    after_deadline = None if ends_at is None else ends_at + timedelta(seconds=1)
    return Decision(
        run=due if waiting is None else None,
        due=due,
        waiting=waiting,
        missed_until=earlier,
        missed_count=count,
        missed_reason=Missed.SUPERSEDED if earlier else None,
        next_start=next_start,
        look_at=min(next_start, after_deadline) if waiting and after_deadline else next_start,
    )


def _latest_due(plan: Plan, settled: datetime, now: datetime) -> datetime | None:
    """The last time after `settled` whose run should have started."""
    latest = plan.cron.latest(after=settled, until=now)
    if latest is None or plan.start_of(latest) <= now:
        return latest
    # The one before it starts before this one's time.
    return plan.cron.latest(after=settled, until=latest - timedelta(seconds=1))


def _next_start(plan: Plan, settled: datetime, now: datetime) -> datetime:
    """The first start after now; its time may be past where the jitter keeps it back."""
    for time in plan.cron.times(max(settled, now - plan.jitter - timedelta(seconds=1))):
        start = plan.start_of(time)
        if start > now:
            return start
    raise AssertionError("a cron expression that was parsed comes round")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished job of a schedule; `time` is that of its run."""

    uid: str
    time: datetime
    succeeded: bool


def surplus(runs: Iterable[FinishedRun], *, successful: int, failed: int) -> set[str]:
    """The uids of the finished jobs above the history limits: the oldest of each kind."""
    newest = sorted(runs, key=lambda run: (run.time, run.uid), reverse=True)
    succeeded = [run.uid for run in newest if run.succeeded]
    others = [run.uid for run in newest if not run.succeeded]
    return {*succeeded[successful:], *others[failed:]}


@dataclass(frozen=True, slots=True)
class Wave:
    """So many jobs start from that moment on, within the time that was asked about."""

    starts_at: datetime
    jobs: int


def forecast(plans: Iterable[Plan], *, after: datetime, until: datetime, at_most: int) -> list[datetime]:
    """When runs start after the one moment and up to the other, in ascending order; at most so many.

    It tells what the schedules say: a run that waits for an earlier one, or for intake, starts later.
    """
    each = (_starts(plan, after, until, at_most) for plan in plans if not plan.suspended)
    return list(islice(merge(*each), at_most))


def _starts(plan: Plan, after: datetime, until: datetime, at_most: int) -> list[datetime]:
    starts = map(plan.start_of, plan.cron.times(after - plan.jitter - timedelta(seconds=1)))
    coming = (start for start in takewhile(lambda start: start <= until, starts) if start > after)
    return list(islice(coming, at_most))


def next_wave(starts: Sequence[datetime], *, within: timedelta, least: int) -> Wave | None:
    """The first moment from which on at least so many of the ascending `starts` come within that time."""
    end = 0
    for begin, start in enumerate(starts):
        end = max(end, begin)
        while end < len(starts) and starts[end] - start < within:
            end += 1
        if end - begin >= least:
            return Wave(start, end - begin)
    return None
