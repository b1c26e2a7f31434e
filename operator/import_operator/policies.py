"""What a queue's WorkerPools wish of it; where several serve one queue, the strictest wish counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from import_core.domain.backpressure import Thresholds
from import_core.domain.dispatch import StartLimit
from import_core.domain.emergency import EmergencyPolicy
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.resources.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """The numbers by which one queue is judged."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    emergency: EmergencyPolicy = field(default_factory=EmergencyPolicy)
    start_limit: StartLimit | None = None


def queue_policies(pools: Iterable[WorkerPool]) -> Mapping[str, QueuePolicy]:
    """The policy of each queue that is served, and of the default one, which takes jobs without a pool, too."""
    by_queue: dict[str, list[WorkerPool]] = {DEFAULT_QUEUE: []}
    for pool in pools:
        by_queue.setdefault(pool.spec.queue, []).append(pool)
    return {queue: _policy(serving) for queue, serving in by_queue.items()}


def _policy(pools: list[WorkerPool]) -> QueuePolicy:
    if not pools:
        return QueuePolicy()
    health = [pool.spec.health for pool in pools]
    limits = [
        StartLimit(limit.jobs, limit.per_seconds)
        for limit in (pool.spec.queue_rate_limit for pool in pools)
        if limit is not None
    ]
    thresholds = Thresholds(
        degraded_above=min(each.degraded_above for each in health),
        critical_above=min(each.critical_above for each in health),
        overload_above=min(each.overload_above for each in health),
        improved_seconds=max(each.resume_after_seconds for each in health),
        basic_delay_seconds=max(each.basic_delay_seconds for each in health),
    )
    emergency = EmergencyPolicy(
        min_success_percent=max(each.min_success_percent for each in health),
        pause_seconds=max(each.emergency_pause_seconds for each in health),
    )
    return QueuePolicy(
        thresholds, emergency, min(limits, key=lambda each: each.jobs / each.seconds, default=None)
    )
