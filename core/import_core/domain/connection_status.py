"""What an ImportProvider's status says: a pure projection of its connection's last check and its breaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from import_core.domain.breaker import CLOSED, Breaker
from import_core.domain.errors import InvalidResourceError
from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import (
    ImportProviderCondition,
    bound_message,
    set_condition,
)
from import_core.domain.resources.import_provider import BreakerState, parse_import_provider

NOT_CHECKED = "NotChecked"
NOT_CHECKED_MESSAGE = "Waits for a worker to check the connection"


@dataclass(frozen=True, slots=True)
class Check:
    """A check's result; None: not known."""

    reachable: bool | None
    credentials_valid: bool | None
    reason: str
    message: str
    checked_at: datetime


def project_connection(
    body: Mapping[str, Any],
    check: Check | None,
    now: datetime,
    breaker: Breaker = CLOSED,
    notifications: tuple[ConditionStatus, str, str] | None = None,
) -> dict[str, Any] | None:
    """The merge patch that makes an ImportProvider's status true, or None where it is.

    `check` is the last check of the object's current generation, None if there was none yet. `notifications` is what
    is known of its webhook, None where it has none.
    """
    old = dict(body.get("status") or {})
    generation = int(body["metadata"].get("generation") or 0)
    problem: str | None = None
    try:
        parse_import_provider(body)
    except InvalidResourceError as error:
        problem = str(error)
    summary = _summary(check, problem, breaker)
    conditions = [
        dict(item)
        for item in old.get("conditions") or []
        if notifications is not None or item.get("type") != ImportProviderCondition.NOTIFICATIONS_ACTIVE
    ]
    told = () if notifications is None else ((ImportProviderCondition.NOTIFICATIONS_ACTIVE, *notifications),)
    for kind, status, reason, text in (
        (ImportProviderCondition.READY, *summary),
        (ImportProviderCondition.REACHABLE, *_finding(check, check.reachable if check else None)),
        (
            ImportProviderCondition.CREDENTIALS_VALID,
            *_finding(check, check.credentials_valid if check else None),
        ),
        (ImportProviderCondition.BREAKER_CLOSED, *_breaker_finding(breaker)),
        *told,
    ):
        conditions = set_condition(
            conditions, kind, status, reason, text, observed_generation=generation, now=now
        )
    wanted = {
        "observedGeneration": generation,
        "message": bound_message(summary[2]),
        "checkedAt": _time(check.checked_at) if check else None,
        "conditions": conditions,
    }
    changed = {key: value for key, value in wanted.items() if old.get(key) != value}
    shown, before = _breaker_status(breaker), old.get("breaker") or {}
    if shown != before:
        changed["breaker"] = {key: None for key in before if key not in shown} | shown
    return changed or None


class BreakerChange(StrEnum):
    """What people are told of a breaker; its probes in between are not news."""

    OPENED = "opened"
    CLOSED = "closed"


def breaker_change(body: Mapping[str, Any], breaker: Breaker) -> BreakerChange | None:
    """What became of the breaker since the object's status was last written."""
    before = ((body.get("status") or {}).get("breaker") or {}).get("state", BreakerState.CLOSED.value)
    was_closed, is_closed = before == BreakerState.CLOSED.value, breaker.state is BreakerState.CLOSED
    if was_closed == is_closed:
        return None
    return BreakerChange.CLOSED if is_closed else BreakerChange.OPENED


def describe_breaker(breaker: Breaker) -> str:
    """Why no call goes through, in words; empty while closed."""
    if breaker.state is BreakerState.CLOSED:
        return ""
    if breaker.is_forced:
        why = f" ({breaker.forced_reason})" if breaker.forced_reason else ""
        return f"{breaker.forced_by} opened the circuit breaker{why}; kubectl imports reset-breaker closes it"
    since = f" since {_time(breaker.opened_at)}" if breaker.opened_at else ""
    next_try = f"; the next call probes at {_time(breaker.probe_at)}" if breaker.probe_at else ""
    return f"The provider failed {breaker.failures} times in a row{since}{next_try}"


def _breaker_status(breaker: Breaker) -> dict[str, Any]:
    if breaker.state is BreakerState.CLOSED:
        return {"state": breaker.state.value}
    shown = {
        "state": breaker.state.value,
        "consecutiveFailures": breaker.failures,
        "openedAt": _time(breaker.opened_at),
        "probeAt": _time(breaker.probe_at),
        "openedBy": breaker.forced_by,
        "reason": breaker.forced_reason,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _breaker_finding(breaker: Breaker) -> tuple[ConditionStatus, str, str]:
    if breaker.state is BreakerState.CLOSED:
        return "True", "Closed", ""
    return "False", "OpenedByHand" if breaker.is_forced else "ProviderFails", describe_breaker(breaker)


def _time(value: datetime | None) -> str | None:
    return format_timestamp(value.replace(microsecond=0)) if value is not None else None


def _summary(check: Check | None, problem: str | None, breaker: Breaker) -> tuple[ConditionStatus, str, str]:
    if problem is not None:
        return "False", "InvalidSpec", problem
    if breaker.state is not BreakerState.CLOSED:
        return "False", "BreakerOpen", describe_breaker(breaker)
    if check is None:
        return "Unknown", NOT_CHECKED, NOT_CHECKED_MESSAGE
    if check.reachable and check.credentials_valid:
        return "True", "Checked", "The provider answers and accepts the credentials"
    return "False", _word(check.reason), check.message


def _finding(check: Check | None, value: bool | None) -> tuple[ConditionStatus, str, str]:
    if check is None:
        return "Unknown", NOT_CHECKED, NOT_CHECKED_MESSAGE
    if value is None:
        return "Unknown", _word(check.reason), check.message
    return ("True", "Checked", "") if value else ("False", _word(check.reason), check.message)


def _word(reason: str) -> str:
    word = "".join(character for character in reason if character.isalnum())
    return word[:128] if word and word[0].isalpha() else "CheckFailed"
