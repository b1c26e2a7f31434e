"""What a page changes: compares it with what is known and with what became of its images. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from import_core.adapters.postgres.catalogue import (
    ImageTouch,
    ImageWrite,
    ItemErrorWrite,
    KnownProduct,
    PageWrite,
)
from import_core.domain.images import FailedImage, ImageResult, StoredImage, UnchangedImage
from import_core.domain.item_errors import NO_EXTERNAL_ID, kept_document
from import_core.domain.jobs import Checkpoint, Progress
from import_core.domain.products import Page, image_document
from import_worker.pipeline.products import ImageOptions, MappedItem, MappedPage


@dataclass(frozen=True, slots=True)
class ImportedItem:
    """A product whose images have been imported; `results` are in the order of `item.images`."""

    item: MappedItem
    known: KnownProduct | None
    results: Sequence[ImageResult]

    @property
    def is_changed(self) -> bool:
        """Whether the product's row has to be written."""
        return self.known is None or self.known.content_hash != self.item.content_hash


def is_outdated(mapped: MappedPage, known: Mapping[str, KnownProduct]) -> bool:
    """Whether a product that was not mapped, as its source is the row's, has another row by now, or none."""
    for item in mapped.items:
        row = known.get(item.external_id)
        if item.write is None and (row is None or row.content_hash != item.content_hash):
            return True
    return False


def count_images(before: Progress, results: Sequence[ImageResult]) -> Progress:
    """The counters after these images."""
    if not results:
        return before
    return replace(
        before,
        images_total=before.images_total + len(results),
        images_imported=before.images_imported + sum(isinstance(result, StoredImage) for result in results),
        images_unchanged=before.images_unchanged
        + sum(isinstance(result, UnchangedImage) for result in results),
        images_failed=before.images_failed + sum(isinstance(result, FailedImage) for result in results),
    )


def counted_before(page: Page, before: Checkpoint) -> Checkpoint:
    """The checkpoint that a page counts on from: nothing is counted yet where the catalogue starts over."""
    if not page.restarted:
        return before
    return replace(before, progress=Progress(products_total=before.progress.products_total))


def ended_progress(last: Checkpoint) -> Progress:
    """The counters of a catalogue that has ended, wherever it did.

    Where no page said that it was the last, one product at least may be missing.
    """
    whole = _whole(last.progress)
    if last.cursor is None:
        return whole
    return replace(whole, products_unlisted=max(1, whole.products_unlisted))


def _whole(progress: Progress) -> Progress:
    """The total is what was done; what the source had counted beyond it is kept as not listed."""
    done = progress.products_done
    missing = max(0, (progress.products_total or 0) - done)
    return replace(progress, products_total=done, products_unlisted=max(progress.products_unlisted, missing))


def plan_page(
    *,
    import_source: str,
    page: Page,
    mapped: MappedPage,
    imported: Sequence[ImportedItem],
    before: Checkpoint,
    options: ImageOptions,
    connection: str | None = None,
    records_seen: bool = False,
) -> PageWrite:
    """Everything that the page changes, with the checkpoint after it; see PageWrite for the last two."""
    changed = [entry for entry in imported if entry.is_changed]
    progress = replace(
        before.progress,
        products_imported=before.progress.products_imported + len(changed),
        products_unchanged=before.progress.products_unchanged + len(imported) - len(changed),
        products_failed=before.progress.products_failed + len(mapped.failed),
        products_seen=before.progress.products_seen + (_identified(mapped) if records_seen else 0),
    )
    for entry in imported:
        progress = count_images(progress, entry.results)
    if page.total is not None:
        progress = replace(progress, products_total=page.total)
    if page.cursor is None:
        progress = _whole(progress)
    return PageWrite(
        import_source=import_source,
        external_ids=mapped.external_ids,
        products=[entry.item.write for entry in changed if entry.item.write is not None],
        images=[write for entry in imported for write in _stored(entry)],
        errors=[*mapped.errors, *(error for entry in imported for error in _failed(entry))],
        checkpoint=Checkpoint(cursor=page.cursor, progress=progress, pages=before.pages + 1),
        touched_images=[touch for entry in imported for touch in _touched(entry)] if options.enabled else [],
        removed_images=[gone for entry in imported for gone in _removed(entry)] if options.enabled else [],
        connection=connection,
        records_seen=records_seen,
    )


def _identified(mapped: MappedPage) -> int:
    """Products of the page that are known by their ids, failed ones included."""
    nameless = {error.external_id for error in mapped.errors if error.reason == NO_EXTERNAL_ID}
    return sum(
        1 for external_id in mapped.external_ids if external_id.strip() and external_id not in nameless
    )


def _stored(entry: ImportedItem) -> list[ImageWrite]:
    return [
        ImageWrite(
            external_id=entry.item.external_id,
            position=entry.item.listed[result.source_url],
            source_url=result.source_url,
            alt_text=result.alt_text,
            etag=result.etag,
            last_modified=result.last_modified,
            key=result.key,
            sha256=result.sha256,
            content_type=result.content_type,
            width=result.width,
            height=result.height,
            bytes=result.bytes,
            thumbnails=result.thumbnails,
        )
        for result in entry.results
        if isinstance(result, StoredImage)
    ]


def _failed(entry: ImportedItem) -> list[ItemErrorWrite]:
    images = {image.url: image for image in entry.item.images}
    return [
        ItemErrorWrite(
            entry.item.external_id,
            result.stage,
            result.reason,
            result.message,
            result.source_url,
            kept_document(image_document(images[result.source_url])),
        )
        for result in entry.results
        if isinstance(result, FailedImage)
    ]


def _touched(entry: ImportedItem) -> list[ImageTouch]:
    """Rows that keep their bytes but not their place, text or validators.

    A row whose image failed this time, or is beyond the job's number of images, moves all the same.
    """
    if entry.known is None:
        return []
    unchanged = {result.source_url: result for result in entry.results if isinstance(result, UnchangedImage)}
    stored = {result.source_url for result in entry.results if isinstance(result, StoredImage)}
    alt_texts: Mapping[str, str | None] = {image.url: image.alt_text for image in entry.item.images}
    touches = []
    for url, known in entry.known.images.items():
        place = entry.item.listed.get(url)
        if place is None or url in stored:
            continue
        result = unchanged.get(url)
        after = (
            place,
            alt_texts.get(url, known.alt_text),
            result.etag if result else known.etag,
            result.last_modified if result else known.last_modified,
        )
        if after != (known.position, known.alt_text, known.etag, known.last_modified):
            touches.append(ImageTouch(entry.known.id, url, *after))
    return touches


def _removed(entry: ImportedItem) -> list[tuple[str, str]]:
    """Rows of images that the source no longer lists; the job's own limit removes nothing."""
    if entry.known is None:
        return []
    return [(entry.known.id, url) for url in entry.known.images if url not in entry.item.listed]
