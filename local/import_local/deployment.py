"""What a cluster needs before it can import: definitions, namespace, connection settings, the operator."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from import_local.errors import LocalError
from import_local.kubectl import KubectlError, apply_definitions, run_kubectl

PROJECT = Path(__file__).resolve().parents[2]
NAMESPACE = "imports"
# Read by the operator and the workers as environment (`envFrom`).
CONNECTION_SECRET = "import-connections"  # noqa: S105 - a name
_OPERATOR = "deployment/import-operator"
_OVERLAY = PROJECT / "deploy" / "overlays" / "local"


async def prepare_cluster(kubeconfig: Path, connections: Mapping[str, str]) -> None:
    """Apply the custom resource definitions, the namespace and the Secret with the connection settings."""
    await apply_definitions(kubeconfig, PROJECT / "crds")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CONNECTION_SECRET, "namespace": NAMESPACE},
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in connections.items()},
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for manifest in (namespace, secret):  # by standard input: no password on a command line
        await _apply(kubeconfig, "-f", "-", stdin=json.dumps(manifest).encode())


async def install_operator(kubeconfig: Path, *, timeout: float = 120.0) -> None:
    """Apply `deploy/overlays/local` and wait until the operator is ready.

    LocalError says what its pods and its log show when it does not get ready within `timeout` seconds.
    """
    await _apply(kubeconfig, "-k", _OVERLAY)
    rollout = ("rollout", "status", _OPERATOR, "-n", NAMESPACE, f"--timeout={timeout:g}s")
    try:
        await run_kubectl(kubeconfig, *rollout, timeout=timeout + 10)
    except KubectlError as error:
        raise LocalError(f"the operator did not get ready: {error}\n{await _describe(kubeconfig)}") from error


async def _apply(kubeconfig: Path, *arguments: str | Path, stdin: bytes | None = None) -> None:
    await run_kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", *arguments, stdin=stdin)


async def _describe(kubeconfig: Path) -> str:
    """Return what a person would look at next: pods, events and the end of the operator's log."""
    found = []
    for question in (
        ("get", "pods", "-n", NAMESPACE),
        ("get", "events", "-n", NAMESPACE, "--field-selector=type=Warning", "-o", "custom-columns=:.message"),
        ("logs", _OPERATOR, "-n", NAMESPACE, "--tail=15", "--all-containers"),
    ):
        try:
            found.append(await run_kubectl(kubeconfig, *question, timeout=15))
        except KubectlError as error:
            found.append(str(error))
    return "\n".join(found)
