"""Pure helpers for lists of standard conditions (metav1.Condition), as the plain JSON of an object's status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from import_core.domain.resources.common import MAX_MESSAGE_LENGTH, ConditionStatus, format_timestamp

JsonCondition = Mapping[str, Any]


class ImportJobCondition(StrEnum):
    """Condition types of an ImportJob."""

    ACCEPTED = "Accepted"
    QUEUED = "Queued"
    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    ENRICHED = "Enriched"


class ImportProviderCondition(StrEnum):
    """Condition types of an ImportProvider."""

    READY = "Ready"
    REACHABLE = "Reachable"
    CREDENTIALS_VALID = "CredentialsValid"
    BREAKER_CLOSED = "BreakerClosed"
    NOTIFICATIONS_ACTIVE = "NotificationsActive"


class ImportScheduleCondition(StrEnum):
    """Condition types of an ImportSchedule."""

    READY = "Ready"
    HELD = "Held"


class WorkerPoolCondition(StrEnum):
    """Condition types of a WorkerPool."""

    SCALING_ACTIVE = "ScalingActive"
    DEPTH_KNOWN = "DepthKnown"
    ROLLED_OUT = "RolledOut"
    QUEUE_HEALTHY = "QueueHealthy"
    INTAKE_OPEN = "IntakeOpen"
    DISPATCH_ACTIVE = "DispatchActive"


def bound_message(message: str, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """Cut a message to `limit` characters, with an ellipsis where something was cut."""
    return message if len(message) <= limit else f"{message[: limit - 1]}…"


def set_condition(
    conditions: Sequence[JsonCondition],
    condition_type: str,
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    observed_generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """A new list in which the condition stands as given; the others and their order stay.

    lastTransitionTime stays while the status stays, as metav1.Condition asks, so that setting the same
    twice changes nothing. `now` needs a time zone.
    """
    old = get_condition(conditions, condition_type)
    changed = old is None or old.get("status") != status
    new: dict[str, Any] = {
        "type": str(condition_type),
        "status": status,
        "reason": reason,
        "message": bound_message(message),
        "observedGeneration": observed_generation,
        "lastTransitionTime": format_timestamp(now.replace(microsecond=0))
        if changed or old is None
        else old["lastTransitionTime"],
    }
    if old is None:
        return [*(dict(condition) for condition in conditions), new]
    return [new if condition is old else dict(condition) for condition in conditions]


def remove_condition(conditions: Sequence[JsonCondition], condition_type: str) -> list[dict[str, Any]]:
    """A new list without the condition."""
    return [dict(condition) for condition in conditions if condition.get("type") != condition_type]


def get_condition(conditions: Sequence[JsonCondition], condition_type: str) -> JsonCondition | None:
    """The condition of that type, or None."""
    return next((condition for condition in conditions if condition.get("type") == condition_type), None)


def is_true(conditions: Sequence[JsonCondition], condition_type: str) -> bool:
    """Whether the condition is present and True."""
    condition = get_condition(conditions, condition_type)
    return condition is not None and condition.get("status") == "True"
