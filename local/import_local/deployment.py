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
# Read by the workers instead, where their addresses differ from the operator's (deploy/overlays/faults).
WORKER_CONNECTION_SECRET = "import-worker-connections"  # noqa: S105 - a name
_OPERATOR = "deployment/import-operator"
_OVERLAYS = PROJECT / "deploy" / "overlays"


async def prepare_cluster(kubeconfig: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
    """Apply the custom resource definitions, the namespace and the Secrets with connection settings."""
    await apply_definitions(kubeconfig, PROJECT / "crds")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    manifests = [namespace, *(_make_secret(name, values) for name, values in secrets.items())]
    for manifest in manifests:  # by standard input: no password on a command line
        await _apply(kubeconfig, "-f", "-", stdin=json.dumps(manifest).encode())


def _make_secret(name: str, values: Mapping[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


async def install_operator(kubeconfig: Path, *, overlay: str = "local", timeout: float = 120.0) -> None:
    """Apply `deploy/overlays/<overlay>` and wait until the operator is ready.

    LocalError says what its pods and its log show when it does not get ready within `timeout` seconds.
    """
    await _apply(kubeconfig, "-k", _OVERLAYS / overlay)
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
