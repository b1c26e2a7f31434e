"""An ImportSchedule appeared, changed or was deleted."""

from __future__ import annotations

from import_operator.state import Body, OperatorState, uid_of


def handle_run_import_schedule(state: OperatorState, body: Body) -> None:
    """Have it looked at what it asks for now."""
    if state.schedules.put(body):
        state.to_schedule.add(uid_of(body))


def handle_forget_import_schedule(state: OperatorState, body: Body) -> None:
    """Forget the schedule; the API server's garbage collector deletes its jobs."""
    uid = uid_of(body)
    state.schedules.remove(uid)
    # For the loop to forget it, too.
    state.to_schedule.add(uid)
