"""Tells metrics of API calls: how each ended, how long it took, and how long it waited for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from import_core.domain.errors import HandBackError
from import_core.domain.limits import CostBucket, Grant
from import_core.observability.labels import provider_label
from import_core.observability.metrics import WorkerMetrics
from import_worker.providers.base import RateLimiter
from import_worker.providers.outcomes import MeteredCall


class ConnectionMeter:
    """Counts one connection's calls under its provider's type."""

    def __init__(self, metrics: WorkerMetrics, provider_type: str) -> None:
        self._metrics = metrics
        self._provider = provider_label(provider_type)

    @contextmanager
    def call(self) -> Iterator[MeteredCall]:
        """Measure a call, however it ends."""
        clock = asyncio.get_running_loop().time
        began, call = clock(), MeteredCall()
        try:
            yield call
        finally:
            if call.outcome is not None:
                self._metrics.provider_requests.labels(self._provider, call.outcome.value).inc()
                self._metrics.provider_request_seconds.labels(self._provider).observe(clock() - began)

    def waited(self, seconds: float) -> None:
        """Count a wait for the limiter's grant."""
        self._metrics.provider_limit_wait.labels(self._provider).observe(seconds)

    def gave_up(self) -> None:
        """Count a call whose turn was too far away."""
        self._metrics.provider_limit_exceeded.labels(self._provider).inc()


class MeteredLimiter:
    """A limiter whose waits are counted."""

    def __init__(self, limiter: RateLimiter, meter: ConnectionMeter) -> None:
        self._limiter = limiter
        self._meter = meter

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        """See RateLimiter."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            grant = await self._limiter.acquire(points, instead_of=instead_of)
        except HandBackError:
            self._meter.gave_up()
            raise
        self._meter.waited(clock() - began)
        return grant

    async def block(self, seconds: float) -> None:
        """See RateLimiter."""
        await self._limiter.block(seconds)

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        """See RateLimiter."""
        await self._limiter.observe(grant, points, bucket)

    async def arrived(self, grant: Grant, by: float) -> None:
        """See RateLimiter."""
        await self._limiter.arrived(grant, by)

    async def release(self, grant: Grant, points: float) -> None:
        """See RateLimiter."""
        await self._limiter.release(grant, points)
