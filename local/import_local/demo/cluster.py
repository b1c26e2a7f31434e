"""The demo's hands and eyes on the cluster: kubectl to apply, watches to see what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lightkube import AsyncClient, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.resources.apps_v1 import Deployment

from import_local.demo.manifests import NAMESPACE
from import_local.errors import LocalError
from import_local.kubectl import run_kubectl

ImportJob = create_namespaced_resource("imports.avnz.io", "v1alpha1", "ImportJob", "importjobs")
ImportProvider = create_namespaced_resource(
    "imports.avnz.io", "v1alpha1", "ImportProvider", "importproviders"
)
WorkerPool = create_namespaced_resource("imports.avnz.io", "v1alpha1", "WorkerPool", "workerpools")

KUBECTL_SECONDS = 90.0


class DemoError(LocalError):
    """The demo did not go as it should."""


class Cluster:
    """One namespace of the cluster behind a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self.client = AsyncClient(config=KubeConfig.from_file(kubeconfig), namespace=NAMESPACE)

    async def close(self) -> None:
        """Close connections."""
        await self.client.close()

    async def apply(self, objects: list[dict[str, Any]]) -> None:
        """`kubectl apply` the objects, as a person would. Raises KubectlError with kubectl's words."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        await run_kubectl(
            self._kubeconfig, "apply", "-f", "-", stdin=document.encode(), timeout=KUBECTL_SECONDS
        )

    async def until(
        self,
        resource: Any,
        name: str,
        condition: Callable[[dict[str, Any]], bool],
        *,
        timeout_seconds: float,
        seen: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Watch one object until `condition` holds; `seen` gets every version. Raises DemoError."""
        latest: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout_seconds), watched(self.client, resource, name) as versions:
                async for version in versions:
                    latest = version
                    if seen is not None:
                        seen(version)
                    if condition(version):
                        return version
        except TimeoutError:
            pass
        status = json.dumps(latest.get("status", {}), default=str)
        raise DemoError(f"{name} did not get there within {timeout_seconds:g} s; its status: {status[:1500]}")

    async def phases(self) -> dict[str, int]:
        """ImportJobs by phase."""
        counts: dict[str, int] = {}
        async for job in self.client.list(ImportJob, chunk_size=500):
            phase = (job.get("status") or {}).get("phase", "Pending")
            counts[phase] = counts.get(phase, 0) + 1
        return counts

    async def deployment_replicas(self, name: str) -> int:
        """Replicas that a Deployment asks for."""
        deployment = await self.client.get(Deployment, name)
        return int((deployment.spec.replicas if deployment.spec else 0) or 0)


@asynccontextmanager
async def watched(
    client: AsyncClient, resource: Any, name: str
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The versions of one object from now on, the present one first."""

    async def versions() -> AsyncIterator[dict[str, Any]]:
        async for _, version in client.watch(resource, fields={"metadata.name": name}):
            yield version

    stream = versions()
    try:
        yield stream
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
