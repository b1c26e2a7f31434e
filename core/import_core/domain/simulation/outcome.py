"""What a run of a simulation comes to: cost, waiting, misses, interruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.engine import Run, Sample


@dataclass(frozen=True, slots=True)
class Outcome:
    """A policy's result over a trace; times in seconds."""

    policy: str
    jobs: int
    unfinished: int
    """Must be 0: a simulation ends when the last job is done."""
    worker_hours: float
    cost: float
    waiting_p50: float
    waiting_p95: float
    waiting_p99: float
    slo_jobs: int
    """Jobs small enough for the promise."""
    slo_misses: int
    interrupted: int
    scaled_out: int
    scaled_in: int
    most_workers: int
    samples: tuple[Sample, ...] = ()


def outcome(policy: str, run: Run, assumptions: Assumptions) -> Outcome:
    """Add up a run."""
    waits = sorted(job.waited for job in run.jobs)
    small = [job for job in run.jobs if job.arrival.products < assumptions.slo_products]
    misses = sum(
        1 for job in small if job.ended_at is None or job.ended_at - job.arrival.at > assumptions.slo_seconds
    )
    return Outcome(
        policy=policy,
        jobs=len(run.jobs),
        unfinished=sum(1 for job in run.jobs if job.ended_at is None),
        worker_hours=run.worker_hours,
        cost=run.worker_hours * assumptions.price,
        waiting_p50=percentile(waits, 50),
        waiting_p95=percentile(waits, 95),
        waiting_p99=percentile(waits, 99),
        slo_jobs=len(small),
        slo_misses=misses,
        interrupted=run.interrupted,
        scaled_out=run.scaled_out,
        scaled_in=run.scaled_in,
        most_workers=run.most_workers,
        samples=run.samples,
    )


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of ascending values; 0 of none."""
    if not ascending:
        return 0.0
    rank = max(1, -int(-len(ascending) * percent // 100))
    return ascending[rank - 1]
