"""Reads the Secrets and ConfigMaps that a pod refers to, and waits for one to change."""

import asyncio
from contextlib import aclosing
from typing import Any

from import_local.kubelet.api import KubernetesApi
from import_local.kubelet.errors import ApiError

Json = dict[str, Any]

PLURALS = {"Secret": "secrets", "ConfigMap": "configmaps"}


class ReferenceReader:
    """Reads only what a pod names, so that a node's least privilege suffices."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def read(self, namespace: str, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Json | None]:
        """Return the objects by (kind, name), None for absent ones; raises ApiError, ApiUnavailableError."""
        ordered = sorted(wanted)
        found = await asyncio.gather(*(self._read_one(namespace, kind, name) for kind, name in ordered))
        return dict(zip(ordered, found, strict=True))

    async def _read_one(self, namespace: str, kind: str, name: str) -> Json | None:
        try:
            return await self._api.request("GET", f"/api/v1/namespaces/{namespace}/{PLURALS[kind]}/{name}")
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    async def wait_for_change(self, kind: str, namespace: str, name: str, version: str | None) -> None:
        """Return when the object exists with another resourceVersion than the one given."""
        path = f"/api/v1/namespaces/{namespace}/{PLURALS[kind]}"
        async with aclosing(self._api.list_and_watch(path, f"metadata.name={name}")) as events:
            async for event in events:
                items = event.items if event.item is None or event.kind == "DELETED" else (event.item,)
                if any(item["metadata"]["resourceVersion"] != version for item in items):
                    return
