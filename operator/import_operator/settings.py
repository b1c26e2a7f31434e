"""What the operator's environment may set; everything else belongs to the custom resources."""

from __future__ import annotations

from pydantic import Field

from import_core.adapters.models.settings import ModelSettings
from import_core.adapters.settings import ConnectionSettings, FolderSettings


class OperatorSettings(ModelSettings, ConnectionSettings, FolderSettings):
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
    orphan_scan_seconds: float = Field(
        default=300.0,
        gt=0,
        validation_alias="ORPHAN_SCAN_SECONDS",
        description="Seconds between two full comparisons of rows, claims and Redis",
    )
    stalled_scan_seconds: float = Field(
        default=600.0,
        gt=0,
        validation_alias="STALLED_SCAN_SECONDS",
        description="Seconds between two searches for stalled jobs",
    )
    stalled_after_seconds: float = Field(
        default=1800.0,
        gt=0,
        validation_alias="STALLED_AFTER_SECONDS",
        description="A running job without a checkpoint for so long is stalled: the try is ended and counts",
    )
    stalled_fail_after_seconds: float = Field(
        default=7200.0,
        gt=0,
        validation_alias="STALLED_FAIL_AFTER_SECONDS",
        description="A stalled job that first started so long ago fails, with tries left or not",
    )

    rollout_ready_seconds: float = Field(
        default=600.0,
        gt=0,
        validation_alias="ROLLOUT_READY_SECONDS",
        description="A step of a rollout none of whose workers gets ready for so long is taken back",
    )
    measure_seconds: float = Field(
        default=10.0,
        gt=0,
        validation_alias="MEASURE_SECONDS",
        description="Seconds between two counts of queues, messages and workers for the metrics",
    )
    finished_objects_limit: int = Field(
        default=5000,
        ge=1,
        validation_alias="FINISHED_OBJECTS_LIMIT",
        description="So many finished ImportJobs stay in the namespace; above it the oldest are deleted first",
    )
    history_days: float = Field(
        default=90.0,
        ge=0,
        validation_alias="HISTORY_DAYS",
        description="Days after its end that the row of an ImportJob's job is deleted; 0: never",
    )

    @property
    def namespace(self) -> str:
        """The namespace that is served."""
        return self.watch_namespace or self.pod_namespace
