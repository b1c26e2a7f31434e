"""An ImportProvider appeared, changed or was deleted."""

from __future__ import annotations

from import_operator.state import Body, OperatorState, generation_of, name_of, uid_of


def handle_check_import_provider(state: OperatorState, body: Body) -> None:
    """Have the connection checked, and jobs that were refused because of it looked at again."""
    known = state.providers.get(uid_of(body))
    if not state.providers.put(body):
        return
    state.to_check.add(name_of(body))
    if known is None or generation_of(known) != generation_of(body):
        _look_again(state, name_of(body))


def handle_forget_import_provider(state: OperatorState, body: Body) -> None:
    """Forget the connection; jobs that are recorded already fail at their worker with a clear message."""
    name = name_of(body)
    state.providers.remove(uid_of(body))
    if state.providers.named(name) is None:
        state.providers_gone[name] = uid_of(body)
    state.to_check.add(name)


def _look_again(state: OperatorState, provider: str) -> None:
    for uid, verdict in state.verdicts.items():
        if verdict.refusal is None:
            continue
        job = state.jobs.get(uid)
        if job is not None and ((job.get("spec") or {}).get("providerRef") or {}).get("name") == provider:
            state.to_record.add(uid)
