"""The pipeline of one job: page by page from the provider into PostgreSQL and S3, a checkpoint after each.

At most two pages are in memory: the one in hand and the next one, which is fetched and mapped meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import structlog

from import_core.adapters.postgres.catalogue import CatalogueStore, KnownProduct, PageWrite
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import (
    CatalogueTooLargeError,
    DatabaseUnavailableError,
    EveryProductFailedError,
)
from import_core.domain.images import ImageResult, KnownImage
from import_core.domain.jobs import Checkpoint, Claim, Progress
from import_core.domain.mapping import CompiledMapping
from import_core.domain.products import KnownSource, Page, SourceImage
from import_core.domain.reimport import describe_listing
from import_core.domain.values import is_clean
from import_core.fail_points import fail_point
from import_core.observability.metrics import WorkerMetrics
from import_worker.outages import through_outages
from import_worker.pipeline.phases import Phase, PhaseClock, fetched, in_milliseconds
from import_worker.pipeline.planning import (
    ImportedItem,
    count_images,
    counted_before,
    ended_progress,
    is_outdated,
    plan_page,
)
from import_worker.pipeline.products import ImageOptions, MappedItem, MappedPage, map_page
from import_worker.pipeline.removals import RemovalStage
from import_worker.providers.base import Provider
from import_worker.reimports import Reimport

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

PRODUCTS_AT_ONCE = 12
"""Products of one job whose images are in work; the images themselves are bounded for the whole worker."""
EMPTY_MESSAGE = "the catalogue is empty"


class ImageStage(Protocol):
    """Imports one product's images; see `images.py`."""

    async def import_images(
        self,
        company_id: str,
        product_external_id: str,
        images: Sequence[SourceImage],
        known: Mapping[str, KnownImage],
        sizes: Sequence[int],
    ) -> list[ImageResult]:
        """Results in the order of `images`."""


@dataclass(slots=True)
class LiveProgress:
    """Counters of a running job: the last checkpoint's, and what the page in hand has stored since."""

    current: Progress = field(default_factory=Progress)
    phases: PhaseClock = field(default_factory=PhaseClock)


@dataclass(frozen=True, slots=True)
class CatalogueImport:
    """All that one job's import needs.

    `connection` is the ImportProvider's name; `fingerprint` is the identity of all that decides how this source's
    products become rows; `removals` is None where products that are gone are kept;
    `reimport` says whether only what changed is listed, None: all is, and no mark moves.
    """

    claim: Claim
    provider: Provider
    import_source: str
    mapping: CompiledMapping
    options: ImageOptions
    catalogue: CatalogueStore
    images: ImageStage
    metrics: WorkerMetrics
    live: LiveProgress
    on_commit: Callable[[], None]
    connection: str
    fingerprint: str
    reimport: Reimport | None = None
    removals: RemovalStage | None = None
    max_products: int = 20_000

    async def run(self) -> str | None:
        """Import what is left of the catalogue; returns a sentence for people, if there is one to say.

        Raises JobError, HandBackError and ClaimLostError.
        """
        checkpoint = self.claim.checkpoint or Checkpoint()
        self.live.current = checkpoint.progress
        if checkpoint.pages == 0 or checkpoint.cursor is not None:
            async with aclosing(one_ahead(self._mapped(self.provider.pages(checkpoint.cursor)))) as pages:
                async for page, mapped in fetched(pages, self.live.phases):
                    checkpoint = await self._import_page(page, mapped, checkpoint)
        return await self._conclude(checkpoint)

    async def _mapped(self, pages: AsyncIterator[Page]) -> AsyncGenerator[tuple[Page, MappedPage], None]:
        """Pages with their products mapped; closes `pages` at its end."""
        clock = asyncio.get_running_loop().time
        try:
            async for page in pages:
                began = clock()
                mapped = await self._map(page, await self._known_sources(page))
                self.live.phases.add(Phase.MAP, clock() - began)
                yield page, mapped
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _map(self, page: Page, known: Mapping[str, KnownSource]) -> MappedPage:
        return await map_page(page, self.mapping, self.options, fingerprint=self.fingerprint, known=known)

    async def _known_sources(self, page: Page) -> Mapping[str, KnownSource]:
        """Of which of a page's products the source was known; in any doubt of none, and they are mapped."""
        ids = [product.external_id for product in page.products if is_clean(product.external_id)]
        try:
            return await self.catalogue.known_sources(self.claim.job.company_id, self.import_source, ids)
        except DatabaseUnavailableError:
            return {}

    async def _import_page(self, page: Page, mapped: MappedPage, before: Checkpoint) -> Checkpoint:
        before = counted_before(page, before)
        self._check_size(page, before.progress)
        self.live.current = before.progress
        if page.total is not None:
            self.live.current = replace(before.progress, products_total=page.total)
        known = await self._known(mapped)
        if is_outdated(mapped, known):
            # The page before has written a product that this one shows again, or another job has.
            mapped = await self._map(page, {})
            known = await self._known(mapped)
        imported = await self._prepare(mapped, known)
        write = self._plan(page, mapped, imported, before)
        await self._commit(write)
        self._count(before.progress, write.checkpoint.progress)
        return write.checkpoint

    def _plan(
        self, page: Page, mapped: MappedPage, imported: Sequence[ImportedItem], before: Checkpoint
    ) -> PageWrite:
        return plan_page(
            import_source=self.import_source,
            page=page,
            mapped=mapped,
            imported=imported,
            before=before,
            options=self.options,
            connection=self.connection,
            records_seen=self.removals is not None,
        )

    async def _known(self, mapped: MappedPage) -> Mapping[str, KnownProduct]:
        """The rows of a page's products as they stand after the page before."""
        with self.live.phases.enter(Phase.IMAGES):
            return await through_outages(
                lambda: self.catalogue.known(
                    self.claim.job.company_id,
                    self.import_source,
                    [item.external_id for item in mapped.items],
                    with_images=self.options.enabled,
                ),
                what="known products",
            )

    async def _prepare(self, mapped: MappedPage, known: Mapping[str, KnownProduct]) -> list[ImportedItem]:
        """Store the images of a page's products; nothing names them yet."""
        with self.live.phases.enter(Phase.IMAGES):
            imported = await self._import_images(mapped, known)
        fail_point("page.images-stored")
        return imported

    async def _import_images(
        self, mapped: MappedPage, known: Mapping[str, KnownProduct]
    ) -> list[ImportedItem]:
        """Import the images of all products of a page; the order of the page is kept."""
        if not any(item.images for item in mapped.items):
            return [ImportedItem(item, known.get(item.external_id), ()) for item in mapped.items]
        found: list[ImportedItem | None] = [None] * len(mapped.items)
        work = iter(enumerate(mapped.items))

        async def take() -> None:
            for index, item in work:
                row = known.get(item.external_id)
                results = await self._import_product_images(item, row)
                self._show_images(results)
                found[index] = ImportedItem(item, row, results)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(PRODUCTS_AT_ONCE, len(mapped.items))):
                    group.create_task(take())
        except* Exception as failures:
            # The first failure cancelled the others; what happens next is decided by its kind.
            raise failures.exceptions[0] from failures
        return [entry for entry in found if entry is not None]

    def _show_images(self, results: Sequence[ImageResult]) -> None:
        """Count images that are stored and not committed yet, for those who watch."""
        self.live.current = count_images(self.live.current, results)

    async def _import_product_images(
        self, item: MappedItem, row: KnownProduct | None
    ) -> Sequence[ImageResult]:
        if not item.images:
            return ()
        return await self.images.import_images(
            self.claim.job.company_id,
            item.external_id,
            item.images,
            row.images if row else {},
            self.options.sizes,
        )

    async def _commit(self, write: PageWrite) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        with self.live.phases.enter(Phase.COMMIT):
            await through_outages(lambda: self.catalogue.commit_page(self.claim, write), what="page")
        fail_point("page.committed")
        self.metrics.page_commit_seconds.observe(clock() - started)
        phases = self.live.phases.take_page()
        for phase, seconds in phases.items():
            self.metrics.phase_seconds.labels(phase.value, self.import_source).observe(seconds)
        self.metrics.pages.labels(self.import_source).inc()
        self.live.current = write.checkpoint.progress
        self.on_commit()
        log.info(
            "page.committed",
            page=write.checkpoint.pages,
            products=len(write.external_ids),
            written=len(write.products),
            images=len(write.images),
            failed=len(write.errors),
            duration=round((clock() - started) * 1000),
            phases=in_milliseconds(phases),
        )

    def _check_size(self, page: Page, progress: Progress) -> None:
        seen = progress.products_done + len(page.products) + len(page.failures)
        if max(seen, page.total or 0) > self.max_products:
            count = f"{page.total:,} products" if page.total else f"more than {self.max_products:,} products"
            raise CatalogueTooLargeError(
                f"the catalogue has {count}; a job imports at most {self.max_products:,}"
            )

    def _count(self, before: Progress, after: Progress) -> None:
        for outcome in ("imported", "unchanged", "failed"):
            for counter, name in (
                (self.metrics.products, f"products_{outcome}"),
                (self.metrics.images, f"images_{outcome}"),
            ):
                # What is retried leaves the failed ones; a metric counts what happened and never falls.
                change = max(0, getattr(after, name) - getattr(before, name))
                counter.labels(outcome, self.import_source).inc(change)

    async def _conclude(self, checkpoint: Checkpoint) -> str | None:
        progress = checkpoint.progress
        if progress.products_total != progress.products_done or checkpoint.cursor is not None:
            # The provider told another number, or ended without saying which page was the last.
            progress = ended_progress(checkpoint)
            last = replace(checkpoint, cursor=None, progress=progress, pages=max(1, checkpoint.pages))
            await self._commit(PageWrite(self.import_source, [], [], [], [], last))
        is_incremental = self.reimport is not None and self.reimport.is_incremental
        if not is_incremental:
            # Of the few that changed all may fail; that says nothing of the catalogue.
            check_some_succeeded(progress)
        removed = None
        if self.removals:
            with self.live.phases.enter(Phase.REMOVE):
                removed = await self.removals.run(progress)
        if self.reimport is not None:
            await self.reimport.conclude(progress)
            if is_incremental:
                return incremental_summary(progress, describe_listing(self.reimport.listing, progress))
        return with_removals(progress, removed)


def check_some_succeeded(progress: Progress) -> None:
    """Raise EveryProductFailedError where there were products and none could be imported."""
    if progress.products_failed and progress.products_failed == progress.products_done:
        raise EveryProductFailedError(
            f"none of the {progress.products_failed:,} products could be imported; see the item errors"
        )


def incremental_summary(progress: Progress, listed: str | None) -> str | None:
    """What a person should know of an import of what changed."""
    failed = summary(progress) if progress.products_done else None
    return f"{failed}; {listed}" if failed and listed else failed or listed


def with_removals(progress: Progress, removed: str | None) -> str | None:
    """What a person should know of an import, and of what it removed."""
    if removed is None:
        return summary(progress)
    counts = f"{progress.products_imported:,} products imported, {progress.products_unchanged:,} unchanged"
    return f"{summary(progress) or counts}; {removed}"


def summary(progress: Progress) -> str | None:
    """What a person should know of an import that went through; None where all went well."""
    if progress.products_done == 0:
        return EMPTY_MESSAGE
    parts = []
    if progress.products_failed:
        parts.append(f"{progress.products_failed:,} of {progress.products_done:,} products")
    if progress.images_failed:
        parts.append(f"{progress.images_failed:,} of {progress.images_total:,} images")
    return f"{' and '.join(parts)} could not be imported; see the item errors" if parts else None


async def one_ahead(pages: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """Yield pages while the next one is being made; closes `pages` at its end."""

    async def fetch() -> Item | None:
        return await anext(pages, None)

    upcoming = asyncio.create_task(fetch())
    try:
        while (page := await upcoming) is not None:
            upcoming = asyncio.create_task(fetch())
            yield page
    finally:
        await end_tasks([upcoming])
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()
