"""What pods tell of the version that they run."""

from datetime import UTC, datetime, timedelta
from typing import Any

from import_operator.deployments import HASH_LABEL
from import_operator.handlers.handle_observe_worker_pod import handle_forget_worker_pod, keep_worker_pod
from import_operator.state import OperatorState
from import_operator.worker_pods import pods_of_version

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pod(uid: str, version: str | None, *, restarts: int = 0, ended: datetime | None = None) -> dict[str, Any]:
    worker: dict[str, Any] = {"name": "worker", "restartCount": restarts}
    if ended is not None:
        worker["lastState"] = {"terminated": {"finishedAt": ended.isoformat()}}
    beside = {"name": "beside", "restartCount": 9}
    return {
        "metadata": {"name": uid, "uid": uid, "labels": {HASH_LABEL: version} if version else {}},
        "spec": {"containers": [{"name": "worker"}, {"name": "beside"}]},
        "status": {"containerStatuses": [beside, worker]},
    }


def test_restarts_are_counted_by_version() -> None:
    state = OperatorState("imports")
    for version, seen in enumerate(
        (
            pod("a", "old", restarts=4, ended=NOON - timedelta(days=1)),
            pod("b", "old", restarts=2, ended=NOON),
            pod("c", "new", restarts=1),
            pod("c", "new", restarts=3),
            pod("d", None, restarts=7),
        )
    ):
        seen["metadata"]["resourceVersion"] = str(version + 1)
        keep_worker_pod(state, seen)
    old, new = (pods_of_version(state.scaling.pods, version) for version in ("old", "new"))
    assert (old.restarts, new.restarts) == (6, 3)
    assert old.restarted_since(NOON) == 2
    assert (len(old.pods), len(new.pods)) == (2, 1)
    assert pods_of_version(state.scaling.pods, "other").pods == ()


def test_pods_that_are_gone_are_forgotten() -> None:
    state = OperatorState("imports")
    keep_worker_pod(state, pod("a", "old", restarts=4))
    handle_forget_worker_pod(state, pod("a", "old", restarts=4))
    assert pods_of_version(state.scaling.pods, "old").pods == ()


def test_a_pod_that_was_not_scheduled_yet_has_no_restarts() -> None:
    state = OperatorState("imports")
    keep_worker_pod(state, {"metadata": {"name": "a", "uid": "a", "labels": {HASH_LABEL: "new"}}})
    new = pods_of_version(state.scaling.pods, "new")
    assert (len(new.pods), new.restarts) == (1, 0)
