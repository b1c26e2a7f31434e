"""The custom resources that routes read and write: those of the API server, or none where there is no Kubernetes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from import_core.adapters.kube.resources import Kind

Json = dict[str, Any]


class Objects(Protocol):
    """What of `KubeClient` the routes use; it raises KubernetesUnavailableError where nobody answers."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The object, or None."""

    def list(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Json]:
        """All objects, `most` at most."""

    async def count(self, kind: Kind, namespace: str) -> int:
        """How many there are."""

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Create one."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete the one of that uid."""

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str
    ) -> None:
        """Set annotations of the one of that uid."""
