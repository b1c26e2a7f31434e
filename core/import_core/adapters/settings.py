"""Where a process finds its database, queue, store and itself: read from the environment once, at start."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ConnectionSettings(BaseSettings):
    """Addresses of the outside systems; secrets never appear in a repr."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    database_url: SecretStr = Field(
        validation_alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )
    redis_url: SecretStr = Field(
        validation_alias="REDIS_URL", description="redis://[:password@]host:port/0, rediss:// for TLS"
    )


class PodSettings(BaseSettings):
    """What the pod knows of itself, by fieldRef."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    pod_name: str = Field(default="local", validation_alias="POD_NAME")
    pod_uid: str = Field(default="", validation_alias="POD_UID")
    pod_namespace: str = Field(default="imports", validation_alias="POD_NAMESPACE")
    pod_ip: str = Field(default="127.0.0.1", validation_alias="POD_IP")
    health_port: int = Field(default=8080, validation_alias="HEALTH_PORT", ge=0, le=65535)
