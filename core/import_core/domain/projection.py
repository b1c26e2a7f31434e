"""What an ImportJob's status says: a pure projection of its row, and the order in which objects are patched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.domain.admission import Verdict
from import_core.domain.failures import RETRY_DELAYS_SECONDS
from import_core.domain.jobs import JobRow, JobState, Progress, WaitingReason
from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import (
    ImportJobCondition,
    bound_message,
    get_condition,
    is_true,
    set_condition,
)
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.steps import StepCounts, StepKind, asked_steps

PHASES = {
    JobState.PENDING: JobPhase.QUEUED,
    JobState.IN_PROGRESS: JobPhase.RUNNING,
    JobState.COMPLETED: JobPhase.SUCCEEDED,
    JobState.FAILED: JobPhase.FAILED,
    JobState.CANCELLED: JobPhase.CANCELLED,
}
FINAL_PHASES = frozenset({JobPhase.SUCCEEDED.value, JobPhase.FAILED.value, JobPhase.CANCELLED.value})
TRIES = len(RETRY_DELAYS_SECONDS) + 1
QUEUE_FULL_AFTER_SECONDS = 5.0
"""A due job not handed over for this long waits for a free worker."""

_STEP_FIELDS = {
    StepKind.EMBEDDING: "embedding",
    StepKind.QUALITY_CONTROL: "qualityControl",
    StepKind.INDEX: "index",
}
_ENDS = {ImportJobCondition.COMPLETE: JobState.COMPLETED, ImportJobCondition.FAILED: JobState.FAILED}
_COUNTERS = {
    "productsImported": "products_imported",
    "productsUnchanged": "products_unchanged",
    "productsFailed": "products_failed",
    "imagesTotal": "images_total",
    "imagesImported": "images_imported",
    "imagesFailed": "images_failed",
}


@dataclass(frozen=True, slots=True)
class StatusPatch:
    """A merge patch of the status: only what differs, None deletes; `urgent`: the job's state changed."""

    status: dict[str, Any]
    urgent: bool


def is_final(body: Mapping[str, Any]) -> bool:
    """Whether the object's status says that the job has finished."""
    return phase_of(body) in FINAL_PHASES


def phase_of(body: Mapping[str, Any]) -> str | None:
    """What the object's status says."""
    phase: str | None = (body.get("status") or {}).get("phase")
    return phase


def project(
    body: Mapping[str, Any], row: JobRow | None, verdict: Verdict | None, now: datetime
) -> StatusPatch | None:
    """The patch that makes the object's status true; None where it is, or where nothing is known yet.

    A refused job stays Pending with the reason. `row` is what PostgreSQL has, `verdict` the last decision
    on the object's spec.
    """
    old = dict(body.get("status") or {})
    refused = verdict is not None and verdict.refusal is not None
    if row is None:
        if not refused:
            return None
        wanted = _refused_status()
    else:
        wanted = _status_of(row, old, now)
    wanted["observedGeneration"] = _observed_generation(body, row, verdict)
    wanted["conditions"] = _conditions(old, row, verdict, wanted["observedGeneration"], now)
    if verdict is not None and verdict.refusal is not None and row is None:
        wanted["message"] = bound_message(verdict.refusal.message)
    changed = {key: value for key, value in wanted.items() if old.get(key) != value}
    if not changed:
        return None
    urgent = "phase" in changed or _states(old.get("conditions")) != _states(wanted["conditions"])
    return StatusPatch(changed, urgent)


def _observed_generation(body: Mapping[str, Any], row: JobRow | None, verdict: Verdict | None) -> int:
    seen = max(row.generation if row else 0, verdict.generation if verdict else 0)
    before = int((body.get("status") or {}).get("observedGeneration") or 0)
    return max(seen, before)


def _refused_status() -> dict[str, Any]:
    return {"phase": JobPhase.PENDING.value}


def _status_of(row: JobRow, old: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    # A job that runs again counts anew: what the object shows is of the run before.
    again = old.get("phase") in FINAL_PHASES and not row.state.is_final
    return {
        "phase": PHASES[row.state].value,
        "jobId": row.id,
        "attempts": attempts(row),
        "progress": _progress(row, old.get("progress") or {}, again=again),
        "steps": _steps(row, old.get("steps")),
        "waitingReason": waiting_reason(row, now),
        "queuedAt": _time(row.queued_at),
        "startedAt": _time(row.started_at),
        "completedAt": _time(row.completed_at),
        "message": bound_message(message(row)),
    }


def attempts(row: JobRow) -> int:
    """Tries so far, the current one included."""
    tried = row.state in {JobState.IN_PROGRESS, JobState.COMPLETED, JobState.FAILED}
    return row.attempt + (1 if tried and row.started_at is not None else 0)


def waiting_reason(row: JobRow, now: datetime) -> str | None:
    """Why a queued job does not run; None while it is on its way to a worker, or not queued."""
    if row.state is not JobState.PENDING:
        return None
    due = row.not_before is None or row.not_before <= now
    held = _held_by(row, now) if due and not row.suspended else None
    if held is not None:
        return held.value
    # What it waited for in an outage is over with it; nobody takes that off the row.
    was_held = row.waiting_reason == WaitingReason.BREAKER_OPEN and not row.breaker_open and due
    if row.waiting_reason and not was_held:
        return row.waiting_reason
    waiting = (now - row.queued_at).total_seconds()
    if due and row.dispatched_at is None and not row.suspended and waiting >= QUEUE_FULL_AFTER_SECONDS:
        return WaitingReason.QUEUE_FULL.value
    return None


def _held_by(row: JobRow, now: datetime) -> WaitingReason | None:
    """Why dispatch passes over a due job."""
    if row.queue_paused or row.connection_paused:
        return WaitingReason.PAUSED
    if _is_delayed(row, now):
        return WaitingReason.BACKPRESSURE
    if row.breaker_open and row.dispatched_at is None:
        return WaitingReason.BREAKER_OPEN
    return None


def _is_delayed(row: JobRow, now: datetime) -> bool:
    return row.delayed_until is not None and row.dispatched_at is None and now < row.delayed_until


def message(row: JobRow) -> str:
    """One sentence for people: what happens, or what went wrong."""
    progress = row.progress
    if row.state is JobState.PENDING:
        return _waiting_message(row)
    if row.state is JobState.IN_PROGRESS:
        if row.items_only:
            return "Imports the failed items again"
        total = progress.products_total
        return f"{progress.products_done} of {total} products done" if total else "Reading the catalogue"
    if row.state is JobState.COMPLETED:
        return row.message or _result_message(progress)
    return row.message or PHASES[row.state].value


def _waiting_message(row: JobRow) -> str:
    if row.suspended:
        return "Suspended; continues where it was when spec.suspend is false"
    if row.message:
        if row.attempt:
            return f"Try {row.attempt} of {TRIES} failed, another follows: {row.message}"
        return f"Waits to continue: {row.message}"
    return _waiting_for(row)


def _waiting_for(row: JobRow) -> str:
    if row.queue_paused:
        return "Waits until the queue goes on; it is paused"
    if row.connection_paused:
        return "Waits until imports of this company or provider go on; they are paused"
    if row.delayed_until is not None and row.dispatched_at is None:
        return f"Waits until {_time(row.delayed_until)} at least: the queue is long"
    if row.breaker_open and row.dispatched_at is None:
        return "Waits until its provider may be called again; its circuit breaker is open"
    return "Waits for a worker"


def _result_message(progress: Progress) -> str:
    images = progress.images_imported + progress.images_unchanged
    if not progress.products_done:
        return "The catalogue is empty"
    text = (
        f"{_count(progress.products_imported, 'product')} imported, {progress.products_unchanged} unchanged,"
        f" {_count(images, 'image')}"
    )
    failed = []
    if progress.products_failed:
        failed.append(_count(progress.products_failed, "product"))
    if progress.images_failed:
        failed.append(_count(progress.images_failed, "image"))
    if failed:
        text += f"; failed: {', '.join(failed)}"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _progress(row: JobRow, old: Mapping[str, Any], *, again: bool) -> dict[str, Any]:
    """Counters that never fall while a run is under way; at its ends they are what the row says."""
    true = again or row.state.is_final
    shown: dict[str, Any] = {}
    if row.progress.products_total is not None:
        shown["productsTotal"] = row.progress.products_total
    elif "productsTotal" in old:
        shown["productsTotal"] = None if true else old["productsTotal"]
    for name, attribute in _COUNTERS.items():
        value = getattr(row.progress, attribute)
        shown[name] = value if true else max(value, int(old.get(name) or 0))
    percent = row.progress.percent
    shown["percent"] = percent if true else max(percent, int(old.get("percent") or 0))
    return shown


def _steps(row: JobRow, old: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Products by step, for those that are asked for or were once; None without any, the old where not counted."""
    if row.steps is None:
        return old
    kinds = [kind for kind in StepKind if kind in row.steps or kind in asked_steps(row.spec)]
    counts = {kind: row.steps.get(kind, StepCounts()) for kind in kinds}
    shown = {
        _STEP_FIELDS[kind]: {
            "due": count.due,
            "done": count.done,
            "halted": count.halted,
            "dead": count.dead,
        }
        for kind, count in counts.items()
    }
    return shown or None


def _enriched(row: JobRow, counts: Mapping[StepKind, StepCounts]) -> tuple[ConditionStatus, str, str]:
    """Whether the import and its steps have ended: status, reason, message."""
    due = sum(count.due for count in counts.values())
    dead = sum(count.dead for count in counts.values())
    if row.state is JobState.CANCELLED:
        return "False", "Cancelled", "The job was cancelled, and its steps with it"
    if not row.state.is_final:
        return "False", "Importing", "The import goes on"
    if due:
        return "False", "StepsDue", f"{_count(due, 'step')} of products to come"
    if dead:
        return "True", "SomeDead", f"{_count(dead, 'step')} of products in the dead-letter queue"
    return "True", "StepsDone", "All steps are done"


def _conditions(
    old: Mapping[str, Any], row: JobRow | None, verdict: Verdict | None, generation: int, now: datetime
) -> list[dict[str, Any]]:
    conditions = [dict(item) for item in old.get("conditions") or []]

    def put(kind: str, status: ConditionStatus, reason: str, text: str) -> None:
        nonlocal conditions
        conditions = set_condition(
            conditions, kind, status, reason, text, observed_generation=generation, now=now
        )

    refusal = verdict.refusal if verdict else None
    stale = row is not None and (verdict is None or verdict.generation <= row.generation)
    if refusal is not None and not stale:
        put(ImportJobCondition.ACCEPTED, "False", refusal.reason, refusal.message)
    elif row is not None:
        put(ImportJobCondition.ACCEPTED, "True", "Recorded", "The job is recorded")
    if row is not None:
        _put_state(put, conditions, row)
    return conditions


def _put_state(put: Any, before: list[dict[str, Any]], row: JobRow) -> None:
    state = row.state
    if state is JobState.PENDING:
        put(ImportJobCondition.QUEUED, "True", row.waiting_reason or "Waiting", "The job waits for a worker")
    elif state is JobState.IN_PROGRESS:
        put(ImportJobCondition.QUEUED, "False", "Running", "A worker has the job")
    else:
        put(ImportJobCondition.QUEUED, "False", "Finished", "The job has finished")
    if row.suspended:
        put(ImportJobCondition.SUSPENDED, "True", "Suspended", "spec.suspend is true")
    elif get_condition(before, ImportJobCondition.SUSPENDED) is not None:
        put(ImportJobCondition.SUSPENDED, "False", "Resumed", "spec.suspend is false")
    if state is JobState.COMPLETED:
        put(ImportJobCondition.COMPLETE, "True", "Imported", message(row))
    elif state is JobState.FAILED:
        put(ImportJobCondition.FAILED, "True", _reason(row.failure_reason), message(row))
    elif state is JobState.CANCELLED:
        put(ImportJobCondition.COMPLETE, "False", "Cancelled", message(row))
    asked = asked_steps(row.spec) or get_condition(before, ImportJobCondition.ENRICHED) is not None
    if asked and row.steps is not None:
        put(ImportJobCondition.ENRICHED, *_enriched(row, row.steps))
    for condition, end in _ENDS.items():
        if state is not end and is_true(before, condition):
            reason = "Cancelled" if state is JobState.CANCELLED else "RunsAgain"
            put(condition, "False", reason, "That was an earlier run")


def _reason(failure_reason: str | None) -> str:
    """A condition's reason is one word; what the platform wrote itself may be anything."""
    word = "".join(character for character in failure_reason or "" if character.isalnum())
    return word[:128] if word and word[0].isalpha() else "Failed"


def _states(conditions: Any) -> list[tuple[str, str]]:
    return sorted((item["type"], item["status"]) for item in conditions or [])


def _time(value: datetime | None) -> str | None:
    return format_timestamp(value.replace(microsecond=0)) if value is not None else None


class PatchSchedule:
    """Whose turn it is to be patched: state changes first, each object rarely, all together at a bounded rate.

    Times are seconds of a monotonic clock, given by the caller. Memory: one entry for an object that waits
    and one for an object patched within the last `object_seconds`.
    """

    def __init__(self, *, object_seconds: float = 5.0, per_second: float = 50.0) -> None:
        self._object_seconds = object_seconds
        self._per_second = per_second
        self._waiting: dict[str, bool] = {}
        self._patched: dict[str, float] = {}
        self._tokens = per_second
        self._filled_at: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def want(self, key: str, *, urgent: bool) -> None:
        """Put an object in the queue, or raise its urgency; it keeps its place."""
        self._waiting[key] = self._waiting.get(key, False) or urgent

    def forget(self, key: str) -> None:
        """Take an object out of the queue."""
        self._waiting.pop(key, None)

    def take(self, now: float) -> list[str]:
        """Objects to patch now, most urgent first; they leave the queue and count as patched."""
        self._fill(now)
        self._patched = {key: at for key, at in self._patched.items() if now - at < self._object_seconds}
        free = [key for key in self._waiting if key not in self._patched]
        free.sort(key=lambda key: not self._waiting[key])
        chosen = free[: int(self._tokens)]
        self._tokens -= len(chosen)
        for key in chosen:
            del self._waiting[key]
            self._patched[key] = now
        return chosen

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            # A burst of at most a fifth of a second: "at most 50/s" holds over any second or so.
            limit = max(1.0, self._per_second / 5)
            self._tokens = min(limit, self._tokens + (now - self._filled_at) * self._per_second)
        else:
            self._tokens = max(1.0, self._per_second / 5)
        self._filled_at = now
