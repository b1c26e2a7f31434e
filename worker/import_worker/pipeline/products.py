"""The map stage: a provider's page becomes products of the platform, and what can't is an item error.

Runs in a thread: a page of large products takes longer than the event loop may be blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from import_core.adapters.postgres.catalogue import ItemErrorWrite, ProductWrite
from import_core.domain.errors import MappingError
from import_core.domain.failures import describe
from import_core.domain.item_errors import kept_document
from import_core.domain.mapping import CompiledMapping
from import_core.domain.products import (
    KnownSource,
    Page,
    SourceImage,
    SourceProduct,
    content_hash,
    distinct_images,
    encode_product,
    image_document,
    source_digest,
    source_hash,
)
from import_core.domain.values import MAX_TEXT_LENGTH, clean

MAX_URL_BYTES = 2048
"""Longer image URLs are refused by the download; they must not reach the index on the URL either."""
MAX_ALT_TEXT_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Which images a job wants; `sizes` are the thumbnails' longest sides in pixels."""

    enabled: bool = True
    per_product: int = 20
    sizes: tuple[int, ...] = (256, 1024)


@dataclass(frozen=True, slots=True)
class MappedItem:
    """A product ready to be written; `write` is None for one whose source is as it was when its row was written.

    `content_hash` is the row's then. `images` are those to import; `listed` are all that the source lists, by URL with
    their places.
    """

    external_id: str
    content_hash: str
    write: ProductWrite | None
    images: tuple[SourceImage, ...]
    listed: dict[str, int]


@dataclass(frozen=True, slots=True)
class MappedPage:
    """A page after the map stage; an external id is in `items` or in `failed`, once."""

    items: tuple[MappedItem, ...]
    failed: tuple[str, ...]
    errors: tuple[ItemErrorWrite, ...]

    @property
    def external_ids(self) -> list[str]:
        """All products of the page."""
        return [*(item.external_id for item in self.items), *self.failed]


async def map_page(
    page: Page,
    mapping: CompiledMapping,
    images: ImageOptions,
    *,
    fingerprint: str = "",
    known: Mapping[str, KnownSource] = MappingProxyType({}),
) -> MappedPage:
    """Map all products of a page, without blocking the event loop.

    `fingerprint` is the identity of all that decides how products become rows. Those of `known`, by external id, are
    not mapped where both are as they were.
    """
    return await asyncio.to_thread(_map_page, page, mapping, images, fingerprint, known)


def _map_page(
    page: Page,
    mapping: CompiledMapping,
    images: ImageOptions,
    fingerprint: str,
    known: Mapping[str, KnownSource],
) -> MappedPage:
    items: dict[str, MappedItem] = {}
    failed: dict[str, ItemErrorWrite] = {}
    url_errors: list[ItemErrorWrite] = []
    for failure in page.failures:
        shown = _shown(failure.external_id)
        document = None if failure.document is None else kept_document(failure.document)
        failed[shown] = ItemErrorWrite(
            shown, "fetch", failure.reason, clean(failure.message), document=document
        )
    for source in page.products:
        try:
            item, errors = _map_product(source, mapping, images, fingerprint, known)
        except MappingError as error:
            shown = _shown(source.external_id)
            failed[shown] = ItemErrorWrite(
                shown, "map", "InvalidField", clean(describe(error)), document=kept_document(source.document)
            )
            continue
        # A provider may repeat a product while the catalogue changes under the reader: the last word counts.
        if item.external_id not in items:
            url_errors += errors
        items[item.external_id] = item
    failed = {external_id: error for external_id, error in failed.items() if external_id not in items}
    return MappedPage(tuple(items.values()), tuple(failed), (*failed.values(), *url_errors))


def _map_product(
    source: SourceProduct,
    mapping: CompiledMapping,
    options: ImageOptions,
    fingerprint: str,
    known: Mapping[str, KnownSource],
) -> tuple[MappedItem, list[ItemErrorWrite]]:
    digest = source_digest(source, fingerprint)
    before = known.get(source.external_id)
    if before and digest and before.source_hash == source_hash(digest, before.content_hash):
        listed, errors = _images_of(source, source.external_id, options)
        return _item(source.external_id, before.content_hash, None, listed, options), errors
    product = mapping.apply(source.document)
    listed, errors = _images_of(source, product.external_id, options)
    encoded = encode_product(product)
    content = content_hash(product, listed[: options.per_product], encoded=encoded)
    write = ProductWrite(product, content, encoded, digest and source_hash(digest, content))
    return _item(product.external_id, content, write, listed, options), errors


def _item(
    external_id: str,
    content: str,
    write: ProductWrite | None,
    listed: tuple[SourceImage, ...],
    options: ImageOptions,
) -> MappedItem:
    places = {image.url: place for place, image in enumerate(listed)}
    return MappedItem(external_id, content, write, listed[: options.per_product], places)


def _images_of(
    source: SourceProduct, external_id: str, options: ImageOptions
) -> tuple[tuple[SourceImage, ...], list[ItemErrorWrite]]:
    """All images of a product that can be had, each once, and why others can't."""
    errors = []
    usable = []
    for image in source.images if options.enabled else ():
        url = clean(image.url)
        if len(url.encode()) > MAX_URL_BYTES:
            message = f"the address is longer than {MAX_URL_BYTES} bytes: {url[:100]}…"
            document = kept_document(image_document(image))
            errors.append(ItemErrorWrite(external_id, "download", "InvalidUrl", message, document=document))
            continue
        alt_text = None if image.alt_text is None else clean(image.alt_text)[:MAX_ALT_TEXT_LENGTH]
        usable.append(SourceImage(url, alt_text))
    return distinct_images(usable, len(usable)), errors


def _shown(external_id: str) -> str:
    return clean(external_id)[:MAX_TEXT_LENGTH]
