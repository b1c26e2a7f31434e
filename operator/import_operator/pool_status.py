"""Builds the status of a WorkerPool from what was measured and decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.adapters.postgres.jobs import Depth
from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.backpressure import HealthLevel
from import_core.domain.emergency import EmergencyPhase
from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import (
    WorkerPoolCondition,
    bound_message,
    set_condition,
)
from import_core.domain.rollout import RolloutState
from import_core.domain.rollout_status import rolled_out
from import_core.domain.scaling import ScalingDecision, ScalingReason
from import_operator.deployments import replicas_of

REASON_TEXTS = {
    ScalingReason.STEADY: "The number of workers fits the queue",
    ScalingReason.DEPTH_ROSE: "More workers for a deeper queue",
    ScalingReason.DEPTH_FELL: "Fewer workers for a shallower queue",
    ScalingReason.WORK_ROSE: "More workers for more waiting work",
    ScalingReason.WORK_FELL: "Fewer workers for less work",
    ScalingReason.PROVIDER_LIMITED: "No more workers: what waits is held up by its providers, or paused",
    ScalingReason.KNOWN_WAVE: "More workers ahead of the jobs that schedules are about to start",
    ScalingReason.CPU_HIGH: "More workers by the CPU that they use: the depth of the queue is not known",
    ScalingReason.BOUNDS: "Brought within minReplicas and maxReplicas",
    ScalingReason.SCALE_OUT_COOLDOWN: "More workers are wanted; held by the scale-out cooldown",
    ScalingReason.SCALE_IN_COOLDOWN: "Fewer workers would do; held by the scale-in cooldown",
    ScalingReason.DRAINING: "Fewer workers would do; those that go finish what they hold",
    ScalingReason.JOBS_RUNNING: "Fewer workers would do; held while none is idle",
    ScalingReason.DEPTH_UNKNOWN: "Held: the depth of the queue could not be measured",
    ScalingReason.PAUSED: "Held: spec.paused is true",
    ScalingReason.MANUAL: "Held by hand: spec.replicas is set",
}
REASON_LIMIT = 256
"""Characters of lastScaleReason."""
_INACTIVE = frozenset({ScalingReason.DEPTH_UNKNOWN, ScalingReason.PAUSED, ScalingReason.MANUAL})


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What the status is made of; `problem`: why there is no usable Deployment."""

    generation: int
    decision: ScalingDecision | None
    depth: Depth | None
    deployment: Mapping[str, Any] | None
    scaled_at: datetime | None
    scaled_reason: str | None
    problem: tuple[str, str] | None = None
    queue: QueueState | None = None
    scaled_from: str | None = None
    """What the last change was made of."""
    depth_note: str | None = None
    """What is done while the depth is unknown."""
    rollout: RolloutState | None = None


def get_pool_status(body: Mapping[str, Any], seen: PoolObservation, now: datetime) -> dict[str, Any] | None:
    """The merge patch that makes a WorkerPool's status true, or None where it is."""
    old = dict(body.get("status") or {})
    deployed = dict((seen.deployment or {}).get("status") or {})
    wanted: dict[str, Any] = {
        "replicas": int(deployed.get("replicas") or 0),
        "readyReplicas": int(deployed.get("readyReplicas") or 0),
        "busyReplicas": seen.depth.busy_workers if seen.depth else None,
        "queueDepth": seen.depth.total if seen.depth else None,
        "observedGeneration": seen.generation,
    }
    if seen.queue is not None:
        wanted["queueHealth"] = seen.queue.level.value
    if seen.decision is not None:
        wanted["desiredReplicas"] = seen.decision.desired
    if seen.scaled_at is not None:
        wanted["lastScaleTime"] = format_timestamp(seen.scaled_at.replace(microsecond=0))
        made_of = f" ({seen.scaled_from})" if seen.scaled_from else ""
        wanted["lastScaleReason"] = bound_message(f"{seen.scaled_reason}{made_of}", REASON_LIMIT)
    wanted["conditions"] = _conditions(old, seen, now)
    changed = {key: value for key, value in wanted.items() if old.get(key) != value}
    return changed or None


def _conditions(old: Mapping[str, Any], seen: PoolObservation, now: datetime) -> list[dict[str, Any]]:
    conditions = [dict(item) for item in old.get("conditions") or []]

    def put(kind: str, status: ConditionStatus, reason: str, text: str) -> None:
        nonlocal conditions
        conditions = set_condition(
            conditions, kind, status, reason, text, observed_generation=seen.generation, now=now
        )

    if seen.depth is not None:
        put(WorkerPoolCondition.DEPTH_KNOWN, "True", "Measured", "The depth is counted in PostgreSQL")
    else:
        note = f"; {seen.depth_note}" if seen.depth_note else ""
        text = f"PostgreSQL does not answer{note}"
        put(WorkerPoolCondition.DEPTH_KNOWN, "False", "DatabaseUnavailable", text)
    if seen.problem is not None:
        put(WorkerPoolCondition.SCALING_ACTIVE, "False", *seen.problem)
        put(WorkerPoolCondition.ROLLED_OUT, "False", *seen.problem)
    elif seen.decision is not None:
        reason = seen.decision.reason
        active: ConditionStatus = "False" if reason in _INACTIVE else "True"
        put(WorkerPoolCondition.SCALING_ACTIVE, active, reason.value, REASON_TEXTS[reason])
        under_way = None if seen.rollout is None else rolled_out(seen.rollout)
        put(WorkerPoolCondition.ROLLED_OUT, *(under_way or _rollout(seen.deployment)))
    if seen.queue is not None:
        put(WorkerPoolCondition.QUEUE_HEALTHY, *_health(seen.queue))
        put(WorkerPoolCondition.INTAKE_OPEN, *_intake(seen.queue))
        put(WorkerPoolCondition.DISPATCH_ACTIVE, *_dispatch(seen.queue))
    return conditions


def _health(queue: QueueState) -> tuple[ConditionStatus, str, str]:
    """No depth in the text: it would change at every look."""
    level, thresholds = queue.level, queue.intake.thresholds
    if level is HealthLevel.HEALTHY:
        return "True", level.value, f"At most {thresholds.degraded_above:,} jobs wait or run"
    return "False", level.value, f"More than {thresholds.above(level):,} jobs waited or ran"


def _intake(queue: QueueState) -> tuple[ConditionStatus, str, str]:
    intake = queue.intake.intake
    if intake.stopped:
        by = f" by {intake.by}" if intake.by else ""
        why = f": {intake.reason}" if intake.reason else ""
        return "False", "StoppedByHand" if intake.by else "Overload", f"No new jobs are taken{by}{why}"
    if intake.opened_by_hand:
        return "True", "OpenedByHand", f"All new jobs are taken, by the word of {intake.by}"
    if queue.level.is_at_least(HealthLevel.CRITICAL):
        return "True", "EnterpriseOnly", "New jobs of ENTERPRISE companies only are taken"
    return "True", "Open", "New jobs are taken"


def _dispatch(queue: QueueState) -> tuple[ConditionStatus, str, str]:
    if queue.paused:
        why = f": {queue.reason}" if queue.reason else ""
        return "False", "Paused", f"No jobs are started by the word of {queue.changed_by or 'somebody'}{why}"
    phase = queue.emergency.phase
    if phase is EmergencyPhase.PAUSED:
        return "False", "EmergencyPause", f"No jobs are started: {queue.emergency.reason}"
    if phase is EmergencyPhase.TRYING:
        return "True", "Trying", f"A few jobs are tried after an emergency pause: {queue.emergency.reason}"
    return "True", "Dispatching", "Due jobs are started"


def _rollout(deployment: Mapping[str, Any] | None) -> tuple[ConditionStatus, str, str]:
    if deployment is None:
        return "Unknown", "NotSeen", "The Deployment was not seen yet"
    status = deployment.get("status") or {}
    replicas = replicas_of(deployment)
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    if current and updated >= replicas and int(status.get("replicas") or 0) <= updated:
        return "True", "UpToDate", "All workers run the current template"
    return "False", "InProgress", "Workers with an older template are being replaced, or new ones start"
