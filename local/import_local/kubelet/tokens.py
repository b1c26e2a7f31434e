"""Service-account tokens of pods: requested from the API server and refreshed at 80 % of their life."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from import_local.kubelet.api import KubernetesApi
from import_local.kubelet.errors import ApiError, ApiUnavailableError
from import_local.kubelet.records import make_folder, write_file
from import_local.kubelet.volumes import TokenFile, get_inner_path

Json = dict[str, Any]

REFRESH_SHARE = 0.8
RETRY_SECONDS = 5.0


def get_refresh_delay(issued: datetime, expires: datetime) -> float:
    """Return after how many seconds of its life a token is replaced."""
    return max(1.0, REFRESH_SHARE * (expires - issued).total_seconds())


async def request_token(api: KubernetesApi, pod: Json, token: TokenFile) -> tuple[str, datetime]:
    """Request a token bound to the pod; return it with its expiry. Raises ApiError, ApiUnavailableError."""
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName") or "default"
    spec: Json = {
        "expirationSeconds": token.seconds,
        "audiences": [token.audience] if token.audience else [],
        "boundObjectRef": {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status = (await api.request("POST", path, body=body))["status"]
    return str(status["token"]), datetime.fromisoformat(status["expirationTimestamp"])


async def write_token(api: KubernetesApi, pod: Json, token: TokenFile, folder: Path) -> float:
    """Write a fresh token into its volume; return after how many seconds it is to be replaced."""
    issued = datetime.now(UTC)
    text, expires = await request_token(api, pod, token)
    path = get_inner_path(folder, token.path)
    make_folder(path.parent)
    write_file(path, text.encode())
    return get_refresh_delay(issued, expires)


async def keep_token(api: KubernetesApi, pod: Json, token: TokenFile, folder: Path, delay: float) -> None:
    """Replace a token again and again, first after `delay` seconds; failures are tried again soon."""
    while True:
        await asyncio.sleep(delay)
        try:
            delay = await write_token(api, pod, token, folder)
        except (ApiError, ApiUnavailableError):
            delay = RETRY_SECONDS


def build_kubeconfig(server: str, service_account: Path, namespace: str) -> bytes:
    """Return a kubeconfig (JSON is YAML) that logs in by the token file of a service-account folder."""
    cluster = {"server": server, "certificate-authority": str(service_account / "ca.crt")}
    context = {"cluster": "local", "user": "pod", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pod",
        "clusters": [{"name": "local", "cluster": cluster}],
        "contexts": [{"name": "pod", "context": context}],
        "users": [{"name": "pod", "user": {"tokenFile": str(service_account / "token")}}],
    }
    return json.dumps(config, indent=1).encode()
