"""The ImportJobs of an ImportSchedule: how one is made, and what its live ones tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.adapters.kube.resources import GROUP, IMPORT_SCHEDULE
from import_core.domain.projection import is_final
from import_core.domain.resources.common import format_timestamp
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.schedules import FinishedRun, job_name
from import_operator.state import Body, name_of, uid_of

SCHEDULE_LABEL = f"{GROUP}/schedule"
SCHEDULED_AT = f"{GROUP}/scheduled-at"


def get_scheduled_job(schedule: Body, time: datetime) -> dict[str, Any]:
    """The ImportJob of the run of that time. The schedule owns it, without keeping it from being deleted."""
    name = name_of(schedule)
    owner = {
        "apiVersion": IMPORT_SCHEDULE.api_version,
        "kind": IMPORT_SCHEDULE.kind,
        "name": name,
        "uid": uid_of(schedule),
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "metadata": {
            "name": job_name(name, time),
            "labels": {SCHEDULE_LABEL: name},
            "annotations": {SCHEDULED_AT: format_timestamp(time)},
            "ownerReferences": [owner],
        },
        "spec": schedule["spec"]["jobTemplate"]["spec"],
    }


def time_of(job: Body) -> datetime | None:
    """The time of a job's run; None where somebody has made it unreadable."""
    try:
        time = datetime.fromisoformat((job["metadata"].get("annotations") or {})[SCHEDULED_AT])
    except (KeyError, TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class Runs:
    """What the live jobs of a schedule tell of its runs."""

    active: tuple[Body, ...]
    finished: tuple[FinishedRun, ...]
    last: datetime | None
    succeeded: datetime | None

    @classmethod
    def of(cls, jobs: Iterable[Body]) -> Runs:
        """Read them. A job of unreadable time counts by its creation, and for no run."""
        known = [(job, time_of(job)) for job in jobs]
        finished = [(job, time or _created_at(job)) for job, time in known if is_final(job)]
        ends = [
            datetime.fromisoformat(job["status"]["completedAt"])
            for job, _ in finished
            if _succeeded(job) and job["status"].get("completedAt")
        ]
        return cls(
            active=tuple(job for job, _ in known if not is_final(job)),
            finished=tuple(FinishedRun(uid_of(job), time, _succeeded(job)) for job, time in finished),
            last=max((time for _, time in known if time is not None), default=None),
            succeeded=max(ends, default=None),
        )


def _succeeded(job: Body) -> bool:
    return bool(job["status"].get("phase") == JobPhase.SUCCEEDED)


def _created_at(job: Body) -> datetime:
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"])
