"""Submitting where there is no Kubernetes: the checks of API server, webhook and operator, then a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.admission import PROVIDER_NOT_FOUND, admit
from import_core.domain.errors import IntakeRefusedError, InvalidInputError, ObjectConflictError
from import_core.domain.jobs import JobRequest, JobRow
from import_core.domain.steps import StepKind
from import_gateway.admission.room import Room


class RowSubmitter:
    """Makes a row of a submission; its id is the import's name."""

    def __init__(
        self,
        declarations: Declarations,
        jobs: JobStore,
        room: Room,
        *,
        namespace: str,
        unavailable: Collection[StepKind],
    ) -> None:
        """`unavailable` are the steps after the import that this installation can't do."""
        self._declarations = declarations
        self._jobs = jobs
        self._room = room
        self._namespace = namespace
        self._unavailable = unavailable

    async def submit(self, name: str, spec: Mapping[str, Any], *, correlation_id: str) -> tuple[JobRow, bool]:
        """Record a job; returns its row, and whether this request has made it.

        A row of that name that asks for the same is the earlier request's. Raises InvalidInputError naming the field,
        IntakeRefusedError, ObjectConflictError where the name stands for another job, DatabaseUnavailableError.
        """
        known = await self._find(name, spec)
        if known is not None:
            return known, False
        await self._check(name, spec)
        refused = await self._room.refusal(str(spec["companyId"]))
        if refused is not None:
            raise IntakeRefusedError(refused.message, retry_after=refused.retry_after_seconds)
        request = JobRequest(
            id=name,
            company_id=spec["companyId"],
            provider=spec["providerRef"]["name"],
            namespace=self._namespace,
            spec=spec,
            suspended=bool(spec.get("suspend")),
            correlation_id=correlation_id,
        )
        new = bool((await self._jobs.record([request])).new)
        row = await self._find(name, spec)
        if row is None:
            raise ObjectConflictError(f"The import {name} was deleted at the same moment")
        if new:
            self._room.add()
        return row, new

    async def _find(self, name: str, spec: Mapping[str, Any]) -> JobRow | None:
        row = (await self._jobs.read([name])).get(name)
        if row is not None and (row.spec != spec or row.namespace != self._namespace):
            raise ObjectConflictError(f"There is another import {name}")
        return row

    async def _check(self, name: str, spec: Mapping[str, Any]) -> None:
        connection = spec["providerRef"]["name"]
        declared = await self._declarations.refresh()
        metadata = {"name": name, "namespace": self._namespace, "uid": name}
        refusal = admit(
            {"metadata": metadata, "spec": spec},
            declared.providers.get(connection),
            unavailable=self._unavailable,
        ).verdict.refusal
        if refusal is None:
            return
        field = refusal.field or "spec"
        if refusal.reason == PROVIDER_NOT_FOUND:
            raise InvalidInputError(field, f"there is no connection {connection}")
        raise InvalidInputError(field, refusal.message.removeprefix(f"{field}: "))
