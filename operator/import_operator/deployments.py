"""Builds the Deployment of a WorkerPool: the user's pod template, and what a worker needs beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from import_core.adapters.kube.resources import GROUP, WORKER_POOL
from import_core.domain.resources.worker_pool import WorkerPool
from import_core.domain.rollout import template_hash
from import_operator.settings import OperatorSettings

POOL_LABEL = f"{GROUP}/pool"
HASH_LABEL = f"{GROUP}/template-hash"
"""Which version of the pool's template a Deployment and its pods run."""
APPLIED_ANNOTATION = f"{GROUP}/applied"
"""Hash of what was applied: a Deployment with another one is applied anew."""
HEALTH_PORT = 8080
GRACE_SECONDS = 60
"""What the custom resource's definition fills in, too."""
SCRATCH_VOLUME = "import-scratch"
"""Bulk results are sorted on disk, and the root file system is read-only."""

# What a namespace with `pod-security.kubernetes.io/enforce: restricted` asks of its pods.
_RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

_FIELD_VARIABLES = {
    "POD_NAME": "metadata.name",
    "POD_UID": "metadata.uid",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_IP": "status.podIP",
}


def get_deployment_name(pool_name: str) -> str:
    """The Deployment's name; the ending keeps a pool from taking over a Deployment that bears its name."""
    return f"{pool_name}-workers"


def get_version_name(pool_name: str, version: str) -> str:
    """The name of the Deployment of a version that is rolled out, and of what its template is kept in."""
    return f"{get_deployment_name(pool_name)}-{version}"


def get_template_hash(body: Mapping[str, Any], pool: WorkerPool) -> str:
    """The version that the pool's template is."""
    return template_hash(pool.metadata.namespace, pool.metadata.name, body["spec"]["template"])


def get_worker_deployment(
    body: Mapping[str, Any],
    pool: WorkerPool,
    settings: OperatorSettings,
    *,
    name: str | None = None,
    selector: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The Deployment to apply, without replicas: those belong to the loops that scale and roll out.

    `body` holds the template of the version. `selector`: the one that the Deployment has, which can't be changed.
    The pod template is the user's; our own variables, labels and the owner win over it. Probes, the
    ServiceAccount and what restricted pod security asks for are filled in only where it does not name them.
    """
    version = get_template_hash(body, pool)
    labels = {
        POOL_LABEL: pool.metadata.name,
        HASH_LABEL: version,
        "app.kubernetes.io/name": "import-worker",
        "app.kubernetes.io/instance": pool.metadata.name,
        "app.kubernetes.io/managed-by": "import-operator",
    }
    template = json.loads(json.dumps(body["spec"]["template"]))
    metadata = template.setdefault("metadata", {}) or {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    template["metadata"] = metadata
    spec = template["spec"]
    spec.setdefault("serviceAccountName", settings.worker_service_account)
    spec.setdefault("terminationGracePeriodSeconds", GRACE_SECONDS)
    spec["securityContext"] = {**_RESTRICTED_POD, **(spec.get("securityContext") or {})}
    spec["containers"][0] = _worker_container(spec["containers"][0], pool, settings, version)
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        container["securityContext"] = {**_RESTRICTED_CONTAINER, **(container.get("securityContext") or {})}
    _add_scratch(spec)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name or get_deployment_name(pool.metadata.name),
            "namespace": pool.metadata.namespace,
            "labels": labels,
            "ownerReferences": [get_owner(pool)],
        },
        "spec": {
            "selector": selector or {"matchLabels": {POOL_LABEL: pool.metadata.name, HASH_LABEL: version}},
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
            },
            "template": template,
        },
    }
    deployment["metadata"]["annotations"] = {APPLIED_ANNOTATION: _hash(deployment)}  # type: ignore[index]
    return deployment


def is_current(deployment: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether the Deployment is what was applied last, and is still ours."""
    annotations = deployment["metadata"].get("annotations") or {}
    return bool(annotations.get(APPLIED_ANNOTATION) == wanted["metadata"]["annotations"][APPLIED_ANNOTATION])


def is_owned_by(deployment: Mapping[str, Any], pool_uid: str) -> bool:
    """Whether the Deployment was made of this pool."""
    return any(owner.get("uid") == pool_uid for owner in deployment["metadata"].get("ownerReferences") or [])


def replicas_of(deployment: Mapping[str, Any]) -> int:
    """Workers that a Deployment asks for."""
    return int((deployment.get("spec") or {}).get("replicas") or 0)


def get_kept_template(body: Mapping[str, Any], pool: WorkerPool) -> dict[str, Any]:
    """The ControllerRevision that keeps the pool's template as it is now, for a rollout to go back to."""
    version = get_template_hash(body, pool)
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": get_version_name(pool.metadata.name, version),
            "namespace": pool.metadata.namespace,
            "labels": {POOL_LABEL: pool.metadata.name, HASH_LABEL: version},
            "ownerReferences": [get_owner(pool)],
        },
        "data": {"template": body["spec"]["template"]},
        "revision": pool.metadata.generation,
    }


def get_owner(pool: WorkerPool) -> dict[str, Any]:
    """What has the API server delete with the pool all that was made of it."""
    return {
        "apiVersion": WORKER_POOL.api_version,
        "kind": WORKER_POOL.kind,
        "name": pool.metadata.name,
        "uid": pool.metadata.uid,
        "controller": True,
    }


def _worker_container(
    container: Mapping[str, Any], pool: WorkerPool, settings: OperatorSettings, version: str
) -> dict[str, Any]:
    ours: dict[str, dict[str, Any]] = {
        variable: {"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for variable, path in _FIELD_VARIABLES.items()
    }
    values = {
        "IMPORT_QUEUE": pool.spec.queue,
        "IMPORT_CONCURRENCY": str(pool.spec.concurrency),
        "IMPORT_WORKER_POOL": pool.metadata.name,
        "IMPORT_TEMPLATE_HASH": version,
        "HEALTH_PORT": str(HEALTH_PORT),
    }
    ours |= {variable: {"name": variable, "value": value} for variable, value in values.items()}
    kept = [item for item in container.get("env") or [] if item["name"] not in ours]
    secret = {"secretRef": {"name": settings.worker_connections_secret}}
    sources = container.get("envFrom") or []
    completed = {
        **container,
        "env": [*ours.values(), *kept],
        "envFrom": sources if secret in sources else [secret, *sources],
    }
    completed["securityContext"] = {
        "readOnlyRootFilesystem": True,
        **(container.get("securityContext") or {}),
    }
    ports = container.get("ports") or []
    if all(port.get("containerPort") != HEALTH_PORT and port.get("name") != "health" for port in ports):
        completed["ports"] = [*ports, {"name": "health", "containerPort": HEALTH_PORT}]
    completed.setdefault("readinessProbe", _probe("/readyz", period=2, failures=3))
    completed.setdefault("livenessProbe", _probe("/healthz", period=10, failures=6))
    return completed


def _add_scratch(spec: dict[str, Any]) -> None:
    """Give the worker a /tmp to write to, unless the template mounts one."""
    worker = spec["containers"][0]
    mounts = worker.get("volumeMounts") or []
    if any(mount["mountPath"].rstrip("/") == "/tmp" for mount in mounts):  # noqa: S108 - in the container
        return
    worker["volumeMounts"] = [*mounts, {"name": SCRATCH_VOLUME, "mountPath": "/tmp"}]  # noqa: S108
    spec["volumes"] = [*(spec.get("volumes") or []), {"name": SCRATCH_VOLUME, "emptyDir": {}}]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": HEALTH_PORT},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
