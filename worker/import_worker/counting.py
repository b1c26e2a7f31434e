"""Counts starts and ends of jobs, by provider and tier."""

from __future__ import annotations

from datetime import datetime

from import_core.domain.jobs import Claim, Progress
from import_core.observability.labels import provider_label
from import_core.observability.metrics import WorkerMetrics

COMPLETED = "completed"
SMALL, MEDIUM = 100, 1_000
"""Products below which a job is called small, or medium: the platform promises small ones within 5 minutes."""


def count_start(metrics: WorkerMetrics, claim: Claim) -> None:
    """Count how long a job has waited for its first start."""
    if claim.waited_seconds is not None:
        metrics.job_wait.labels(claim.tier.value).observe(max(0.0, claim.waited_seconds))


def count_try(
    metrics: WorkerMetrics,
    claim: Claim,
    progress: Progress,
    *,
    outcome: str,
    provider_type: str,
    seconds: float,
    now: datetime,
) -> None:
    """Count the end of a try that took so many seconds, and what its job has imported when that is complete."""
    provider, tier = provider_label(provider_type), claim.tier.value
    metrics.jobs.labels(outcome, provider, tier).inc()
    metrics.job_seconds.labels(outcome, provider, tier).observe(seconds)
    if outcome != COMPLETED:
        return
    metrics.job_products.labels(provider, tier).observe(progress.products_done)
    metrics.job_images.labels(provider, tier).observe(progress.images_total)
    if claim.job.started_at is not None:
        # The database's clock began it and ours ends it: never shorter than what we have seen ourselves.
        turnaround = max(seconds, (now - claim.job.started_at).total_seconds())
        metrics.job_turnaround.labels(provider, tier, job_size(progress)).observe(turnaround)


def job_size(progress: Progress) -> str:
    """small, medium or large, by the number of its products."""
    if progress.products_done < SMALL:
        return "small"
    return "medium" if progress.products_done < MEDIUM else "large"
