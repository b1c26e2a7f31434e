"""A worker's pod is on its way to be ready: how long that takes is the lead by which pools grow ahead."""

from __future__ import annotations

from import_core.domain.prescaling import StartTimes
from import_core.domain.worker_starts import is_ready, start_seconds
from import_operator.deployments import POOL_LABEL
from import_operator.state import Body, OperatorState, uid_of


def handle_time_worker_start(state: OperatorState, body: Body) -> None:
    """Time a pod that was seen before it was ready, once: it may lose that for a while, and get it back."""
    uid, ready = uid_of(body), is_ready(body)
    is_starting = state.scaling.starting_pods.setdefault(uid, not ready)
    if not is_starting or not ready:
        return
    state.scaling.starting_pods[uid] = False
    pool, seconds = str(body["metadata"]["labels"][POOL_LABEL]), start_seconds(body)
    if seconds is not None:
        known = state.scaling.start_times.get(pool, StartTimes())
        state.scaling.start_times[pool] = known.after_start(seconds)


def handle_forget_worker_start(state: OperatorState, body: Body) -> None:
    """Forget a pod that is gone."""
    state.scaling.starting_pods.pop(uid_of(body), None)
