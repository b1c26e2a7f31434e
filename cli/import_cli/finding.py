"""Finding the job and the queue that a person means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from import_cli.printing import printable
from import_cli.sources import Sources, Stores, UsageError, is_object_name
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL
from import_core.domain.jobs import DEFAULT_QUEUE, JobRow
from import_core.domain.projection import PHASES
from import_core.domain.projection import message as message_of
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.steps import StepKind


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job by its object, its row, or both."""

    name: str
    body: dict[str, Any] | None
    row: JobRow | None

    @property
    def id(self) -> str:
        """The row's id."""
        return self.row.id if self.row else _id(self.body or {})

    def standing(self) -> tuple[str, str | None]:
        """Phase and message. The row is authoritative; the object alone knows why a job was not recorded."""
        if self.row is not None:
            return PHASES[self.row.state].value, message_of(self.row)
        status = (self.body or {}).get("status") or {}
        return str(status.get("phase") or JobPhase.PENDING.value), status.get("message")


async def find_job(sources: Sources, stores: Stores | None, job: str) -> FoundJob:
    """Find a job by its object's name, or by its row's id where it has no object (any more).

    Without `stores` only objects are found. Raises UsageError when there is no such job.
    """
    body = await sources.kube.get(IMPORT_JOB, sources.namespace, job) if is_object_name(job) else None
    row = await _row(stores, sources.namespace, job, body) if stores is not None else None
    if body is None and row is None:
        where = ", and no row with that id" if stores is not None else ""
        raise UsageError(f"There is no ImportJob {job} in namespace {sources.namespace}{where}")
    return FoundJob(job, body, row)


async def need_provider(sources: Sources, provider: str) -> None:
    """Raise UsageError where there is no such ImportProvider: a word about nobody would never be seen again.

    A kind of step counts as one: its model has a breaker of that name.
    """
    if provider in set(StepKind):
        return
    known = is_object_name(provider) and await sources.kube.get(IMPORT_PROVIDER, sources.namespace, provider)
    if not known:
        raise UsageError(f"There is no ImportProvider {printable(provider)} in namespace {sources.namespace}")


async def served_queues(sources: Sources) -> list[str]:
    """The queues that the namespace's pools serve; without a pool, the default one."""
    found = {
        str(body["spec"].get("queue") or DEFAULT_QUEUE)
        async for body in sources.kube.list(WORKER_POOL, sources.namespace)
    }
    return sorted(found) or [DEFAULT_QUEUE]


def choose_queue(queues: Sequence[str], named: str | None, *, namespace: str) -> str:
    """The queue that is meant. Raises UsageError where it is not clear, or not one of them."""
    if named is None and len(queues) > 1:
        raise UsageError(f"The pools of namespace {namespace} serve {', '.join(queues)}: name one of them")
    if named is not None and named not in queues:
        raise UsageError(
            f"No WorkerPool of namespace {namespace} serves the queue {named!r}; there is {', '.join(queues)}"
        )
    return named if named is not None else queues[0]


async def _row(stores: Stores, namespace: str, job: str, found: dict[str, Any] | None) -> JobRow | None:
    job_id: str | None = _id(found) if found else job
    row = (await stores.jobs.read([str(job_id)])).get(str(job_id))
    if row is None and found is None:
        # The history outlives the object, and people know a job by its name.
        job_id = await stores.reports.newest_finished(namespace, job)
        row = (await stores.jobs.read([job_id])).get(job_id) if job_id else None
    return row


def _id(body: dict[str, Any]) -> str:
    return str((body.get("status") or {}).get("jobId") or body["metadata"]["uid"])
