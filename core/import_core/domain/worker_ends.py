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


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker process as it entered itself."""

    worker_id: str
    pod_uid: str
    started_at: datetime


def end_of(pod: Mapping[str, Any], *, deleted: bool) -> WorkerEnd | None:
    """Which processes of the pod have ended; None: none that can be told.

    The worker is the pod's first container. A restarted container runs one process at a time, so all
    that started before the running one are gone.
    """
    uid = str(pod["metadata"]["uid"])
    status = pod.get("status") or {}
    container = _first_container(pod, status)
    state = container.get("state") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    killed = "OOMKilled" in {(state.get("terminated") or {}).get("reason"), last.get("reason")}
    if deleted or status.get("phase") in FINISHED_PHASES:
        return WorkerEnd(uid, None, killed)
    if "running" in state:
        started = state["running"].get("startedAt")
        restarted = int(container.get("restartCount") or 0) > 0
        return WorkerEnd(uid, _time(started), killed) if restarted and started else None
    finished = (state.get("terminated") or last).get("finishedAt")
    return WorkerEnd(uid, _time(finished) + CLOCK_STEP, killed) if finished else None


def ended_workers(end: WorkerEnd, workers: Iterable[KnownWorker]) -> list[str]:
    """Ids of the processes that the end covers."""
    return [
        worker.worker_id
        for worker in workers
        if worker.pod_uid == end.pod_uid and (end.before is None or worker.started_at < end.before)
    ]


def _first_container(pod: Mapping[str, Any], status: Mapping[str, Any]) -> Mapping[str, Any]:
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    name = containers[0].get("name")
    found = [item for item in status.get("containerStatuses") or [] if item.get("name") == name]
    return found[0] if found else {}


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value)
