"""The shape of a sample catalogue: products, variants and images, computed when asked for."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

Status = Literal["ACTIVE", "ARCHIVED", "DRAFT", "UNLISTED"]
MediaKind = Literal["IMAGE", "VIDEO"]

# A product's room of numbers: variants and media of one product never meet another product's.
VARIANT_ROOM = 5_000
MEDIA_ROOM = 100
EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a product ("Size") with its values in shop order."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One variant. Prices are whole cents, weight is grams; `number` is unique in its shop."""

    number: int
    title: str
    sku: str
    price_cents: int
    compare_at_cents: int | None
    barcode: str | None
    inventory_quantity: int
    tracked: bool
    weight_grams: int
    selected: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One medium of a product.

    `ready` is False while the provider still processes it: its address is not known then. `path` overrides
    the address below the server's root (hostile images live elsewhere). `drawing` names the content: two
    images with the same drawing have the same bytes. Width and height are pixels.
    """

    number: int
    filename: str
    alt: str | None
    width: int
    height: int
    content_type: str
    drawing: str
    kind: MediaKind = "IMAGE"
    ready: bool = True
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product as the shop knows it; `index` counts from 0 in its catalogue, times are UTC."""

    index: int
    number: int
    title: str
    handle: str
    description_html: str
    vendor: str
    product_type: str
    status: Status
    tags: tuple[str, ...]
    options: tuple[Option, ...]
    variants: tuple[Variant, ...]
    images: tuple[Image, ...]
    created_at: datetime
    updated_at: datetime


class Catalogue(Protocol):
    """A shop's content. Products are computed from their index, so that no catalogue is held in memory."""

    name: str

    def count(self) -> int:
        """Return the number of products; indexes run from 0 to count - 1."""
        ...

    def product(self, index: int) -> Product:
        """Return product `index`; IndexError outside of the catalogue."""
        ...

    def updated_at(self, index: int) -> datetime:
        """Return when product `index` last changed, cheaper than computing the product."""
        ...

    def image_bytes(self, image: Image, revision: int) -> bytes:
        """Return the encoded image; `revision` above 0 gives other content. Takes CPU: call it in a thread."""
        ...


def number_base(name: str) -> int:
    """Return the start of a shop's room of numbers, so that two shops never share an id (below 2**53)."""
    return (1 + zlib.crc32(name.encode()) % 900_000) * 1_000_000_000


def product_number(name: str, index: int) -> int:
    """Return the numeric id of product `index` in the shop `name`."""
    return number_base(name) + index + 1


def index_of_number(name: str, number: int) -> int | None:
    """Return the index that `product_number` made `number` of, or None if it is not this shop's."""
    index = number - number_base(name) - 1
    return index if 0 <= index < 100_000_000 else None


def variant_number(name: str, index: int, variant: int) -> int:
    """Return the numeric id of a product's variant, counted from 0."""
    return number_base(name) + (index + 1) * VARIANT_ROOM + variant


def index_of_variant(name: str, number: int) -> tuple[int, int] | None:
    """Return (product index, variant index) of a variant's number, or None if it is not this shop's."""
    product, variant = divmod(number - number_base(name), VARIANT_ROOM)
    return (product - 1, variant) if product >= 1 else None


def media_number(name: str, index: int, image: int) -> int:
    """Return the numeric id of a product's medium, counted from 0."""
    return number_base(name) + (index + 1) * MEDIA_ROOM + image


def index_of_media(name: str, number: int) -> tuple[int, int] | None:
    """Return (product index, media index) of a medium's number, or None if it is not this shop's."""
    product, image = divmod(number - number_base(name), MEDIA_ROOM)
    return (product - 1, image) if product >= 1 else None


def decimal_price(cents: int) -> str:
    """Return cents as Shopify's decimal string ("1299.00")."""
    return f"{cents // 100}.{cents % 100:02d}"
