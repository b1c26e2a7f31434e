"""What an import of a sample catalogue should find, for tests that compare field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.model import Product
from import_local.samples.catalogue.roastify_fields import description_text, product_type, stock

Provider = Literal["shopify", "roastify", "whatsapp", "gemini"]


def product_gid(number: int) -> str:
    """Return Shopify's global id of a product."""
    return f"gid://shopify/Product/{number}"


def variant_gid(number: int) -> str:
    """Return Shopify's global id of a variant."""
    return f"gid://shopify/ProductVariant/{number}"


def media_gid(number: int, kind: str = "IMAGE") -> str:
    """Return Shopify's global id of a medium."""
    return f"gid://shopify/{'MediaImage' if kind == 'IMAGE' else 'Video'}/{number}"


def roastify_product_id(number: int) -> str:
    """Return Roastify's id of a product."""
    return f"prod_{number}"


def roastify_variant_id(number: int) -> str:
    """Return Roastify's id of a variant."""
    return f"var_{number}"


def whatsapp_product_id(number: int) -> str:
    """Return the id of a product in a WhatsApp catalogue: digits."""
    return str(number)


def whatsapp_variant_id(number: int) -> str:
    """Return the id of what a WhatsApp catalogue tells of a product's first variant; it has no others."""
    return str(number)


IDS = {
    "shopify": (product_gid, variant_gid),
    "roastify": (roastify_product_id, roastify_variant_id),
    "whatsapp": (whatsapp_product_id, whatsapp_variant_id),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedVariant:
    """One variant as the source has it; prices in whole cents."""

    id: str
    title: str
    sku: str
    price_cents: int
    compare_at_cents: int | None
    inventory_quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedImage:
    """One image as the source has it; `content()` draws or reads its exact bytes."""

    id: str
    url: str
    alt: str | None
    content_type: str
    width: int
    height: int
    content: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedProduct:
    """One product as the source has it; images are only those with an address, in the source's order.

    `source` holds every field of the sample product, for comparisons that go further. Roastify has neither
    status, vendor, tags nor compare-at prices, WhatsApp no product types either: those fields are then the sample's
    own. Of a WhatsApp catalogue's product `variants` holds the first one alone, for its price and SKU.
    """

    id: str
    title: str
    description: str
    status: str
    vendor: str
    product_type: str
    tags: tuple[str, ...]
    variants: tuple[ExpectedVariant, ...]
    images: tuple[ExpectedImage, ...]
    source: Product


def expected_products(
    catalogue: LiveCatalogue, provider: Provider, base_url: str
) -> Iterator[ExpectedProduct]:
    """Yield every product of the catalogue as `provider` names it, in the order of its listing.

    `base_url` is the sample server's root, without a slash at the end: the images' addresses start there.
    """
    for _, index in catalogue.order("ID"):
        product = catalogue.product(index)
        if product is not None:
            yield _expected(catalogue, product, provider, base_url)


def _expected(
    catalogue: LiveCatalogue, product: Product, provider: Provider, base_url: str
) -> ExpectedProduct:
    shopify = provider == "shopify"
    product_id, variant_id = IDS[provider]
    images = tuple(
        ExpectedImage(
            id=media_gid(image.number) if shopify else str(image.number),
            url=f"{base_url}/{catalogue.image_path(provider, product, position)}",
            alt=image.alt,
            content_type=image.content_type,
            width=image.width,
            height=image.height,
            content=partial(catalogue.image_bytes, product.index, image),
        )
        for position, image in enumerate(product.images)
        if image.ready and image.kind == "IMAGE"
    )
    variants = tuple(
        ExpectedVariant(
            id=variant_id(variant.number),
            title=variant.title,
            sku=variant.sku,
            price_cents=variant.price_cents,
            compare_at_cents=variant.compare_at_cents if shopify else None,
            inventory_quantity=variant.inventory_quantity if shopify else stock(variant),
        )
        for variant in (product.variants[:1] if provider == "whatsapp" else product.variants)
    )
    return ExpectedProduct(
        id=product_id(product.number),
        title=product.title,
        description=product.description_html if shopify else description_text(product),
        status=product.status,
        vendor=product.vendor,
        product_type=product.product_type if shopify else product_type(product),
        tags=product.tags,
        variants=variants,
        images=images,
        source=product,
    )
