"""How the namespace's queues are: depth, level, whether they are paused; measured at most every 10 seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.kube.resources import WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import DEPTH_CAP, Depth, JobStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.backpressure import next_health
from import_core.domain.errors import KubernetesUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.logs import get_logger
from import_gateway.access.brief_cache import BriefCache
from import_gateway.api.models import QueueHealth, QueueReport, QueueThresholds
from import_gateway.objects import Objects

log = get_logger(__name__)

REPORT_SECONDS = 10.0
POOLS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Served:
    """A queue that worker pools serve; `desired` workers there should be, where a pool says so."""

    queue: str
    desired: int | None = None


class QueueReports:
    """Methods raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        kube: Objects,
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._jobs = JobStore(database)
        self._last_served = [Served(DEFAULT_QUEUE)]
        self.states = QueueStateStore(database)
        self._report: BriefCache[QueueReport] = BriefCache(
            seconds=lambda _: REPORT_SECONDS, most=1, clock=clock
        )
        self._served: BriefCache[list[Served]] = BriefCache(
            seconds=lambda _: POOLS_SECONDS, most=1, clock=clock
        )

    async def served(self) -> list[str]:
        """The queues that the namespace's pools serve; without a pool, the default one."""
        return [served.queue for served in await self._pools()]

    async def _pools(self) -> list[Served]:
        async def ask() -> list[Served]:
            try:
                self._last_served = served_queues(
                    [body async for body in self._kube.list(WORKER_POOL, self._namespace)]
                )
            except KubernetesUnavailableError as error:
                # Pools come and go rarely; what PostgreSQL knows of their queues is worth telling meanwhile,
                # and at once: the answer is remembered like a good one.
                log.warning("pools.not_read", message=error.message)
            return self._last_served

        return await self._served.get("queues", ask)

    async def report(self) -> QueueReport:
        """The queues; the same answer for REPORT_SECONDS."""
        return await self._report.get("report", self.measure)

    async def measure(self) -> QueueReport:
        """The queues as they are now."""
        served = await self._pools()
        queues = [each.queue for each in served]
        depths = await self._jobs.depth(queues)
        states = await self.states.read(queues)
        return QueueReport(
            queues=[_health(each, depths[each.queue], states[each.queue]) for each in served],
            measured_at=datetime.now(UTC),
        )


def served_queues(pools: Iterable[Mapping[str, Any]]) -> list[Served]:
    """The queues of WorkerPool objects with the workers that their status asks for; without a pool the default one."""
    desired: dict[str, int | None] = {}
    for body in pools:
        queue = str((body.get("spec") or {}).get("queue") or DEFAULT_QUEUE)
        wanted = (body.get("status") or {}).get("desiredReplicas")
        known = desired.get(queue)
        desired[queue] = known if wanted is None else (known or 0) + int(wanted)
    return [Served(queue, desired[queue]) for queue in sorted(desired)] or [Served(DEFAULT_QUEUE)]


def _health(served: Served, depth: Depth, state: QueueState) -> QueueHealth:
    known, intake = state.intake.health, state.intake.intake
    if known.measured_at is None:
        # No operator has looked yet: what this depth alone would say.
        known = next_health(known, depth.total, state.intake.thresholds, datetime.now(UTC))
    thresholds = state.intake.thresholds
    return QueueHealth(
        queue=served.queue,
        level=known.level.value.lower(),  # type: ignore[arg-type]
        depth=depth.total,
        depth_is_at_least=depth.due >= DEPTH_CAP,
        due=depth.due,
        running=depth.claimed,
        thresholds=QueueThresholds(
            degraded_above=thresholds.degraded_above,
            critical_above=thresholds.critical_above,
            overload_above=thresholds.overload_above,
        ),
        workers_desired=served.desired,
        intake_open=not intake.stopped,
        intake_reason=intake.reason if intake.stopped else None,
        **_pause(state),
    )


def _pause(state: QueueState) -> dict[str, Any]:
    """Whether nothing is handed out, by a person's word or by the system's own."""
    if state.paused:
        return {
            "paused": True,
            "paused_by": state.changed_by,
            "paused_since": state.changed_at,
            "paused_reason": state.reason,
        }
    if state.dispatch_paused:
        return {
            "paused": True,
            "paused_since": state.emergency.since,
            "paused_reason": state.emergency.reason,
        }
    return {}
