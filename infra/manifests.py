"""What the program changes in deploy/'s manifests: images, numbers, addresses, places. Plain values, without Pulumi."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
ADDRESSES_FILE = "network-addresses.yaml"

METRICS_POLICY = "import-metrics"

_PLACEHOLDERS = ("operator", "worker", "gateway")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is changed. Values of `addresses` may be outputs of Pulumi: they are put in place and not looked at."""

    images: Mapping[str, str]
    """Image of each process: operator, worker, gateway."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Replicas of each Deployment, by its name."""
    max_workers: int
    worker_placement: Mapping[str, Any] = field(default_factory=dict)
    """What a worker's pod says of its nodes; empty in an existing cluster."""
    addresses: Mapping[str, Any] = field(default_factory=dict)
    """What takes the place of each address block that the overlay names."""
    monitoring_namespace: str = "monitoring"
    """Where Prometheus runs, which network policies let in."""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variables for the containers of a Deployment, by its name."""


def overlay_addresses(overlay: str, folder: Path = DEPLOY) -> dict[str, str]:
    """Read what the overlay's network policies are about, or nothing where it has none."""
    path = folder / "overlays" / overlay / ADDRESSES_FILE
    if not path.exists():
        return {}
    data: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    return data


def address_changes(named: Mapping[str, str], actual: Mapping[str, Any]) -> dict[str, Any]:
    """Pair each block that the overlay names with the one that is so here; both by role, such as `databases`."""
    return {block: actual[role] for role, block in named.items() if role in actual}


def change(manifest: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """Give the manifest as it is deployed; what is not ours stays as it is."""
    changed: dict[str, Any] = copy.deepcopy(dict(manifest))
    kind = changed.get("kind")
    if kind == "Deployment":
        _change_deployment(changed, changes)
    elif kind == "WorkerPool":
        _change_worker_pool(changed, changes)
    elif kind == "NetworkPolicy":
        _change_addresses(changed.get("spec"), changes)
        _change_monitoring(changed, changes)
    return changed


def _change_deployment(manifest: dict[str, Any], changes: Changes) -> None:
    name = manifest["metadata"]["name"]
    if name in changes.replicas:
        manifest["spec"]["replicas"] = changes.replicas[name]
    pod = manifest["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        container["image"] = _image(container["image"], changes)
    added = changes.environment.get(name, {})
    for container in pod["containers"]:
        kept = [each for each in container.get("env", ()) if each["name"] not in added]
        container["env"] = [*kept, *({"name": key, "value": value} for key, value in added.items())]


def _change_worker_pool(manifest: dict[str, Any], changes: Changes) -> None:
    scaling = manifest["spec"]["scaling"]
    scaling["maxReplicas"] = changes.max_workers
    scaling["minReplicas"] = min(scaling.get("minReplicas", 2), changes.max_workers)
    pod = manifest["spec"]["template"]["spec"]
    for container in pod["containers"]:
        container["image"] = _image(container["image"], changes)
    pod.update(copy.deepcopy(dict(changes.worker_placement)))


def _change_addresses(value: Any, changes: Changes) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "cidr" and isinstance(inner, str):
                value[key] = changes.addresses.get(inner, inner)
            else:
                _change_addresses(inner, changes)
    elif isinstance(value, list):
        for inner in value:
            _change_addresses(inner, changes)


def _change_monitoring(manifest: dict[str, Any], changes: Changes) -> None:
    if manifest["metadata"]["name"] != METRICS_POLICY:
        return
    for rule in manifest["spec"]["ingress"]:
        for peer in rule["from"]:
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = (
                changes.monitoring_namespace
            )


def _image(named: str, changes: Changes) -> str:
    # The name as deploy/ has it, with whatever version: import-operator:0.1.0.
    name = named.rsplit("/", 1)[-1].split("@", 1)[0].split(":", 1)[0]
    process = name.removeprefix("import-")
    if name.startswith("import-") and process in _PLACEHOLDERS:
        return changes.images[process]
    return named
