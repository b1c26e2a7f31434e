"""How Roastify words a product: descriptions without markup, its own product types, stock without negatives."""

from __future__ import annotations

import html
import re

from import_local.samples.catalogue.model import Product, Variant

UNLIMITED_STOCK = 999
# The product list and the blank catalogue spell the same types differently.
TYPES = (
    ("12ozCoffeeBox", "CoffeeBox12oz"),
    ("12ozCoffeeBag", "CoffeeBag12oz"),
    ("3lbCoffeeBag", "CoffeeBag3lb"),
    ("TeaTin", "TeaTin"),
)
MARKUP = re.compile(r"<[^>]*>")


def description_text(product: Product) -> str:
    """Return the description without markup, as Roastify keeps it."""
    return " ".join(html.unescape(MARKUP.sub(" ", product.description_html)).split())


def product_type(product: Product) -> str:
    """Return the product type as the product list spells it."""
    return TYPES[product.index % len(TYPES)][0]


def stock(variant: Variant) -> int:
    """Return stockQty: 999 stands for unlimited, and there is no negative stock."""
    return max(0, variant.inventory_quantity) if variant.tracked else UNLIMITED_STOCK


def size(product: Product, variant: Variant) -> str:
    """Return the variant's size: its last option, or a bag's usual size where it has no options."""
    return "12oz" if product.options[0].name == "Title" else variant.selected[-1][1]
