"""How many workers empty the backlog in a given time: work counted in products and images, not in jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from import_core.domain.scaling import (
    Observation,
    ScalingDecision,
    ScalingHistory,
    ScalingReason,
    ScalingSpec,
    decide,
)

RATE_MEMORY_SECONDS = 3600.0
"""The measured rate follows about the last so many seconds of work of one place for a job."""
_RENAMED = {
    ScalingReason.DEPTH_ROSE: ScalingReason.WORK_ROSE,
    ScalingReason.DEPTH_FELL: ScalingReason.WORK_FELL,
}


@dataclass(frozen=True, slots=True)
class WorkRate:
    """A running measure of how many units (products and images) a worker copies for one job in a second.

    `per_second` is None until something was measured. Seconds that a job waited for its provider don't count.
    """

    per_second: float | None = None

    def after_work(self, *, units: float, job_seconds: float) -> WorkRate:
        """Take in that jobs, `job_seconds` in all, have copied `units` since the last look."""
        if job_seconds <= 0:
            return self
        measured = units / job_seconds
        if self.per_second is None:
            return WorkRate(measured)
        weight = min(1.0, job_seconds / RATE_MEMORY_SECONDS)
        return WorkRate(self.per_second + weight * (measured - self.per_second))


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Jobs of similar size: how many, and their units (products and images) in all."""

    jobs: int
    units: float


@dataclass(frozen=True, slots=True)
class LimitedBacklog:
    """Waiting work of a connection (or of several) whose provider lets less through than workers could copy.

    `units_per_second`: what its limit lets through; 0 while its circuit breaker is open.
    """

    waiting: tuple[SizeClass, ...]
    units_per_second: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done."""

    waiting: tuple[SizeClass, ...]
    running: tuple[SizeClass, ...] = ()
    """What is left of the jobs that workers hold and copy."""
    kept_waiting: int = 0
    """Running jobs that wait for their provider: each keeps its place, whatever is left of it."""
    limited: tuple[LimitedBacklog, ...] = ()
    rate: float | None = None
    """Units that a worker copies for one job in a second (`WorkRate.per_second`); None: not measured yet."""


@dataclass(frozen=True, slots=True)
class DrainTimeSpec:
    """A pool's wishes: the backlog is to be empty in `drain_seconds`; a worker runs `concurrency` jobs."""

    scaling: ScalingSpec
    drain_seconds: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class WorkNeed:
    """Workers that the work asks for, and whether it would ask for more if providers let more through."""

    workers: int
    provider_limited: bool


def needed_for(work: Work, spec: DrainTimeSpec) -> WorkNeed | None:
    """Workers for the jobs that run and those that wait; None while no rate is known.

    A job takes the part of a place that it fills during the drain time, and never more than one place: a job
    of 10,000 products runs on one worker, however many there are.
    What a provider will not let through in the drain time takes no place: more workers would wait for it, too.
    """
    if work.rate is None or work.rate <= 0:
        return None
    place = work.rate * spec.drain_seconds
    running = _fitting(work.running, place) + work.kept_waiting * place
    fitting = _fitting(work.waiting, place)
    withheld = sum(
        max(0.0, _fitting(backlog.waiting, place) - backlog.units_per_second * spec.drain_seconds)
        for backlog in work.limited
    )
    usable = max(0.0, fitting - withheld)
    workers = _workers((running + usable) / place, spec.concurrency)
    return WorkNeed(workers, workers < _workers((running + fitting) / place, spec.concurrency))


def decide_drain_time(
    observation: Observation,
    work: Work,
    spec: DrainTimeSpec,
    history: ScalingHistory,
    now: float,
) -> ScalingDecision:
    """Decide on the number of workers at `now` (seconds of a monotonic clock).

    Bounds, cooldowns, holding by hand and an unknown depth are those of `scaling.decide`. Until a rate is
    measured, the depth decides. The reason is ProviderLimited where workers that the bounds would allow are
    not started because a provider would not let them work.
    """
    if observation.depth is None or observation.claimed is None:
        return decide(replace(observation, depth=None), spec.scaling, history, now)
    need = needed_for(work, spec)
    if need is None:
        return decide(observation, spec.scaling, history, now)
    decision = decide(observation, spec.scaling, history, now, need=need.workers)
    if decision.need is None:
        return decision
    if (
        need.provider_limited
        and need.workers < spec.scaling.maximum
        and decision.replicas >= observation.current
    ):
        return replace(decision, reason=ScalingReason.PROVIDER_LIMITED)
    return replace(decision, reason=_RENAMED.get(decision.reason, decision.reason))


def _fitting(sizes: tuple[SizeClass, ...], place: float) -> float:
    """Units that places can do in the drain time, one place for each job."""
    return sum(min(size.units, size.jobs * place) for size in sizes)


def _workers(places: float, concurrency: int) -> int:
    # A billionth less: sums of fractions that should be whole may come out a little above.
    return max(0, -int(-(places - 1e-9) // concurrency))
