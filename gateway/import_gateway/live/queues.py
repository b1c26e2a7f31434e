"""How the namespace's queues are: depth, level, whether they are paused; measured at most every 10 seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import DEPTH_CAP, Depth, JobStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.errors import KubernetesUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_gateway.access.brief_cache import BriefCache
from import_gateway.api.models import QueueHealth, QueueReport

REPORT_SECONDS = 10.0
POOLS_SECONDS = 30.0
LEVELS = ((1_000, "healthy"), (5_000, "degraded"), (10_000, "critical"))


class QueueReports:
    """Methods raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        kube: KubeClient,
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._jobs = JobStore(database)
        self._last_served = [DEFAULT_QUEUE]
        self.states = QueueStateStore(database)
        self._report: BriefCache[QueueReport] = BriefCache(
            seconds=lambda _: REPORT_SECONDS, most=1, clock=clock
        )
        self._served: BriefCache[list[str]] = BriefCache(seconds=lambda _: POOLS_SECONDS, most=1, clock=clock)

    async def served(self) -> list[str]:
        """The queues that the namespace's pools serve; without a pool, the default one."""

        async def ask() -> list[str]:
            found = {
                str((body.get("spec") or {}).get("queue") or DEFAULT_QUEUE)
                async for body in self._kube.list(WORKER_POOL, self._namespace)
            }
            self._last_served = sorted(found) or [DEFAULT_QUEUE]
            return self._last_served

        try:
            return await self._served.get("queues", ask)
        except KubernetesUnavailableError:
            # Pools come and go rarely; what PostgreSQL knows of their queues is worth telling meanwhile.
            return self._last_served

    async def report(self) -> QueueReport:
        """The queues; the same answer for REPORT_SECONDS."""
        return await self._report.get("report", self.measure)

    async def measure(self) -> QueueReport:
        """The queues as they are now."""
        queues = await self.served()
        depths = await self._jobs.depth(queues)
        states = await self.states.read(queues)
        return QueueReport(
            queues=[_health(queue, depths[queue], states[queue]) for queue in queues],
            measured_at=datetime.now(UTC),
        )


def _health(queue: str, depth: Depth, state: QueueState) -> QueueHealth:
    level = next((name for most, name in LEVELS if depth.total <= most), "overload")
    return QueueHealth(
        queue=queue,
        level=level,  # type: ignore[arg-type]
        depth=depth.total,
        depth_is_at_least=depth.due >= DEPTH_CAP,
        due=depth.due,
        running=depth.claimed,
        paused=state.paused,
        paused_by=state.changed_by if state.paused else None,
        paused_since=state.changed_at if state.paused else None,
        paused_reason=state.reason if state.paused else None,
    )
