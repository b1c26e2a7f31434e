"""What the live page shows, as entries by key: `job/<id>`, `queue/<name>`, `worker/<id>`."""

from __future__ import annotations

from typing import Any

from import_core.domain.jobs import JobState
from import_core.domain.live import Change
from import_gateway.api.models import ApiModel, Overview, OverviewChange, Worker
from import_gateway.live.queues import QueueReports
from import_gateway.live.reading import JobReader

RUNNING = 200
WAITING = 50
"""Those that have waited longest."""
FINISHED = 30
"""Of each final state, those that were submitted last."""
WORKERS = 100


class OverviewReader:
    """Reads all entries with a fixed number of bounded statements."""

    def __init__(self, jobs: JobReader, queues: QueueReports, *, namespace: str) -> None:
        self._jobs = jobs
        self._queues = queues
        self._namespace = namespace

    async def read(self) -> dict[str, Any]:
        """The entries. Raises DatabaseUnavailableError and KubernetesUnavailableError."""
        views, namespace = self._jobs.views, self._namespace
        ids = await views.running(namespace, limit=RUNNING)
        ids += await views.waiting(namespace, limit=WAITING)
        for state in (JobState.FAILED, JobState.COMPLETED, JobState.CANCELLED):
            ids += await views.newest(namespace, state, limit=FINISHED)
        jobs = await self._jobs.read(list(dict.fromkeys(ids)), estimates=False)
        workers = [
            Worker(
                id=worker.worker_id,
                pod=worker.pod,
                queue=worker.queue,
                state=worker.state,
                concurrency=worker.concurrency,
                jobs=worker.jobs,
                started_at=worker.started_at,
            )
            for worker in await views.workers(namespace, limit=WORKERS)
        ]
        report = await self._queues.measure()
        return {
            **{f"job/{job_id}": to_json(view) for job_id, view in jobs.items()},
            **{f"queue/{queue.queue}": to_json(queue) for queue in report.queues},
            **{f"worker/{worker.id}": to_json(worker) for worker in workers},
        }


def to_json(model: ApiModel) -> Any:
    """Plain JSON values, absent ones as null."""
    return model.model_dump(mode="json", by_alias=True)


def get_event(change: Change) -> tuple[str, dict[str, Any]]:
    """The event's name and data that tell a listener of a change."""
    parts: dict[str, list[Any]] = {"jobs": [], "queues": [], "workers": []}
    for key, value in change.entries.items():
        parts[f"{key.partition('/')[0]}s"].append(value)
    if change.whole:
        return "overview", {name: parts[name] for name in Overview.model_fields}
    return "change", {name: [*parts.get(name, change.gone)] for name in OverviewChange.model_fields}
