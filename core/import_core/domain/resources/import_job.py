"""ImportJob: one run that copies a company's products from a provider account into the platform."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from import_core.domain.jobs import WaitingReason
from import_core.domain.mapping import TARGET_FIELDS
from import_core.domain.reimport import ReimportMode
from import_core.domain.resources.common import (
    CompanyId,
    Conditions,
    Count,
    Generation,
    Message,
    NameReference,
    ObjectMeta,
    PrinterColumn,
    ResourceDefinition,
    ResourceModel,
    Rule,
    Timestamp,
    immutable,
    parse,
)

DEFAULT_TTL_SECONDS = 86_400


class JobPhase(StrEnum):
    """Where a job stands (`status.phase`)."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class RemovalAction(StrEnum):
    """What happens to products that are gone from the source."""

    KEEP = "Keep"
    ARCHIVE = "Archive"


class Filter(ResourceModel):
    """Restricts which products are imported; all by default."""

    updated_after: Timestamp | None = None
    """Import only products that the provider changed after this time (RFC 3339)."""


class Images(ResourceModel):
    """Which images are imported, and which thumbnails are made of them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="thumbnails",
            cel="self.thumbnails.all(size, self.thumbnails.exists_one(other, other == size))",
            message="thumbnails: every size may be named once",
            check=lambda images: len(set(images.thumbnails)) == len(images.thumbnails),
        ),
    )

    enabled: bool = True
    """Whether images are imported at all."""
    max_per_product: Annotated[int, Field(ge=0, le=20)] = 20
    """At most so many images of one product are imported, in the provider's order."""
    thumbnails: Annotated[
        tuple[Annotated[int, Field(ge=16, le=4096)], ...],
        Field(strict=False, max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = (256, 1024)
    """Sizes of the thumbnails: the longest side in pixels. A smaller image is not enlarged."""


class Enrich(ResourceModel):
    """Steps that each product takes after its import, in this order; each needs a WorkerPool for its queue."""

    embedding: bool = False
    """Compute embeddings of the product's text and images (queue generate-embedding)."""
    quality_control: bool = False
    """Have each product checked for quality; one that is not approved takes no further step (queue
    quality-control)."""
    index: bool = False
    """Add each product to the search index (queue index-product)."""


class Removed(ResourceModel):
    """What happens to products that are gone from the source."""

    action: Annotated[RemovalAction, Field(strict=False)] = RemovalAction.KEEP
    """Keep leaves them as they are; Archive gives them the status archived, and takes it back when they come
    back. Archive needs the whole catalogue: no filter.updatedAfter."""
    max_percent: Annotated[int, Field(ge=0, le=100)] = 20
    """If more than this share of the connection's products, in percent, would be archived, nothing is: the job
    fails with the reason RemovalsNotConfirmed, and says how to confirm. 100 never asks."""


class Reimport(ResourceModel):
    """How much of the catalogue is read where the connection was imported before."""

    mode: Annotated[ReimportMode, Field(strict=False)] = ReimportMode.FULL
    """Full reads the whole catalogue. Incremental asks the provider only for products that changed since the last
    good run, and reads everything where it can't be sure: at the first time, after a change of the mapping, the
    image settings or the provider, and every fullEvery runs. Where the provider has no filter by time (Roastify),
    every run reads everything. Incremental needs filter.updatedAfter to be absent."""
    full_every: Annotated[int, Field(ge=1, le=1000)] = 24
    """Every so many runs of an Incremental job's connection, one reads the whole catalogue; only that one sees
    what is gone from the source, and images that changed at an old address. 1 makes every run full."""
    overlap_seconds: Annotated[int, Field(ge=0, le=604_800)] = 600
    """Changes from so many seconds before the last good run are asked for again (at most 7 days), because clocks
    differ and a provider's index may lag."""


def _cel_list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


class ImportJobSpec(ResourceModel):
    """What to import. companyId and providerRef can't be changed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        immutable("companyId"),
        immutable("providerRef"),
        Rule(
            field="fieldMapping",
            cel=f"!has(self.fieldMapping) || self.fieldMapping.all(k, k in {_cel_list(TARGET_FIELDS)})",
            message=f"fieldMapping: its keys must be product fields: {', '.join(TARGET_FIELDS)}",
            check=lambda spec: set(spec.field_mapping or {}) <= set(TARGET_FIELDS),
        ),
        Rule(
            field="removed.action",
            cel="!has(self.removed) || self.removed.action != 'Archive' || !has(self.filter)"
            " || !has(self.filter.updatedAfter)",
            message="removed.action: Archive needs the whole catalogue, so filter.updatedAfter must be absent",
            check=lambda spec: (
                spec.removed.action is not RemovalAction.ARCHIVE
                or spec.filter is None
                or spec.filter.updated_after is None
            ),
        ),
        Rule(
            field="reimport.mode",
            cel="!has(self.reimport) || self.reimport.mode != 'Incremental' || !has(self.filter)"
            " || !has(self.filter.updatedAfter)",
            message="reimport.mode: Incremental finds its own time, so filter.updatedAfter must be absent",
            check=lambda spec: (
                spec.reimport.mode is not ReimportMode.INCREMENTAL
                or spec.filter is None
                or spec.filter.updated_after is None
            ),
        ),
    )

    company_id: CompanyId
    """Id of the company to import for. Must be the provider's company; can't be changed."""
    provider_ref: NameReference
    """The ImportProvider to import from, in the same namespace; can't be changed."""
    filter: Filter | None = None
    """Restricts which products are imported; all of them if absent."""
    field_mapping: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=1024)]] | None, Field(max_length=32)
    ] = None
    """Product field to JMESPath expression over the provider's product (for Shopify the product of the GraphQL
    Admin API, for Roastify the product of GET /products/{id}). Replaces the provider type's default for the
    fields it names; the other fields keep their defaults. Example: {"title": "title",
    "price": "variants[0].price"}."""
    images: Images = Images()
    """Which images are imported, and which thumbnails are made of them."""
    enrich: Enrich = Enrich()
    """Steps that each product takes after its import, in this order; all are off by default. A product that has not
    changed since its last step was done takes none."""
    removed: Removed = Removed()
    """What happens to products that are gone from the source."""
    reimport: Reimport = Reimport()
    """How much of the catalogue is read where the connection was imported before."""
    suspend: bool = False
    """Whether the job is held back: a suspended job is not started; one that runs stops after its page in
    hand and continues there when resumed."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = None
    """The job fails when it is not done so many seconds after its first start (at most 7 days); no limit if
    absent."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] = DEFAULT_TTL_SECONDS
    """The finished object is deleted after so many seconds (at most 365 days), or earlier where the namespace
    holds too many finished ones; its row in PostgreSQL stays as history. An object that asks for another run
    stays until that has ended."""


class JobProgress(ResourceModel):
    """Counters of what is committed."""

    products_total: Count | None = None
    """Products in the catalogue; absent while the provider has not told."""
    products_imported: Count = 0
    """Products written, because they are new or have changed."""
    products_unchanged: Count = 0
    """Products that were already as the provider has them."""
    products_failed: Count = 0
    """Products that could not be imported; `kubectl imports errors` lists them."""
    images_total: Count = 0
    """Images found so far."""
    images_imported: Count = 0
    """Images stored, or found stored already."""
    images_failed: Count = 0
    """Images that could not be imported; `kubectl imports errors` lists them."""
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of the products that is done, in whole percents; 100 only when all are."""


class StepProgress(ResourceModel):
    """Products by where they stand in one step after the import."""

    due: Count = 0
    """Products that are to take the step."""
    done: Count = 0
    """Products that it is done for."""
    halted: Count = 0
    """Products that do not take it, because an earlier step did not let them through."""
    dead: Count = 0
    """Products that it failed for, in the dead-letter queue; `kubectl imports dead-letters list` lists them."""


class JobSteps(ResourceModel):
    """The steps after the import, for the products that this job has brought anew; unchanged ones take none."""

    embedding: StepProgress | None = None
    """Embeddings."""
    quality_control: StepProgress | None = None
    """Quality control."""
    index: StepProgress | None = None
    """The search index."""


class ImportJobStatus(ResourceModel):
    """How the import goes; written by the operator."""

    phase: Annotated[JobPhase, Field(strict=False)] | None = None
    """Pending: not recorded yet. Queued: recorded, due or waiting for its time. Running: a worker has it.
    Succeeded, Failed, Cancelled: finished."""
    job_id: Annotated[str, Field(max_length=64)] | None = None
    """Id of the job's row in PostgreSQL."""
    attempts: Count | None = None
    """Tries so far, the current one included. A try handed back by a stopping worker does not count."""
    progress: JobProgress | None = None
    """Counters of what is committed."""
    steps: JobSteps | None = None
    """How far the steps after the import are; absent where spec.enrich asks for none."""
    waiting_reason: Annotated[WaitingReason, Field(strict=False)] | None = None
    """Why a queued job does not run: QueueFull (all workers are busy), ProviderLimit (the provider's rate
    limit), BreakerOpen (the provider fails too often), Backpressure (the queue is too deep for the company's
    tier), Paused (dispatch is paused), Retry (a try failed; the next one waits), StorageUnavailable (the object store
    does not answer)."""
    queued_at: Timestamp | None = None
    """When the job was recorded, or made to run again."""
    started_at: Timestamp | None = None
    """When a worker first took the job."""
    completed_at: Timestamp | None = None
    """When the job finished."""
    message: Message | None = None
    """One sentence for people: what happens, or what went wrong."""
    observed_generation: Generation | None = None
    """Generation of the object that this status is about."""
    conditions: Conditions = ()
    """Accepted (the spec is valid and recorded), Queued, Complete, Failed, Suspended, Enriched (the import has ended,
    and so have all steps after it)."""


class ImportJob(ResourceModel):
    """One run that copies a company's products, with their images, from a provider account into the platform.
    A finished job runs again when its annotation imports.avnz.io/retry gets a new value; with
    imports.avnz.io/retry-items only the products that failed are imported again."""

    metadata: ObjectMeta
    spec: ImportJobSpec
    """What to import."""
    status: ImportJobStatus = ImportJobStatus()
    """How the import goes; written by the operator."""


DEFINITION = ResourceDefinition(
    kind="ImportJob",
    plural="importjobs",
    singular="importjob",
    short_name="ij",
    model=ImportJob,
    columns=(
        PrinterColumn("Phase", ".status.phase", description="Where the job stands"),
        PrinterColumn("Percent", ".status.progress.percent", "integer", "Share of the products that is done"),
        PrinterColumn("Provider", ".spec.providerRef.name", description="Where the products come from"),
        PrinterColumn("Company", ".spec.companyId", description="Whom the products are for"),
        PrinterColumn("Attempts", ".status.attempts", "integer", "Tries so far"),
        PrinterColumn("Waiting", ".status.waitingReason", description="Why a queued job does not run"),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date", "Time since the job was submitted"),
        PrinterColumn(
            "Products", ".status.progress.productsTotal", "integer", "Products in the catalogue", 1
        ),
        PrinterColumn("Failed", ".status.progress.productsFailed", "integer", "Products that failed", 1),
        PrinterColumn("Message", ".status.message", description="What happens, for people", priority=1),
    ),
    selectable_fields=(".spec.companyId", ".spec.providerRef.name", ".status.phase"),
)


def parse_import_job(body: Mapping[str, Any]) -> ImportJob:
    """Read an ImportJob from an object's JSON; raises InvalidResourceError naming the field."""
    return parse(ImportJob, body)


def parse_import_job_spec(spec: Mapping[str, Any]) -> ImportJobSpec:
    """Read a spec alone, as a job's row keeps it; raises InvalidResourceError naming the field."""
    return parse(ImportJobSpec, spec, at="spec")
