"""Access to the Kubernetes API server: plain dictionaries in and out, with time limits and our errors."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

import httpx2
import yaml
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.async_client import AsyncClient
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.types import PatchType

from import_core.adapters.kube import resources
from import_core.adapters.kube.resources import Kind
from import_core.domain.errors import (
    ImportOperatorError,
    IntakeRefusedError,
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)

REQUEST_TIMEOUT_SECONDS = 5.0
CALL_TIMEOUT_SECONDS = 10.0
"""For a whole call; the request timeout above counts silence only."""
LIST_PAGE = 500
FIELD_MANAGER = "import-operator"

Json = dict[str, Any]


def load_configuration() -> KubeConfig:
    """The file that KUBECONFIG names, or else the pod's own ServiceAccount, or else the user's kubeconfig.

    A token file is read again when the server refuses the token. Raises KubernetesUnavailableError.
    """
    try:
        named = os.environ.get("KUBECONFIG")
        return KubeConfig.from_file(named) if named else KubeConfig.from_env()
    except (ConfigError, OSError) as error:
        raise KubernetesUnavailableError(f"No usable Kubernetes configuration: {error}") from error
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        # Not the parser's text: it quotes the file, and so its token.
        raise KubernetesUnavailableError(
            f"No usable Kubernetes configuration: {named or 'the file found'} is no kubeconfig"
        ) from error


class KubeClient:
    """One connection pool to the API server. Use `async with`, or call `close`.

    Every method raises KubernetesUnavailableError when the server does not answer or is overloaded, and
    ObjectForbiddenError when RBAC refuses; others are named where they occur.
    """

    def __init__(
        self,
        configuration: KubeConfig | None = None,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        try:
            config = (configuration or load_configuration()).get()
            if config is None:
                raise KubernetesUnavailableError("The Kubernetes configuration names no context")
            self._client = AsyncClient(
                config, timeout=httpx2.Timeout(timeout), field_manager=field_manager, trust_env=False
            )
            self.user: str | None = config.context.user
            """What the kubeconfig calls the user; the server may know another name."""
        except (ConfigError, OSError, LookupError, ValueError) as error:
            reason = str(error) if isinstance(error, ConfigError | OSError) else type(error).__name__
            raise KubernetesUnavailableError(f"No usable Kubernetes configuration: {reason}") from error

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(self, *_details: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The object, or None where there is none."""
        try:
            async with _translated(f"{kind.kind} {namespace}/{name}"):
                return _plain(await self._client.get(kind.main, name, namespace=namespace))
        except ObjectNotFoundError:
            return None

    async def list(
        self,
        kind: Kind,
        namespace: str,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        most: int | None = None,
    ) -> AsyncIterator[Json]:
        """All objects of a namespace, read in pages of LIST_PAGE from one version of the collection.

        It ends normally only when the list is complete, or has `most` objects.
        """
        iterator = aiter(
            self._client.list(
                kind.main,
                namespace=namespace,
                chunk_size=LIST_PAGE,
                labels=dict(labels) if labels else None,
                fields=dict(fields) if fields else None,
            )
        )
        for _ in count() if most is None else range(most):
            async with _translated(f"the list of {kind.plural}"):
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    return
            yield _plain(item)

    async def watch_one(self, kind: Kind, namespace: str, name: str) -> AsyncIterator[Json | None]:
        """Every version of one object from now on, the present one first; None when it is deleted.

        It goes on until the caller stops it; the wait between versions has no time limit.
        """
        stream = aiter(self._client.watch(kind.main, namespace=namespace, fields={"metadata.name": name}))
        while True:
            try:
                change, version = await anext(stream)
            except StopAsyncIteration:
                return
            except httpx2.HTTPStatusError as error:
                code = error.response.status_code
                known = _BY_STATUS.get(code, KubernetesUnavailableError)
                raise known(f"{kind.kind} {namespace}/{name}: HTTP {code}") from error
            except httpx2.HTTPError as error:
                raise KubernetesUnavailableError(f"The watch on {name} broke: {error}") from error
            yield None if change == "DELETED" else _plain(version)

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Create an object.

        Raises ObjectConflictError when it exists, ObjectRefusedError when it is invalid, IntakeRefusedError when
        the admission webhook has no room for it.
        """
        async with _translated(f"{kind.kind} {namespace}/{_name(body)}"):
            return _plain(await self._client.create(_object(kind, namespace, body)))

    async def review(self, kind: Any, body: Mapping[str, Any]) -> Json:
        """Ask a question of the cluster, such as a TokenReview; returns the object with its answer."""
        async with _translated("a review"):
            return _plain(await self._client.create(kind(dict(body))))

    async def replace(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Replace an object at the resourceVersion in `body`.

        Raises ObjectConflictError when it has changed meanwhile, ObjectNotFoundError.
        """
        async with _translated(f"{kind.kind} {namespace}/{_name(body)}"):
            return _plain(await self._client.replace(_object(kind, namespace, body)))

    async def apply(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Server-side apply: creates the object or makes our fields as in `body`, taking them over."""
        name = _name(body)
        async with _translated(f"{kind.kind} {namespace}/{name}"):
            return _plain(
                await self._client.patch(
                    kind.main,
                    name,
                    _object(kind, namespace, body),
                    namespace=namespace,
                    patch_type=PatchType.APPLY,
                    field_manager=FIELD_MANAGER,
                    force=True,
                )
            )

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete the object of that uid, and with `resource_version` only where it has not changed since.

        Raises ObjectConflictError where it is another one or has changed, ObjectNotFoundError.
        """
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        async with _translated(f"{kind.kind} {namespace}/{name}"):
            # lightkube's own `delete` takes no preconditions.
            client: Any = self._client._client
            request = client.prepare_request("delete", kind.main, name=name, namespace=namespace)
            request.data = options
            answer = await client.send(client.build_adapter_request(request))
            client.handle_response("delete", answer, request)

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str
    ) -> None:
        """Set annotations of the object of that uid, remove those that are None; others stay.

        Raises ObjectConflictError where it is another one, ObjectNotFoundError, ObjectRefusedError.
        """
        patch = {"metadata": {"annotations": dict(annotations)}}
        await self.merge(kind, namespace, name, patch, uid=uid)

    async def merge(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any], *, uid: str
    ) -> None:
        """Merge a patch into the object of that uid; None values delete fields.

        Raises ObjectConflictError where it is another one, ObjectNotFoundError, ObjectRefusedError.
        """
        body = {**patch, "metadata": {**patch.get("metadata", {}), "uid": uid}}
        async with _translated(f"{kind.kind} {namespace}/{name}"):
            await self._client.patch(kind.main, name, body, namespace=namespace, patch_type=PatchType.MERGE)

    async def count(self, kind: Kind, namespace: str) -> int:
        """How many objects a namespace holds; the server counts, one object is read."""
        async with _translated(f"the number of {kind.plural}"):
            client: Any = self._client._client
            # lightkube's own `list` keeps the collection's metadata to itself.
            request = client.prepare_request("list", kind.main, namespace=namespace, params={"limit": 1})
            answer = await client.send(client.build_adapter_request(request))
            answer.raise_for_status()
            found = answer.json()
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)

    async def get_definition(self, name: str) -> Json | None:
        """The CustomResourceDefinition, or None where there is none."""
        return await self._get_global(resources.CUSTOM_RESOURCE_DEFINITION, name)

    async def server_time(self, namespace: str) -> datetime:
        """The API server's time, to the second, from its answer to a small list.

        Raises KubernetesUnavailableError also where the answer has no Date.
        """
        async with _translated("the API server's time"):
            client: Any = self._client._client
            kind = resources.WORKER_POOL.main
            request = client.prepare_request("list", kind, namespace=namespace, params={"limit": 1})
            answer = await client.send(client.build_adapter_request(request))
            answer.raise_for_status()
        try:
            return parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError) as error:
            raise KubernetesUnavailableError("The API server does not tell its time") from error

    async def get_webhook_configuration(self, name: str) -> Json | None:
        """The ValidatingWebhookConfiguration, or None where there is none."""
        return await self._get_global(resources.WEBHOOK_CONFIGURATION, name)

    async def _get_global(self, resource: Any, name: str) -> Json | None:
        try:
            async with _translated(f"{resource.__name__} {name}"):
                return _plain(await self._client.get(resource, name))
        except ObjectNotFoundError:
            return None

    async def set_authorities(
        self, configuration: str, webhook: str, authorities: bytes, *, resource_version: str
    ) -> None:
        """Have the API server trust these authorities (PEM) where it calls this webhook.

        Raises ObjectConflictError when the configuration has changed since, ObjectNotFoundError.
        """
        bundle = base64.b64encode(authorities).decode()
        patch = {
            "metadata": {"resourceVersion": resource_version},
            "webhooks": [{"name": webhook, "clientConfig": {"caBundle": bundle}}],
        }
        async with _translated(f"ValidatingWebhookConfiguration {configuration}"):
            await self._client.patch(
                resources.WEBHOOK_CONFIGURATION, configuration, patch, patch_type=PatchType.STRATEGIC
            )

    async def namespace_uid(self, name: str) -> str:
        """The uid of a namespace, which tells one cluster from another. Raises ObjectNotFoundError."""
        async with _translated(f"Namespace {name}"):
            found = await self._client.get(resources.NAMESPACE, name)
        return str(_plain(found)["metadata"]["uid"])

    async def patch_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        status: Mapping[str, Any],
        *,
        resource_version: str | None,
    ) -> Json:
        """Merge `status` into the object's status; None values delete fields, lists are replaced.

        With `resource_version`, raises ObjectConflictError when the object has changed since. Raises
        ObjectNotFoundError.
        """
        patch: Json = {"status": dict(status)}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        async with _translated(f"{kind.kind} {namespace}/{name}"):
            return _plain(
                await self._client.patch(
                    kind.status, name, patch, namespace=namespace, patch_type=PatchType.MERGE
                )
            )

    async def scale(
        self, kind: Kind, namespace: str, name: str, replicas: int, *, resource_version: str | None = None
    ) -> str:
        """Set the number of replicas through the scale subresource; returns the object's resourceVersion.

        With `resource_version`, raises ObjectConflictError when the object has changed since. Raises
        ObjectNotFoundError.
        """
        patch: Json = {"spec": {"replicas": replicas}}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        async with _translated(f"{kind.kind} {namespace}/{name}"):
            scaled = await self._client.patch(
                kind.scale,
                name,
                patch,
                namespace=namespace,
                patch_type=PatchType.MERGE,
            )
        return str(_plain(scaled)["metadata"]["resourceVersion"])

    async def get_provider(self, namespace: str, name: str) -> Json | None:
        """The ImportProvider, or None."""
        return await self.get(resources.IMPORT_PROVIDER, namespace, name)

    async def get_secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """The Secret's values as text, or None where there is no Secret; bytes that are no text are left out."""
        secret = await self.get(resources.SECRET, namespace, name)
        if secret is None:
            return None
        values: dict[str, str] = {}
        for key, encoded in (secret.get("data") or {}).items():
            try:
                values[key] = base64.b64decode(encoded, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue
        return values


def _name(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["name"])


def _object(kind: Kind, namespace: str, body: Mapping[str, Any]) -> Any:
    metadata = {**body["metadata"], "namespace": namespace}
    return kind.main({**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})


def _plain(value: Any) -> Json:
    return dict(value)


_REFUSED_BY_WEBHOOK = re.compile(r"admission webhook \S+ denied the request: (.+)", re.DOTALL)
"""How the API server words a webhook's answer 503; one of its own means that it is overloaded."""

_BY_STATUS: dict[int, type[ImportOperatorError]] = {
    401: ObjectForbiddenError,
    403: ObjectForbiddenError,
    404: ObjectNotFoundError,
    409: ObjectConflictError,
    400: ObjectRefusedError,
    422: ObjectRefusedError,
}


RETRY_AFTER_CAUSE = "RetryAfterSeconds"
"""Reason of a cause in a webhook's answer whose message is a number of seconds. Not the field of that name:
kubectl would silently wait and ask again."""


def _retry_after(error: httpx2.HTTPStatusError) -> float | None:
    details = error.status.details if isinstance(error, ApiError) else None
    for cause in (details.causes if details else None) or []:
        if cause.reason == RETRY_AFTER_CAUSE and cause.message and cause.message.isdigit():
            return float(cause.message)
    return None


@asynccontextmanager
async def _translated(subject: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
            yield
    except httpx2.HTTPStatusError as error:
        code = error.response.status_code
        detail = error.status.message if isinstance(error, ApiError) else f"HTTP {code}"
        if code == 503 and (refusal := _REFUSED_BY_WEBHOOK.fullmatch(detail or "")):
            raise IntakeRefusedError(refusal[1], retry_after=_retry_after(error)) from error
        known = _BY_STATUS.get(code)
        if known is not None:
            raise known(f"{subject}: {detail}") from error
        raise KubernetesUnavailableError(f"{subject}: the API server answered {detail}") from error
    except (httpx2.HTTPError, TimeoutError, ConfigError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise KubernetesUnavailableError(f"{subject}: the API server does not answer ({reason})") from error
