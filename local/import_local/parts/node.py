"""The cluster's only node: the process kubelet, with its own certificate and a node's rights."""

import json
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from import_local.credentials import KeyPair
from import_local.folders import ensure_folder
from import_local.kubectl import KubectlError, run_kubectl
from import_local.parts.control_plane import KUBELET_CLIENT, ControlPlane
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK
from import_local.processes import base_environment, start_child, wait_until_ready

# Images stand for commands of this Python environment.
IMAGES = {
    "import-operator:*": f"{sys.executable} -m import_operator",
    "import-worker:*": f"{sys.executable} -m import_worker",
    "import-worker-enrich:*": f"{sys.executable} -m import_worker",
    "import-gateway:*": f"{sys.executable} -m import_gateway",
}
_NODE_ROLE_BINDING = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: import-local-nodes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
"""


class ProcessNode(OneProcessPart):
    """One process kubelet with its state in `folder`; stopping it stops its pods' processes."""

    name = "kubelet"

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path,
        node_name: str = "local",
        images: Mapping[str, str] = IMAGES,
        options: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._log_path = log_path
        self._images = dict(images)
        self._options = tuple(options)
        self._command: list[str | Path] = []
        self._kubeconfig = Path()
        self.node_name = node_name

    async def start(self, kubeconfig: Path, control_plane: ControlPlane | None) -> None:
        """Start the kubelet and wait until its Node is ready.

        With a control plane of ours it signs in as a node and serves logs; in another cluster it uses the
        administrator's `kubeconfig`, and there are no logs through the API server.
        """
        ensure_folder(self._folder)
        await self._forget_ended_pods(kubeconfig)
        signs_in_with, server_options = kubeconfig, list[str]()
        if control_plane is not None:
            await run_kubectl(
                kubeconfig, "apply", "--server-side", "-f", "-", stdin=_NODE_ROLE_BINDING.encode()
            )
            user = f"system:node:{self.node_name}"
            signs_in_with = control_plane.kubeconfig_for(user, groups=("system:nodes",))
            serving = control_plane.authority.issue("kubelet-server", common_name=user, hosts=[LOOPBACK])
            server_options = _server_options(control_plane, serving)
        self._kubeconfig = kubeconfig
        self._command = [
            *(sys.executable, "-m", "import_local.kubelet", "--kubeconfig", signs_in_with),
            *("--state", self._folder, "--node-name", self.node_name, "--stop-pods", "--stop-grace", "35"),
            *server_options,
            *(word for image, command in self._images.items() for word in ("--image", f"{image}={command}")),
            *self._options,
        ]
        await self._spawn(self._is_ready, timeout=60)

    async def kill(self) -> None:
        """Kill the kubelet alone: its pods run on, as containers do. Nothing happens when it does not run."""
        if self.child is not None:
            await self.child.kill(with_descendants=False)
            self.child = None

    async def start_again(self) -> None:
        """Start a killed kubelet, which takes on the pods that run, and wait until its Node has heard of it.

        That needs the API server; it is waited for. Nothing happens when the kubelet runs.
        """
        if self.child is not None:
            return
        before = await self._last_renewal()

        async def has_renewed() -> bool:
            return await self._last_renewal() not in {None, before}

        await self._spawn(has_renewed, timeout=120)

    async def _spawn(self, is_ready: Callable[[], Awaitable[bool]], *, timeout: float) -> None:
        self.child = await start_child(
            self.name,
            self._command,
            log_path=self._log_path,
            environment=base_environment(PYTHONUNBUFFERED="1"),
            stop_seconds=50,  # the pods' grace, and some
        )
        try:
            await wait_until_ready(self.child, is_ready, timeout=timeout, interval=0.2)
        except BaseException:
            await self.stop()
            raise

    async def _last_renewal(self) -> str | None:
        """When the kubelet renewed its Lease last; None while the API server does not say."""
        lease = ("get", "lease", self.node_name, "-n", "kube-node-lease")
        try:
            return await run_kubectl(self._kubeconfig, *lease, "-o", "jsonpath={.spec.renewTime}")
        except KubectlError:
            return None

    async def _forget_ended_pods(self, kubeconfig: Path) -> None:
        """Delete the pods of an earlier run that a controller replaces; their processes ended with that run.

        Else they would count as ready until this kubelet has looked at each.
        """
        answer = await run_kubectl(
            kubeconfig, "get", "pods", "-A", f"--field-selector=spec.nodeName={self.node_name}", "-o", "json"
        )
        ended = defaultdict(list)
        for pod in json.loads(answer)["items"]:
            if pod["metadata"].get("ownerReferences"):
                ended[pod["metadata"]["namespace"]].append(pod["metadata"]["name"])
        for namespace, names in ended.items():
            await run_kubectl(
                kubeconfig,
                "delete",
                "pods",
                "-n",
                namespace,
                "--force",
                "--grace-period=0",
                "--wait=false",
                *names,
            )

    async def _is_ready(self) -> bool:
        try:
            status = await run_kubectl(
                self._kubeconfig,
                *("get", "node", self.node_name, "-o"),
                'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
            )
        except KubectlError as error:
            if "NotFound" in str(error):
                return False
            raise
        return status == "True"


def _server_options(control_plane: ControlPlane, serving: KeyPair) -> list[str]:
    return [
        *("--client-ca", str(control_plane.authority.certificate), "--client-name", KUBELET_CLIENT),
        *("--tls-cert", str(serving.certificate), "--tls-key", str(serving.key)),
    ]
