"""Measures queues and workers for Prometheus: jobs by state in PostgreSQL, messages in Redis, workers of pools."""

from __future__ import annotations

import math
from collections.abc import Callable

from import_core.adapters.postgres.counting import CountStore
from import_core.adapters.postgres.fleet import FleetStore
from import_core.adapters.redis.queue import JobQueue
from import_core.domain.errors import DatabaseUnavailableError, ImportOperatorError, QueueUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.queue_counts import QueueCounts
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import Body, OperatorState, name_of, uid_of

JOB_STATES = tuple(QueueCounts().by_state())
MESSAGE_STATES = ("waiting", "active", "delayed", "failed")


class MeasureLoop:
    """What can't be measured is shown as NaN: neither zero nor what it was."""

    def __init__(
        self,
        state: OperatorState,
        counts: CountStore,
        *,
        queue: Callable[[str], JobQueue],
        seconds: float,
        fleet: FleetStore | None = None,
        queues: Callable[[], set[str]] = set,
    ) -> None:
        """`queues`: those that are served beside the pools' own."""
        self._fleet = fleet
        self._queues = queues
        self._state = state
        self._counts = counts
        self._queue = queue
        self._seconds = seconds

    def loop(self) -> Loop:
        """Runs by the clock, about as often as Prometheus asks."""
        return Loop("measure", self.round, interval=self._seconds)

    async def round(self) -> None:
        """Measure all; what fails does not keep the rest from being shown."""
        pools = list(self._state.pools)
        queues = sorted({DEFAULT_QUEUE, *map(_queue_of, pools), *self._queues()})
        metrics.forget_names(pools={name_of(body) for body in pools}, queues=set(queues))
        self._show_objects()
        for body in pools:
            self._show_pool(body)
        failure = await self._show_fleet(queues)
        for name in queues:
            failure = await self._show_jobs(name) or failure
            failure = await self._show_messages(name) or failure
        if failure is not None:
            raise failure

    async def _show_jobs(self, queue: str) -> ImportOperatorError | None:
        label, failure = metrics.queue_label(queue), None
        try:
            counts = await self._counts.counts(queue)
            jobs: dict[str, float] = {**counts.by_state()}
            oldest, busy = counts.oldest_waiting_seconds(), float(counts.busy_workers)
        except DatabaseUnavailableError as error:
            failure = error
            jobs, oldest, busy = dict.fromkeys(JOB_STATES, math.nan), math.nan, math.nan
        for state, number in jobs.items():
            metrics.QUEUE_JOBS.labels(label, state).set(number)
        metrics.QUEUE_OLDEST.labels(label).set(oldest)
        metrics.WORKERS_BUSY.labels(label).set(busy)
        return failure

    async def _show_fleet(self, queues: list[str]) -> ImportOperatorError | None:
        """Workers of each queue by their own word, whoever started them."""
        if self._fleet is None:
            return None
        failure, numbers = None, dict.fromkeys(queues, math.nan)
        try:
            ready = await self._fleet.ready()
            numbers = {name: float(ready[name].workers) if name in ready else 0.0 for name in queues}
        except DatabaseUnavailableError as error:
            failure = error
        for name, number in numbers.items():
            metrics.QUEUE_WORKERS.labels(metrics.queue_label(name)).set(number)
        return failure

    async def _show_messages(self, queue: str) -> ImportOperatorError | None:
        label, failure = metrics.queue_label(queue), None
        try:
            found = await self._queue(queue).counts()
            messages: dict[str, float] = {state: found.get(state, 0) for state in MESSAGE_STATES}
        except QueueUnavailableError as error:
            failure = error
            messages = dict.fromkeys(MESSAGE_STATES, math.nan)
        for state, number in messages.items():
            metrics.QUEUE_MESSAGES.labels(label, state).set(number)
        return failure

    def _show_objects(self) -> None:
        state = self._state
        kinds = {
            "ImportJob": state.jobs,
            "ImportProvider": state.providers,
            "ImportSchedule": state.schedules,
            "WorkerPool": state.pools,
        }
        for kind, objects in kinds.items():
            metrics.OBJECTS.labels(kind).set(len(objects))

    def _show_pool(self, body: Body) -> None:
        """The pool's workers as its Deployments say; what nobody has told is not shown as zero."""
        label = metrics.pool_label(name_of(body))
        spec = body.get("spec") or {}
        scaling, by_hand = spec.get("scaling") or {}, spec.get("replicas")
        minimum, maximum = scaling.get("minReplicas"), scaling.get("maxReplicas")
        if by_hand is not None:
            minimum = maximum = by_hand
        metrics.WORKERS_MINIMUM.labels(label).set(_number(minimum))
        metrics.WORKERS_MAXIMUM.labels(label).set(_number(maximum))
        # Of all versions of the template.
        owned = self._state.deployments.owned_by(uid_of(body))
        if not owned:
            metrics.WORKERS.labels(label).set(math.nan)
            metrics.WORKERS_READY.labels(label).set(math.nan)
            return
        asked = [_number((seen.get("spec") or {}).get("replicas")) for seen in owned]
        metrics.WORKERS.labels(label).set(math.fsum(asked))
        # The API server leaves out what is zero.
        ready = [(seen.get("status") or {}).get("readyReplicas") or 0 for seen in owned]
        metrics.WORKERS_READY.labels(label).set(sum(ready))


def _queue_of(pool: Body) -> str:
    return str((pool.get("spec") or {}).get("queue") or DEFAULT_QUEUE)


def _number(value: int | None) -> float:
    return math.nan if value is None else float(value)
