"""Products as they travel through the pipeline: the provider's, the mapped ones, and their identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image as the provider names it."""

    url: str
    alt_text: str | None = None


def image_document(image: SourceImage) -> dict[str, Any]:
    """The source's entry of an image, as it is kept with the image's failure.

    Without the address's query, which may be a signature that opens the image to whoever reads it.
    """
    address = image.url.partition("#")[0].partition("?")[0]
    return {"url": address, "altText": image.alt_text}


@dataclass(frozen=True, slots=True)
class SourceProduct:
    """One product as the provider gave it; `document` is the provider's own JSON object."""

    external_id: str
    document: Mapping[str, Any]
    images: tuple[SourceImage, ...] = ()


class ProductFailure(NamedTuple):
    """A product that the provider could not give; `document` is what was read of it, where anything was.

    `external_id` is the product's own, or with the reason NoExternalId whatever names its place.
    """

    external_id: str
    reason: str
    message: str
    document: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a catalogue; importing it is one checkpoint.

    `cursor` resumes *after* this page (JSON values only; None: it was the last).
    `total` is the number of products in the whole catalogue where the provider tells.
    `failures` are products of this page that the provider could not give.
    `restarted`: the catalogue starts over with this page, so what was counted before comes again.
    """

    products: tuple[SourceProduct, ...]
    cursor: Mapping[str, Any] | None
    total: int | None = None
    failures: tuple[ProductFailure, ...] = ()
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class MappedVariant:
    """One variant in the platform's terms; prices in the currency's main unit."""

    external_id: str
    title: str | None = None
    sku: str | None = None
    price: Decimal | None = None
    compare_at_price: Decimal | None = None
    barcode: str | None = None
    inventory_quantity: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    weight_grams: Decimal | None = None


@dataclass(frozen=True, slots=True)
class MappedProduct:
    """One product in the platform's terms; prices in the currency's main unit."""

    external_id: str
    title: str
    description: str | None = None
    handle: str | None = None
    sku: str | None = None
    barcode: str | None = None
    price: Decimal | None = None
    compare_at_price: Decimal | None = None
    currency: str | None = None
    vendor: str | None = None
    product_type: str | None = None
    status: str | None = None
    tags: tuple[str, ...] = ()
    inventory_quantity: int | None = None
    variants: tuple[MappedVariant, ...] = ()


def to_json_value(value: object) -> Any:
    """Turn a dataclass of this module into plain JSON values; decimals become strings in plain notation."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    return _plain(value) if isinstance(value, Decimal) else value


_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


def encode_product(product: MappedProduct) -> str:
    """The JSON text of `to_json_value(product)` with its names sorted.

    Written out for this one class: a product is encoded for its hash and its row, which was half of what an import
    computed.
    """
    return _encode(
        {
            "barcode": product.barcode,
            "compare_at_price": _plain(product.compare_at_price),
            "currency": product.currency,
            "description": product.description,
            "external_id": product.external_id,
            "handle": product.handle,
            "inventory_quantity": product.inventory_quantity,
            "price": _plain(product.price),
            "product_type": product.product_type,
            "sku": product.sku,
            "status": product.status,
            "tags": product.tags,
            "title": product.title,
            "variants": [_variant_document(variant) for variant in product.variants],
            "vendor": product.vendor,
        }
    )


def _variant_document(variant: MappedVariant) -> dict[str, Any]:
    options = variant.options
    return {
        "barcode": variant.barcode,
        "compare_at_price": _plain(variant.compare_at_price),
        "external_id": variant.external_id,
        "inventory_quantity": variant.inventory_quantity,
        "options": dict(sorted(options.items())) if len(options) > 1 else options,
        "price": _plain(variant.price),
        "sku": variant.sku,
        "title": variant.title,
        "weight_grams": _plain(variant.weight_grams),
    }


def _plain(value: Decimal | None) -> str | None:
    if value is None:
        return None
    normal = value.normalize()
    text = str(normal)
    # A fifth of the time of a format, which only a number with an exponent needs.
    return format(normal, "f") if "E" in text else text


def content_hash(product: MappedProduct, images: Sequence[SourceImage], *, encoded: str | None = None) -> str:
    """Identity of a product's content: equal hashes mean that nothing has to be written (hex SHA-256).

    `encoded` is what `encode_product` made of the product, where that is there already.
    """
    shown = _encode([[image.url, image.alt_text] for image in images])
    content = f'{{"images":{shown},"product":{encode_product(product) if encoded is None else encoded}}}'
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def distinct_images(images: Sequence[SourceImage], limit: int) -> tuple[SourceImage, ...]:
    """The first `limit` images with different URLs, in order: the URL is an image's identity in a product."""
    seen: dict[str, SourceImage] = {}
    for image in images:
        if len(seen) >= limit:
            break
        seen.setdefault(image.url, image)
    return tuple(seen.values())
