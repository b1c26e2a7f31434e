"""The retry of a job's failed items: only the products that its item errors name, through the same stages.

The place is part of the checkpoint, in the order of the external ids: after a crash the rest is tried, and an
item that fails again is not tried twice in one retry.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from import_core.adapters.postgres.catalogue import ItemErrorRestatement, ItemsLeft, PageWrite
from import_core.domain.errors import CatalogueIncompleteError
from import_core.domain.images import ImageResult
from import_core.domain.item_errors import GONE_FROM_SOURCE, EarlierFailure, recounted
from import_core.domain.jobs import Checkpoint, ItemsPlace, Progress
from import_core.domain.products import Page
from import_worker.outages import through_outages
from import_worker.pipeline.pages import CatalogueImport, check_some_succeeded, summary
from import_worker.pipeline.phases import Phase, fetched
from import_worker.pipeline.planning import ImportedItem
from import_worker.pipeline.products import MappedPage

PRODUCTS_PER_READ = 200
"""Failed products whose external ids are in memory at a time."""


@dataclass(frozen=True, slots=True)
class ItemsImport(CatalogueImport):
    """All that one job's retry of failed items needs; it never archives products that are gone."""

    async def run(self) -> str | None:
        """Import the failed products again; returns a sentence for people, if there is one to say.

        Raises JobError, HandBackError and ClaimLostError.
        """
        checkpoint = self.claim.checkpoint or Checkpoint()
        place = place_of(checkpoint, self.claim.job.items_run or "")
        self.live.current = checkpoint.progress
        while failed := await self._failed(place):
            checkpoint = await self._retry(failed, checkpoint, place)
            # What the provider left unanswered keeps its error, and is not asked for again in this retry.
            place = ItemsPlace(place.run, failed[-1].external_id)
        left = await through_outages(
            lambda: self.catalogue.items_left(self.claim.job.id), what="failed items left"
        )
        return conclude(checkpoint, left)

    async def _failed(self, place: ItemsPlace) -> list[EarlierFailure]:
        return await through_outages(
            lambda: self.catalogue.failed_products(
                self.claim.job.id, after=place.after, limit=PRODUCTS_PER_READ
            ),
            what="failed items",
        )

    async def _retry(
        self, failed: Sequence[EarlierFailure], checkpoint: Checkpoint, place: ItemsPlace
    ) -> Checkpoint:
        earlier = {failure.external_id: failure for failure in failed}
        answered = set(place.done)
        wanted = [external_id for external_id in earlier if external_id not in answered]
        async with aclosing(self.provider.products(wanted)) as pages:
            async for page in fetched(pages, self.live.phases):
                answered.update(ids_of(page))
                with self.live.phases.enter(Phase.MAP):
                    mapped = await self._map(page, {})
                imported = await self._prepare(mapped, await self._known(mapped))
                base = self._plan(Page((), cursor=checkpoint.cursor), mapped, imported, checkpoint)
                reached = replace(checkpoint, items=reached_place(place, list(earlier), answered))
                write = as_retry(base, mapped, imported, earlier, reached)
                await self._commit(write)
                self._count(checkpoint.progress, write.checkpoint.progress)
                checkpoint = write.checkpoint
        return checkpoint

    def _show_images(self, results: Sequence[ImageResult]) -> None:
        """Images are not counted before the commit: only it knows which of them were counted before."""


def place_of(checkpoint: Checkpoint, run: str) -> ItemsPlace:
    """Where this retry goes on: at the checkpoint's place, if that is of the same `run`."""
    place = checkpoint.items
    return place if place is not None and place.run == run else ItemsPlace(run)


def ids_of(page: Page) -> list[str]:
    """All external ids that a page answers for."""
    return [
        *(product.external_id for product in page.products),
        *(failure.external_id for failure in page.failures),
    ]


def reached_place(place: ItemsPlace, asked: Sequence[str], answered: Collection[str]) -> ItemsPlace:
    """The place before the first of the ids in order that is not answered, with those behind it that are."""
    open_ids = itertools.dropwhile(lambda external_id: external_id in answered, asked)
    rest = list(open_ids)
    behind = asked[len(asked) - len(rest) - 1] if len(rest) < len(asked) else place.after
    return ItemsPlace(
        place.run, behind, tuple(external_id for external_id in rest if external_id in answered)
    )


def as_retry(
    write: PageWrite,
    mapped: MappedPage,
    imported: Sequence[ImportedItem],
    earlier: Mapping[str, EarlierFailure],
    before: Checkpoint,
) -> PageWrite:
    """The page's write, with item errors and counters as they are for products that had failed before.

    A product that fails again replaces its error. One that is gone, or had been imported and can't be had now,
    keeps its items' errors, which then say so: it stays counted as what it was.
    """
    kept = {
        error.external_id: ItemErrorRestatement(error.external_id, error.reason, error.message)
        for error in mapped.errors
        if error.external_id in mapped.failed and _stays(earlier.get(error.external_id), error.reason)
    }
    progress = before.progress
    for entry in imported:
        failure = earlier.get(entry.item.external_id)
        if failure is not None:
            progress = recounted(
                progress,
                failure,
                changed=entry.is_changed,
                results=entry.results,
                known_urls=frozenset(entry.known.images if entry.known else ()),
            )
    return replace(
        write,
        external_ids=[external_id for external_id in write.external_ids if external_id not in kept],
        errors=[error for error in write.errors if error.external_id not in kept],
        checkpoint=replace(before, progress=progress),
        records_seen=False,
        restated=list(kept.values()),
    )


def _stays(earlier: EarlierFailure | None, reason: str) -> bool:
    return earlier is not None and (reason == GONE_FROM_SOURCE or not earlier.is_product)


def conclude(checkpoint: Checkpoint, left: ItemsLeft) -> str | None:
    """What a person should know of a retry; None where nothing is left to say.

    Raises EveryProductFailedError, and CatalogueIncompleteError where the job had failed in the middle of its
    catalogue: its items being there does not make the import whole.
    """
    if checkpoint.pages == 0 or checkpoint.cursor is not None:
        raise CatalogueIncompleteError(
            "the failed items were imported again, but the job had ended before it reached the rest of the"
            " catalogue; retry the job"
        )
    progress = checkpoint.progress
    check_some_succeeded(progress)
    return "; ".join(_sentences(progress, left)) or None


def _sentences(progress: Progress, left: ItemsLeft) -> list[str]:
    said = [summary(progress)]
    if left.gone:
        said.append(
            f"{left.gone:,} failed {'product is' if left.gone == 1 else 'products are'} gone from the source"
        )
    if left.unidentified:
        said.append(
            f"{left.unidentified:,} can't be retried by {'itself' if left.unidentified == 1 else 'themselves'},"
            " as the source gave no id: retry the job"
        )
    if left.has_seen:
        said.append("products that the source lacks were not archived, the next full import asks again")
    return [sentence for sentence in said if sentence]
