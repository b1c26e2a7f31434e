"""Builds the Deployment of a WorkerPool: the user's pod template, and what a worker needs beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from import_core.adapters.kube.resources import GROUP, WORKER_POOL
from import_core.domain.resources.worker_pool import WorkerPool
from import_operator.settings import OperatorSettings

POOL_LABEL = f"{GROUP}/pool"
APPLIED_ANNOTATION = f"{GROUP}/applied"
"""Hash of what was applied: a Deployment with another one is applied anew."""
HEALTH_PORT = 8080

_FIELD_VARIABLES = {
    "POD_NAME": "metadata.name",
    "POD_UID": "metadata.uid",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_IP": "status.podIP",
}


def get_deployment_name(pool_name: str) -> str:
    """The Deployment's name; the ending keeps a pool from taking over a Deployment that bears its name."""
    return f"{pool_name}-workers"


def get_worker_deployment(
    body: Mapping[str, Any], pool: WorkerPool, settings: OperatorSettings
) -> dict[str, Any]:
    """The Deployment to apply, without replicas: those belong to the scaling loop.

    The pod template is the user's; our own variables, labels and the owner win over it, probes and the
    ServiceAccount only where it names none.
    """
    name = pool.metadata.name
    labels = {
        POOL_LABEL: name,
        "app.kubernetes.io/name": "import-worker",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "import-operator",
    }
    template = json.loads(json.dumps(body["spec"]["template"]))
    metadata = template.setdefault("metadata", {}) or {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    template["metadata"] = metadata
    spec = template["spec"]
    spec.setdefault("serviceAccountName", settings.worker_service_account)
    spec.setdefault("terminationGracePeriodSeconds", pool.spec.template.spec.termination_grace_period_seconds)
    spec["containers"][0] = _worker_container(spec["containers"][0], pool, settings)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": get_deployment_name(name),
            "namespace": pool.metadata.namespace,
            "labels": labels,
            "ownerReferences": [_owner(pool)],
        },
        "spec": {
            "selector": {"matchLabels": {POOL_LABEL: name}},
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


def _owner(pool: WorkerPool) -> dict[str, Any]:
    return {
        "apiVersion": WORKER_POOL.api_version,
        "kind": WORKER_POOL.kind,
        "name": pool.metadata.name,
        "uid": pool.metadata.uid,
        "controller": True,
    }


def _worker_container(
    container: Mapping[str, Any], pool: WorkerPool, settings: OperatorSettings
) -> dict[str, Any]:
    ours: dict[str, dict[str, Any]] = {
        variable: {"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for variable, path in _FIELD_VARIABLES.items()
    }
    values = {
        "IMPORT_QUEUE": pool.spec.queue,
        "IMPORT_CONCURRENCY": str(pool.spec.concurrency),
        "IMPORT_WORKER_POOL": pool.metadata.name,
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
    completed.setdefault("readinessProbe", _probe("/readyz", period=2, failures=3))
    completed.setdefault("livenessProbe", _probe("/healthz", period=10, failures=6))
    return completed


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": HEALTH_PORT},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
