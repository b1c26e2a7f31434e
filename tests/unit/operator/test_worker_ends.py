"""Which worker processes a pod's status shows to have ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from import_core.domain.worker_ends import KnownWorker, WorkerEnd, end_of, ended_workers


def at(second: int) -> datetime:
    return datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)


def text(second: int) -> str:
    return f"2026-01-01T12:00:{second:02}Z"


def pod(container: dict[str, Any] | None = None, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"uid": "pod-1"},
        "spec": {"containers": [{"name": "worker"}, {"name": "sidecar"}]},
        "status": {
            "phase": phase,
            "containerStatuses": [
                {"name": "sidecar", "restartCount": 9, "state": {"running": {"startedAt": text(59)}}},
                *([{"name": "worker", **container}] if container else []),
            ],
        },
    }


def test_pod_that_runs_for_the_first_time_ends_nothing() -> None:
    assert (
        end_of(pod({"state": {"running": {"startedAt": text(5)}}, "restartCount": 0}), deleted=False) is None
    )
    assert end_of(pod(), deleted=False) is None


def test_deleted_pod_ends_all() -> None:
    ended = {"state": {"terminated": {"finishedAt": text(20), "exitCode": 0}}}
    assert end_of(pod(ended), deleted=True) == WorkerEnd("pod-1", None)
    assert end_of(pod(), deleted=True) == WorkerEnd("pod-1", None)


@pytest.mark.parametrize("phase", ["Running", "Failed"])
def test_pod_that_goes_with_its_process_running_only_casts_doubt(phase: str) -> None:
    """`kubectl delete --force`; a pod that the collector removes because its node is gone."""
    seen = pod({"state": {"running": {"startedAt": text(5)}}, "restartCount": 0}, phase=phase)
    assert end_of(seen, deleted=True) == WorkerEnd("pod-1", None, certain=False)


def test_pod_of_a_lost_node_casts_doubt_when_it_is_called_failed() -> None:
    seen = pod({"state": {"running": {"startedAt": text(5)}}, "restartCount": 0}, phase="Failed")
    assert end_of(seen, deleted=False) == WorkerEnd("pod-1", None, certain=False)


def test_pod_in_its_grace_period_ends_nothing() -> None:
    seen = pod({"state": {"running": {"startedAt": text(5)}}, "restartCount": 0})
    seen["metadata"] |= {"deletionTimestamp": text(40), "deletionGracePeriodSeconds": 60}
    assert end_of(seen, deleted=False) is None


def test_restart_in_a_pod_in_its_grace_period_ends_the_earlier_process_only() -> None:
    seen = pod({"state": {"running": {"startedAt": text(30)}}, "restartCount": 1})
    seen["metadata"] |= {"deletionTimestamp": text(40), "deletionGracePeriodSeconds": 60}
    assert end_of(seen, deleted=False) == WorkerEnd("pod-1", at(30))


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pod_ends_all(phase: str) -> None:
    assert end_of(pod(phase=phase), deleted=False) == WorkerEnd("pod-1", None)


def test_restarted_container_ends_those_from_before() -> None:
    seen = pod({"state": {"running": {"startedAt": text(30)}}, "restartCount": 1})
    end = end_of(seen, deleted=False)
    assert end == WorkerEnd("pod-1", at(30))
    workers = [
        KnownWorker("old", "pod-1", at(10)),
        KnownWorker("new", "pod-1", at(31)),
        KnownWorker("elsewhere", "pod-2", at(10)),
    ]
    assert ended_workers(end, workers) == ["old"]


def test_container_between_two_lives_ends_those_before_its_end() -> None:
    waiting = {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": text(20), "reason": "Error"}},
        "restartCount": 1,
    }
    assert end_of(pod(waiting), deleted=False) == WorkerEnd("pod-1", at(21))


def test_memory_kill_is_told() -> None:
    killed = {"state": {"terminated": {"finishedAt": text(20), "reason": "OOMKilled"}}, "restartCount": 0}
    end = end_of(pod(killed), deleted=False)
    assert end is not None
    assert end.out_of_memory


def test_end_of_a_pod_covers_all_its_processes() -> None:
    workers = [KnownWorker("a", "pod-1", at(1)), KnownWorker("b", "pod-1", at(50))]
    assert ended_workers(WorkerEnd("pod-1", None), workers) == ["a", "b"]


def test_crash_loop_ends_every_process_but_the_one_that_runs() -> None:
    """Three lives within one second of the pod's status, whose times are whole seconds."""
    seen = pod({"state": {"running": {"startedAt": text(30)}}, "restartCount": 3})
    end = end_of(seen, deleted=False)
    assert end is not None
    lives = [
        KnownWorker(f"life-{number}", "pod-1", at(30) + timedelta(milliseconds=300 * number))
        for number in range(3)
    ]
    assert ended_workers(end, lives) == ["life-0", "life-1"]
    assert ended_workers(end, [*reversed(lives)]) == ["life-1", "life-0"]
    assert ended_workers(end, lives[:1]) == [], "the one that runs may be this one"
