"""An ImportJob was deleted."""

from __future__ import annotations

from import_operator.state import Body, OperatorState, uid_of


def handle_cancel_import_job(state: OperatorState, body: Body) -> None:
    """Forget the object and have its row cancelled; a row that is finished stays as it is."""
    uid = uid_of(body)
    state.forget_job(uid)
    state.to_cancel.add(uid)
    state.to_record.wake.set()
