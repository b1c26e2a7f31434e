"""What the guard tells people when a queue's health, intake or dispatch changes."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.emergency import EmergencyPhase


@dataclass(frozen=True, slots=True)
class Word:
    """One thing to tell: `reason` is an Event's, `event` the log's."""

    event: str
    reason: str
    note: str
    warning: bool


def words_of(before: QueueState, after: QueueState) -> list[Word]:
    """What has changed between two looks at a queue; nothing where nothing has."""
    return [
        word
        for word in (_health(before, after), _intake(before, after), _dispatch(before, after))
        if word is not None
    ]


def _health(before: QueueState, after: QueueState) -> Word | None:
    if before.level is after.level:
        return None
    note = f"The queue is {after.level.value.lower()}: {after.intake.depth:,} jobs wait or run"
    return Word(
        "queue.health", f"Queue{after.level.value}", note, warning=after.level.number > before.level.number
    )


def _intake(before: QueueState, after: QueueState) -> Word | None:
    stopped = after.intake.intake.stopped
    if before.intake.intake.stopped is stopped:
        return None
    if stopped:
        note = f"No new jobs are taken: {after.intake.intake.reason}"
        return Word("intake.stopped", "IntakeStopped", note, warning=True)
    return Word("intake.resumed", "IntakeResumed", "New jobs are taken again", warning=False)


def _dispatch(before: QueueState, after: QueueState) -> Word | None:
    phase = after.emergency.phase
    if before.emergency.phase is phase:
        return None
    if phase is EmergencyPhase.PAUSED:
        note = f"No jobs are started: {after.emergency.reason}"
        return Word("dispatch.paused", "DispatchPaused", note, warning=True)
    if phase is EmergencyPhase.TRYING:
        return Word("dispatch.trying", "DispatchTrying", "A few jobs are tried", warning=False)
    return Word("dispatch.resumed", "DispatchResumed", "Jobs are started again", warning=False)
