"""The Liquid sample shop: 9 products with 28 variants, read from YAML, with drawn images."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from import_local.samples.catalogue.model import (
    EPOCH,
    Image,
    Option,
    Product,
    Variant,
    media_number,
    product_number,
    variant_number,
)
from import_local.samples.images import draw

Entry = dict[str, Any]


class LiquidCatalogue:
    """The shop of `vision.database.yml`; its photographs are not part of it, so pictures are drawn."""

    def __init__(self, file: Path, name: str = "liquid") -> None:
        self.name = name
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        self._products = [self._build(index, entry) for index, entry in enumerate(content["products"])]

    def count(self) -> int:
        """Return the number of products."""
        return len(self._products)

    def product(self, index: int) -> Product:
        """Return product `index`; IndexError outside of the catalogue."""
        return self._products[index]

    def updated_at(self, index: int) -> datetime:
        """Return when product `index` last changed."""
        return self._products[index].updated_at

    def image_bytes(self, image: Image, revision: int) -> bytes:
        """Return the drawn image as JPEG."""
        drawing = f"{image.drawing}@{revision}" if revision else image.drawing
        return draw(drawing, image.width, image.height, "jpeg")

    def _build(self, index: int, entry: Entry) -> Product:
        names: list[str] = list(entry["options"])
        variants = tuple(
            self._variant(index, position, names, variant)
            for position, variant in enumerate(entry["variants"])
        )
        options = tuple(
            Option(name, tuple(dict.fromkeys(dict(variant.selected)[name] for variant in variants)))
            for name in names
        )
        return Product(
            index=index,
            number=product_number(self.name, index),
            title=str(entry["title"]),
            handle=str(entry["handle"]),
            description_html=str(entry["description"]).strip(),
            vendor=str(entry["vendor"]),
            product_type=str(entry["type"]),
            status="ACTIVE",
            tags=tuple(str(tag) for tag in entry.get("tags") or ()),
            options=options,
            variants=variants,
            images=tuple(self._image(index, *item) for item in enumerate(entry.get("images") or ())),
            created_at=EPOCH - timedelta(days=60),
            updated_at=EPOCH + timedelta(days=index),
        )

    def _variant(self, index: int, position: int, names: list[str], entry: Entry) -> Variant:
        values = [str(entry[f"option{number}"]) for number in range(1, len(names) + 1)]
        return Variant(
            number=variant_number(self.name, index, position),
            title=str(entry["title"]),
            sku=f"LIQ-{entry['id']}",
            price_cents=int(entry["price"]),
            compare_at_cents=entry["compare_at_price"],
            barcode=None,
            inventory_quantity=int(entry["inventory_quantity"]),
            tracked=True,
            weight_grams=int(entry["weight"]),
            selected=tuple(zip(names, values, strict=True)),
        )

    def _image(self, index: int, position: int, file: str) -> Image:
        return Image(
            number=media_number(self.name, index, position),
            filename=Path(file).with_suffix(".jpg").name,
            alt=None,
            width=1024,
            height=768,
            content_type="image/jpeg",
            drawing=f"{self.name}/{file}",
        )
