"""Hands over again what Redis no longer has: streamed in pages, so that memory does not grow with the loss."""

from __future__ import annotations

from import_core.adapters.hand_overs import hand_over_again, lost_hand_overs
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.redis.queue import JobQueue
from import_core.domain.repairs import RepairKind
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.repairing import tell_repairs

log = get_logger(__name__)


async def recover_hand_overs(
    store: DispatchStore,
    queue: JobQueue,
    *,
    older_than_seconds: float,
    kind: RepairKind,
    cause: str,
    looks: int | None = None,
) -> int:
    """Give unclaimed rows that Redis' waiting list lacks a new hand-over; returns their number.

    `looks` bounds how many of the oldest rows are looked at, None: all. Raises DatabaseUnavailableError and
    QueueUnavailableError; what was handed over until then stands.
    """
    looked, repaired = 0, 0
    async for look in lost_hand_overs(store, queue, older_than_seconds=older_than_seconds):
        again = await hand_over_again(store, queue, look)
        tell_repairs(kind, [message.job_id for message in again], reason=cause)
        looked, repaired = looked + look.looked, repaired + len(again)
        if looks is not None and looked >= looks:
            break
    if repaired:
        metrics.JOBS_DISPATCHED_AGAIN.labels(metrics.queue_label(queue.name)).inc(repaired)
        log.warning("jobs.dispatched_again", queue=queue.name, jobs=repaired, cause=cause)
    return repaired
