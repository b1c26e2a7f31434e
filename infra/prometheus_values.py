"""What kube-prometheus-stack is told, and Alertmanager's routing as it is possible here: plain values, no Pulumi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.configuration import MonitoringSection

RECEIVERS_SECRET = "import-alert-receivers"  # noqa: S105 - the name of a Secret, not one
STORAGE_CLASS = "imports-encrypted"
PAGERDUTY_KEY = "pagerduty-routing-key"
SLACK_KEY = "slack-webhook-url"
SWITCH_KEY = "dead-mans-switch-url"

_UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 2000,
    "fsGroup": 2000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def routing(settings: MonitoringSection, written: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give Alertmanager's configuration: the written one, less what this installation has no key for.

    A receiver that is left without any way of telling stays, and tells nobody. Keys and webhooks are read from files
    of a mounted Secret, never from the configuration itself.
    """
    if written is None:
        return {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    keys = _keys(settings)
    receivers = [_possible(receiver, keys, settings.slack_channel) for receiver in written["receivers"]]
    return {**written, "receivers": receivers}


def _keys(settings: MonitoringSection) -> set[str]:
    values = {
        PAGERDUTY_KEY: settings.pagerduty_routing_key,
        SLACK_KEY: settings.slack_webhook_url,
        SWITCH_KEY: settings.dead_mans_switch_url,
    }
    return {key for key, value in values.items() if value}


def _possible(receiver: Mapping[str, Any], keys: set[str], slack_channel: str) -> dict[str, Any]:
    possible: dict[str, Any] = {"name": receiver["name"]}
    for kind, ways in receiver.items():
        if kind == "name":
            continue
        kept = [dict(way) for way in ways if _key_of(way) in keys]
        if kind == "slack_configs":
            kept = [{**way, "channel": slack_channel} for way in kept]
        if kept:
            possible[kind] = kept
    return possible


def _key_of(way: Mapping[str, Any]) -> str:
    """Name the file that a way of telling reads its key or address from."""
    file = next(str(value) for field, value in way.items() if field.endswith("_file"))
    return file.rsplit("/", 1)[-1]


def _volume(gib: int) -> dict[str, Any]:
    return {
        "volumeClaimTemplate": {
            "spec": {
                "storageClassName": STORAGE_CLASS,
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": f"{gib}Gi"}},
            }
        }
    }


def stack_values(
    settings: MonitoringSection, alertmanager: Mapping[str, Any], *, external_label: str
) -> dict[str, Any]:
    """Write the chart's values. `external_label` names the installation in alerts."""
    has_receivers = bool(_keys(settings))
    return {
        "fullnameOverride": "prometheus",
        # EKS runs these itself; nobody can ask them.
        "kubeControllerManager": {"enabled": False},
        "kubeScheduler": {"enabled": False},
        "kubeEtcd": {"enabled": False},
        "kubeProxy": {"enabled": False},
        "prometheus": {
            "prometheusSpec": {
                "replicas": settings.replicas,
                "retention": f"{settings.retention_days}d",
                # The volume is never quite full: a full one ends Prometheus.
                "retentionSize": f"{settings.storage_gib * 85 // 100}GB",
                "externalLabels": {"installation": external_label},
                "storageSpec": _volume(settings.storage_gib),
                "securityContext": _UNPRIVILEGED,
                "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
                # Rules and monitors of all namespaces, ours among them, whatever their labels.
                "ruleSelectorNilUsesHelmValues": False,
                "podMonitorSelectorNilUsesHelmValues": False,
                "serviceMonitorSelectorNilUsesHelmValues": False,
            }
        },
        "alertmanager": {
            "config": dict(alertmanager),
            "alertmanagerSpec": {
                "replicas": settings.replicas,
                "storage": _volume(2),
                "secrets": [RECEIVERS_SECRET] if has_receivers else [],
                "securityContext": _UNPRIVILEGED,
                "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            },
        },
        "grafana": {
            # Its password is made in the cluster and kept there; people come by `kubectl port-forward`.
            "admin": {"existingSecret": "grafana-admin", "userKey": "user", "passwordKey": "password"},
            "service": {"type": "ClusterIP"},
            "sidecar": {
                "dashboards": {"enabled": True, "label": "grafana_dashboard", "searchNamespace": "ALL"}
            },
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        },
        "prometheus-node-exporter": {"tolerations": [{"operator": "Exists"}]},
    }
