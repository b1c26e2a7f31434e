"""Counts restarts of workers' containers from what their pods say."""

from __future__ import annotations

from import_core.domain.worker_restarts import new_restarts, restarts_of
from import_operator import metrics
from import_operator.deployments import POOL_LABEL
from import_operator.state import Body, OperatorState, uid_of

KEPT_PODS = 10_000
"""More pods than a namespace has workers; one whose end was never told does not stay for ever."""


def count_restarts(state: OperatorState, pod: Body, *, deleted: bool) -> None:
    """Count what is new since the pod's last event; the first one only says how many there were."""
    uid = uid_of(pod)
    before = state.pod_restarts.pop(uid, None)
    if deleted:
        return
    restarts = restarts_of(pod)
    state.pod_restarts[uid] = restarts.count
    while len(state.pod_restarts) > KEPT_PODS:
        del state.pod_restarts[next(iter(state.pod_restarts))]
    added = new_restarts(before, restarts)
    if added:
        pool = str((pod["metadata"].get("labels") or {}).get(POOL_LABEL) or "")
        metrics.WORKER_RESTARTS.labels(metrics.pool_label(pool), restarts.cause).inc(added)
