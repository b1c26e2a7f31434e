"""What an ImportSchedule's status says, as a merge patch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import (
    ImportScheduleCondition,
    get_condition,
    remove_condition,
    set_condition,
)
from import_core.domain.schedules import Waiting

WAITING_TEXTS = {
    Waiting.PREVIOUS_RUN: "an earlier run is not done",
    Waiting.INTAKE_STOPPED: "no new jobs are taken at the moment",
    Waiting.INTAKE_UNKNOWN: "the queue's state is not known yet",
    Waiting.NO_ROOM: "there is no room for its job in the queue",
    Waiting.REFUSED: "the API server refuses its job",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the status is made of. `problem`: what is wrong with the spec; `detail`: more about the wait."""

    generation: int
    active: int = 0
    last: datetime | None = None
    succeeded: datetime | None = None
    missed: datetime | None = None
    next_start: datetime | None = None
    suspended: bool = False
    problem: str | None = None
    waiting: Waiting | None = None
    due: datetime | None = None
    detail: str | None = None


def project_schedule(body: Mapping[str, Any], known: Known, now: datetime) -> dict[str, Any] | None:
    """The merge patch that makes the status true, or None where it is. Times never go back."""
    old = dict(body.get("status") or {})
    wanted: dict[str, Any] = {
        "active": known.active,
        "lastScheduleTime": _later(old.get("lastScheduleTime"), known.last),
        "lastSuccessfulTime": _later(old.get("lastSuccessfulTime"), known.succeeded),
        "lastMissedTime": _later(old.get("lastMissedTime"), known.missed),
        "nextScheduleTime": format_timestamp(known.next_start) if known.next_start else None,
        "observedGeneration": known.generation,
        "conditions": _conditions(old.get("conditions") or [], known, now),
    }
    changed = {key: value for key, value in wanted.items() if old.get(key) != value}
    return changed or None


def _later(old: str | None, new: datetime | None) -> str | None:
    if new is None or (old is not None and datetime.fromisoformat(old) >= new):
        return old
    return format_timestamp(new)


def _conditions(conditions: Sequence[Mapping[str, Any]], known: Known, now: datetime) -> list[dict[str, Any]]:
    result = [dict(condition) for condition in conditions]

    def put(kind: str, status: ConditionStatus, reason: str, text: str) -> None:
        nonlocal result
        result = set_condition(
            result, kind, status, reason, text, observed_generation=known.generation, now=now
        )

    if known.problem is not None:
        put(ImportScheduleCondition.READY, "False", "InvalidSpec", known.problem)
    elif known.suspended:
        put(ImportScheduleCondition.READY, "False", "Suspended", "Suspended: no runs are started")
    else:
        put(ImportScheduleCondition.READY, "True", "Scheduled", "Runs are started at their times")
    if known.problem is not None or known.suspended:
        result = remove_condition(result, ImportScheduleCondition.HELD)
    elif known.waiting is None:
        put(ImportScheduleCondition.HELD, "False", "NothingWaits", "No run is due and waits")
    else:
        put(ImportScheduleCondition.HELD, "True", known.waiting.value, waiting_message(known))
    return result


def waiting_message(known: Known) -> str:
    """What a due run waits for, for people."""
    if known.waiting is None or known.due is None:
        return ""
    more = f": {known.detail}" if known.detail else ""
    return f"The run of {format_timestamp(known.due)} waits: {WAITING_TEXTS[known.waiting]}{more}"


def condition_reason(body: Mapping[str, Any], condition: str) -> str | None:
    """The reason of a condition as the object has it."""
    found = get_condition((body.get("status") or {}).get("conditions") or [], condition)
    return None if found is None else str(found.get("reason"))
