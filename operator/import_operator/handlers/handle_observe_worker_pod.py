"""A worker's pod appeared, changed or was deleted: what scaling, protecting and the reaper know of it."""

from __future__ import annotations

from import_core.domain.draining import DELETION_COST
from import_operator.handlers.handle_end_worker_pod import handle_end_worker_pod
from import_operator.handlers.handle_time_worker_start import (
    handle_forget_worker_start,
    handle_time_worker_start,
)
from import_operator.state import Body, OperatorState, uid_of


def keep_worker_pod(state: OperatorState, body: Body) -> None:
    """Keep what is looked at; one that leaves may be let go as soon as its mark is seen."""
    # Of its spec only which container is the worker.
    containers = [{"name": each.get("name")} for each in (body.get("spec") or {}).get("containers") or ()][:1]
    kept = {
        "metadata": body["metadata"],
        "spec": {"containers": containers},
        "status": body.get("status") or {},
    }
    if state.scaling.pods.put(kept) and DELETION_COST in (body["metadata"].get("annotations") or {}):
        state.scaling.drains_changed.set()


def handle_observe_worker_pod(state: OperatorState, body: Body) -> None:
    """Know the worker, time its start, and see its process end."""
    keep_worker_pod(state, body)
    handle_time_worker_start(state, body)
    handle_end_worker_pod(state, body, deleted=False)


def handle_forget_worker_pod(state: OperatorState, body: Body) -> None:
    """Forget the pod, whose process is gone."""
    state.scaling.pods.remove(uid_of(body))
    handle_forget_worker_start(state, body)
    handle_end_worker_pod(state, body, deleted=True)
