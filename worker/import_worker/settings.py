"""Settings of the worker, read from the environment once, at start."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from import_core.adapters.models.settings import EmbeddingSettings
from import_core.adapters.search.settings import SearchSettings
from import_core.adapters.settings import ConnectionSettings, FolderSettings
from import_core.adapters.vectors.settings import VectorSettings
from import_core.domain.addresses import AllowedNetwork, parse_allow_list
from import_core.domain.errors import InvalidInputError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.steps import BATCH_SIZES, StepKind
from import_worker.steps.quality_settings import QualitySettings


class WorkerSettings(
    QualitySettings, EmbeddingSettings, VectorSettings, SearchSettings, ConnectionSettings, FolderSettings
):
    """All settings of one worker process. AWS credentials are read by the S3 client itself."""

    queue: str = Field(
        default=DEFAULT_QUEUE,
        validation_alias="IMPORT_QUEUE",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The queue to take jobs from",
    )
    template_hash: str = Field(
        default="",
        validation_alias="IMPORT_TEMPLATE_HASH",
        max_length=64,
        description="Version of the pool's template that this worker runs: set by the operator",
    )
    concurrency: int = Field(
        default=5, validation_alias="IMPORT_CONCURRENCY", ge=1, le=100, description="Jobs at the same time"
    )
    alone_on_host: bool = Field(
        default=False,
        validation_alias="ALONE_ON_HOST",
        description="Without Kubernetes, where each worker is a container: the host name is the worker's own, so an "
        "earlier process of that name has ended, and its jobs run again at once",
    )
    job_concurrency: int | None = Field(
        default=None,
        validation_alias="JOB_CONCURRENCY",
        ge=1,
        le=100,
        description="Another name of IMPORT_CONCURRENCY, which wins where both are set",
    )
    job_timeout: float | None = Field(
        default=None,
        validation_alias="JOB_TIMEOUT",
        gt=0,
        description="Seconds from its first start after which a job fails that sets no activeDeadlineSeconds; empty: "
        "only one without progress ends",
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
    webhook_allow: str = Field(
        default="",
        validation_alias="WEBHOOK_ALLOW",
        description="Networks that webhooks may be sent to although they are not public, also by plain http: "
        "127.0.0.1:8080,…",
    )
    chromium_path: str = Field(
        default="",
        validation_alias="CHROMIUM_PATH",
        max_length=4096,
        description="Chromium that reads WhatsApp catalogues' pages; empty: the first on the PATH of chromium, "
        "chromium-browser, google-chrome-stable, google-chrome",
    )
    chromium_sandbox: bool = Field(
        default=True,
        validation_alias="CHROMIUM_SANDBOX",
        description="Chromium's own sandbox; false where the container may make no user namespaces. Root has none",
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
    aws_access_key_id: SecretStr | None = Field(
        default=None,
        validation_alias="AWS_ACCESS_KEY_ID",
        description="Credentials of the object store, where the pod has no identity of its own",
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias="AWS_SECRET_ACCESS_KEY", description="With AWS_ACCESS_KEY_ID"
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
    step_timeout_seconds: float = Field(
        default=300.0,
        validation_alias="STEP_TIMEOUT_SECONDS",
        gt=0,
        le=1200,
        description="Seconds that a batch of a step after the import may take; it is tried again then. The operator's"
        " STALLED_AFTER_SECONDS has to be longer",
    )
    embedding_job_size: int = Field(
        default=BATCH_SIZES[StepKind.EMBEDDING],
        validation_alias="STEP_BATCH_EMBEDDING",
        ge=1,
        le=500,
        description="Products of one job of the queue generate-embedding",
    )
    quality_control_job_size: int = Field(
        default=BATCH_SIZES[StepKind.QUALITY_CONTROL],
        validation_alias="STEP_BATCH_QUALITY_CONTROL",
        ge=1,
        le=500,
        description="Products of one job of the queue quality-control",
    )
    index_job_size: int = Field(
        default=BATCH_SIZES[StepKind.INDEX],
        validation_alias="STEP_BATCH_INDEX",
        ge=1,
        le=500,
        description="Products of one job of the queue index-product",
    )
    limiter_clock_scale: float = Field(
        default=1.0,
        validation_alias="LIMITER_CLOCK_SCALE",
        gt=0,
        description="Makes the limiter's windows pass so many times faster; for tests only",
    )

    @model_validator(mode="after")
    def _take_other_name(self) -> Self:
        if self.job_concurrency is not None and "concurrency" not in self.model_fields_set:
            self.concurrency = self.job_concurrency
        return self

    @model_validator(mode="after")
    def _name_by_host(self) -> Self:
        if self.alone_on_host:
            self.pod_name = self.pod_uid = os.environ.get("HOSTNAME") or socket.gethostname()
        return self

    @field_validator("image_allow", "provider_allow", "webhook_allow")
    @classmethod
    def _check_allow_list(cls, value: str) -> str:
        try:
            parse_allow_list(value)
        except InvalidInputError as error:
            raise ValueError(error.message) from error
        return value

    @property
    def batch_sizes(self) -> Mapping[StepKind, int]:
        """Products of one step job, by its kind."""
        return {
            StepKind.EMBEDDING: self.embedding_job_size,
            StepKind.QUALITY_CONTROL: self.quality_control_job_size,
            StepKind.INDEX: self.index_job_size,
        }

    @property
    def store_keys(self) -> tuple[str, str] | None:
        """The object store's key id and key, where both are given."""
        if self.aws_access_key_id is None or self.aws_secret_access_key is None:
            return None
        return self.aws_access_key_id.get_secret_value(), self.aws_secret_access_key.get_secret_value()

    @property
    def allowed_networks(self) -> tuple[AllowedNetwork, ...]:
        """The allow-list of images, parsed."""
        return parse_allow_list(self.image_allow)

    @property
    def allowed_providers(self) -> tuple[AllowedNetwork, ...]:
        """The allow-list of providers, parsed."""
        return parse_allow_list(self.provider_allow)

    @property
    def allowed_webhooks(self) -> tuple[AllowedNetwork, ...]:
        """The allow-list of webhooks, parsed."""
        return parse_allow_list(self.webhook_allow)
