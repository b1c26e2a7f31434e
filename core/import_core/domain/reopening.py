"""What a person asks of a finished job by annotations, and what comes of it: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from import_core.domain.errors import RemovalsNotConfirmedError
from import_core.domain.jobs import JobState
from import_core.domain.removals import CONFIRM_ANNOTATION
from import_core.domain.resources.common import GROUP
from import_core.domain.resources.import_job import JobPhase

RETRY_ANNOTATION = f"{GROUP}/retry"
"""Any new value: the finished job runs again from the start."""
RETRY_ITEMS_ANNOTATION = f"{GROUP}/retry-items"
"""Any new value: the products that failed are imported again, and nothing else."""
ANNOTATIONS = (RETRY_ANNOTATION, RETRY_ITEMS_ANNOTATION, CONFIRM_ANNOTATION)
MAX_TOKEN_LENGTH = 128
SHOWN_LENGTH = 40
"""So much of an unusable value is quoted."""


def why_not_again(name: str, *, phase: str, object_gone: bool) -> str | None:
    """Why a person can't have the job run again; None: it can. `object_gone`: it came from one that is gone."""
    if object_gone:
        return (
            f"The ImportJob of {name} is gone, and its row can't run without it:"
            " apply the ImportJob again, under any name"
        )
    if phase == JobPhase.CANCELLED:
        return f"{name} was cancelled, and is not run again: apply a job of another name"
    if phase not in {JobPhase.SUCCEEDED, JobPhase.FAILED}:
        return f"{name} is {phase}: only a finished job can run again"
    return None


class Action(StrEnum):
    """What a finished job does when it is reopened."""

    RETRY = "Retry"
    RETRY_ITEMS = "RetryItems"
    CONFIRM_REMOVALS = "ConfirmRemovals"


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of an object's annotations; `problems` name those whose value can't be used."""

    retry: str | None = None
    retry_items: str | None = None
    confirm_removals: int | None = None
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Requests()


@dataclass(frozen=True, slots=True)
class HonouredRequests:
    """How a row stands, and which requests it has honoured.

    `confirmed_removals` is a generation, negative where a later run from the start has used it up.
    """

    state: JobState
    generation: int = 0
    failure_reason: str | None = None
    retry: str | None = None
    retry_items: str | None = None
    confirmed_removals: int | None = None
    has_open_steps: bool = False
    """Steps after the import are to come."""


@dataclass(frozen=True, slots=True)
class Reopening:
    """What to do now; `waits`: something is asked that is not done yet, so the object must stay."""

    action: Action | None
    waits: bool
    problems: tuple[str, ...] = ()


def requests_of(body: Mapping[str, Any]) -> Requests:
    """Read an ImportJob's annotations. A token is text of 1 to MAX_TOKEN_LENGTH printable characters."""
    annotations = body["metadata"].get("annotations") or {}
    if not any(name in annotations for name in ANNOTATIONS):
        return Requests()
    problems: list[str] = []
    return Requests(
        retry=_token(annotations, RETRY_ANNOTATION, problems),
        retry_items=_token(annotations, RETRY_ITEMS_ANNOTATION, problems),
        confirm_removals=_generation(annotations, problems),
        problems=tuple(problems),
    )


def decide_reopening(requests: Requests, row: HonouredRequests | None, *, generation: int) -> Reopening:
    """Decide on an object of that generation and its row; None: there is no row (any more).

    One thing at a time, the largest first: whatever else is asked waits for the end of that run. So does all
    of it while the job is under way.
    """
    problems = list(requests.problems)
    wanted: list[Action] = []
    if row is None:
        problems += [
            f"{name}: the job's row is gone, there is nothing to run again" for name in _asked(requests)
        ]
        return Reopening(None, False, tuple(problems))
    if requests.retry is not None and requests.retry != row.retry:
        wanted.append(Action.RETRY)
    if requests.retry_items is not None and requests.retry_items != row.retry_items:
        wanted.append(Action.RETRY_ITEMS)
    if requests.confirm_removals is not None and _asks(row):
        problem = _unconfirmed(requests.confirm_removals, row, generation)
        if problem is None:
            wanted.append(Action.CONFIRM_REMOVALS)
        else:
            problems.append(f"{CONFIRM_ANNOTATION}: {problem}")
    if row.state is JobState.CANCELLED and wanted:
        problems.append("The job was cancelled, and is not run again: apply a job of another name")
        return Reopening(None, False, tuple(problems))
    finished = row.state in {JobState.COMPLETED, JobState.FAILED}
    return Reopening(wanted[0] if wanted and finished else None, bool(wanted), tuple(problems))


def _token(annotations: Mapping[str, Any], name: str, problems: list[str]) -> str | None:
    value = annotations.get(name)
    if value is None:
        return None
    if not 1 <= len(value) <= MAX_TOKEN_LENGTH or not value.isprintable():
        problems.append(f"{name}: its value must have 1 to {MAX_TOKEN_LENGTH} printable characters")
        return None
    return str(value)


def _generation(annotations: Mapping[str, Any], problems: list[str]) -> int | None:
    value = annotations.get(CONFIRM_ANNOTATION)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18 and int(value) > 0):
        shown = value[:SHOWN_LENGTH]
        problems.append(f"{CONFIRM_ANNOTATION}: {shown!r} is not a number; it must be the job's generation")
        return None
    return int(value)


def _asked(requests: Requests) -> list[str]:
    values = (requests.retry, requests.retry_items, requests.confirm_removals)
    return [name for name, value in zip(ANNOTATIONS, values, strict=True) if value is not None]


def _asks(row: HonouredRequests) -> bool:
    return row.state is JobState.FAILED and row.failure_reason == RemovalsNotConfirmedError.reason


def _unconfirmed(confirmed: int, row: HonouredRequests, generation: int) -> str | None:
    """Why the confirmation is not one; None where it is."""
    if confirmed != generation:
        return f"{confirmed} is not the job's generation, which is {generation}"
    if row.generation != generation:
        return f"the spec was changed after the run that asks; run it again with {RETRY_ANNOTATION}"
    if row.confirmed_removals is not None and abs(row.confirmed_removals) == confirmed:
        return f"{confirmed} has been honoured before; change the spec, or apply a job of another name"
    return None
