"""Makes a claimed job's import out of its row: spec, provider, mapping, pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.reimports import ReimportStore
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.domain.errors import CompanyMismatchError, PermanentError
from import_core.domain.jobs import JobRow, Progress, seconds_left
from import_core.domain.mapping import compile_mapping
from import_core.domain.reimport import Listing
from import_core.domain.resources.common import format_timestamp
from import_core.domain.resources.import_job import (
    ImportJobSpec,
    RemovalAction,
    parse_import_job_spec,
)
from import_core.domain.resources.import_provider import ImportProvider
from import_core.observability.metrics import WorkerMetrics
from import_worker.connections import ConnectionOpener
from import_worker.jobs import Run
from import_worker.pipeline.items import ItemsImport
from import_worker.pipeline.pages import CatalogueImport, ImageStage
from import_worker.pipeline.products import ImageOptions
from import_worker.pipeline.removals import RemovalStage
from import_worker.providers.base import CatalogueFilter, Provider
from import_worker.reimports import Reimport, begin_reimport, read_fingerprint, sets_mark

CLOSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class CatalogueImporter:
    """Imports catalogues for the jobs of this worker."""

    retry_delays: Sequence[float] | None = None

    def __init__(
        self,
        *,
        connections: ConnectionOpener,
        catalogue: CatalogueStore,
        removals: RemovalStore,
        reimports: ReimportStore,
        images: ImageStage,
        metrics: WorkerMetrics,
        max_products: int,
        longest_seconds: float | None = None,
    ) -> None:
        """`longest_seconds`: the longest run of a job that says nothing of it; None: any."""
        self._longest_seconds = longest_seconds
        self._connections = connections
        self._catalogue = catalogue
        self._removals = removals
        self._reimports = reimports
        self._images = images
        self._metrics = metrics
        self._max_products = max_products

    async def run(self, run: Run, *, on_commit: Callable[[], None]) -> str | None:
        """Import the job's catalogue; returns a sentence for people or None.

        Raises JobError, InvalidInputError naming the field, HandBackError and ClaimLostError.
        """
        job = run.claim.job
        if job.namespace is not None and job.namespace != self._connections.namespace:
            raise PermanentError(
                f"the job is of namespace {job.namespace}, this worker of {self._connections.namespace}"
            )
        spec = read_spec(job)
        found = await self._connections.find(spec.provider_ref.name)
        run.provider_type = found.spec.type.value
        check_company(found, job.company_id)
        mapping = compile_mapping(run.provider_type, spec.field_mapping)
        owner = Owner(job.company_id, run.provider_type, found.metadata.name)
        reimport = await begin_reimport(
            self._reimports, run.claim, owner, spec, read_fingerprint(found, mapping, spec)
        )
        provider = await self._connections.open(found, read_filter(spec, reimport.listing))
        try:
            # A retry of failed items never archives: it looks at those alone.
            whole = not job.items_only
            return await (CatalogueImport if whole else ItemsImport)(
                claim=run.claim,
                provider=provider,
                import_source=run.provider_type,
                mapping=mapping,
                options=read_options(spec),
                catalogue=self._catalogue,
                images=self._images,
                metrics=self._metrics,
                live=run.live,
                on_commit=on_commit,
                connection=found.metadata.name,
                fingerprint=reimport.fingerprint,
                removals=self._removal_stage(run, spec, owner, reimport, on_commit) if whole else None,
                reimport=reimport,
                max_products=self._max_products,
            ).run()
        finally:
            await _close(provider)

    def _removal_stage(
        self,
        run: Run,
        spec: ImportJobSpec,
        owner: Owner,
        reimport: Reimport,
        on_commit: Callable[[], None],
    ) -> RemovalStage | None:
        """The stage of a job that archives what is gone; None for one that keeps it.

        Also for an incremental run: what it did not list is not gone, it is as it was.
        """
        if spec.removed.action is not RemovalAction.ARCHIVE or reimport.is_incremental:
            return None

        def show(progress: Progress) -> None:
            run.live.current = progress
            on_commit()

        return RemovalStage(run.claim, owner, spec.removed.max_percent, self._removals, show)

    def deadline(self, run: Run, now: datetime) -> float | None:
        """Seconds until the job has run for its activeDeadlineSeconds, or else JOB_TIMEOUT, since its first start."""
        job = run.claim.job
        return seconds_left(
            job.spec.get("activeDeadlineSeconds"), self._longest_seconds, started_at=job.started_at, now=now
        )


async def _close(provider: Provider) -> None:
    """Close its connections; one that can't be closed in time says nothing of how the import ended."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await provider.aclose()
    except TimeoutError:
        log.warning("provider.not_closed", seconds=CLOSE_SECONDS)


def read_spec(job: JobRow) -> ImportJobSpec:
    """The job's spec; a row made by hand has only company and provider, and defaults for the rest.

    Raises InvalidResourceError naming the field.
    """
    least = {"companyId": job.company_id, "providerRef": {"name": job.provider}}
    return parse_import_job_spec({**least, **job.spec})


def check_company(found: ImportProvider, company_id: str) -> None:
    """Raise CompanyMismatchError unless a connection is the company's own."""
    if found.spec.company_id != company_id:
        raise CompanyMismatchError(
            f"the job is for company {company_id}, but ImportProvider {found.metadata.name} belongs"
            f" to {found.spec.company_id}"
        )


def read_options(spec: ImportJobSpec) -> ImageOptions:
    """Which images the job wants."""
    return ImageOptions(spec.images.enabled, spec.images.max_per_product, spec.images.thumbnails)


def read_filter(spec: ImportJobSpec, listing: Listing | None = None) -> CatalogueFilter:
    """What the provider shall leave out, and whether it may use a listing that is older than the job."""
    after = spec.filter.updated_after if spec.filter else None
    if listing is not None and listing.since is not None:
        after = listing.since
    return CatalogueFilter(
        updated_after=format_timestamp(after) if after else None,
        is_current=listing is not None or sets_mark(spec),
    )
