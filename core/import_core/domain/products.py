"""Products as they travel through the pipeline: the provider's, the mapped ones, and their identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec


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


class MappedVariant(msgspec.Struct, frozen=True):
    """One variant in the platform's terms; prices in the currency's main unit, decimals as `values.plain` has them."""

    external_id: str
    title: str | None = None
    sku: str | None = None
    price: Decimal | None = None
    compare_at_price: Decimal | None = None
    barcode: str | None = None
    inventory_quantity: int | None = None
    options: Mapping[str, str] = {}
    weight_grams: Decimal | None = None


class MappedProduct(msgspec.Struct, frozen=True):
    """One product in the platform's terms; prices in the currency's main unit, decimals as `values.plain` has them.

    A class of msgspec, which makes and encodes one in a tenth of the time that a dataclass takes.
    """

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


def to_json_value(product: MappedProduct) -> Any:
    """A product as plain JSON values; decimals become strings."""
    return msgspec.json.decode(msgspec.json.encode(product))


_encode = msgspec.json.Encoder(order="sorted").encode
"""With names sorted and nothing escaped that need not be: hashes in the tables are of this very text."""


def encode_product(product: MappedProduct) -> bytes:
    """A product's JSON text (UTF-8), which its hash and its row are made of."""
    return _encode(product)


def content_hash(
    product: MappedProduct, images: Sequence[SourceImage], *, encoded: bytes | None = None
) -> str:
    """Identity of a product's content: equal hashes mean that nothing has to be written (hex SHA-256).

    `encoded` is what `encode_product` made of the product, where that is there already.
    """
    shown = _encode([(image.url, image.alt_text) for image in images])
    content = b'{"images":%b,"product":%b}' % (shown, encode_product(product) if encoded is None else encoded)
    return hashlib.sha256(content).hexdigest()


class KnownSource(NamedTuple):
    """What a product's row says of its source; `source_hash` is what `source_hash` gave when the row was written."""

    content_hash: str
    source_hash: str


def source_digest(source: SourceProduct, fingerprint: str) -> str | None:
    """Identity of all that a product's row is made of: what its source says, and by what that becomes a row.

    None where it has none: a document with what is no JSON, such as half a surrogate pair.
    """
    try:
        content = msgspec.msgpack.encode((fingerprint, source.external_id, source.document, source.images))
    except (ValueError, OverflowError, RecursionError):
        return None
    return hashlib.sha256(content).hexdigest()


def source_hash(digest: str, content_hash: str) -> str:
    """The digest, bound to the row as it was written: whoever writes other content, or empties its hash, ends it."""
    return f"{content_hash[:16]}{digest}"


def distinct_images(images: Sequence[SourceImage], limit: int) -> tuple[SourceImage, ...]:
    """The first `limit` images with different URLs, in order: the URL is an image's identity in a product."""
    seen: dict[str, SourceImage] = {}
    for image in images:
        if len(seen) >= limit:
            break
        seen.setdefault(image.url, image)
    return tuple(seen.values())
