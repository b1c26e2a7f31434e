"""The objects of an overlay as kustomize makes them, and the Deployment that the operator makes of its pool."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml

from import_core.domain.resources.worker_pool import parse_worker_pool
from import_local.binaries import find_kubectl
from import_operator.deployments import get_worker_deployment
from import_operator.settings import OperatorSettings

Json = dict[str, Any]

PROJECT = Path(__file__).parents[3]
OVERLAYS = ("local", "dev", "staging", "production")
FOR_CLUSTERS = ("dev", "staging", "production")


@functools.cache
def render(overlay: str) -> str:
    """What `kubectl apply -k deploy/overlays/<overlay>` would send."""
    return render_folder(PROJECT / "deploy" / "overlays" / overlay)


def render_folder(folder: Path) -> str:
    """What kustomize makes of a folder."""
    done = subprocess.run(
        [find_kubectl(), "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def rendered_objects(overlay: str) -> list[Json]:
    """The overlay's objects, and what the operator makes of its WorkerPools."""
    return with_workers(list(yaml.safe_load_all(render(overlay))))


def with_workers(objects: list[Json]) -> list[Json]:
    """The objects, and the Deployments that the operator makes of their WorkerPools."""
    pools = [one for one in objects if one["kind"] == "WorkerPool"]
    return [*objects, *(worker_deployment(pool) for pool in pools)]


def worker_deployment(pool: Json) -> Json:
    """The Deployment of a WorkerPool, as the operator applies it."""
    body = {**pool, "metadata": {**pool["metadata"], "uid": "0", "generation": 1}}
    settings = OperatorSettings(DATABASE_URL="postgresql://", REDIS_URL="redis://")
    return get_worker_deployment(body, parse_worker_pool(body), settings)
