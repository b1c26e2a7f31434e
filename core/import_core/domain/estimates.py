"""Estimates for people who wait: how long until a job starts, and until it is done."""

from __future__ import annotations

from datetime import datetime

from import_core.domain.jobs import Progress


def seconds_until_start(*, place: int, running: int, average_seconds: float | None) -> float | None:
    """Seconds until a job with `place` jobs ahead starts; None where nothing has been measured yet.

    The fleet finishes `running` jobs per `average_seconds`; growth of the fleet makes it shorter.
    """
    if average_seconds is None or running <= 0:
        return None
    return place * average_seconds / running


def seconds_until_done(progress: Progress, *, started_at: datetime | None, now: datetime) -> float | None:
    """Seconds until a running job is done, from its own pace; None before its first products."""
    if started_at is None or not progress.products_total or progress.products_done <= 0:
        return None
    elapsed = max(0.0, (now - started_at).total_seconds())
    remaining = max(0, progress.products_total - progress.products_done)
    return elapsed / progress.products_done * remaining
