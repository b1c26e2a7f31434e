"""What scaling knows in a cluster, by the workers' own word: their number, the queues' depths, who was replaced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from import_core.adapters.postgres.fleet import FleetStore, ReadyWorkers
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.backpressure import Thresholds
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.steps import StepKind
from import_core.domain.worker_ends import WorkerEnd
from import_operator import metrics
from import_operator.loops.dispatch import Capacity
from import_operator.loops.runner import Loop
from import_operator.policies import QueuePolicy
from import_operator.state import OperatorState, SeenDepth

INTERVAL_SECONDS = 1.0
LEAST_JOBS = 5
"""Handed over to a queue whose workers are not there (yet), as for a pool of one."""
SWEEP_SECONDS = 300.0
_STEPS = frozenset(kind.value for kind in StepKind)
_STEP_POLICY = QueuePolicy(Thresholds(degraded_above=20_000, critical_above=50_000, overload_above=100_000))


def policy_of(queue: str) -> QueuePolicy:
    """What a WorkerPool would wish: the defaults, and for steps what deploy/components/catalogue-sync has for them."""
    return _STEP_POLICY if queue in _STEPS else QueuePolicy()


class FleetLoop:
    """Every second: nobody tells of a worker that went away without a word."""

    def __init__(self, state: OperatorState, fleet: FleetStore, jobs: JobStore, workers: WorkerStore) -> None:
        self._state = state
        self._fleet = fleet
        self._jobs = jobs
        self._workers = workers
        self._ready: dict[str, ReadyWorkers] = {DEFAULT_QUEUE: ReadyWorkers()}
        self._swept_at = float("-inf")

    def loop(self) -> Loop:
        """The loop."""
        return Loop("fleet", self.round, interval=INTERVAL_SECONDS)

    def queues(self) -> set[str]:
        """Queues that workers have served since this process leads, and the default one."""
        return set(self._ready)

    def capacities(self) -> dict[str, Capacity]:
        """Jobs that the workers of each queue can take at once; of a number that is unknown, the last one counts."""
        return {queue: Capacity(max(ready.jobs, LEAST_JOBS)) for queue, ready in self._ready.items()}

    def policies(self) -> Mapping[str, QueuePolicy]:
        """The policy of every queue."""
        return {queue: policy_of(queue) for queue in self._ready}

    async def round(self) -> None:
        """Count workers and depths, and see which processes another has replaced."""
        ready = await self._fleet.ready()
        for queue in {*self._ready, *ready}:
            self._ready[queue] = ready.get(queue, ReadyWorkers())
        await self._measure()
        await self._see_replaced()
        if time.monotonic() - self._swept_at >= SWEEP_SECONDS:
            await self._workers.sweep()
            self._swept_at = time.monotonic()

    async def _measure(self) -> None:
        seen_at = datetime.now(UTC)
        for queue, depth in (await self._jobs.depth(sorted(self._ready))).items():
            metrics.QUEUE_DEPTH.labels(metrics.queue_label(queue)).set(depth.total)
            self._state.depths[queue] = SeenDepth(depth.due, depth.claimed, seen_at)

    async def _see_replaced(self) -> None:
        """A process that started where another ran, alone on its host, is that one's end."""
        for pod_uid, newest in (await self._fleet.replaced()).items():
            self._state.worker_ends[pod_uid] = WorkerEnd(pod_uid, newest)
            self._state.workers_ended.set()
