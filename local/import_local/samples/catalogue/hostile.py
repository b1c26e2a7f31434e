"""A shop whose images attack the importer: one good product, then one product for each hostile image."""

from __future__ import annotations

from datetime import datetime

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
from import_local.samples.images import CONTENT_TYPES, Encoding, draw, good_image

# The case's name is the last part of its address below /hostile/.
HOSTILE_CASES = (
    "html.jpg",
    "truncated.jpg",
    "bomb.png",
    "too-large.jpg",
    "too-large-chunked.jpg",
    "redirect-metadata",
    "redirect-loopback",
    "redirect-loop",
    "script.svg",
    "slow.jpg",
    "not-found.jpg",
    "error.jpg",
    "forbidden.jpg",
    "empty.jpg",
)
# Correct images that only look odd; an importer should take them.
HARMLESS_CASES: dict[str, Encoding] = {
    "wrong-type.png": "png",
    "good.webp": "webp",
    "good.avif": "avif",
    "good.gif": "gif",
    "good.png": "png",
}


class HostileCatalogue:
    """Product 0 is fine; product n shows image n - 1 of the hostile, then of the harmless cases."""

    def __init__(self, name: str = "hostile") -> None:
        self.name = name
        self.cases = (*HOSTILE_CASES, *HARMLESS_CASES)

    def count(self) -> int:
        """Return the number of products."""
        return 1 + len(self.cases)

    def updated_at(self, index: int) -> datetime:
        """Return when product `index` last changed: all at once."""
        return EPOCH

    def image_bytes(self, image: Image, revision: int) -> bytes:
        """Return the good product's image or a harmless case's; ValueError for a hostile one."""
        if image.path is None:
            return draw(f"{image.drawing}@{revision}", image.width, image.height, "jpeg")
        if image.filename not in HARMLESS_CASES:
            raise ValueError(f"{image.filename} is no image")
        return good_image(HARMLESS_CASES[image.filename])

    def product(self, index: int) -> Product:
        """Return product `index`; IndexError outside of the catalogue."""
        if not 0 <= index < self.count():
            raise IndexError(index)
        case = self.cases[index - 1] if index else "fine.jpg"
        variant = Variant(
            number=variant_number(self.name, index, 0),
            title="Default Title",
            sku=f"HOSTILE-{index}",
            price_cents=1_000 + index,
            compare_at_cents=None,
            barcode=None,
            inventory_quantity=1,
            tracked=True,
            weight_grams=100,
            selected=(("Title", "Default Title"),),
        )
        image = Image(
            number=media_number(self.name, index, 0),
            filename=case,
            alt=None,
            width=640,
            height=480,
            content_type=CONTENT_TYPES[HARMLESS_CASES.get(case, "jpeg")],
            drawing="hostile/fine",
            path=f"hostile/{case}" if index else None,
        )
        return Product(
            index=index,
            number=product_number(self.name, index),
            title=f"Image case: {case}",
            handle=f"case-{index}",
            description_html=f"<p>Shows {case}</p>",
            vendor="Hostile",
            product_type="Test",
            status="ACTIVE",
            tags=(),
            options=(Option("Title", ("Default Title",)),),
            variants=(variant,),
            images=(image,),
            created_at=EPOCH,
            updated_at=EPOCH,
        )
