"""The Vendure sample catalogue: 54 real products with photographs, read from CSV."""

from __future__ import annotations

import csv
import html
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyvips

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
from import_local.samples.images import watermark

Row = dict[str, str]


def _list(cell: str) -> list[str]:
    return [item.strip() for item in cell.split("|") if item.strip()]


def read_rows(path: Path) -> list[list[Row]]:
    """Return the CSV's rows, cells stripped of their padding, grouped by product (a name starts one)."""
    groups: list[list[Row]] = []
    with path.open(newline="", encoding="utf-8") as file:
        for raw in csv.DictReader(file):
            row = {key.strip(): (value or "").strip() for key, value in raw.items()}
            if row["name"]:
                groups.append([row])
            else:
                groups[-1].append(row)
    return groups


class VendureCatalogue:
    """54 products, 88 variants, one photograph each; a SKU that occurs three times is kept as it is."""

    def __init__(self, folder: Path, name: str = "vendure") -> None:
        self.name = name
        self._images = folder / "images"
        self._products = [
            self._build(index, rows) for index, rows in enumerate(read_rows(folder / "products.csv"))
        ]

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
        """Return the photograph's file, or for a later revision the same picture with a mark in its bytes."""
        content = (self._images / image.drawing).read_bytes()
        return watermark(content, f"revision {revision}") if revision else content

    def _build(self, index: int, rows: list[Row]) -> Product:
        first = rows[0]
        names = [name[:1].upper() + name[1:] for name in _list(first["optionGroups"])]
        variants = tuple(self._variant(index, position, names, row) for position, row in enumerate(rows))
        facets = [facet.partition(":")[::2] for facet in _list(first["facets"])]
        categories = [value for kind, value in facets if kind == "category"]
        brand = next((value for kind, value in facets if kind == "brand"), "Vendure")
        options = tuple(
            Option(name, tuple(dict.fromkeys(dict(variant.selected)[name] for variant in variants)))
            for name in names
        )
        updated = EPOCH + timedelta(days=index * 10)
        return Product(
            index=index,
            number=product_number(self.name, index),
            title=first["name"],
            handle=first["slug"],
            description_html=f"<p>{html.escape(first['description'], quote=False)}</p>",
            vendor=brand,
            product_type=categories[-1] if categories else "",
            status="ACTIVE",
            tags=tuple(value for _, value in facets),
            options=options or (Option("Title", ("Default Title",)),),
            variants=variants,
            images=tuple(self._image(index, position, file) for position, file in self._assets(first)),
            created_at=EPOCH - timedelta(days=30),
            updated_at=updated,
        )

    def _assets(self, row: Row) -> list[tuple[int, str]]:
        return [item for item in enumerate(_list(row["assets"])) if (self._images / item[1]).is_file()]

    def _variant(self, index: int, position: int, names: list[str], row: Row) -> Variant:
        values = _list(row["optionValues"])
        return Variant(
            number=variant_number(self.name, index, position),
            title=" / ".join(values) or "Default Title",
            sku=row["sku"],
            price_cents=int(Decimal(row["price"]) * 100),
            compare_at_cents=None,
            barcode=None,
            inventory_quantity=int(row["stockOnHand"] or 0),
            tracked=row["trackInventory"].lower() != "false",
            weight_grams=0,
            selected=tuple(zip(names, values, strict=True)) or (("Title", "Default Title"),),
        )

    def _image(self, index: int, position: int, filename: str) -> Image:
        header = pyvips.Image.new_from_file(str(self._images / filename))
        return Image(
            number=media_number(self.name, index, position),
            filename=filename,
            alt=None,
            width=header.width,
            height=header.height,
            content_type="image/jpeg",
            drawing=filename,
        )
