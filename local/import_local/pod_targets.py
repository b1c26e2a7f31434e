"""How a Prometheus of this machine finds an installation's pods: the PodMonitors of deploy/ as scrape settings.

prometheus-operator writes the like in a cluster. Only the fields that deploy/ uses are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from import_local.deployment import NAMESPACE, PROJECT

POD_MONITORS = PROJECT / "deploy" / "components" / "monitoring" / "pod-monitors.yaml"
Json = dict[str, Any]


def pod_scrape_configs(kubeconfig: Path, *, interval_seconds: float) -> list[Json]:
    """Return a scrape configuration for each PodMonitor; a kubeconfig that may list pods finds the targets.

    The job's name is `<namespace>/<PodMonitor>`, as prometheus-operator has it.
    """
    monitors = yaml.safe_load_all(POD_MONITORS.read_text(encoding="utf-8"))
    return [_scrape_config(monitor, kubeconfig, interval_seconds) for monitor in monitors]


def _scrape_config(monitor: Json, kubeconfig: Path, interval_seconds: float) -> Json:
    endpoint = monitor["spec"]["podMetricsEndpoints"][0]
    labels = monitor["spec"]["selector"]["matchLabels"]
    interval = f"{round(interval_seconds * 1000)}ms"
    return {
        "job_name": f"{NAMESPACE}/{monitor['metadata']['name']}",
        "metrics_path": endpoint["path"],
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(kubeconfig), "namespaces": {"names": [NAMESPACE]}}
        ],
        "relabel_configs": [
            *(_keep(f"pod_label_{_label_name(name)}", value) for name, value in labels.items()),
            _keep("pod_container_port_name", endpoint["port"]),
            _keep("pod_phase", "Running|Pending|Unknown"),
            _copy("namespace", "namespace"),
            _copy("pod_name", "pod"),
            _copy("pod_container_name", "container"),
        ],
    }


def _keep(source: str, value: str) -> Json:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "regex": value, "action": "keep"}


def _copy(source: str, target: str) -> Json:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}


def _label_name(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)
