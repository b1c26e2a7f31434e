"""An ImportJob appeared or changed."""

from __future__ import annotations

from import_core.domain.projection import is_final
from import_operator.state import Body, OperatorState, generation_of, uid_of


def handle_record_import_job(state: OperatorState, body: Body) -> None:
    """Keep the object, and have its spec, its status and its requests looked at where that may be needed."""
    if not state.keep_job(body) or is_final(body):
        return
    uid = uid_of(body)
    verdict = state.verdicts.get(uid)
    if verdict is None or verdict.generation != generation_of(body):
        state.to_record.add(uid)
    else:
        state.to_project.add(uid)
