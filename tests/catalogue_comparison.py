"""Compares what an import left in PostgreSQL and S3 with the sample catalogue, field by field, in words.

Every function returns its findings, none when all is as in the source, so that the tests of whole
installations can assert on them and the fault tests can collect them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyvips
from obstore.store import S3Store

from import_local.samples.catalogue.expected import (
    ExpectedImage,
    ExpectedProduct,
    Provider,
    expected_products,
)
from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.registry import open_catalogue
from import_local.samples.catalogue.roastify_fields import UNLIMITED_STOCK
from import_local.samples.settings import default_data_folder

THUMBNAILS = ("256", "1024")
"""Longest sides, in pixels, of the thumbnails that an ImportJob asks for by default."""
OBJECTS_AT_ONCE = 8

PRODUCTS = """
SELECT "companyId", "externalId", title, description, status, vendor, "productType", tags, price, sku, variants
FROM "Product" WHERE "companyId" = ANY(%s) AND "importSource" = %s ORDER BY 1, 2
"""
IMAGES = """
SELECT p."companyId", p."externalId", i."sourceUrl", i."altText", i.key, i.sha256, i."contentType", i.width,
       i.height, i.bytes, i.thumbnails
FROM "ProductImage" i JOIN "Product" p ON p.id = i."productId"
WHERE p."companyId" = ANY(%s) AND p."importSource" = %s ORDER BY 1, 2, i.position, i.id
"""

Wanted = Mapping[str, ExpectedProduct]
Row = Sequence[Any]


def catalogue_of(name: str, kind: Provider, sample_root: str) -> dict[str, ExpectedProduct]:
    """Products of a sample catalogue by external id; `sample_root` is the sample server's address."""
    catalogue = LiveCatalogue(open_catalogue(name, default_data_folder()))
    return {product.id: product for product in expected_products(catalogue, kind, sample_root)}


def compare_products(rows: Iterable[Row], wanted: Wanted, kind: Provider) -> list[str]:
    """Findings in one company's rows of PRODUCTS: missing, doubled, unknown or different products."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row[1]), []).append(row)
    findings = [f"product {key} is missing" for key in wanted if key not in found]
    for key, versions in found.items():
        if len(versions) > 1:
            findings.append(f"product {key} is there {len(versions)} times")
        if key not in wanted:
            findings.append(f"product {key} is not in the source")
            continue
        findings += _differences(
            f"product {key}", _product(versions[0], kind), _wanted_product(wanted[key], kind)
        )
    return findings


def compare_images(rows: Iterable[Row], wanted: Wanted, kind: Provider) -> list[str]:
    """Findings in one company's rows of IMAGES, in the order of their positions."""
    by_product: dict[str, list[Row]] = {}
    for row in rows:
        by_product.setdefault(str(row[1]), []).append(row)
    findings = [
        f"images of product {key}, which is not in the source" for key in set(by_product) - set(wanted)
    ]
    for key, product in wanted.items():
        images = by_product.get(key, [])
        urls = [row[2] for row in images]
        if urls != [image.url for image in product.images]:
            expected = [image.url for image in product.images]
            findings.append(f"images of product {key} are {urls}, in the source {expected}")
            continue
        for row, image in zip(images, product.images, strict=True):
            findings += _differences(f"image {image.url}", _image(row, kind), _wanted_image(image, kind))
    return findings


async def compare_objects(store: S3Store, rows: Iterable[Row], wanted: Wanted) -> list[str]:
    """Findings in the objects that the rows of IMAGES name: absent, other bytes, thumbnails of a wrong size."""
    source = {image.url: image for product in wanted.values() for image in product.images}
    distinct = {str(row[4]): row for row in rows if row[2] in source}
    gate = asyncio.Semaphore(OBJECTS_AT_ONCE)

    async def compare(key: str, row: Row) -> list[str]:
        async with gate:
            return await _compare_object(store, key, row, source[row[2]])

    found = await asyncio.gather(*(compare(key, row) for key, row in distinct.items()))
    return [finding for findings in found for finding in findings]


def keys_of(rows: Iterable[Row]) -> set[str]:
    """Keys of all objects that the rows of IMAGES name, thumbnails included."""
    return {key for row in rows for key in (row[4], *(row[10] or {}).values())}


def _product(row: Row, kind: Provider) -> dict[str, Any]:
    fields = {"title": row[2], "description": row[3], "price": row[8]}
    if kind == "whatsapp":
        # A catalogue's page tells no SKU, and neither way of reading knows variants.
        return fields
    fields["sku"] = row[9]
    if kind == "shopify":
        fields |= {"status": row[4], "vendor": row[5], "type": row[6], "tags": sorted(row[7] or [])}
    fields["variants"] = [
        {
            "id": variant["external_id"],
            "title": variant["title"],
            "sku": variant["sku"],
            "price": Decimal(variant["price"]),
            "inventory": variant["inventory_quantity"],
            **({"compareAt": _number(variant["compare_at_price"])} if kind == "shopify" else {}),
        }
        for variant in row[10]
    ]
    return fields


def _wanted_product(product: ExpectedProduct, kind: Provider) -> dict[str, Any]:
    first = product.variants[0]
    fields: dict[str, Any] = {
        "title": product.title,
        "description": _wanted_text(product.description),
        "price": Decimal(first.price_cents) / 100,
    }
    if kind == "whatsapp":
        return fields
    fields["sku"] = _wanted_text(first.sku)
    if kind == "shopify":
        fields |= {
            "status": product.status,
            "vendor": product.vendor,
            "type": product.product_type,
            "tags": sorted(product.tags),
        }
    fields["variants"] = [
        {
            "id": variant.id,
            "title": variant.title,
            "sku": _wanted_text(variant.sku),
            "price": Decimal(variant.price_cents) / 100,
            "inventory": _wanted_stock(variant.inventory_quantity, kind),
            **(
                {"compareAt": variant.compare_at_cents and Decimal(variant.compare_at_cents) / 100}
                if kind == "shopify"
                else {}
            ),
        }
        for variant in product.variants
    ]
    return fields


def _wanted_text(value: str | None) -> str | None:
    # A blank text says nothing: it is kept as absent.
    return value if value and value.strip() else None


def _wanted_stock(quantity: int, kind: Provider) -> int | None:
    return None if kind == "roastify" and quantity == UNLIMITED_STOCK else quantity


def _number(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _image(row: Row, kind: Provider) -> dict[str, Any]:
    fields = {"sha256": row[5], "type": row[6], "width": row[7], "height": row[8], "bytes": row[9]}
    return {**fields, "thumbnails": sorted(row[10] or {}), **({"alt": row[3]} if kind == "shopify" else {})}


def _wanted_image(image: ExpectedImage, kind: Provider) -> dict[str, Any]:
    content = image.content()
    fields = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "type": image.content_type,
        "width": image.width,
        "height": image.height,
        "bytes": len(content),
        "thumbnails": sorted(THUMBNAILS),
    }
    return {**fields, **({"alt": image.alt} if kind == "shopify" else {})}


def _differences(subject: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for field, value in wanted.items():
        if found[field] != value:
            yield f"{subject}: {field} is {found[field]!r}, in the source {value!r}"


async def _compare_object(store: S3Store, key: str, row: Row, image: ExpectedImage) -> list[str]:
    content = await _read(store, key)
    if content is None:
        return [f"object {key} is missing"]
    findings = [] if content == image.content() else [f"object {key} is not the source's {image.url}"]
    for longest, thumbnail in (row[10] or {}).items():
        stored = await _read(store, thumbnail)
        if stored is None:
            findings.append(f"object {thumbnail} is missing")
        else:
            findings += await asyncio.to_thread(_compare_thumbnail, thumbnail, stored, image, int(longest))
    return findings


def _compare_thumbnail(key: str, content: bytes, image: ExpectedImage, longest: int) -> list[str]:
    try:
        picture = pyvips.Image.new_from_buffer(content, "")
        picture.avg()  # decodes every pixel
    except pyvips.Error as error:
        return [f"object {key} can't be decoded: {error}"]
    scale = min(1.0, longest / max(image.width, image.height))
    wanted = (image.width * scale, image.height * scale)
    if abs(picture.width - wanted[0]) > 1 or abs(picture.height - wanted[1]) > 1:
        return [
            f"object {key} has {picture.width} × {picture.height} pixels, not {wanted[0]:g} × {wanted[1]:g}"
        ]
    return []


async def _read(store: S3Store, key: str) -> bytes | None:
    try:
        return bytes(await (await store.get_async(key)).bytes_async())
    except FileNotFoundError:
        return None
