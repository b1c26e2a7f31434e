"""Restarts of workers are counted once, by what ended the process."""

from typing import Any

from prometheus_client import REGISTRY

from import_operator.deployments import POOL_LABEL
from import_operator.handlers.handle_end_worker_pod import handle_end_worker_pod
from import_operator.state import OperatorState

POOL = "restart-pool"


def pod(restarts: int, ended: dict[str, Any] | None = None, *, uid: str = "pod-1") -> dict[str, Any]:
    last = {"lastState": {"terminated": ended}} if ended else {}
    return {
        "metadata": {"uid": uid, "labels": {POOL_LABEL: POOL}},
        "spec": {"containers": [{"name": "worker"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "worker", "restartCount": restarts, "state": {}, **last}],
        },
    }


def counted(cause: str) -> float:
    labels = {"pool": POOL, "cause": cause}
    return REGISTRY.get_sample_value("imports_worker_restarts_total", labels) or 0.0


async def test_each_restart_counts_once_under_its_cause() -> None:
    state = OperatorState("imports")
    killed = {"reason": "OOMKilled", "exitCode": 137}
    for seen in (pod(0), pod(1, killed), pod(1, killed), pod(3, {"exitCode": 1}), pod(4, {"exitCode": 0})):
        handle_end_worker_pod(state, seen, deleted=False)
    assert (counted("OutOfMemory"), counted("Error"), counted("Exit")) == (1, 2, 1)


async def test_restarts_from_before_the_operators_time_are_not_new() -> None:
    before = counted("Error")
    state = OperatorState("imports")
    handle_end_worker_pod(state, pod(7, {"exitCode": 1}, uid="old"), deleted=False)
    assert counted("Error") == before
    handle_end_worker_pod(state, pod(8, {"exitCode": 1}, uid="old"), deleted=False)
    assert counted("Error") == before + 1
    handle_end_worker_pod(state, pod(8, uid="old"), deleted=True)
    assert state.pod_restarts == {}
