"""Makes a claimed job's import out of its row: spec, provider, mapping, pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.domain.errors import CompanyMismatchError, PermanentError
from import_core.domain.jobs import JobRow, Progress
from import_core.domain.mapping import compile_mapping
from import_core.domain.resources.common import format_timestamp
from import_core.domain.resources.import_job import (
    ImportJobSpec,
    RemovalAction,
    parse_import_job_spec,
)
from import_core.observability.metrics import WorkerMetrics
from import_worker.connections import ConnectionOpener
from import_worker.jobs import Run
from import_worker.pipeline.items import ItemsImport
from import_worker.pipeline.pages import CatalogueImport, ImageStage
from import_worker.pipeline.products import ImageOptions
from import_worker.pipeline.removals import RemovalStage
from import_worker.providers.base import CatalogueFilter

CLOSE_SECONDS = 5.0


class CatalogueImporter:
    """Imports catalogues for the jobs of this worker."""

    def __init__(
        self,
        *,
        connections: ConnectionOpener,
        catalogue: CatalogueStore,
        removals: RemovalStore,
        images: ImageStage,
        metrics: WorkerMetrics,
        max_products: int,
    ) -> None:
        self._connections = connections
        self._catalogue = catalogue
        self._removals = removals
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
        if found.spec.company_id != job.company_id:
            raise CompanyMismatchError(
                f"the job is for company {job.company_id}, but ImportProvider {found.metadata.name} belongs"
                f" to {found.spec.company_id}"
            )
        mapping = compile_mapping(run.provider_type, spec.field_mapping)
        provider = await self._connections.open(found, read_filter(spec))
        try:
            # A retry of failed items never archives: it looks at those alone.
            whole = not job.items_only
            return await (CatalogueImport if whole else ItemsImport)(
                claim=run.claim,
                provider=provider,
                import_source=run.provider_type,
                mapping=mapping,
                options=ImageOptions(
                    spec.images.enabled, spec.images.max_per_product, spec.images.thumbnails
                ),
                catalogue=self._catalogue,
                images=self._images,
                metrics=self._metrics,
                live=run.live,
                on_commit=on_commit,
                connection=found.metadata.name,
                removals=self._removal_stage(run, spec, on_commit) if whole else None,
                max_products=self._max_products,
            ).run()
        finally:
            async with asyncio.timeout(CLOSE_SECONDS):
                await provider.aclose()

    def _removal_stage(
        self, run: Run, spec: ImportJobSpec, on_commit: Callable[[], None]
    ) -> RemovalStage | None:
        """The stage of a job that archives what is gone; None for one that keeps it."""
        if spec.removed.action is not RemovalAction.ARCHIVE:
            return None

        def show(progress: Progress) -> None:
            run.live.current = progress
            on_commit()

        owner = Owner(run.claim.job.company_id, run.provider_type, spec.provider_ref.name)
        return RemovalStage(run.claim, owner, spec.removed.max_percent, self._removals, show)

    def deadline(self, run: Run, now: datetime) -> float | None:
        """Seconds until the job's activeDeadlineSeconds have passed since its first start."""
        limit = run.claim.job.spec.get("activeDeadlineSeconds")
        started = run.claim.job.started_at
        if not isinstance(limit, int) or started is None:
            return None
        return max(0.0, limit - (now - started).total_seconds())


def read_spec(job: JobRow) -> ImportJobSpec:
    """The job's spec; a row made by hand has only company and provider, and defaults for the rest.

    Raises InvalidResourceError naming the field.
    """
    least = {"companyId": job.company_id, "providerRef": {"name": job.provider}}
    return parse_import_job_spec({**least, **job.spec})


def read_filter(spec: ImportJobSpec) -> CatalogueFilter:
    """What the provider shall leave out, and whether it may use a listing that is older than the job."""
    after = spec.filter.updated_after if spec.filter else None
    return CatalogueFilter(
        updated_after=format_timestamp(after) if after else None,
        is_current=spec.removed.action is RemovalAction.ARCHIVE,
    )
