"""Growing a pool ahead of a known wave of jobs, by the time that a worker takes to start."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from import_core.domain.scaling import ScalingSpec

DEFAULT_START_SECONDS = 60.0
"""What a worker takes to start, before any start was measured: a new node's start is mostly included."""
LONGEST_START_SECONDS = 900.0
"""A worker that took longer was held up by something that growing earlier does not mend."""
STARTS_KEPT = 20
WAVE_SECONDS = 60
"""Jobs that come within one minute are one wave: schedules tell minutes apart."""


@dataclass(frozen=True, slots=True)
class KnownWave:
    """Jobs that will come from `start` to `end` (seconds of the caller's clock), and the workers they need."""

    start: float
    end: float
    workers: int


def with_known_waves(
    spec: ScalingSpec, waves: Iterable[KnownWave], now: float, *, lead_seconds: float
) -> ScalingSpec:
    """Raise the minimum to what the waves need that start within `lead_seconds` or go on; never above the maximum.

    `lead_seconds` is what a worker takes from being asked for to its first job, a node's start included.
    """
    needs = [wave.workers for wave in waves if wave.start - lead_seconds <= now < wave.end]
    minimum = min(max([spec.minimum, *needs]), max(spec.maximum, spec.minimum))
    return spec if minimum == spec.minimum else replace(spec, minimum=minimum)


@dataclass(frozen=True, slots=True)
class StartTimes:
    """How long the last workers took from the creation of their pod until they were ready, in seconds."""

    seconds: tuple[float, ...] = ()

    def after_start(self, seconds: float) -> StartTimes:
        """Take in a start; only the last STARTS_KEPT count."""
        if not 0.0 <= seconds <= LONGEST_START_SECONDS:
            return self
        return StartTimes((*self.seconds, seconds)[-STARTS_KEPT:])

    @property
    def lead_seconds(self) -> float:
        """What nine in ten of them took at most; a stated default before any was measured."""
        if not self.seconds:
            return DEFAULT_START_SECONDS
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.9 * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class WaveBook:
    """Jobs that schedules start, counted by the minute (seconds of the wall clock over WAVE_SECONDS).

    What a minute brought is remembered until it is over: a run that has started is no coming one any more.
    """

    jobs: Mapping[int, int]

    def after_look(self, starts: Iterable[float], now: float, *, within: float) -> WaveBook:
        """Take in the coming starts up to `within` seconds ahead, at `now`."""
        current = int(now // WAVE_SECONDS)
        coming = Counter(int(at // WAVE_SECONDS) for at in starts if at < now + within)
        known = {minute: jobs for minute, jobs in self.jobs.items() if minute == current}
        for minute, jobs in coming.items():
            if minute >= current:
                known[minute] = max(jobs, known.get(minute, 0))
        return WaveBook(known)

    def waves(self, *, jobs_per_worker: int, offset: float = 0.0) -> tuple[KnownWave, ...]:
        """The waves, with times moved by `offset` seconds to the caller's clock."""
        return tuple(
            KnownWave(
                start=minute * WAVE_SECONDS + offset,
                end=(minute + 1) * WAVE_SECONDS + offset,
                workers=-(-jobs // jobs_per_worker),
            )
            for minute, jobs in sorted(self.jobs.items())
        )
