"""Answers single fields of the schema from the shop's catalogue; connections are in `connections`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from import_local.samples.catalogue.expected import media_gid, product_gid, variant_gid
from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.model import (
    Image,
    Product,
    Variant,
    decimal_price,
    index_of_media,
    index_of_number,
    index_of_variant,
)

GID = re.compile(r"gid://shopify/(\w+)/(\d{1,18})")
TAGS = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class VariantNode:
    """A variant together with its product; `position` counts from 0."""

    product: Product
    variant: Variant
    position: int


@dataclass(frozen=True, slots=True)
class MediaNode:
    """A medium together with its product; `position` counts from 0."""

    product: Product
    image: Image
    position: int


@dataclass(frozen=True, slots=True)
class Shop:
    """What the resolvers know of the shop that is asked; `base_url` is the sample server's root."""

    name: str
    catalogue: LiveCatalogue
    base_url: str


Record = dict[str, Any]


def type_of(value: Any) -> str:
    """Return the schema's type of an object that a resolver gave."""
    if isinstance(value, Product):
        return "Product"
    if isinstance(value, VariantNode):
        return "ProductVariant"
    if isinstance(value, MediaNode):
        return "MediaImage" if value.image.kind == "IMAGE" else "Video"
    return str(value["__typename"])


def moment(value: datetime) -> str:
    """Return a time as Shopify writes it: UTC, whole seconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resolve(value: Any, name: str, shop: Shop) -> Any:
    """Return the value of one field of an object; records answer from their own entries."""
    if isinstance(value, Product):
        return PRODUCT[name](value, shop)
    if isinstance(value, VariantNode):
        return VARIANT[name](value, shop)
    if isinstance(value, MediaNode):
        return MEDIA[name](value, shop)
    return value.get(name)


def find_node(gid: str, shop: Shop) -> Any:
    """Return the product, variant or medium of a global id, or None if this shop has none such."""
    match = GID.fullmatch(gid)
    if match is None:
        return None
    kind, number = match[1], int(match[2])
    catalogue = shop.catalogue
    if kind == "Product":
        index = index_of_number(catalogue.name, number)
        return None if index is None else catalogue.product(index)
    if kind == "ProductVariant":
        place = index_of_variant(catalogue.name, number)
        product = catalogue.product(place[0]) if place else None
        if product is None or place is None or place[1] >= len(product.variants):
            return None
        return VariantNode(product, product.variants[place[1]], place[1])
    if kind in {"MediaImage", "Video"}:
        place = index_of_media(catalogue.name, number)
        product = catalogue.product(place[0]) if place else None
        media = media_nodes(product) if product else []
        return next((item for item in media if media_gid(item.image.number, item.image.kind) == gid), None)
    return None


def media_nodes(product: Product) -> list[MediaNode]:
    """Return the product's media in shop order."""
    return [MediaNode(product, image, position) for position, image in enumerate(product.images)]


def variant_nodes(product: Product) -> list[VariantNode]:
    """Return the product's variants in shop order."""
    return [VariantNode(product, variant, position) for position, variant in enumerate(product.variants)]


def _options(product: Product, _shop: Shop) -> list[Record]:
    return [
        {
            "__typename": "ProductOption",
            "id": f"gid://shopify/ProductOption/{product.number * 10 + position}",
            "name": option.name,
            "position": position,
            "values": list(option.values),
        }
        for position, option in enumerate(product.options, start=1)
    ]


def _count(number: int) -> Record:
    return {"__typename": "Count", "count": number, "precision": "EXACT"}


def _image(node: MediaNode, shop: Shop) -> Record | None:
    image = node.image
    if not image.ready or image.kind != "IMAGE":
        return None
    path = shop.catalogue.image_path("shopify", node.product, node.position)
    return {
        "__typename": "Image",
        "id": f"gid://shopify/ImageSource/{image.number}",
        "url": f"{shop.base_url}/{path}",
        "altText": image.alt,
        "width": image.width,
        "height": image.height,
    }


def _preview(node: MediaNode, shop: Shop) -> Record:
    image = _image(node, shop)
    return {
        "__typename": "MediaPreviewImage",
        "status": "READY" if image else "PROCESSING",
        "image": image,
    }


def _inventory_item(node: VariantNode, _shop: Shop) -> Record:
    number = node.variant.number
    weight = {"__typename": "Weight", "value": float(node.variant.weight_grams), "unit": "GRAMS"}
    measurement = {
        "__typename": "InventoryItemMeasurement",
        "id": f"gid://shopify/InventoryItemMeasurement/{number}",
        "weight": weight,
    }
    return {
        "__typename": "InventoryItem",
        "id": f"gid://shopify/InventoryItem/{number}",
        "sku": node.variant.sku or None,
        "tracked": node.variant.tracked,
        "requiresShipping": True,
        "measurement": measurement,
    }


PRODUCT: dict[str, Callable[[Product, Shop], Any]] = {
    "id": lambda product, _: product_gid(product.number),
    "legacyResourceId": lambda product, _: str(product.number),
    "title": lambda product, _: product.title,
    "handle": lambda product, _: product.handle,
    "description": lambda product, _: html.unescape(TAGS.sub(" ", product.description_html)).strip(),
    "descriptionHtml": lambda product, _: product.description_html,
    "vendor": lambda product, _: product.vendor,
    "productType": lambda product, _: product.product_type,
    "status": lambda product, _: product.status,
    "tags": lambda product, _: list(product.tags),
    "createdAt": lambda product, _: moment(product.created_at),
    "updatedAt": lambda product, _: moment(product.updated_at),
    "publishedAt": lambda product, _: moment(product.created_at) if product.status == "ACTIVE" else None,
    "totalInventory": lambda product, _: sum(item.inventory_quantity for item in product.variants),
    "tracksInventory": lambda product, _: any(item.tracked for item in product.variants),
    "hasOnlyDefaultVariant": lambda product, _: product.options[0].name == "Title",
    "isGiftCard": lambda *_: False,
    "options": _options,
    "variantsCount": lambda product, _: _count(len(product.variants)),
    "mediaCount": lambda product, _: _count(len(product.images)),
    "featuredMedia": lambda product, _: next(iter(media_nodes(product)), None),
}
VARIANT: dict[str, Callable[[VariantNode, Shop], Any]] = {
    "id": lambda node, _: variant_gid(node.variant.number),
    "legacyResourceId": lambda node, _: str(node.variant.number),
    "title": lambda node, _: node.variant.title,
    "displayName": lambda node, _: f"{node.product.title} - {node.variant.title}",
    "sku": lambda node, _: node.variant.sku or None,
    "price": lambda node, _: decimal_price(node.variant.price_cents),
    "compareAtPrice": lambda node, _: (
        None if node.variant.compare_at_cents is None else decimal_price(node.variant.compare_at_cents)
    ),
    "barcode": lambda node, _: node.variant.barcode,
    "barcodes": lambda node, _: [node.variant.barcode] if node.variant.barcode else [],
    "inventoryQuantity": lambda node, _: node.variant.inventory_quantity,
    "position": lambda node, _: node.position + 1,
    "availableForSale": lambda node, _: not node.variant.tracked or node.variant.inventory_quantity > 0,
    "taxable": lambda *_: True,
    "createdAt": lambda node, _: moment(node.product.created_at),
    "updatedAt": lambda node, _: moment(node.product.updated_at),
    "selectedOptions": lambda node, _: [
        {"__typename": "SelectedOption", "name": name, "value": value}
        for name, value in node.variant.selected
    ],
    "inventoryItem": _inventory_item,
    "product": lambda node, _: node.product,
}
MEDIA: dict[str, Callable[[MediaNode, Shop], Any]] = {
    "id": lambda node, _: media_gid(node.image.number, node.image.kind),
    "alt": lambda node, _: node.image.alt,
    "status": lambda node, _: "READY" if node.image.ready else "PROCESSING",
    "fileStatus": lambda node, _: "READY" if node.image.ready else "PROCESSING",
    "mediaContentType": lambda node, _: node.image.kind,
    "mimeType": lambda node, _: node.image.content_type,
    "createdAt": lambda node, _: moment(node.product.created_at),
    "duration": lambda *_: 12_000,
    "image": _image,
    "preview": _preview,
}
