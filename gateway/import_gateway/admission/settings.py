"""What the environment may set of the admission webhook."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class AdmissionSettings(BaseSettings):
    """A part of the gateway's settings."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    admission_port: int = Field(
        default=8443,
        validation_alias="ADMISSION_PORT",
        ge=0,
        le=65535,
        description="Port of the admission webhook (HTTPS)",
    )
    admission_hosts: str = Field(
        default="",
        validation_alias="ADMISSION_HOSTS",
        description="Names or addresses by which the API server calls the webhook, with commas between; by "
        "default import-gateway-admission.NAMESPACE.svc, with the pod's own namespace",
    )
    webhook_configuration: str = Field(
        default="import-gateway",
        validation_alias="WEBHOOK_CONFIGURATION",
        min_length=1,
        description="Name of the ValidatingWebhookConfiguration whose caBundle the gateway keeps",
    )
    certificate_secret: str = Field(
        default="import-gateway-certificate",
        validation_alias="CERTIFICATE_SECRET",
        min_length=1,
        description="Name of the Secret, in the served namespace, in which all replicas keep the webhook's "
        "certificate; it must exist",
    )
    certificate_days: float = Field(
        default=90.0,
        validation_alias="CERTIFICATE_DAYS",
        gt=0,
        description="Days that a certificate is good for; it is exchanged after two thirds of them",
    )
    certificate_check_seconds: float = Field(
        default=10.0,
        validation_alias="CERTIFICATE_CHECK_SECONDS",
        gt=0,
        description="Seconds between two looks at the Secret and the webhook configuration",
    )
    certificate_settle_seconds: float = Field(
        default=60.0,
        validation_alias="CERTIFICATE_SETTLE_SECONDS",
        ge=0,
        description="A new certificate is served so long after the webhook configuration trusts it",
    )
    certificate_retire_seconds: float = Field(
        default=3600.0,
        validation_alias="CERTIFICATE_RETIRE_SECONDS",
        ge=0,
        description="The authority of the certificate before is trusted for so long after the exchange; more "
        "than two looks, or replicas that still serve it are no longer trusted",
    )
    intake_cache_seconds: float = Field(
        default=10.0,
        validation_alias="INTAKE_CACHE_SECONDS",
        gt=0,
        description="For so long an answer about a queue, a company or a namespace is used again",
    )
    intake_stale_seconds: float = Field(
        default=60.0,
        validation_alias="INTAKE_STALE_SECONDS",
        ge=0,
        description="An answer so old is used while no newer one can be had; after that every job is let "
        "through, and the operator holds those that the queue has no room for",
    )
    company_jobs_limit: int = Field(
        default=10_000,
        validation_alias="COMPANY_JOBS_LIMIT",
        ge=1,
        description="A company with so many unfinished jobs can't add to them",
    )
    namespace_objects_limit: int = Field(
        default=25_000,
        validation_alias="NAMESPACE_OBJECTS_LIMIT",
        ge=1,
        description="No ImportJob is added to a namespace that holds so many, finished ones included",
    )
