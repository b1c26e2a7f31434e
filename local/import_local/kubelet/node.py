"""The Node object: registration, its lease, its status."""

import asyncio
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from import_local.kubelet.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH, KubernetesApi
from import_local.kubelet.errors import ApiError, ApiUnavailableError
from import_local.kubelet.settings import Settings

Json = dict[str, Any]

KUBELET_VERSION = "v1.36.3"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
STATUS_SECONDS = 60.0
RETRY_SECONDS = 1.0
NOT_FOUND, CONFLICT = 404, 409
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

logger = structlog.get_logger(__name__)


def build_node(settings: Settings) -> Json:
    """Return the Node object to register."""
    labels = {
        "kubernetes.io/hostname": settings.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": MACHINES.get(platform.machine(), platform.machine()),
    }
    metadata = {"name": settings.node_name, "labels": labels | settings.labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def build_node_status(settings: Settings, port: int, known: Json, now: datetime) -> Json:
    """Return a Node's status; `known` is its present one, `port` that of the kubelet's HTTPS server."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {item["type"]: item for item in known.get("conditions") or ()}

    def condition(kind: str, status: str, reason: str, message: str) -> Json:
        changed = before.get(kind, {}).get("status") != status
        since = moment if changed else before[kind]["lastTransitionTime"]
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": moment,
            "lastTransitionTime": since,
        }

    return {
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": settings.node_name},
        ],
        "capacity": settings.capacity,
        "allocatable": settings.capacity,
        "conditions": [
            condition("MemoryPressure", "False", "NotMeasured", "the process kubelet never evicts"),
            condition("DiskPressure", "False", "NotMeasured", "the process kubelet never evicts"),
            condition("PIDPressure", "False", "NotMeasured", "the process kubelet never evicts"),
            condition("Ready", "True", "KubeletReady", "the process kubelet runs pods as processes"),
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": platform.release(),
            "osImage": platform.platform(),
            "containerRuntimeVersion": "process://1",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": MACHINES.get(platform.machine(), platform.machine()),
        },
    }


class NodeAgent:
    """Keeps one Node registered, its lease fresh and its status true."""

    def __init__(self, api: KubernetesApi, settings: Settings, port: int) -> None:
        self._api = api
        self._settings = settings
        self._port = port
        self._path = f"/api/v1/nodes/{settings.node_name}"
        self._uid = ""

    async def run(self) -> None:
        """Register the Node, then keep it alive, for ever."""
        await self.register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keep_lease())
            group.create_task(self.keep_status())

    async def register(self) -> None:
        """Create or update the Node, its lease and its status; waits until the API server lets it."""
        while True:
            try:
                await self._register_once()
                await self.send_status()
                await self._renew_lease()
            except (ApiError, ApiUnavailableError) as problem:
                logger.warning("node.not_registered", error=str(problem))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def keep_lease(self) -> None:
        """Renew the lease four times within its duration, for ever."""
        await self._repeat(self._settings.lease_seconds / 4, self._renew_lease)

    async def keep_status(self) -> None:
        """Send the status now and then, for ever; a Node that was deleted is registered again."""

        async def send() -> None:
            try:
                await self.send_status()
            except ApiError as problem:
                if problem.status != NOT_FOUND:
                    raise
                await self.register()

        await self._repeat(STATUS_SECONDS, send)

    async def send_status(self) -> None:
        """Patch the Node's status; raises ApiError, ApiUnavailableError."""
        known = (await self._api.request("GET", self._path)).get("status") or {}
        status = build_node_status(self._settings, self._port, known, datetime.now(UTC))
        await self._api.request(
            "PATCH", f"{self._path}/status", body={"status": status}, content_type=STRATEGIC_MERGE_PATCH
        )

    async def _repeat(self, interval: float, action: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                await action()
            except (ApiError, ApiUnavailableError) as problem:
                logger.warning("node.not_reported", error=str(problem))

    async def _register_once(self) -> None:
        node = build_node(self._settings)
        try:
            answer = await self._api.request("POST", "/api/v1/nodes", body=node)
        except ApiError as problem:
            if problem.status != CONFLICT:
                raise
            patch = {"metadata": {"labels": node["metadata"]["labels"]}}
            answer = await self._api.request("PATCH", self._path, body=patch, content_type=MERGE_PATCH)
        self._uid = answer["metadata"]["uid"]

    async def _renew_lease(self) -> None:
        name = self._settings.node_name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._settings.lease_seconds,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
        metadata = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
        body: Json = {"metadata": {"ownerReferences": [owner]}, "spec": spec}
        try:
            await self._api.request("PATCH", f"{LEASES}/{name}", body=body, content_type=MERGE_PATCH)
        except ApiError as problem:
            if problem.status != NOT_FOUND:
                raise
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": metadata,
                "spec": spec,
            }
            await self._api.request("POST", LEASES, body=lease)
