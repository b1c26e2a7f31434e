"""Generated catalogues of any size: every product is computed from its index and the catalogue's name."""

from __future__ import annotations

import hashlib
import html
import random
from datetime import datetime, timedelta

from import_local.samples.catalogue.model import (
    EPOCH,
    VARIANT_ROOM,
    Image,
    Option,
    Product,
    Status,
    Variant,
    media_number,
    product_number,
    variant_number,
)
from import_local.samples.images import CONTENT_TYPES, ENCODINGS, Encoding, draw, random_for

MAX_PRODUCTS = 10_000
MAX_IMAGES = 20
MAX_VARIANTS = 2_048

ADJECTIVES = (
    "Quiet",
    "Amber",
    "Folding",
    "Northern",
    "Woven",
    "Brushed",
    "Little",
    "Salted",
    "Early",
    "Copper",
)
NOUNS = ("Kettle", "Blanket", "Roast", "Lantern", "Notebook", "Chair", "Mug", "Rucksack", "Planter", "Scarf")
VENDORS = ("Fjord & Sons", "Atelier Nour", "Kissa 珈琲", "O'Hara Goods", "Müller GmbH", "بيت القهوة")
TYPES = ("Kitchen", "Home", "Coffee", "Stationery", "Outdoor")
# Titles that importers get wrong: emoji (one of joined code points), right-to-left text with a
# left-to-right part, combining accents, markup characters, an apostrophe in SQL's way.
DIFFICULT_TITLES = (
    "☕ Morning Roast 🌅",
    "قهوة عربية – Blend 250g",
    "מחברת כיס (A6)",
    "Famille 👩‍👩‍👧 apron",
    "Cafe\u0301 cre\u0300me set",
    'Salt & <Pepper> "Mill"',
    'Robert\'); DROP TABLE "Product";--',
    "한정판 머그 🐯",
)
SIZES = ("XS", "S", "M", "L", "XL", "XXL")
COLOURS = ("Oat", "Ink", "Moss", "Clay", "Plum")


class GeneratedCatalogue:
    """`products` products of up to `images` images; `small` draws images of 32–64 pixels and few variants.

    Small catalogues give every product exactly `images` images, so that totals can be told at once. Others
    also have products without images, with fewer, with a medium still in processing or a video, with
    another status than ACTIVE, with up to 2,048 variants, and one image that many products share.
    """

    def __init__(self, name: str, *, products: int, images: int, small: bool):
        if not 0 <= products <= MAX_PRODUCTS or not 0 <= images <= MAX_IMAGES:
            raise ValueError(f"a catalogue has at most {MAX_PRODUCTS} products of {MAX_IMAGES} images")
        self.name = name
        self._products = products
        self._images = images
        self._small = small

    def count(self) -> int:
        """Return the number of products."""
        return self._products

    def updated_at(self, index: int) -> datetime:
        """Return when product `index` last changed: spread over 400 days, not in the order of ids."""
        digest = hashlib.blake2b(f"{self.name}/{index}".encode(), digest_size=4).digest()
        return EPOCH + timedelta(minutes=int.from_bytes(digest) % (400 * 24 * 60))

    def image_bytes(self, image: Image, revision: int) -> bytes:
        """Return the encoded image; the same bytes for the same drawing in every process."""
        drawing = f"{image.drawing}@{revision}" if revision else image.drawing
        return draw(drawing, image.width, image.height, ENCODINGS[image.content_type])

    def product(self, index: int) -> Product:
        """Return product `index`; IndexError outside of the catalogue."""
        if not 0 <= index < self._products:
            raise IndexError(index)
        source = random_for(f"{self.name}/{index}")
        title = self._title(index, source)
        options, variants = self._variants(index, source)
        return Product(
            index=index,
            number=product_number(self.name, index),
            title=title,
            handle=f"product-{index + 1:05d}",
            description_html=self._description(title, index),
            vendor=source.choice(VENDORS),
            product_type=source.choice(TYPES),
            status=self._status(index),
            tags=tuple(sorted(source.sample(("new", "sale", "gift", "organic", "größe"), index % 4))),
            options=options,
            variants=variants,
            images=self._media(index, source),
            created_at=EPOCH - timedelta(days=1 + index % 300),
            updated_at=self.updated_at(index),
        )

    def _title(self, index: int, source: random.Random) -> str:
        if index % 9 == 4:
            return f"{DIFFICULT_TITLES[index // 9 % len(DIFFICULT_TITLES)]} {index + 1}"
        return f"{source.choice(ADJECTIVES)} {source.choice(NOUNS)} {index + 1}"

    def _description(self, title: str, index: int) -> str:
        if index % 25 == 24:
            return ""
        text = html.escape(title, quote=False)
        return (
            f"<h2>{text}</h2>\n<p>Made by hand &amp; with <em>care</em>; batch&nbsp;{index % 12 + 1}.</p>"
            "<ul><li>Washable</li><li>Ships in <strong>2</strong> days</li></ul>"
        )

    def _status(self, index: int) -> Status:
        if self._small:
            return "ACTIVE"
        return {11: "DRAFT", 13: "ARCHIVED", 17: "UNLISTED"}.get(index % 20, "ACTIVE")  # type: ignore[return-value]

    def _variant_count(self, index: int) -> int:
        if self._small:
            return 2 if index % 10 == 9 else 1
        if index == 1_234:
            return MAX_VARIANTS
        if index % 500 == 41:
            return 260
        return (1, 1, 3, 6, 1, 12, 30)[index % 7]

    def _variants(self, index: int, source: random.Random) -> tuple[tuple[Option, ...], tuple[Variant, ...]]:
        count = min(self._variant_count(index), VARIANT_ROOM)
        if count == 1:
            selections: list[tuple[tuple[str, str], ...]] = [(("Title", "Default Title"),)]
            options: tuple[Option, ...] = (Option("Title", ("Default Title",)),)
        else:
            sizes = SIZES if count <= 30 else tuple(str(number) for number in range(1, 129))
            colours = COLOURS if count <= 30 else tuple(f"Shade {number}" for number in range(1, 17))
            pairs = [(colour, size) for colour in colours for size in sizes][:count]
            selections = [(("Colour", colour), ("Size", size)) for colour, size in pairs]
            options = (
                Option("Colour", tuple(dict.fromkeys(colour for colour, _ in pairs))),
                Option("Size", tuple(dict.fromkeys(size for _, size in pairs))),
            )
        price = source.randrange(199, 49_900)
        return options, tuple(
            self._variant(index, position, price, selected) for position, selected in enumerate(selections)
        )

    def _variant(
        self, index: int, position: int, price: int, selected: tuple[tuple[str, str], ...]
    ) -> Variant:
        return Variant(
            number=variant_number(self.name, index, position),
            title=" / ".join(value for _, value in selected),
            sku="" if index % 40 == 39 else f"GEN-{index + 1:05d}-{position + 1}",
            price_cents=0 if index % 50 == 49 else price + position * 50,
            compare_at_cents=price * 2 if index % 3 == 0 else None,
            barcode=f"{4_000_000_000_000 + index * VARIANT_ROOM + position}" if index % 2 else None,
            inventory_quantity=(index * 7 + position) % 60 - 1,
            tracked=index % 6 != 5,
            weight_grams=50 + (index * 13 + position) % 4_000,
            selected=selected,
        )

    def _media(self, index: int, source: random.Random) -> tuple[Image, ...]:
        count = self._images
        if not self._small:
            count = 0 if index % 20 == 19 else count // 2 if index % 10 == 3 else count
        media = [self._image(index, position, source) for position in range(count)]
        if not self._small and count and index % 50 == 7:
            media[-1] = self._shared(index, len(media) - 1)
        if not self._small and index % 97 == 21:
            media.append(self._other(index, len(media), ready=False))
        if not self._small and index % 61 == 5:
            media.insert(0, self._other(index, len(media), ready=True))
        return tuple(media)

    def _image(self, index: int, position: int, source: random.Random) -> Image:
        if self._small:
            width, height = source.randint(32, 64), source.randint(32, 64)
        else:
            # 1 to 12 megapixels: landscape, portrait and square.
            megapixels = source.uniform(1.0, 12.0)
            ratio = source.choice((4 / 3, 3 / 4, 1.0, 3 / 2))
            width = round((megapixels * 1e6 * ratio) ** 0.5)
            height = round(width / ratio)
        encoding: Encoding = "png" if not self._small and (index + position) % 15 == 14 else "jpeg"
        return Image(
            number=media_number(self.name, index, position),
            filename=f"product-{index + 1:05d}-{position + 1}.{encoding.replace('jpeg', 'jpg')}",
            alt=f"View {position + 1}" if position % 2 == 0 else None,
            width=width,
            height=height,
            content_type=CONTENT_TYPES[encoding],
            drawing=f"{self.name}/{index}/{position}",
        )

    def _shared(self, index: int, position: int) -> Image:
        return Image(
            number=media_number(self.name, index, position),
            filename=f"size-chart-{index + 1:05d}.jpg",
            alt="Size chart",
            width=1200,
            height=900,
            content_type="image/jpeg",
            drawing="size-chart",
        )

    def _other(self, index: int, position: int, *, ready: bool) -> Image:
        return Image(
            number=media_number(self.name, index, position),
            filename=f"other-{index + 1:05d}.jpg",
            alt=None,
            width=0,
            height=0,
            content_type="image/jpeg",
            drawing="none",
            kind="VIDEO" if ready else "IMAGE",
            ready=ready,
        )
