"""Products, images and checkpoints: one page of a catalogue in one transaction, behind the claim."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from psycopg.types.json import Jsonb

from import_core.adapters.postgres.claims import PAGE_TRANSACTION_SECONDS, lock_claim
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.removals import Owner, record_seen
from import_core.adapters.postgres.rows import cursor_to_json, progress_to_json
from import_core.adapters.postgres.steps import record_steps
from import_core.domain.item_errors import (
    DISCARDED_STAGE,
    GONE_FROM_SOURCE,
    MOST_DOCUMENTS,
    NO_EXTERNAL_ID,
    EarlierFailure,
)
from import_core.domain.jobs import Checkpoint, Claim
from import_core.domain.products import KnownSource, MappedProduct, encode_product
from import_core.domain.steps import BATCH_SIZES, StepKind, asked_steps

# What is known of a page's products before it is imported: unchanged ones are not written, and images
# that are there already are asked for conditionally.
KNOWN_PRODUCTS = """
SELECT "externalId", id, "contentHash" FROM "Product"
WHERE "companyId" = %s AND "importSource" = %s AND "externalId" = ANY(%s)
"""
# A hint of which of a page's products are as they were: those need not be mapped.
SOURCE_HASHES = """
SELECT "externalId", "contentHash", "sourceHash" FROM "Product"
WHERE "companyId" = %s AND "importSource" = %s AND "externalId" = ANY(%s)
  AND "contentHash" IS NOT NULL AND "sourceHash" IS NOT NULL
"""
KNOWN_IMAGES = """
SELECT "productId", "sourceUrl", position, "altText", etag, "lastModified", key, sha256, thumbnails
FROM "ProductImage" WHERE "productId" = ANY(%s)
"""

# Rows travel as one JSON array: one parse and one plan, whatever the page's size. A row with an equal
# hash is left alone, so that importing again writes no row version.
UPSERT_PRODUCTS = """
INSERT INTO "Product" AS p
    (id, "companyId", "externalId", "importSource", title, description, handle, sku, barcode, price,
     "compareAtPrice", currency, vendor, "productType", status, tags, "inventoryQuantity", variants, "contentHash",
     "sourceHash", connection, "createdAt", "updatedAt")
SELECT gen_random_uuid(), %(company)s, r.external_id, %(source)s, r.title, r.description, r.handle, r.sku,
       r.barcode, r.price, r.compare_at_price, r.currency, r.vendor, r.product_type, r.status, r.tags,
       r.inventory_quantity, r.variants, r.content_hash, r.source_hash, %(connection)s, now(), now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (
    external_id text, title text, description text, handle text, sku text, barcode text, price numeric,
    compare_at_price numeric, currency text, vendor text, product_type text, status text, tags text[],
    inventory_quantity bigint, variants jsonb, content_hash text, source_hash text)
ORDER BY r.external_id
ON CONFLICT ("companyId", "externalId", "importSource") DO UPDATE SET
    title = excluded.title, description = excluded.description, handle = excluded.handle, sku = excluded.sku,
    barcode = excluded.barcode, price = excluded.price, "compareAtPrice" = excluded."compareAtPrice",
    currency = excluded.currency, vendor = excluded.vendor, "productType" = excluded."productType",
    status = excluded.status, tags = excluded.tags, "inventoryQuantity" = excluded."inventoryQuantity",
    variants = excluded.variants, "contentHash" = excluded."contentHash", "sourceHash" = excluded."sourceHash",
    connection = coalesce(excluded.connection, p.connection), "updatedAt" = now()
WHERE p."contentHash" IS DISTINCT FROM excluded."contentHash"
"""
UPSERT_IMAGES = """
INSERT INTO "ProductImage" AS i
    (id, "productId", position, "sourceUrl", "altText", etag, "lastModified", key, sha256, "contentType", width,
     height, bytes, thumbnails, "createdAt", "updatedAt")
SELECT gen_random_uuid(), p.id, r.position, r.source_url, r.alt_text, r.etag, r.last_modified, r.key, r.sha256,
       r.content_type, r.width, r.height, r.bytes, r.thumbnails, now(), now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (
    external_id text, position integer, source_url text, alt_text text, etag text, last_modified text,
    key text, sha256 text, content_type text, width integer, height integer, bytes bigint, thumbnails jsonb)
JOIN "Product" p ON p."companyId" = %(company)s AND p."importSource" = %(source)s AND p."externalId" = r.external_id
ORDER BY p.id, r.source_url
ON CONFLICT ("productId", "sourceUrl") DO UPDATE SET
    position = excluded.position, "altText" = excluded."altText", etag = excluded.etag,
    "lastModified" = excluded."lastModified", key = excluded.key, sha256 = excluded.sha256,
    "contentType" = excluded."contentType", width = excluded.width, height = excluded.height,
    bytes = excluded.bytes, thumbnails = excluded.thumbnails, "updatedAt" = now()
WHERE (i.position, i."altText", i.etag, i."lastModified", i.key, i.thumbnails) IS DISTINCT FROM
      (excluded.position, excluded."altText", excluded.etag, excluded."lastModified", excluded.key,
       excluded.thumbnails)
"""
TOUCH_IMAGES = """
UPDATE "ProductImage" i SET position = r.position, "altText" = r.alt_text, etag = r.etag,
    "lastModified" = r.last_modified, "updatedAt" = now()
FROM jsonb_to_recordset(%s::jsonb) AS r
    (product_id text, source_url text, position integer, alt_text text, etag text, last_modified text)
WHERE i."productId" = r.product_id AND i."sourceUrl" = r.source_url
  AND (i.position, i."altText", i.etag, i."lastModified") IS DISTINCT FROM
      (r.position, r.alt_text, r.etag, r.last_modified)
"""
# Images that the source no longer lists; their objects stay, other products may show the same bytes.
DELETE_IMAGES = """
DELETE FROM "ProductImage" i USING jsonb_to_recordset(%s::jsonb) AS r (product_id text, source_url text)
WHERE i."productId" = r.product_id AND i."sourceUrl" = r.source_url
"""
# Products that failed, wholly or in images, in the order of their ids; those without an id can't be asked for, and
# those that a person has discarded are not.
FAILED_PRODUCTS = f"""
SELECT external_id, bool_or(url = '' AND stage IN ('fetch', 'map')),
    coalesce(array_agg(DISTINCT url) FILTER (WHERE url <> ''), '{{}}')
FROM imports.item_error
WHERE job_id = %s AND external_id > %s AND reason <> '{NO_EXTERNAL_ID}' AND stage <> '{DISCARDED_STAGE}'
GROUP BY external_id ORDER BY external_id LIMIT %s
"""
ITEMS_LEFT = f"""
SELECT count(*) FILTER (WHERE reason = '{NO_EXTERNAL_ID}' OR external_id = ''),
    count(DISTINCT external_id) FILTER (WHERE reason = '{GONE_FROM_SOURCE}'),
    EXISTS (SELECT FROM imports.seen_product WHERE job_id = %(job)s)
FROM imports.item_error WHERE job_id = %(job)s AND stage <> '{DISCARDED_STAGE}'
"""
# What failed stays the same item with its document; only why it fails now is another matter.
RESTATE_ITEM_ERRORS = """
UPDATE imports.item_error e SET reason = r.reason, message = r.message, created_at = clock_timestamp()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (external_id text, reason text, message text)
WHERE e.job_id = %(job)s AND e.external_id = r.external_id
"""
CLEAR_ITEM_ERRORS = "DELETE FROM imports.item_error WHERE job_id = %s AND external_id = ANY(%s)"
# The job's errors so far are counted no further than matters.
INSERT_ITEM_ERRORS = f"""
INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message, document)
SELECT %(job)s, r.external_id, r.stage, r.url, r.reason, r.message,
    CASE WHEN row_number() OVER () <= {MOST_DOCUMENTS} - (
        SELECT count(*) FROM (
            SELECT FROM imports.item_error WHERE job_id = %(job)s LIMIT {MOST_DOCUMENTS}) earlier)
    THEN r.document END
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r
    (external_id text, stage text, url text, reason text, message text, document jsonb)
"""
# The start is that of the run whose pages these are: a job that is confirmed starts anew and reads none.
WRITE_CHECKPOINT = """
INSERT INTO imports.checkpoint AS c (job_id, version, cursor, progress, pages, started_at)
VALUES (%(job)s, %(version)s, %(cursor)s, %(progress)s, %(pages)s,
    (SELECT "startedAt" FROM "ProductImportJob" WHERE id = %(job)s))
ON CONFLICT (job_id) DO UPDATE SET version = excluded.version, cursor = excluded.cursor,
    progress = excluded.progress, pages = excluded.pages, updated_at = clock_timestamp(),
    started_at = coalesce(c.started_at, excluded.started_at)
"""


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image row as it stands: what a conditional request and an unchanged row need."""

    source_url: str
    position: int
    alt_text: str | None
    etag: str | None
    last_modified: str | None
    key: str
    sha256: str | None
    thumbnails: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KnownProduct:
    """A product row as it stands, with its images by source URL."""

    id: str
    content_hash: str | None
    images: Mapping[str, KnownImage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProductWrite:
    """A product that is new or has changed; `encoded` is its JSON text, where that is there already.

    `source_hash` is kept with it, by which the next import knows that its source is as it was.
    """

    product: MappedProduct
    content_hash: str
    encoded: bytes | None = None
    source_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ImageWrite:
    """An image that is new or has changed; its objects are stored already."""

    external_id: str
    position: int
    source_url: str
    alt_text: str | None
    etag: str | None
    last_modified: str | None
    key: str
    sha256: str
    content_type: str
    width: int
    height: int
    bytes: int
    thumbnails: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageTouch:
    """An image whose bytes are unchanged, but whose place, text or validators are not."""

    product_id: str
    source_url: str
    position: int
    alt_text: str | None
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class ItemErrorWrite:
    """One product or image that failed, for the item-errors table.

    `url` is empty for products; `document` is the source's own, made storable by `kept_document`.
    """

    external_id: str
    stage: str
    reason: str
    message: str
    url: str = ""
    document: Any = None


@dataclass(frozen=True, slots=True)
class ItemErrorRestatement:
    """Why a product's items that failed before fail now; their stages, URLs and documents stay."""

    external_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ItemsLeft:
    """What is left of a job's failed items: how many have no external id, how many products are gone.

    `has_seen`: the job still keeps what it saw at the source, because products that are gone were asked about.
    """

    unidentified: int
    gone: int
    has_seen: bool


@dataclass(frozen=True, slots=True)
class PageWrite:
    """All that one page changes; committed together with its checkpoint, or not at all.

    An external id is there at most once in `products`. `removed_images` are (product row id, source URL);
    `external_ids` are all products of the page, whose earlier item errors are replaced. `connection` is the
    ImportProvider's name, kept with each product that is written; with `records_seen` the ids are kept too, so
    that products which the whole run did not see can be archived.
    """

    import_source: str
    external_ids: Sequence[str]
    products: Sequence[ProductWrite]
    images: Sequence[ImageWrite]
    errors: Sequence[ItemErrorWrite]
    checkpoint: Checkpoint
    touched_images: Sequence[ImageTouch] = ()
    removed_images: Sequence[tuple[str, str]] = ()
    restated: Sequence[ItemErrorRestatement] = ()
    connection: str | None = None
    records_seen: bool = False


class CatalogueStore:
    """Products and images in PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database, *, batch_sizes: Mapping[StepKind, int] = BATCH_SIZES) -> None:
        self._database = database
        self._batch_sizes = batch_sizes

    async def known(
        self, company_id: str, import_source: str, external_ids: Sequence[str], *, with_images: bool = True
    ) -> dict[str, KnownProduct]:
        """Rows of these products, by external id, with their images where they are asked for; new ones are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(KNOWN_PRODUCTS, (company_id, import_source, list(external_ids)))
            products = await cursor.fetchall()
            images: dict[str, dict[str, KnownImage]] = {}
            if products and with_images:
                cursor = await connection.execute(KNOWN_IMAGES, ([row[1] for row in products],))
                for product_id, *values in await cursor.fetchall():
                    images.setdefault(product_id, {})[values[0]] = KnownImage(*values)
        return {
            external: KnownProduct(row_id, digest, images.get(row_id, {}))
            for external, row_id, digest in products
        }

    async def known_sources(
        self, company_id: str, import_source: str, external_ids: Sequence[str]
    ) -> dict[str, KnownSource]:
        """What rows of these products say of their sources, by external id; others are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(SOURCE_HASHES, (company_id, import_source, list(external_ids)))
            return {external_id: KnownSource(*hashes) for external_id, *hashes in await cursor.fetchall()}

    async def failed_products(self, job_id: str, *, after: str, limit: int) -> list[EarlierFailure]:
        """Products of a job with item errors, in the order of their external ids, behind `after`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(FAILED_PRODUCTS, (job_id, after, limit))
            return [
                EarlierFailure(external_id, is_product=is_product, urls=frozenset(urls))
                for external_id, is_product, urls in await cursor.fetchall()
            ]

    async def items_left(self, job_id: str) -> ItemsLeft:
        """What is left of a job's failed items."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ITEMS_LEFT, {"job": job_id})
            (row,) = await cursor.fetchall()
            return ItemsLeft(*row)

    async def commit_page(self, claim: Claim, page: PageWrite) -> None:
        """Commit a page and its checkpoint under the claim.

        Raises ClaimLostError when the claim has ended or expired (nothing is written then), and
        DatabaseUnavailableError, also when the transaction took more than 15 s.
        """
        rows = await asyncio.to_thread(_encode, page)
        async with self._database.transaction(
            timeout_seconds=PAGE_TRANSACTION_SECONDS, pipelined=True
        ) as connection:
            await lock_claim(connection, claim)
            scope = {"company": claim.job.company_id, "source": page.import_source}
            if rows.products:
                await connection.execute(
                    UPSERT_PRODUCTS, {**scope, "connection": page.connection, "rows": rows.products}
                )
            if page.records_seen and page.connection is not None:
                owner = Owner(claim.job.company_id, page.import_source, page.connection)
                await record_seen(connection, claim.job.id, owner, page.external_ids)
            if rows.removed_images:
                await connection.execute(DELETE_IMAGES, (rows.removed_images,))
            if rows.touched_images:
                await connection.execute(TOUCH_IMAGES, (rows.touched_images,))
            if rows.images:
                await connection.execute(UPSERT_IMAGES, {**scope, "rows": rows.images})
            await connection.execute(CLEAR_ITEM_ERRORS, (claim.job.id, list(page.external_ids)))
            if rows.restated:
                await connection.execute(RESTATE_ITEM_ERRORS, {"job": claim.job.id, "rows": rows.restated})
            if rows.errors:
                await connection.execute(INSERT_ITEM_ERRORS, {"job": claim.job.id, "rows": rows.errors})
            steps = asked_steps(claim.job.spec)
            if steps:
                await record_steps(
                    *(connection, claim, steps),
                    import_source=page.import_source,
                    external_ids=page.external_ids,
                    sizes=self._batch_sizes,
                )
            await _write_checkpoint(connection, claim.job.id, page.checkpoint)


async def _write_checkpoint(connection: Connection, job_id: str, checkpoint: Checkpoint) -> None:
    await connection.execute(
        WRITE_CHECKPOINT,
        {
            "job": job_id,
            "version": checkpoint.version,
            "cursor": Jsonb(cursor_to_json(checkpoint)),
            "progress": Jsonb(progress_to_json(checkpoint.progress)),
            "pages": checkpoint.pages,
        },
    )


@dataclass(frozen=True, slots=True)
class _EncodedPage:
    """A page's rows as JSON text; None where there are none."""

    products: str | None
    images: str | None
    errors: str | None
    touched_images: str | None
    removed_images: str | None
    restated: str | None


def _encode(page: PageWrite) -> _EncodedPage:
    """Encode all rows, in a thread and before the transaction: long texts take long, and block nobody."""
    return _EncodedPage(
        products=f"[{b','.join(map(_product_row, page.products)).decode()}]" if page.products else None,
        images=_json(page.images),
        errors=_json(page.errors),
        touched_images=_json(page.touched_images),
        removed_images=_json(
            [{"product_id": product, "source_url": url} for product, url in page.removed_images]
        ),
        restated=_json(page.restated),
    )


_encode_json = msgspec.json.Encoder().encode


def _json(rows: Sequence[object]) -> str | None:
    return _encode_json(rows).decode() if rows else None


def _product_row(write: ProductWrite) -> bytes:
    encoded = write.encoded if write.encoded is not None else encode_product(write.product)
    own = _encode_json({"content_hash": write.content_hash, "source_hash": write.source_hash})
    return b"%b,%b" % (own[:-1], encoded[1:])
