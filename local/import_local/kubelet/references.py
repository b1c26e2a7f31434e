"""Reads the Secrets and ConfigMaps that a pod refers to, and waits for one to change."""

import asyncio
from contextlib import aclosing
from typing import Any

from import_local.kubelet.api import KubernetesApi
from import_local.kubelet.errors import ApiError

Json = dict[str, Any]

PLURALS = {"Secret": "secrets", "ConfigMap": "configmaps"}


Key = tuple[str, str, str]


class ReferenceReader:
    """Reads only what a pod names, so that a node's least privilege suffices.

    Reads of one object that are asked for together share a request. It is always one that was sent
    after they were asked for, so that nobody gets what was true before.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._running: dict[Key, asyncio.Task[Json | None]] = {}
        self._next: dict[Key, asyncio.Task[Json | None]] = {}

    async def read(self, namespace: str, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Json | None]:
        """Return the objects by (kind, name), None for absent ones; raises ApiError, ApiUnavailableError."""
        ordered = sorted(wanted)
        found = await asyncio.gather(*(self._share((namespace, kind, name)) for kind, name in ordered))
        return dict(zip(ordered, found, strict=True))

    async def _share(self, key: Key) -> Json | None:
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._read_after(self._running.get(key), key))
        # Shielded: others may wait for the same task.
        return await asyncio.shield(task)

    async def _read_after(self, running: asyncio.Task[Json | None] | None, key: Key) -> Json | None:
        if running is not None:
            await asyncio.wait([running])
        own = self._running[key] = self._next.pop(key)
        try:
            return await self._read_one(*key)
        finally:
            if self._running[key] is own:
                del self._running[key]

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
