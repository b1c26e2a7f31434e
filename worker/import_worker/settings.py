"""Settings of the worker, read from the environment once, at start."""

from __future__ import annotations

from pydantic import Field, field_validator

from import_core.adapters.settings import ConnectionSettings, PodSettings
from import_core.domain.addresses import AllowedNetwork, parse_allow_list
from import_core.domain.errors import InvalidInputError
from import_core.domain.jobs import DEFAULT_QUEUE


class WorkerSettings(ConnectionSettings, PodSettings):
    """All settings of one worker process. AWS credentials are read by the S3 client itself."""

    queue: str = Field(
        default=DEFAULT_QUEUE,
        validation_alias="IMPORT_QUEUE",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The queue to take jobs from",
    )
    concurrency: int = Field(
        default=5, validation_alias="IMPORT_CONCURRENCY", ge=1, le=100, description="Jobs at the same time"
    )
    image_allow: str = Field(
        default="",
        validation_alias="IMAGE_ALLOW",
        description="Networks that images may be fetched from although they are not public: 127.0.0.1:8080,…",
    )
    provider_allow: str = Field(
        default="",
        validation_alias="PROVIDER_ALLOW",
        description="Networks that providers may be called at although they are not public: 127.0.0.1:8080,…",
    )
    image_concurrency: int = Field(
        default=12,
        validation_alias="IMAGE_CONCURRENCY",
        ge=1,
        le=256,
        description="Images in work at the same time, over all jobs of this worker",
    )
    thumbnail_threads: int = Field(
        default=2,
        validation_alias="THUMBNAIL_THREADS",
        ge=1,
        le=64,
        description="Threads that decode images; about as many as the worker has CPUs",
    )
    s3_bucket: str = Field(default="", validation_alias="S3_BUCKET", description="Bucket for images")
    s3_endpoint_url: str | None = Field(
        default=None,
        validation_alias="S3_ENDPOINT_URL",
        description="Address of an object store other than AWS",
    )
    aws_region: str | None = Field(
        default=None, validation_alias="AWS_REGION", description="Region of the bucket"
    )
    max_products: int = Field(
        default=20_000,
        validation_alias="IMPORT_MAX_PRODUCTS",
        ge=1,
        description="Products of one catalogue above which a job fails",
    )
    stop_seconds: float = Field(
        default=30.0,
        validation_alias="GRACEFUL_STOP_SECONDS",
        ge=0,
        le=3600,
        description="Seconds that running jobs may go on after SIGTERM before they are handed back; the pod's "
        "grace period must be 30 s longer",
    )
    provider_wait_seconds: float = Field(
        default=15.0,
        validation_alias="PROVIDER_WAIT_SECONDS",
        ge=0,
        description="Longest wait for a provider's call limit before a job makes room for another",
    )
    limiter_clock_scale: float = Field(
        default=1.0,
        validation_alias="LIMITER_CLOCK_SCALE",
        gt=0,
        description="Makes the limiter's windows pass so many times faster; for tests only",
    )

    @field_validator("image_allow", "provider_allow")
    @classmethod
    def _check_allow_list(cls, value: str) -> str:
        try:
            parse_allow_list(value)
        except InvalidInputError as error:
            raise ValueError(error.message) from error
        return value

    @property
    def allowed_networks(self) -> tuple[AllowedNetwork, ...]:
        """The allow-list of images, parsed."""
        return parse_allow_list(self.image_allow)

    @property
    def allowed_providers(self) -> tuple[AllowedNetwork, ...]:
        """The allow-list of providers, parsed."""
        return parse_allow_list(self.provider_allow)
