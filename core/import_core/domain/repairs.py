"""What is repaired when rows, claims and Redis disagree, and what becomes of a job that stalled: pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from import_core.domain import failures, steps
from import_core.domain.failures import Fail, Retry, retry_delay
from import_core.domain.jobs import Message, WaitingReason

STALLED = "Stalled"
"""Failure reason of a job that made no progress for too long."""


class RepairKind(StrEnum):
    """What was found wrong (label `kind` of imports_repairs_total)."""

    LEASE_EXPIRED = "lease-expired"
    WORKER_ENDED = "worker-ended"
    HAND_OVER_LOST = "hand-over-lost"
    REDIS_LOST = "redis-lost"
    LEFTOVER_MESSAGE = "leftover-message"
    STALLED = "stalled"
    CLAIM_WITHOUT_JOB = "claim-without-job"
    JOB_WITHOUT_CLAIM = "job-without-claim"
    OBJECT_WITHOUT_ROW = "object-without-row"
    ROW_WITHOUT_OBJECT = "row-without-object"


@dataclass(frozen=True, slots=True)
class StalledClaim:
    """A claimed job without a checkpoint for a time; `attempt` tries had failed before this one."""

    job_id: str
    claim_id: str
    worker_id: str
    attempt: int
    quiet_seconds: float
    """Since its last checkpoint, or since it was claimed when that was later."""
    started_seconds: float
    """Since the job first started."""
    is_step: bool = False
    """A batch of a step after the import: it has delays of its own."""


def decide_stalled(stalled: StalledClaim, *, fail_after_seconds: float, spread: float) -> Fail | Retry:
    """Retry a stalled job, which uses a try; fail it when it started too long ago or its tries are used up.

    A batch of a step has tries and delays of its own, and no age at which it fails: outages may hold one for hours
    without using up a try. `spread` in [0, 1) is the caller's random number.
    """
    quiet = f"No checkpoint for {_minutes(stalled.quiet_seconds)}"
    if stalled.started_seconds >= fail_after_seconds and not stalled.is_step:
        return Fail(STALLED, f"{quiet}, and the job started {_minutes(stalled.started_seconds)} ago")
    delays = steps.RETRY_DELAYS_SECONDS if stalled.is_step else failures.RETRY_DELAYS_SECONDS
    if stalled.attempt >= len(delays):
        return Fail(STALLED, f"{quiet} (after {stalled.attempt + 1} tries)")
    return Retry(
        retry_delay(stalled.attempt, spread, delays), 1, WaitingReason.RETRY, f"{quiet}; the try was ended"
    )


def message_of(queue_id: str) -> Message | None:
    """The hand-over that a BullMQ id stands for; None: somebody else's message."""
    job_id, separator, number = queue_id.rpartition("-")
    if not separator or not job_id or not (number.isascii() and number.isdigit()) or len(number) > 9:
        return None
    message = Message(job_id, int(number))
    return message if message.queue_id == queue_id else None


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
