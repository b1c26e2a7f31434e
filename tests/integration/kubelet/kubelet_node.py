"""A kubelet process, its Node and its namespace, and questions to its pods: what the tests here share."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from import_core.adapters.tasks import end_tasks
from import_local.binaries import find_kubectl
from import_local.credentials import KeyPair
from import_local.kubectl import run_kubectl
from import_local.kubelet.api import KubernetesApi
from import_local.kubelet.cleanup import clean_up
from import_local.kubelet.errors import ApiError
from import_local.kubelet.pod_context import STATE_MARK
from import_local.kubelet.processes import find_marked
from import_local.parts.control_plane import KUBELET_CLIENT, ControlPlane
from import_local.processes import Child, base_environment, start_child

Json = dict[str, Any]
WAIT_SECONDS = 60

NODE_ROLE_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "import-local-nodes"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
}


class Node:
    """One kubelet, its Node, and a namespace for its pods."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        self.admin = control_plane.kubeconfig
        self.api = KubernetesApi.from_kubeconfig(self.admin)
        self.name = f"node-{uuid.uuid4().hex[:8]}"
        self.namespace = ""
        self.renewed = ""
        self.environment: dict[str, str] = {}
        self.folder = folder
        self.state = folder / "state"
        self.options: tuple[str, ...] = ("--crash-backoff", "0")
        self.child: Child | None = None
        self.serving: KeyPair | None = None

    async def start(self, *options: str) -> None:
        """Start the kubelet; given options replace the earlier ones."""
        self.options = options or self.options
        user = f"system:node:{self.name}"
        kubeconfig = self.control_plane.kubeconfig_for(user, groups=("system:nodes",))
        authority = self.control_plane.authority
        self.serving = authority.issue(f"{self.name}-serving", common_name=user, hosts=["127.0.0.1"])
        command = [
            *(sys.executable, "-m", "import_local.kubelet", "--kubeconfig", kubeconfig),
            *("--state", self.state, "--node-name", self.name),
            *("--client-ca", authority.certificate, "--client-name", KUBELET_CLIENT),
            *("--tls-cert", self.serving.certificate, "--tls-key", self.serving.key),
            *("--image", "sleeper:*=sleep 1000", "--image", f"python:*={sys.executable}"),
            *self.options,
        ]
        self.child = await start_child(
            "kubelet",
            [str(word) for word in command],
            log_path=self.folder / "kubelet.log",
            environment=base_environment(**self.environment),
            append_log=True,
        )
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self.name}"
        renewed = await self.wait(lease, lambda lease: lease["spec"]["renewTime"] != self.renewed)
        self.renewed = renewed["spec"]["renewTime"]
        await self.wait(f"/api/v1/nodes/{self.name}", is_node_ready)

    async def kill(self) -> None:
        """Kill the kubelet as an out-of-memory killer would."""
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGKILL)
        await self.child.wait()

    async def terminate(self) -> int:
        """Ask the kubelet to stop; return its exit code."""
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGTERM)
        return await self.child.wait()

    def make_pod(
        self, name: str, script: str | None = None, *, spec: Json | None = None, **container: Any
    ) -> Json:
        """Return a pod for this node that runs a shell script, or what the container fields say."""
        main = {"name": "main", "image": "none", **container}
        if script is not None:
            main["command"] = ["sh", "-c", script]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"nodeName": self.name, "containers": [main], **(spec or {})},
        }

    async def create(self, pod: Json) -> Json:
        """Create a pod."""
        return await self.api.request("POST", f"/api/v1/namespaces/{self.namespace}/pods", body=pod)

    async def run(self, name: str, script: str | None = None, **fields: Any) -> Json:
        """Create a pod of `make_pod`."""
        return await self.create(self.make_pod(name, script, **fields))

    async def wait(self, path: str, holds: Callable[[Json], bool]) -> Json:
        """Wait until an object exists and a condition holds; return the object."""
        collection, _, name = path.rpartition("/")
        last: Json = {}
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                events = self.api.list_and_watch(collection, f"metadata.name={name}")
                async with aclosing(events):
                    async for event in events:
                        for last in event.items if event.item is None else (event.item,):
                            if event.kind != "DELETED" and holds(last):
                                return last
        except TimeoutError:
            status = json.dumps(last.get("status"))
            log = (self.folder / "kubelet.log").read_text()[-2000:]
            raise AssertionError(f"{path} did not get there; its status is {status}\n{log}") from None
        raise AssertionError("the watch ended")

    async def wait_pod(self, name: str, holds: Callable[[Json], bool]) -> Json:
        """Wait until a condition holds for a pod of this namespace."""
        return await self.wait(f"/api/v1/namespaces/{self.namespace}/pods/{name}", holds)

    async def wait_gone(self, name: str) -> None:
        """Wait until a pod does not exist any more."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        async with (
            asyncio.timeout(WAIT_SECONDS),
            aclosing(self.api.list_and_watch(path, f"metadata.name={name}")) as events,
        ):
            async for event in events:
                if event.kind == "DELETED" or (event.kind == "LIST" and not event.items):
                    return

    async def delete(self, name: str, grace: int | None = None) -> None:
        """Ask for a pod's deletion."""
        parameters = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        await self.api.request("DELETE", path, parameters=parameters)

    async def end(self, name: str) -> Json:
        """Ask for a pod's deletion; return it as it was once it had ended, however soon it is gone after that."""
        seen = asyncio.Event()

        def has_ended(pod: Json) -> bool:
            seen.set()
            return is_ended(pod)

        ending = asyncio.create_task(self.wait_pod(name, has_ended))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await seen.wait()
            await self.delete(name)
            return await ending
        finally:
            await end_tasks([ending])

    async def kubectl(self, *arguments: str) -> str:
        """Run kubectl as the administrator in the test's namespace."""
        return await run_kubectl(self.admin, "--namespace", self.namespace, *arguments)

    async def get_log(self, name: str) -> str:
        """Return what a pod's container has written."""
        return await self.kubectl("logs", name)

    async def read_log(self, name: str, size: int) -> str:
        """Return the first `size` bytes that a pod's container writes, once it has written them."""
        return await self.kubectl("logs", name, "--follow", f"--limit-bytes={size}")

    @asynccontextmanager
    async def follow(self, name: str) -> AsyncIterator[asyncio.StreamReader]:
        """Follow a pod's log with kubectl; entered once its first line, "up", has come."""
        process = await asyncio.create_subprocess_exec(
            *(find_kubectl(), f"--kubeconfig={self.admin}", f"--namespace={self.namespace}"),
            *("logs", name, "--follow"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                assert await process.stdout.readline() == b"up\n"
                yield process.stdout
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def list_processes(self) -> list[int]:
        """Return the ids of all processes that belong to this node's pods."""
        return [process.pid for process in find_marked(STATE_MARK, str(self.state.resolve()))]

    async def wait_for_no_process(self) -> None:
        """Wait until no process of this node's pods is left."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.list_processes():  # noqa: ASYNC110 - nobody tells when a foreign process ends
                await asyncio.sleep(0.05)

    async def enter_namespace(self) -> None:
        """Make a new namespace for the pods that follow."""
        self.namespace = f"test-{uuid.uuid4().hex[:8]}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.api.request("POST", "/api/v1/namespaces", body=body)
        await self.wait(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default", lambda _: True)

    async def leave_namespace(self) -> None:
        """Remove the namespace and its pods, and wait for the end of their processes."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        await self.api.request("DELETE", pods, parameters={"gracePeriodSeconds": "0"})
        await self.api.request("DELETE", f"/api/v1/namespaces/{self.namespace}")

    async def remove(self) -> None:
        """Stop the kubelet, end what it ran, and remove its Node."""
        if self.child is not None:
            await self.child.stop()
        await clean_up(self.state.resolve(), 2.0)
        await ignore_missing(self.api.request("DELETE", f"/api/v1/nodes/{self.name}"))
        await self.api.close()

    def list_mains(self) -> list[int]:
        """Return the ids of the containers' recorded main processes that run."""
        pids = set(self.list_processes())
        files = self.state.glob("pods/*/containers/*/*/child")
        return sorted(pids & {int(file.read_text().split()[0]) for file in files})


def is_node_ready(node: Json) -> bool:
    """Tell whether a Node is ready and takes pods."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
    return ready and not node["spec"].get("taints")


def get_state(pod: Json, field: str = "containerStatuses") -> Json:
    """Return the state of a pod's first container, empty while there is none."""
    statuses = pod.get("status", {}).get(field) or [{}]
    return statuses[0].get("state") or {}


def is_running(pod: Json) -> bool:
    """Tell whether the pod's container runs."""
    return "running" in get_state(pod)


def is_ended(pod: Json) -> bool:
    """Tell whether the pod will not run any more."""
    return pod["status"]["phase"] in {"Succeeded", "Failed"}


def is_ready(pod: Json) -> bool:
    """Tell whether the pod is ready."""
    conditions = pod["status"].get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def is_waiting(reason: str) -> Callable[[Json], bool]:
    """Return a test for a container that waits for this reason."""
    return lambda pod: get_state(pod).get("waiting", {}).get("reason") == reason


def has_restarted(times: int) -> Callable[[Json], bool]:
    """Return a test for a container that was restarted at least so often and runs."""
    return lambda pod: is_running(pod) and pod["status"]["containerStatuses"][0]["restartCount"] >= times


async def create(api: KubernetesApi, path: str, body: Json) -> None:
    """Create an object unless it exists."""
    try:
        await api.request("POST", path, body=body)
    except ApiError as problem:
        if problem.status != 409:
            raise


async def ignore_missing(request: Awaitable[Json]) -> None:
    """Await a deletion whose object may be gone."""
    try:
        await request
    except ApiError as problem:
        if problem.status != 404:
            raise
