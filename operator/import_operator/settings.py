"""What the operator's environment may set; everything else belongs to the custom resources."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from import_core.adapters.settings import ConnectionSettings, PodSettings


class OperatorSettings(ConnectionSettings, PodSettings):
    """Read once, at start."""

    watch_namespace: str = Field(
        default="",
        validation_alias="WATCH_NAMESPACE",
        description="Namespace whose objects are served; the pod's own by default",
    )
    lease_name: str = Field(
        default="import-operator",
        validation_alias="LEASE_NAME",
        description="Name of the Lease that the leading replica holds, in the served namespace",
    )
    worker_service_account: str = Field(
        default="import-worker",
        validation_alias="WORKER_SERVICE_ACCOUNT",
        description="ServiceAccount of worker pods whose template names none",
    )
    worker_connections_secret: str = Field(
        default="import-connections",
        validation_alias="WORKER_CONNECTIONS_SECRET",
        description="Secret with DATABASE_URL, REDIS_URL and the object store's variables for worker pods",
    )

    @property
    def namespace(self) -> str:
        """The namespace that is served."""
        return self.watch_namespace or self.pod_namespace


class DatabaseSettings(BaseSettings):
    """All that the migration needs."""

    model_config = SettingsConfigDict(extra="ignore")

    database_url: SecretStr = Field(
        validation_alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )
