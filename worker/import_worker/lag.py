"""Measures how late the event loop wakes up: a blocked loop renews no leases (docs/reference/lifecycle.md)."""

from __future__ import annotations

import asyncio

import structlog

from import_core.observability.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

MEASURE_EVERY_SECONDS = 0.5
TELL_ABOVE_SECONDS = 1.0


async def measure_lag(metrics: WorkerMetrics, *, every_seconds: float = MEASURE_EVERY_SECONDS) -> None:
    """Observe the lag for ever."""
    clock = asyncio.get_running_loop().time
    while True:
        before = clock()
        await asyncio.sleep(every_seconds)
        lag = max(0.0, clock() - before - every_seconds)
        metrics.event_loop_lag.observe(lag)
        if lag > TELL_ABOVE_SECONDS:
            log.warning("event_loop.blocked", duration=round(lag * 1000))
