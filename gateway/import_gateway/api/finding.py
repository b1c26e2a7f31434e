"""Finds the job that a path names: by its object, by its row, or by both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.errors import (
    KubernetesUnavailableError,
    ObjectNotFoundError,
)
from import_core.domain.jobs import JobRow
from import_gateway.api.models import Import
from import_gateway.api.operation import Call
from import_gateway.api.presenting import present_object, present_row


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job by its object, its row, or both."""

    name: str
    namespace: str
    body: dict[str, Any] | None
    row: JobRow | None

    @property
    def id(self) -> str:
        """The row's id, which is the object's uid."""
        return self.row.id if self.row else str((self.body or {})["metadata"]["uid"])

    def view(self) -> Import:
        """What is shown of it; the row is authoritative."""
        if self.row is not None:
            return present_row(self.row, namespace=self.namespace, now=datetime.now(UTC))
        return present_object(self.body or {})


async def find_job(call: Call, *, needs_object: bool = False) -> FoundJob:
    """Find a job by its object's name, or by its row's id where it has no object.

    The newest of a name counts. While the API server is away the row alone is enough, unless `needs_object`.
    Raises ObjectNotFoundError, DatabaseUnavailableError, KubernetesUnavailableError.
    """
    namespace, name, jobs = call.namespace, call.name, call.services.jobs
    body: dict[str, Any] | None = None
    away: KubernetesUnavailableError | None = None
    try:
        body = await call.services.kube.get(IMPORT_JOB, namespace, name) if name == name.lower() else None
    except KubernetesUnavailableError as error:
        if needs_object:
            raise
        away = error
    if body is not None:
        job_id = str((body.get("status") or {}).get("jobId") or body["metadata"]["uid"])
    else:
        job_id = await jobs.views.newest_named(namespace, name) or name
    row = (await jobs.jobs.read([job_id])).get(job_id)
    if row is not None and (row.namespace or namespace) != namespace:
        row = None
    if body is None and row is None:
        if away is not None:
            raise away
        raise ObjectNotFoundError(f"There is no import {name} in namespace {namespace}")
    return FoundJob(name, namespace, body, row)
