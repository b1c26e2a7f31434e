"""How often a worker's container was restarted, and by what, as its pod says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.domain.worker_ends import first_container


@dataclass(frozen=True, slots=True)
class Restarts:
    """`count` since the pod began; `cause` of the last: OutOfMemory, Error, Exit (code 0) or Unknown.

    `ended_at`: when the worker last ended and was started again, where the pod says so.
    """

    count: int
    cause: str
    ended_at: datetime | None = None


def restarts_of(pod: Mapping[str, Any]) -> Restarts:
    """The restarts of the pod's first container, which is the worker."""
    container = first_container(pod)
    ended = (container.get("lastState") or {}).get("terminated")
    finished = (ended or {}).get("finishedAt")
    return Restarts(
        int(container.get("restartCount") or 0),
        _cause(ended),
        datetime.fromisoformat(finished) if finished else None,
    )


def new_restarts(before: int | None, now: Restarts) -> int:
    """Restarts since an earlier look; a pod that was never looked at tells of nothing new."""
    return 0 if before is None else max(0, now.count - before)


def _cause(ended: Mapping[str, Any] | None) -> str:
    if not ended:
        return "Unknown"
    if ended.get("reason") == "OOMKilled":
        return "OutOfMemory"
    return "Exit" if ended.get("exitCode") == 0 else "Error"
