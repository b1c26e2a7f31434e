"""What a cluster needs before it can import: definitions, namespace, connection settings, operator and gateway."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from import_local.errors import LocalError
from import_local.kubectl import KubectlError, apply_definitions, run_kubectl
from import_local.ports import LOOPBACK

PROJECT = Path(__file__).resolve().parents[2]
NAMESPACE = "imports"
# Read by the operator and the workers as environment (`envFrom`).
CONNECTION_SECRET = "import-connections"  # noqa: S105 - a name
# Read by the workers instead, where their addresses differ from the operator's (deploy/overlays/faults).
WORKER_CONNECTION_SECRET = "import-worker-connections"  # noqa: S105 - a name
# Read by the gateway as environment (deploy/overlays/local).
GATEWAY_ADDRESSES = "import-gateway-addresses"
_WEBHOOK_PLACE = "https://gateway.invalid"
_DEPLOYMENTS = ("deployment/import-operator", "deployment/import-gateway")
_OVERLAYS = PROJECT / "deploy" / "overlays"


@dataclass(frozen=True)
class GatewayPorts:
    """Where the gateway listens on this machine."""

    http: int
    admission: int

    @property
    def environment(self) -> dict[str, str]:
        """What tells the gateway."""
        return {
            "SHARED_ADDRESS": LOOPBACK,
            "HTTP_PORT": str(self.http),
            "ADMISSION_PORT": str(self.admission),
            "ADMISSION_HOSTS": LOOPBACK,
        }


async def prepare_cluster(
    kubeconfig: Path, secrets: Mapping[str, Mapping[str, str]], gateway: GatewayPorts
) -> None:
    """Apply the custom resource definitions, the namespace, and the connection settings."""
    await apply_definitions(kubeconfig, PROJECT / "crds")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    addresses = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": GATEWAY_ADDRESSES, "namespace": NAMESPACE},
        "data": gateway.environment,
    }
    manifests = [namespace, addresses, *(_make_secret(name, values) for name, values in secrets.items())]
    for manifest in manifests:  # by standard input: no password on a command line
        await _apply(kubeconfig, "-f", "-", stdin=json.dumps(manifest).encode())


def _make_secret(name: str, values: Mapping[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


async def install(
    kubeconfig: Path, gateway: GatewayPorts, *, overlay: str = "local", timeout: float = 120.0
) -> None:
    """Apply `deploy/overlays/<overlay>` and wait until operator and gateway are ready.

    LocalError says what its pods and its log show when one does not get ready within `timeout` seconds.
    """
    manifests = await run_kubectl(kubeconfig, "kustomize", _OVERLAYS / overlay)
    webhook = f"https://{LOOPBACK}:{gateway.admission}"
    await _apply(kubeconfig, "-f", "-", stdin=manifests.replace(_WEBHOOK_PLACE, webhook).encode())
    for deployment in _DEPLOYMENTS:
        rollout = ("rollout", "status", deployment, "-n", NAMESPACE, f"--timeout={timeout:g}s")
        try:
            await run_kubectl(kubeconfig, *rollout, timeout=timeout + 10)
        except KubectlError as error:
            shown = await _describe(kubeconfig, deployment)
            raise LocalError(f"the {deployment} did not get ready: {error}\n{shown}") from error


async def _apply(kubeconfig: Path, *arguments: str | Path, stdin: bytes | None = None) -> None:
    await run_kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", *arguments, stdin=stdin)


async def _describe(kubeconfig: Path, deployment: str) -> str:
    """Return what a person would look at next: pods, events and the end of the deployment's log."""
    found = []
    for question in (
        ("get", "pods", "-n", NAMESPACE),
        ("get", "events", "-n", NAMESPACE, "--field-selector=type=Warning", "-o", "custom-columns=:.message"),
        ("logs", deployment, "-n", NAMESPACE, "--tail=15", "--all-containers"),
    ):
        try:
            found.append(await run_kubectl(kubeconfig, *question, timeout=15))
        except KubectlError as error:
            found.append(str(error))
    return "\n".join(found)
