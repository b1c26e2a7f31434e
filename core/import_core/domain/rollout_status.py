"""A rollout's state in the pool's status and back, and what a pool's spec and annotations ask of rollouts: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from import_core.domain.resources.common import GROUP, ConditionStatus, format_timestamp
from import_core.domain.resources.conditions import bound_message
from import_core.domain.resources.worker_pool import Rollout
from import_core.domain.rollout import (
    RolloutPhase,
    RolloutReason,
    RolloutSpec,
    RolloutState,
    Step,
    Version,
    Wishes,
)

PAUSE_ANNOTATION = f"{GROUP}/rollout-paused"
""""true": rollouts of the pool stay where they are, and no new one begins."""
PROMOTE_ANNOTATION = f"{GROUP}/rollout-promote"
"""A version's hash: all workers get it at once, whatever becomes of its jobs."""
ABORT_ANNOTATION = f"{GROUP}/rollout-abort"
"""A version's hash: it is taken back."""
_PAUSED = frozenset({"true", "yes", "1"})

Word = TypeVar("Word", bound=StrEnum)


def rollout_spec(rollout: Rollout, *, ready_seconds: float) -> RolloutSpec:
    """The pool's wishes as the decision reads them."""
    steps = [Step(None, rollout.initial_pause_seconds)]
    steps += [Step(step.percent, step.pause_seconds) for step in rollout.steps]
    return RolloutSpec(
        initial_replicas=rollout.initial_replicas,
        steps=tuple(steps),
        min_success_percent=rollout.min_success_percent,
        min_jobs=rollout.min_jobs,
        ready_seconds=ready_seconds,
    )


def wishes_of(body: Mapping[str, Any]) -> Wishes:
    """What the pool's annotations ask for."""
    annotations = body["metadata"].get("annotations") or {}
    return Wishes(
        paused=str(annotations.get(PAUSE_ANNOTATION, "")).lower() in _PAUSED,
        promote=annotations.get(PROMOTE_ANNOTATION) or None,
        abort=annotations.get(ABORT_ANNOTATION) or None,
    )


def state_of(body: Mapping[str, Any]) -> RolloutState | None:
    """The state that the pool's status keeps; None where it keeps none."""
    kept = (body.get("status") or {}).get("rollout") or {}
    if not kept.get("stableHash") or not kept.get("deployment"):
        return None
    return RolloutState(
        stable=str(kept["stableHash"]),
        deployment=str(kept["deployment"]),
        phase=_word(RolloutPhase, kept.get("phase"), RolloutPhase.UP_TO_DATE),
        reason=_word(RolloutReason, kept.get("reason"), RolloutReason.UP_TO_DATE),
        message=str(kept.get("message") or ""),
        canary=kept.get("canaryHash") or None,
        step=int(kept.get("step") or 0),
        started_at=_time(kept.get("startedAt")),
        step_at=_time(kept.get("stepStartedAt")),
        watched_from=_time(kept.get("watchedSince")),
        rolled_back=kept.get("rolledBackHash") or None,
    )


def workers_of(body: Mapping[str, Any]) -> int | None:
    """The number of workers of both versions together that the status keeps; None while there is one."""
    workers = ((body.get("status") or {}).get("rollout") or {}).get("workers")
    return None if workers is None else int(workers)


def status_of(state: RolloutState, *, workers: int | None, canary: Version | None) -> dict[str, Any]:
    """`status.rollout`, whole: None values delete fields by a merge patch. `canary`: its numbers, if there is one."""
    return {
        "phase": state.phase.value,
        "reason": state.reason.value,
        "message": bound_message(state.message) or None,
        "stableHash": state.stable,
        "deployment": state.deployment,
        "canaryHash": state.canary,
        "rolledBackHash": state.rolled_back,
        "step": state.step if state.canary is not None else None,
        "workers": workers,
        "startedAt": _text(state.started_at),
        "stepStartedAt": _text(state.step_at),
        "watchedSince": _text(state.watched_from),
        "succeededJobs": None if canary is None else canary.succeeded,
        "failedJobs": None if canary is None else canary.failed,
        "restarts": None if canary is None else canary.restarts,
    }


def rolled_out(state: RolloutState) -> tuple[ConditionStatus, str, str] | None:
    """The condition RolledOut while a template is not everywhere; None: the Deployment tells."""
    if state.phase is RolloutPhase.UP_TO_DATE:
        return None
    if state.phase is RolloutPhase.ROLLED_BACK:
        return "False", f"RolledBack{state.reason.value}", state.message
    return "False", state.reason.value, state.message or "A new template is rolled out"


def _word(words: type[Word], value: object, default: Word) -> Word:
    """The member of that value; a word of a later version is read as the default."""
    return next((word for word in words if word.value == value), default)


def _time(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _text(value: datetime | None) -> str | None:
    return None if value is None else format_timestamp(value)
