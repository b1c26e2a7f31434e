"""The whole configuration of a stack, read from Pulumi or straight from Pulumi.<stack>.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from infra.configuration.data import (
    EncryptionSection,
    NetworkSection,
    PostgresSection,
    RedisSection,
    StorageSection,
)
from infra.configuration.platform import ApplicationSection, ClusterSection, IdentitySection, RegistrySection
from infra.configuration.section import PROJECT, ConfigurationError, Section, describe
from infra.configuration.watching import AlarmsSection, BudgetSection, LogsSection, MonitoringSection
from infra.connection_budget import ConnectionBudget, bearable_connections, connection_budget


class Configuration(Section):
    """Everything a stack can be told; each key is one of `import-operator:…` in Pulumi.<stack>.yaml."""

    environment: Literal["dev", "staging", "production"] = Field(
        description="What the stack is for; production refuses settings that could lose data"
    )
    name: str = Field(
        default="imports",
        pattern=r"^[a-z][a-z0-9-]{1,15}$",
        description="First part of all names; with `environment` unique in the account and region",
    )
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of every resource, beside ours")
    network: NetworkSection = Field(default_factory=NetworkSection)
    encryption: EncryptionSection = Field(default_factory=EncryptionSection)
    redis: RedisSection = Field(default_factory=RedisSection)
    postgres: PostgresSection = Field(default_factory=PostgresSection)
    storage: StorageSection = Field(default_factory=StorageSection)
    cluster: ClusterSection = Field(default_factory=ClusterSection)
    identity: IdentitySection = Field(default_factory=IdentitySection)
    registry: RegistrySection = Field(default_factory=RegistrySection)
    application: ApplicationSection = Field(default_factory=ApplicationSection)
    alarms: AlarmsSection = Field(default_factory=AlarmsSection)
    monitoring: MonitoringSection = Field(default_factory=MonitoringSection)
    logs: LogsSection = Field(default_factory=LogsSection)
    budget: BudgetSection = Field(default_factory=BudgetSection)

    @property
    def prefix(self) -> str:
        """First part of every resource's name."""
        return f"{self.name}-{self.environment}"

    @property
    def is_production(self) -> bool:
        """Whether losing data or a zone must be ruled out."""
        return self.environment == "production"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.cluster.existing_name and not (
            self.network.vpc_id and self.network.workers_security_group_id
        ):
            raise ValueError(
                "cluster.existing_name: databases must be in that cluster's network. Fix: set network.vpc_id, "
                "network.private_subnet_ids and network.workers_security_group_id (of its nodes or pods)"
            )
        # Their overlays have PodMonitors, whose kind prometheus-operator brings; dev's has none.
        if self.environment != "dev" and self.application.deploys and self.monitoring.prometheus == "none":
            raise ValueError(
                "monitoring.prometheus: the manifests of staging and production need prometheus-operator. Fix: set "
                "monitoring.prometheus: install or existing, or application.deploy: false"
            )
        images = self.application.images
        if self.is_production and images and not images.all_by_digest:
            raise ValueError(
                "application.images: a tag can be made to mean another image. Fix: in production end each with "
                "@sha256:…"
            )
        return self

    @property
    def connection_budget(self) -> ConnectionBudget:
        """Connections to the database that the most workers and the services need."""
        return connection_budget(
            workers=self.application.max_workers,
            operators=self.application.operators,
            gateways=self.application.gateways,
            # Whether a platform's database has a proxy only its secret knows; without one the need is larger.
            proxy=self.postgres.proxy and self.postgres.existing_secret_arn is None,
        )

    @model_validator(mode="after")
    def _connections_suffice(self) -> Self:
        budget, postgres = self.connection_budget, self.postgres
        need = f"{self.application.max_workers} workers need {budget.at_server} connections to the database"
        if postgres.existing_secret_arn:
            if budget.at_server > postgres.existing_max_connections:
                raise ValueError(
                    f"{need}, and postgres.existing_max_connections is {postgres.existing_max_connections}. Fix: "
                    "lower application.max_workers, or let imports have more and raise existing_max_connections"
                )
            return self
        fixes = "choose a larger postgres.instance_class, set postgres.proxy: true, or lower application.max_workers"
        bearable = bearable_connections(postgres.instance_class)
        limit = postgres.max_connections or bearable
        if limit is not None and budget.at_server > limit:
            name = (
                "max_connections" if postgres.max_connections else f"instance_class {postgres.instance_class}"
            )
            raise ValueError(f"{need}, and postgres.{name} allows {limit}. Fix: {fixes}")
        if bearable is not None and postgres.max_connections and postgres.max_connections > bearable:
            raise ValueError(
                f"postgres.max_connections is more than {postgres.instance_class} has memory for ({bearable}). "
                "Fix: lower it, or choose a larger postgres.instance_class"
            )
        return self

    @model_validator(mode="after")
    def _production_is_safe(self) -> Self:
        if not self.is_production:
            return self
        made_database = self.postgres.existing_secret_arn is None
        rules = (
            (made_database and not self.postgres.deletion_protection, "postgres.deletion_protection: true"),
            (made_database and not self.postgres.multi_az, "postgres.multi_az: true"),
            (
                made_database and self.postgres.backup_retention_days < 7,
                "postgres.backup_retention_days: 7 or more",
            ),
            (self.redis.replicas < 1, "redis.replicas: 1 or more"),
            (self.storage.force_destroy, "storage.force_destroy: false"),
            (
                self.cluster.existing_name is None and not self.cluster.deletion_protection,
                "cluster.deletion_protection: true",
            ),
        )
        for broken, fix in rules:
            if broken:
                raise ValueError(f"production must not lose data. Fix: set {fix}")
        return self


def parse_configuration(values: Mapping[str, Any]) -> Configuration:
    """The configuration out of plain values by key, without the namespace; raises ConfigurationError."""
    try:
        # Through JSON, as strict types take a list for a tuple there and nowhere else.
        return Configuration.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigurationError(describe(error, Configuration)) from None


def read_stack_file(path: Path) -> Configuration:
    """The configuration of a Pulumi.<stack>.yaml, without Pulumi; encrypted values can't be read so."""
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return parse_configuration(
        {
            key.removeprefix(f"{PROJECT}:"): value
            for key, value in (document.get("config") or {}).items()
            if key.startswith(f"{PROJECT}:")
        }
    )


def load_configuration() -> Configuration:
    """The configuration of the stack that runs; raises ConfigurationError."""
    from pulumi.runtime import config as runtime_config

    values: dict[str, Any] = {}
    # Every key, as pulumi.Config gives only those asked for, and a misspelt one would go unnoticed.
    for key, text in {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}.items():
        namespace, _, name = key.partition(":")
        if namespace == PROJECT:
            values[name] = _value(text)
    return parse_configuration(values)


def _value(text: str) -> Any:
    """Pulumi hands objects over as JSON and everything else as text."""
    if text[:1] in {"{", "["}:
        return json.loads(text)
    return text
