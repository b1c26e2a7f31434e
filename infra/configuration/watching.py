"""The sections of what watches: alarms, monitoring, logs, budget."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from infra.configuration.section import Section

Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
ChartVersion = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
RetentionDays = Literal[7, 14, 30, 60, 90, 180, 365, 731, 1827, 3653]


class AlarmsSection(Section):
    """CloudWatch alarms for what only AWS sees, and whom they tell. All others come from Prometheus."""

    pagerduty_integration_key: SecretStr | None = Field(
        default=None,
        description="Integration key of a PagerDuty service of type Amazon CloudWatch: told of critical alarms. Set "
        "it with `pulumi config set --secret --path alarms.pagerduty_integration_key`",
    )
    slack_team_id: str | None = Field(
        default=None,
        pattern=r"^T[A-Z0-9]+$",
        description="Slack workspace; authorised once in the console of Amazon Q Developer in chat applications",
    )
    slack_channel_id: str | None = Field(
        default=None, pattern=r"^[CG][A-Z0-9]+$", description="Slack channel: told of all alarms"
    )
    emails: tuple[Email, ...] = Field(default=(), description="Addresses told of all alarms, once confirmed")
    redis_cpu_percent: int = Field(
        default=75, ge=1, le=100, description="Redis engine CPU, above for 5 minutes"
    )
    redis_memory_percent: int = Field(
        default=85, ge=1, le=100, description="Redis memory, above for 5 minutes"
    )
    redis_lag_seconds: int = Field(
        default=5, ge=1, le=3600, description="Lag of a replica, above for 3 minutes"
    )
    database_cpu_percent: int = Field(
        default=80, ge=1, le=100, description="Database CPU, above for 10 minutes"
    )
    database_free_storage_percent: int = Field(
        default=20, ge=5, le=90, description="Free part of the database's first storage, below for 5 minutes"
    )
    database_connections_percent: int = Field(
        default=80, ge=1, le=100, description="Part of the server's connections in use, above for 5 minutes"
    )

    @model_validator(mode="after")
    def _whole_channel(self) -> Self:
        if (self.slack_team_id is None) != (self.slack_channel_id is None):
            raise ValueError(
                "Slack needs both names. Fix: set slack_team_id and slack_channel_id, or neither"
            )
        return self


class MonitoringSection(Section):
    """Prometheus, Alertmanager and Grafana in the cluster, or an existing Prometheus."""

    prometheus: Literal["install", "existing", "none"] = Field(
        default="install",
        description="`install`: kube-prometheus-stack with our dashboards and routing. `existing`: dashboards only, "
        "as objects that your Grafana picks up. `none`: neither. Rules come with the application, as objects for "
        "prometheus-operator",
    )
    namespace: str = Field(
        default="monitoring",
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="Where Prometheus runs; of an existing one too, as network policies let it in",
    )
    chart_version: ChartVersion = Field(default="89.1.0", description="Version of kube-prometheus-stack")
    retention_days: int = Field(
        default=15, ge=1, le=365, description="Days that Prometheus keeps its samples"
    )
    storage_gib: int = Field(default=50, ge=5, le=2000, description="Volume of each Prometheus, GiB")
    replicas: int = Field(default=2, ge=1, le=3, description="Replicas of Prometheus and Alertmanager")
    pagerduty_routing_key: SecretStr | None = Field(
        default=None, description="Events v2 key of a PagerDuty service: told of critical alerts"
    )
    slack_webhook_url: SecretStr | None = Field(
        default=None, description="Incoming webhook of Slack: told of all alerts"
    )
    slack_channel: str = Field(
        default="#imports", pattern=r"^#\S+$", description="Slack channel of the webhook"
    )
    dead_mans_switch_url: SecretStr | None = Field(
        default=None,
        description="Address that is told every minute that alerts still arrive; whoever answers there pages when it "
        "is not told",
    )
    metrics_server: bool = Field(
        default=True, description="Install metrics-server, which `kubectl top` and scaling by CPU ask"
    )
    log_shipper: bool = Field(
        default=True, description="Install Fluent Bit, which sends logs to CloudWatch Logs"
    )
    log_shipper_chart_version: ChartVersion = Field(
        default="0.48.9", description="Version of the fluent-bit chart"
    )
    autoscaler_chart_version: ChartVersion = Field(
        default="9.50.1", description="Version of the cluster-autoscaler chart (cluster.nodes: groups)"
    )


class LogsSection(Section):
    """Groups of CloudWatch Logs and how long they are kept."""

    application_days: RetentionDays = Field(
        default=30, description="Days that lines of our processes and of the cluster's own are kept"
    )
    audit_days: RetentionDays = Field(
        default=90, description="Days that errors, and the control plane's audit log, are kept"
    )


class BudgetSection(Section):
    """The month's cost above which somebody is told."""

    monthly_usd: int = Field(
        default=2000,
        ge=1,
        description="Cost of a month; the whole of what carries our Project and Environment tags",
    )
    emails: tuple[Email, ...] = Field(default=(), description="Addresses told, beside the general topic")
    actual_percent: int = Field(default=80, ge=1, le=1000, description="Told when so much has been spent")
    forecast_percent: int = Field(default=100, ge=1, le=1000, description="Told when so much is foreseen")
