"""An ImportJob appeared or changed."""

from __future__ import annotations

from import_core.domain.projection import is_final
from import_core.domain.resources.conditions import ImportJobCondition, is_true
from import_core.domain.steps import asked_steps
from import_operator.state import Body, OperatorState, generation_of, is_suspended, uid_of


def handle_record_import_job(state: OperatorState, body: Body) -> None:
    """Keep the object, and have its spec, its status and its requests looked at where that may be needed."""
    uid = uid_of(body)
    before = state.jobs.get(uid)
    if not state.keep_job(body):
        return
    if is_final(body):
        if _holds_steps(before, body):
            state.hold_steps(uid)
        return
    verdict = state.verdicts.get(uid)
    if verdict is None or verdict.generation != generation_of(body):
        state.to_record.add(uid)
    else:
        state.to_project.add(uid)


def _holds_steps(before: Body | None, body: Body) -> bool:
    """Whether the steps of a finished import may have to be suspended or resumed."""
    if not asked_steps(body.get("spec") or {}):
        return False
    if before is not None:
        return is_suspended(before) is not is_suspended(body)
    # Seen for the first time: it may have been changed while nobody watched.
    conditions = (body.get("status") or {}).get("conditions") or []
    return not is_true(conditions, ImportJobCondition.ENRICHED)
