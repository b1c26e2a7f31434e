"""The stack's configuration: typed, validated, documented; one section for each component. Knows no Pulumi."""

from infra.configuration.data import (
    EncryptionSection,
    NetworkSection,
    PostgresSection,
    RedisSection,
    StorageSection,
)
from infra.configuration.loading import (
    Configuration,
    load_configuration,
    parse_configuration,
    read_stack_file,
)
from infra.configuration.platform import ApplicationSection, ClusterSection, IdentitySection, RegistrySection
from infra.configuration.section import PROJECT, ConfigurationError, Section
from infra.configuration.watching import AlarmsSection, BudgetSection, LogsSection, MonitoringSection

__all__ = [
    "PROJECT",
    "AlarmsSection",
    "ApplicationSection",
    "BudgetSection",
    "ClusterSection",
    "Configuration",
    "ConfigurationError",
    "EncryptionSection",
    "IdentitySection",
    "LogsSection",
    "MonitoringSection",
    "NetworkSection",
    "PostgresSection",
    "RedisSection",
    "RegistrySection",
    "Section",
    "StorageSection",
    "load_configuration",
    "parse_configuration",
    "read_stack_file",
]
