"""A worker's pod changed or was deleted."""

from __future__ import annotations

from import_core.domain.worker_ends import end_of
from import_operator.restarts import count_restarts
from import_operator.state import Body, OperatorState


def handle_end_worker_pod(state: OperatorState, body: Body, *, deleted: bool) -> None:
    """Have the claims of worker processes ended that the pod shows to be gone, and count its restarts."""
    count_restarts(state, body, deleted=deleted)
    end = end_of(body, deleted=deleted)
    if end is not None:
        state.worker_ends[end.pod_uid] = end
        state.workers_ended.set()
