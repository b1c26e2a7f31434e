"""How long workers take to start: by pods that were seen before they were ready."""

from typing import Any

import pytest

from import_core.domain.prescaling import StartTimes
from import_operator.handlers.handle_time_worker_start import (
    handle_forget_worker_start,
    handle_time_worker_start,
)
from import_operator.state import OperatorState


@pytest.fixture
def state() -> OperatorState:
    return OperatorState("imports")


def pod(*, ready: str | None = None, restarts: int = 0, uid: str = "pod-1") -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T12:00:01Z"}]
    if ready is not None:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": ready})
    return {
        "metadata": {
            "uid": uid,
            "creationTimestamp": "2026-01-01T12:00:00Z",
            "labels": {"imports.avnz.io/pool": "fast"},
        },
        "status": {"conditions": conditions, "containerStatuses": [{"restartCount": restarts}]},
    }


def test_a_start_is_timed_once(state: OperatorState) -> None:
    handle_time_worker_start(state, pod())
    handle_time_worker_start(state, pod(ready="2026-01-01T12:00:14Z"))
    handle_time_worker_start(state, pod())
    handle_time_worker_start(state, pod(ready="2026-01-01T12:10:00Z"))
    assert state.scaling.start_times == {"fast": StartTimes((14.0,))}


def test_a_pod_that_was_ready_before_tells_nothing(state: OperatorState) -> None:
    handle_time_worker_start(state, pod(ready="2026-01-01T14:00:00Z"))
    handle_time_worker_start(state, pod())
    handle_time_worker_start(state, pod(ready="2026-01-01T15:00:00Z"))
    assert not state.scaling.start_times


def test_a_pod_that_crashed_on_its_way_tells_nothing(state: OperatorState) -> None:
    handle_time_worker_start(state, pod())
    handle_time_worker_start(state, pod(ready="2026-01-01T12:05:00Z", restarts=3))
    assert not state.scaling.start_times


def test_pods_that_are_gone_are_forgotten(state: OperatorState) -> None:
    handle_time_worker_start(state, pod())
    handle_forget_worker_start(state, pod())
    assert not state.scaling.starting_pods
