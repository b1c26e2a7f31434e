"""Prometheus, Alertmanager and Grafana with our dashboards and routing; metrics-server; the log shipper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.component import Component, Context
from infra.configuration import MonitoringSection
from infra.fluent_bit import fluent_bit_values
from infra.identity import LOG_SHIPPER_ACCOUNT, LOGGING_NAMESPACE
from infra.prometheus_values import (
    PAGERDUTY_KEY,
    RECEIVERS_SECRET,
    SLACK_KEY,
    STORAGE_CLASS,
    SWITCH_KEY,
    routing,
    stack_values,
)
from infra.secrets import make_password
from infra.watch_files import WatchFiles

_PROMETHEUS_CHARTS = "https://prometheus-community.github.io/helm-charts"
_FLUENT_CHARTS = "https://fluent.github.io/helm-charts"
_SLOW_START_SECONDS = 900
"""Nodes are bought first, then volumes."""


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """What monitoring depends on."""

    settings: MonitoringSection
    region: pulumi.Input[str]
    cluster_name: pulumi.Input[str]
    provider: kubernetes.Provider
    volume_provisioner: str
    """Who makes volumes: `ebs.csi.eks.amazonaws.com` in Auto Mode, `ebs.csi.aws.com` elsewhere."""
    application_log_group: pulumi.Input[str]
    errors_log_group: pulumi.Input[str]
    platform_log_group: pulumi.Input[str]
    files: WatchFiles
    depends_on: Sequence[pulumi.Resource] = field(default_factory=tuple)
    """Nodes, and the log shipper's identity."""


class Monitoring(Component):
    """What watches the processes from within the cluster."""

    ready: list[pulumi.Resource]
    """What the application's own monitors need: prometheus-operator's definitions."""

    def __init__(
        self, context: Context, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "monitoring", opts)
        self._args = args
        settings = args.settings
        self.ready = []
        if settings.prometheus == "install":
            namespace = self._make_namespace(settings.namespace, "namespace")
            self.ready.append(self._make_stack(namespace))
            self._make_watch_objects([namespace, *self.ready])
        elif settings.prometheus == "existing":
            self._make_watch_objects([])
        if settings.metrics_server:
            aws.eks.Addon(
                self.child_name("metrics-server"),
                cluster_name=args.cluster_name,
                addon_name="metrics-server",
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                tags=self.tags("metrics-server"),
                opts=self.child(depends_on=list(args.depends_on)),
            )
        if settings.log_shipper:
            self._make_log_shipper()
        self.register_outputs({})

    def _object_options(self, depends_on: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        return self.child(provider=self._args.provider, depends_on=[*self._args.depends_on, *depends_on])

    def _make_namespace(self, name: str, part: str) -> kubernetes.core.v1.Namespace:
        # Both read what belongs to the node (its logs, its load), which restricted pod security does not allow.
        return kubernetes.core.v1.Namespace(
            self.child_name(part),
            metadata={"name": name, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
            opts=self._object_options(),
        )

    def _make_stack(self, namespace: pulumi.Resource) -> kubernetes.helm.v3.Release:
        args, settings = self._args, self._args.settings
        needed = [self._make_storage_class(), self._make_grafana_admin(namespace)]
        receivers = self._make_receivers(namespace)
        if receivers:
            needed.append(receivers)
        return kubernetes.helm.v3.Release(
            self.child_name("prometheus"),
            name="prometheus",
            chart="kube-prometheus-stack",
            version=settings.chart_version,
            namespace=settings.namespace,
            repository_opts=kubernetes.helm.v3.RepositoryOptsArgs(repo=_PROMETHEUS_CHARTS),
            timeout=_SLOW_START_SECONDS,
            values=stack_values(
                settings, routing(settings, args.files.alertmanager), external_label=self.context.prefix
            ),
            opts=self._object_options([namespace, *needed]),
        )

    def _make_storage_class(self) -> pulumi.Resource:
        return kubernetes.storage.v1.StorageClass(
            self.child_name("volumes"),
            metadata={"name": STORAGE_CLASS},
            provisioner=self._args.volume_provisioner,
            parameters={"type": "gp3", "encrypted": "true"},
            allow_volume_expansion=True,
            reclaim_policy="Delete",
            # A volume is in one zone; it is made in the one that its pod was put in.
            volume_binding_mode="WaitForFirstConsumer",
            opts=self._object_options(),
        )

    def _make_grafana_admin(self, namespace: pulumi.Resource) -> pulumi.Resource:
        return kubernetes.core.v1.Secret(
            self.child_name("grafana-admin"),
            metadata={"name": "grafana-admin", "namespace": self._args.settings.namespace},
            string_data={"user": "admin", "password": make_password(self, version=1)},
            opts=self._object_options([namespace]),
        )

    def _make_receivers(self, namespace: pulumi.Resource) -> pulumi.Resource | None:
        settings = self._args.settings
        values: dict[str, pulumi.Input[str]] = {}
        if settings.pagerduty_routing_key:
            values[PAGERDUTY_KEY] = pulumi.Output.secret(settings.pagerduty_routing_key.get_secret_value())
        if settings.dead_mans_switch_url:
            values[SWITCH_KEY] = pulumi.Output.secret(settings.dead_mans_switch_url.get_secret_value())
        if settings.slack_webhook_url:
            values[SLACK_KEY] = pulumi.Output.secret(settings.slack_webhook_url.get_secret_value())
        if not values:
            return None
        return kubernetes.core.v1.Secret(
            self.child_name("receivers"),
            metadata={"name": RECEIVERS_SECRET, "namespace": settings.namespace},
            string_data=values,
            opts=self._object_options([namespace]),
        )

    def _make_watch_objects(self, depends_on: Sequence[pulumi.Resource]) -> None:
        files, namespace = self._args.files, self._args.settings.namespace
        for name, text in files.dashboards.items():
            kubernetes.core.v1.ConfigMap(
                self.child_name(f"dashboard-{name}"),
                metadata={
                    "name": object_name(f"dashboard-{name}"),
                    "namespace": namespace,
                    "labels": {"grafana_dashboard": "1"},
                },
                data={f"{name}.json": text},
                opts=self._object_options(depends_on),
            )

    def _make_log_shipper(self) -> None:
        args = self._args
        namespace = self._make_namespace(LOGGING_NAMESPACE, "logging")
        values: pulumi.Output[dict[str, Any]] = pulumi.Output.all(
            args.region, args.application_log_group, args.errors_log_group, args.platform_log_group
        ).apply(
            lambda known: fluent_bit_values(
                region=known[0],
                application=known[1],
                errors=known[2],
                platform=known[3],
                account=LOG_SHIPPER_ACCOUNT,
            )
        )
        kubernetes.helm.v3.Release(
            self.child_name("log-shipper"),
            name="fluent-bit",
            chart="fluent-bit",
            version=args.settings.log_shipper_chart_version,
            namespace=LOGGING_NAMESPACE,
            repository_opts=kubernetes.helm.v3.RepositoryOptsArgs(repo=_FLUENT_CHARTS),
            timeout=_SLOW_START_SECONDS,
            values=values,
            opts=self._object_options([namespace]),
        )


def object_name(name: str) -> str:
    """Make a Kubernetes name of a file's."""
    return "imports-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").removeprefix("imports-")
