"""How long a worker took from its pod's creation until it was ready, by what the pod says: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is ready: the worker takes jobs."""
    return _ready_condition(pod).get("status") == "True"


def start_seconds(pod: Mapping[str, Any]) -> float | None:
    """Seconds from the pod's creation, a wait for a node included, to when it became ready last; None: not ready.

    A container that was started again took longer for a reason of its own: such a pod tells nothing.
    """
    condition = _ready_condition(pod)
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    restarted = any(int(status.get("restartCount") or 0) for status in statuses)
    if condition.get("status") != "True" or restarted:
        return None
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return (datetime.fromisoformat(condition["lastTransitionTime"]) - created).total_seconds()


def _ready_condition(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == "Ready"), {})
