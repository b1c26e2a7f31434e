"""Which worker processes have ended, by what their pod says: pure, and by the processes' own ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

FINISHED_PHASES = frozenset({"Succeeded", "Failed"})
CLOCK_STEP = timedelta(seconds=1)
"""Kubernetes writes whole seconds."""


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """Processes of a pod that have ended: those started before `before`, or all of them (None)."""

    pod_uid: str
    before: datetime | None
    out_of_memory: bool = False
    certain: bool = True
    """False: the pod is gone, but nobody has said that its process is."""


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker process as it entered itself."""

    worker_id: str
    pod_uid: str
    started_at: datetime


def end_of(pod: Mapping[str, Any], *, deleted: bool) -> WorkerEnd | None:
    """Which processes of the pod have ended; None: none that can be told.

    The worker is the pod's first container. A restarted container runs one process at a time, so all
    that started before the running one are gone. A pod that is being deleted keeps its process for its
    grace period: the kubelet reports its end before the object goes. An object that goes, or a pod that
    is called finished, while its container was last seen running was removed by force or with its node
    (kubectl delete --force; the controller manager's pod collector): its process may go on for a while.
    """
    uid = str(pod["metadata"]["uid"])
    status = pod.get("status") or {}
    container = first_container(pod)
    state = container.get("state") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    killed = "OOMKilled" in {(state.get("terminated") or {}).get("reason"), last.get("reason")}
    if deleted or status.get("phase") in FINISHED_PHASES:
        return WorkerEnd(uid, None, killed, certain="running" not in state)
    if "running" in state:
        started = state["running"].get("startedAt")
        restarted = int(container.get("restartCount") or 0) > 0
        return WorkerEnd(uid, _time(started), killed) if restarted and started else None
    finished = (state.get("terminated") or last).get("finishedAt")
    return WorkerEnd(uid, _time(finished) + CLOCK_STEP, killed) if finished else None


def ended_workers(end: WorkerEnd, workers: Iterable[KnownWorker]) -> list[str]:
    """Ids of the processes that the end covers.

    Times in whole seconds can't tell the processes of a container that restarts twice in one apart: where
    it restarted, all but the one that entered last are gone as well.
    """
    of_pod = [worker for worker in workers if worker.pod_uid == end.pod_uid]
    newest = max((worker.started_at for worker in of_pod), default=None)
    return [
        worker.worker_id
        for worker in of_pod
        if end.before is None or worker.started_at < end.before or worker.started_at != newest
    ]


def first_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The status of the pod's first container, which is the worker; empty where nothing is known of it yet."""
    status = pod.get("status") or {}
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    name = containers[0].get("name")
    found = [item for item in status.get("containerStatuses") or [] if item.get("name") == name]
    return found[0] if found else {}


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)
