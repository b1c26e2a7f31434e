"""There are no custom resources without Kubernetes; the queues are those that workers serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from import_core.adapters.kube.resources import WORKER_POOL, Kind
from import_core.adapters.postgres.fleet import FleetStore
from import_core.domain.errors import ObjectNotFoundError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_gateway.objects import Json


class NoObjects:
    """Nothing is found, and nothing can be written: jobs are rows."""

    def __init__(self, fleet: FleetStore) -> None:
        self._fleet = fleet

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """Nothing."""
        return None

    async def list(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Json]:
        """One WorkerPool for each queue that workers serve, and nothing else. Raises DatabaseUnavailableError."""
        if kind is WORKER_POOL:
            for queue in sorted({DEFAULT_QUEUE, *await self._fleet.ready()}):
                yield {"spec": {"queue": queue}}

    async def count(self, kind: Kind, namespace: str) -> int:
        """None."""
        return 0

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Raises ObjectNotFoundError."""
        raise ObjectNotFoundError(f"There is no Kubernetes to keep a {kind.kind}")

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Raises ObjectNotFoundError."""
        raise ObjectNotFoundError(f"There is no {kind.kind} {name}")

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str
    ) -> None:
        """Raises ObjectNotFoundError."""
        raise ObjectNotFoundError(f"There is no {kind.kind} {name}")
