"""What an ImportProvider's status says: a pure projection of the last check of its connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.domain.errors import InvalidResourceError
from import_core.domain.resources.common import ConditionStatus, format_timestamp, not_yet_enforced
from import_core.domain.resources.conditions import (
    ImportProviderCondition,
    bound_message,
    set_condition,
    set_not_yet_enforced,
)
from import_core.domain.resources.import_provider import parse_import_provider

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


def project_connection(body: Mapping[str, Any], check: Check | None, now: datetime) -> dict[str, Any] | None:
    """The merge patch that makes an ImportProvider's status true, or None where it is.

    `check` is the last check of the object's current generation, None if there was none yet.
    """
    old = dict(body.get("status") or {})
    generation = int(body["metadata"].get("generation") or 0)
    unenforced: list[str] = []
    problem: str | None = None
    try:
        spec = parse_import_provider(body).spec
        unenforced = [f"spec.{path}" for path in not_yet_enforced(spec)]
    except InvalidResourceError as error:
        problem = str(error)
    message, ready = _summary(check, problem)
    conditions = [dict(item) for item in old.get("conditions") or []]
    for kind, status, reason, text in (
        (ImportProviderCondition.READY, ready, _reason(check, problem), message),
        (ImportProviderCondition.REACHABLE, *_finding(check, check.reachable if check else None)),
        (
            ImportProviderCondition.CREDENTIALS_VALID,
            *_finding(check, check.credentials_valid if check else None),
        ),
    ):
        conditions = set_condition(
            conditions, kind, status, reason, text, observed_generation=generation, now=now
        )
    wanted = {
        "observedGeneration": generation,
        "message": bound_message(message),
        "checkedAt": format_timestamp(check.checked_at.replace(microsecond=0)) if check else None,
        "conditions": set_not_yet_enforced(conditions, unenforced, observed_generation=generation, now=now),
    }
    changed = {key: value for key, value in wanted.items() if old.get(key) != value}
    return changed or None


def _summary(check: Check | None, problem: str | None) -> tuple[str, ConditionStatus]:
    if problem is not None:
        return problem, "False"
    if check is None:
        return NOT_CHECKED_MESSAGE, "Unknown"
    if check.reachable and check.credentials_valid:
        return "The provider answers and accepts the credentials", "True"
    return check.message, "False"


def _finding(check: Check | None, value: bool | None) -> tuple[ConditionStatus, str, str]:
    if check is None:
        return "Unknown", NOT_CHECKED, NOT_CHECKED_MESSAGE
    if value is None:
        return "Unknown", _word(check.reason), check.message
    return ("True", "Checked", "") if value else ("False", _word(check.reason), check.message)


def _reason(check: Check | None, problem: str | None) -> str:
    if problem is not None:
        return "InvalidSpec"
    if check is None:
        return NOT_CHECKED
    return "Checked" if check.reachable and check.credentials_valid else _word(check.reason)


def _word(reason: str) -> str:
    word = "".join(character for character in reason if character.isalnum())
    return word[:128] if word and word[0].isalpha() else "CheckFailed"
