"""Where a process finds its database, queue, store and itself: read from the environment once, at start."""

from __future__ import annotations

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """The database alone, which is all that a migration needs; secrets never appear in a repr."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    database_url: SecretStr = Field(
        validation_alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )


class ConnectionSettings(DatabaseSettings):
    """Addresses of the outside systems; secrets never appear in a repr."""

    redis_url: SecretStr = Field(
        validation_alias="REDIS_URL", description="redis://[:password@]host:port/0, rediss:// for TLS"
    )


class PodSettings(BaseSettings):
    """What the pod knows of itself, by fieldRef."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    pod_name: str = Field(default="local", validation_alias="POD_NAME", description="Name of the pod")
    pod_uid: str = Field(
        default="",
        validation_alias="POD_UID",
        description="uid of the pod: ties a worker's claims to its end",
    )
    pod_namespace: str = Field(
        default="imports", validation_alias="POD_NAMESPACE", description="Namespace of the pod"
    )
    pod_ip: str = Field(
        default="127.0.0.1", validation_alias="POD_IP", description="Address that the health server binds to"
    )
    health_port: int = Field(
        default=8080,
        validation_alias="HEALTH_PORT",
        ge=0,
        le=65535,
        description="Port of /healthz, /readyz and /metrics on the pod's address",
    )
    log_level: str = Field(
        default="INFO",
        validation_alias="LOG_LEVEL",
        pattern=r"^(?i:debug|info|warning|error)$",
        description="Least severe level that is logged: DEBUG, INFO, WARNING or ERROR",
    )


def describe_problems(error: ValidationError) -> list[str]:
    """One line for each setting that is missing or wrong: its variable, and why; never its value."""
    return [
        f"setting {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def describe_settings(settings: type[BaseSettings]) -> str:
    """The environment's variables with defaults and meaning, one a line, for --settings."""
    lines = []
    for field in settings.model_fields.values():
        default = "required" if field.is_required() else f"default {field.default!r}"
        lines.append(f"  {field.validation_alias:<24} {field.description or ''} ({default})")
    return "\n".join(lines)
