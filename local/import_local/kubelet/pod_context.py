"""What the parts of one pod's care share: the pod, its record, its view, and the node's services."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from import_local.kubelet.api import KubernetesApi
from import_local.kubelet.environment import build_command, build_environment, list_references
from import_local.kubelet.errors import ApiError, ApiUnavailableError, ContainerStartError
from import_local.kubelet.memory import MemoryWatcher
from import_local.kubelet.records import PodRecord, make_folder, write_file
from import_local.kubelet.references import ReferenceReader
from import_local.kubelet.runtime import ContainerRuntime
from import_local.kubelet.settings import Settings
from import_local.kubelet.status import PodView
from import_local.kubelet.tokens import build_kubeconfig, keep_token, write_token
from import_local.kubelet.volumes import (
    SERVICE_ACCOUNT_MOUNT,
    get_mount_variables,
    get_volume_folder,
    list_volume_references,
    plan_volume,
    write_volume,
)

Json = dict[str, Any]

VOLUME_RETRY_SECONDS = 1.0
LAST_VOLUME_RETRY_SECONDS = 30.0
HOST_ADDRESS = "127.0.0.1"
POD_MARK = "IMPORT_LOCAL_POD_UID"
STATE_MARK = "IMPORT_LOCAL_KUBELET_STATE"


@dataclass(frozen=True, slots=True)
class NodeServices:
    """What all pods of a node use."""

    api: KubernetesApi
    settings: Settings
    runtime: ContainerRuntime
    references: ReferenceReader
    memory: MemoryWatcher
    probes: httpx2.AsyncClient


@dataclass(slots=True)
class PodContext:
    """One pod: `pod` is the newest object of the API server, `report` says that the view has changed."""

    pod: Json
    record: PodRecord
    view: PodView
    services: NodeServices
    report: Callable[[], None]
    updated: asyncio.Event = field(default_factory=asyncio.Event)
    token_tasks: list[asyncio.Task[None]] = field(default_factory=list)
    volumes_ready: bool = False
    volumes_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def volumes_folder(self) -> Path:
        """The folder of the pod's volumes."""
        return self.record.folder / "volumes"

    @property
    def node_values(self) -> dict[str, str]:
        """What only the node knows of the pod."""
        capacity = self.services.settings.capacity
        values = {"podIP": self.record.address, "hostIP": HOST_ADDRESS}
        return capacity | values | {"nodeName": self.services.settings.node_name}

    async def prepare_volumes(self) -> None:
        """Write the pod's volumes and keep its tokens fresh; done once.

        Raises ContainerStartError, ApiError, ApiUnavailableError.
        """
        async with self.volumes_lock:
            if not self.volumes_ready:
                await self._write_volumes()
                self.volumes_ready = True

    async def resume_volumes(self) -> None:
        """Refresh the volumes and tokens of a pod that an earlier kubelet has started."""
        delay = VOLUME_RETRY_SECONDS
        while True:
            try:
                await self.prepare_volumes()
            except (ContainerStartError, ApiError, ApiUnavailableError):
                # A start of the container reports it; a running one goes on with what it has.
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_VOLUME_RETRY_SECONDS)
            else:
                return

    async def _write_volumes(self) -> None:
        api = self.services.api
        namespace = self.pod["metadata"]["namespace"]
        wanted = list_volume_references(self.pod)
        references = await self.services.references.read(namespace, wanted)
        self.cancel_tokens()
        for volume in self.pod["spec"].get("volumes") or ():
            folder = self.volumes_folder / volume["name"]
            plan = plan_volume(self.pod, volume, references, self.node_values)
            write_volume(folder, plan)
            for token in plan.tokens:
                delay = await write_token(api, self.pod, token, folder)
                task = keep_token(api, self.pod, token, folder, delay)
                self.token_tasks.append(asyncio.create_task(task))
        for name in ("home", "tmp"):
            make_folder(self.record.folder / name)
        self._write_kubeconfig(namespace)

    def cancel_tokens(self) -> None:
        """Stop refreshing tokens."""
        for task in self.token_tasks:
            task.cancel()
        self.token_tasks.clear()

    def _write_kubeconfig(self, namespace: str) -> None:
        for container in [*(self.pod["spec"].get("initContainers") or ()), *self.pod["spec"]["containers"]]:
            for mount in container.get("volumeMounts") or ():
                if mount["mountPath"].rstrip("/") == SERVICE_ACCOUNT_MOUNT:
                    folder = get_volume_folder(self.pod, mount["name"], self.volumes_folder)
                    config = build_kubeconfig(self.services.api.server, folder, namespace)
                    write_file(self.record.folder / "kubeconfig", config)
                    return

    async def prepare_command(self, container: Json) -> tuple[list[str], dict[str, str], Path]:
        """Return a container's command, environment and working directory.

        Raises ContainerStartError, ApiError, ApiUnavailableError.
        """
        settings = self.services.settings
        namespace = self.pod["metadata"]["namespace"]
        references = await self.services.references.read(namespace, list_references(container))
        variables = build_environment(
            self.pod, container, references, self._build_base(container), self.node_values
        )
        command = build_command(container, settings.images.find(container.get("image", "")), variables)
        folder = Path(container.get("workingDir") or self.record.folder / "home")
        return command, variables, folder

    def _build_base(self, container: Json) -> dict[str, str]:
        host, port = self.services.api.address
        settings = self.services.settings
        executables = str(Path(sys.executable).parent)
        base = {
            "PATH": f"{executables}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.record.folder / "home"),
            "TMPDIR": str(self.record.folder / "tmp"),
            "LANG": "C.UTF-8",
            "HOSTNAME": self.pod["metadata"]["name"],
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            POD_MARK: self.record.uid,
            STATE_MARK: str(settings.state),
        }
        base |= {name: os.environ[name] for name in settings.pass_environment if name in os.environ}
        base |= get_mount_variables(self.pod, container, self.volumes_folder)
        if "KUBERNETES_SERVICEACCOUNT_DIR" in base:
            base["KUBECONFIG"] = str(self.record.folder / "kubeconfig")
        return base
