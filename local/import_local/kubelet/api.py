"""The API server as the kubelet sees it: plain JSON objects, timeouts on everything, watches that resume."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from lightkube.config.client_adapter import ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from import_local.kubelet.errors import ApiError, ApiUnavailableError, KubeletError

Json = dict[str, Any]

REQUEST_SECONDS = 10.0
QUEUE_SECONDS = 60.0
CONNECTIONS = 8
WATCH_SECONDS = 300
# An established watch may be silent for its whole time; then something is wrong with the connection.
WATCH_READ_SECONDS = WATCH_SECONDS + 15.0
RETRY_FIRST_SECONDS = 0.1
RETRY_LIMIT_SECONDS = 5.0
GONE = 410

JSON_BODY = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One step of a list and watch: kind LIST carries `items`, the other kinds carry `item`."""

    kind: str
    items: tuple[Json, ...] = ()
    item: Json | None = None


class KubernetesApi:
    """A client bound to one kubeconfig. Every method raises ApiError or ApiUnavailableError."""

    def __init__(self, client: httpx2.AsyncClient, watcher: httpx2.AsyncClient, server: str) -> None:
        self._client = client
        self._watcher = watcher
        self.server = server

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Connect by the current context of a kubeconfig file; raises KubeletError when it is unusable."""
        config = read_kubeconfig(path)
        timeout = httpx2.Timeout(REQUEST_SECONDS, pool=QUEUE_SECONDS)
        try:
            parameters = ConnectionParams(timeout=timeout, trust_env=False).httpx_params(config)
        except (ConfigError, OSError, AssertionError) as problem:
            raise KubeletError(f"cannot use the kubeconfig {path}: {problem}") from problem
        # A few warm connections are faster than many handshakes; a watch keeps one to itself.
        few = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        any_number = httpx2.Limits(max_connections=None)
        client = httpx2.AsyncClient(**parameters, limits=few)
        return cls(client, httpx2.AsyncClient(**parameters, limits=any_number), config.cluster.server)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API server."""
        parts = urlsplit(self.server)
        return parts.hostname or "127.0.0.1", parts.port or 443

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._watcher.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        content_type: str = JSON_BODY,
        parameters: dict[str, str] | None = None,
    ) -> Json:
        """Send one request and return the answer's object."""
        content = None if body is None else json.dumps(body).encode()
        headers = None if body is None else {"Content-Type": content_type}
        try:
            response = await self._client.request(
                method, path, content=content, headers=headers, params=parameters
            )
        except httpx2.TransportError as problem:
            raise ApiUnavailableError(
                f"{method} {path}: {str(problem) or type(problem).__name__}"
            ) from problem
        if response.is_error:
            raise to_error(response.status_code, response.content)
        answer: Json = response.json()
        return answer

    async def list_and_watch(self, path: str, field_selector: str) -> AsyncGenerator[WatchEvent, None]:
        """List, then watch for ever: a broken watch resumes, a lost position lists anew.

        Errors of the API server are waited out; only being cancelled ends it.
        """
        version: str | None = None
        delay = RETRY_FIRST_SECONDS
        while True:
            try:
                if version is None:
                    listed = await self.request("GET", path, parameters={"fieldSelector": field_selector})
                    version = listed["metadata"]["resourceVersion"]
                    yield WatchEvent("LIST", items=tuple(listed["items"] or ()))
                async for kind, item in self._watch(path, field_selector, version):
                    version = item["metadata"]["resourceVersion"]
                    delay = RETRY_FIRST_SECONDS
                    if kind != "BOOKMARK":
                        yield WatchEvent(kind, item=item)
                # The server ends a watch after its time; one that it ends at once must not spin.
                await asyncio.sleep(RETRY_FIRST_SECONDS)
            except ApiError as problem:
                if problem.status == GONE:
                    version = None
                    continue
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(2 * delay, RETRY_LIMIT_SECONDS)
            except ApiUnavailableError:
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))
                delay = min(2 * delay, RETRY_LIMIT_SECONDS)

    async def _watch(self, path: str, field_selector: str, version: str) -> AsyncIterator[tuple[str, Json]]:
        parameters = {
            "fieldSelector": field_selector,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = httpx2.Timeout(REQUEST_SECONDS, read=WATCH_READ_SECONDS)
        try:
            async with self._watcher.stream("GET", path, params=parameters, timeout=timeout) as response:
                if response.is_error:
                    raise to_error(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(
                            status.get("code", 0), status.get("reason", ""), status.get("message", "")
                        )
                    yield event["type"], event["object"]
        except (httpx2.TransportError, httpx2.StreamError) as problem:
            raise ApiUnavailableError(f"watch {path}: {str(problem) or type(problem).__name__}") from problem


def to_error(code: int, content: bytes) -> ApiError:
    """Make an ApiError of an error answer, which is a Status object or plain text."""
    try:
        status = json.loads(content)
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(code, "", content[:500].decode(errors="replace"))


def pod_path(namespace: str, name: str) -> str:
    """Return the path of a pod."""
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def read_cluster_authority(path: Path) -> bytes:
    """Return the certificate authority of a kubeconfig's cluster, PEM; raises KubeletError if it has none."""
    config = read_kubeconfig(path)
    data, file = config.cluster.certificate_auth_data, config.cluster.certificate_auth
    if data:
        return base64.b64decode(data)
    if file:
        return Path(config.abs_file(file)).read_bytes()
    raise KubeletError(f"the kubeconfig {path} names no certificate authority: give --client-ca")


def read_kubeconfig(path: Path) -> SingleConfig:
    """Return the current context of a kubeconfig file; raises KubeletError when it is unusable."""
    try:
        config = KubeConfig.from_file(path).get()
    except (ConfigError, OSError, KeyError) as problem:
        raise KubeletError(f"cannot use the kubeconfig {path}: {problem}") from problem
    if config is None:
        raise KubeletError(f"the kubeconfig {path} has no current context")
    return config
