"""Builds the status of a WorkerPool from what was measured and decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.adapters.postgres.jobs import Depth
from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import (
    WorkerPoolCondition,
    set_condition,
    set_not_yet_enforced,
)
from import_core.domain.scaling import ScalingDecision, ScalingReason

REASON_TEXTS = {
    ScalingReason.STEADY: "The number of workers fits the queue",
    ScalingReason.DEPTH_ROSE: "More workers for a deeper queue",
    ScalingReason.DEPTH_FELL: "Fewer workers for a shallower queue",
    ScalingReason.BOUNDS: "Brought within minReplicas and maxReplicas",
    ScalingReason.SCALE_OUT_COOLDOWN: "More workers are wanted; held by the scale-out cooldown",
    ScalingReason.SCALE_IN_COOLDOWN: "Fewer workers would do; held by the scale-in cooldown",
    ScalingReason.JOBS_RUNNING: "Fewer workers would do; held while jobs run",
    ScalingReason.DEPTH_UNKNOWN: "Held: the depth of the queue could not be measured",
    ScalingReason.PAUSED: "Held: spec.paused is true",
    ScalingReason.MANUAL: "Held by hand: spec.replicas is set",
}
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
    unenforced: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None


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
    if seen.decision is not None:
        wanted["desiredReplicas"] = seen.decision.desired
    if seen.scaled_at is not None:
        wanted["lastScaleTime"] = format_timestamp(seen.scaled_at.replace(microsecond=0))
        wanted["lastScaleReason"] = seen.scaled_reason
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
        put(WorkerPoolCondition.DEPTH_KNOWN, "False", "DatabaseUnavailable", "PostgreSQL does not answer")
    if seen.problem is not None:
        put(WorkerPoolCondition.SCALING_ACTIVE, "False", *seen.problem)
        put(WorkerPoolCondition.ROLLED_OUT, "False", *seen.problem)
    elif seen.decision is not None:
        reason = seen.decision.reason
        active: ConditionStatus = "False" if reason in _INACTIVE else "True"
        put(WorkerPoolCondition.SCALING_ACTIVE, active, reason.value, REASON_TEXTS[reason])
        put(WorkerPoolCondition.ROLLED_OUT, *_rollout(seen.deployment))
    return set_not_yet_enforced(conditions, seen.unenforced, observed_generation=seen.generation, now=now)


def _rollout(deployment: Mapping[str, Any] | None) -> tuple[ConditionStatus, str, str]:
    if deployment is None:
        return "Unknown", "NotSeen", "The Deployment was not seen yet"
    status = deployment.get("status") or {}
    replicas = int((deployment.get("spec") or {}).get("replicas") or 0)
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    if current and updated >= replicas and int(status.get("replicas") or 0) <= updated:
        return "True", "UpToDate", "All workers run the current template"
    return "False", "InProgress", "Workers with an older template are being replaced, or new ones start"
