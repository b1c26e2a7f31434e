"""Decisions on a catalogue's page: what is a product of it, and what a page is that shows none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from import_core.domain.errors import InvalidInputError
from import_core.domain.item_errors import NO_EXTERNAL_ID
from import_core.domain.prices import parse_price
from import_core.domain.products import ProductFailure, SourceImage, SourceProduct
from import_core.domain.values import MAX_TEXT_LENGTH, clean

MAX_IMAGES = 50
"""Images of one product that are taken from a page."""
MAX_ADDRESS_LENGTH = 2048
DIGEST_LENGTH = 12
"""Hexadecimal digits: of 5,000 ids two have the same with a probability of 1 in 20 million."""


@dataclass(frozen=True, slots=True)
class ScrapedItem:
    """One product as the page shows it: plain text, and addresses as they stand there."""

    identifier: str | None = None
    title: str | None = None
    price: str | None = None
    description: str | None = None
    link: str | None = None
    images: tuple[str, ...] = ()

    def with_page(self, page: ScrapedItem) -> ScrapedItem:
        """What the product's own page says goes before what the list says."""
        return ScrapedItem(
            self.identifier,
            page.title or self.title,
            page.price or self.price,
            page.description or self.description,
            self.link,
            page.images or self.images,
        )


@dataclass(frozen=True, slots=True)
class PageLook:
    """What a page is like, for those who have to say why nothing was found on it. `counts`: elements by selector."""

    url: str
    status: int
    title: str = ""
    text: str = ""
    elements: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class Wall(StrEnum):
    """What stands between a visitor and the catalogue."""

    CONSENT = "a consent page"
    LOGIN = "a login page"
    ROBOT_CHECK = "a check for robots"


# Words of the page's address, title or first text; looked at only where no product was found.
_WALLS: Mapping[Wall, re.Pattern[str]] = {
    Wall.ROBOT_CHECK: re.compile(
        r"captcha|unusual traffic|are you (a )?(human|robot)|verify (that )?you are|not a robot"
        r"|checking your browser|access denied",
        re.IGNORECASE,
    ),
    Wall.CONSENT: re.compile(
        r"\bconsent\b|before you continue|accept (all )?cookies|cookie (settings|preferences)"
        r"|cookies akzeptieren|bevor sie fortfahren",
        re.IGNORECASE,
    ),
    Wall.LOGIN: re.compile(r"\b(log|sign)[ -]?in\b|\banmelden\b|scan (the|this) qr code", re.IGNORECASE),
}
_WALL_TEXT = 2_000
_ITEM_PATH = re.compile(r"/p/([^/]+)(/|$)")


def wall_of(look: PageLook) -> Wall | None:
    """What kind of wall a page without products is; None for none that is known."""
    parts = urlsplit(look.url)
    seen = f"{parts.hostname or ''}{parts.path}\n{look.title}\n{look.text[:_WALL_TEXT]}"
    return next((wall for wall, words in _WALLS.items() if words.search(seen)), None)


def nothing_found(look: PageLook, item_selector: str) -> str:
    """A sentence that says where nothing was found, what was looked for, and what the page had instead."""
    title = " ".join(look.title.split())[:80]
    named = f"titled {title!r}" if title else "without a title"
    others = ", ".join(f"{name} {count}" for name, count in look.counts.items())
    counted = f"; on the whole page: {others}" if others else ""
    return (
        f"the page {named} has nothing that spec.whatsapp.scrape.selectors.item ({item_selector}) selects, among"
        f" {look.elements:,} elements{counted}. Look at the page and correct the selectors; if an empty catalogue"
        " looks like this, name what it shows in selectors.empty"
    )


def digest(external_id: str) -> str:
    """A short name of a product that was seen, for a cursor of bounded size."""
    return hashlib.sha256(external_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]


def id_of(item: ScrapedItem, page_url: str) -> str | None:
    """A product's id: the page's own, or what its link says; None where neither can be used."""
    found = item.identifier.strip() if item.identifier else None
    if not found and item.link:
        found = id_of_link(urljoin(page_url, item.link))
    found = clean(found).strip() if found else None
    return found if found and len(found) <= MAX_TEXT_LENGTH else None


def id_of_link(url: str) -> str | None:
    """The id in a product's address: of https://wa.me/p/<id>/<number> the id, else the last part of the path."""
    path = urlsplit(url).path
    found = _ITEM_PATH.search(path)
    last = found[1] if found else path.rstrip("/").rpartition("/")[2]
    return unquote(last) or None


def address_of(value: str, page_url: str) -> str | None:
    """An absolute http(s) address without fragment; None for others (data:, blob:, javascript:) and for none."""
    try:
        parts = urlsplit(urljoin(page_url, value.strip()))
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    address = parts._replace(fragment="").geturl()
    return address if len(address) <= MAX_ADDRESS_LENGTH else None


def product_of(item: ScrapedItem, external_id: str, page_url: str, *, currency: str | None) -> SourceProduct:
    """The product in the words of Meta's catalogue API, so that one mapping serves both ways of reading.

    A price that can't be read stays as it is: the mapping then refuses it by name. `currency` is for prices that
    name none.
    """
    images = _images(item.images, page_url)
    link = address_of(item.link, page_url) if item.link else None
    document: dict[str, Any] = {
        "id": external_id,
        "name": _line(item.title),
        "description": item.description.strip() if item.description else None,
        "price": _line(item.price),
        "currency": _currency(item.price, currency),
        "url": link,
        "image_url": images[0] if images else None,
        "additional_image_urls": list(images[1:]),
    }
    return SourceProduct(external_id, document, tuple(SourceImage(url) for url in images))


def nameless(item: ScrapedItem, place: int) -> ProductFailure:
    """The failure of an item whose id can't be read, named by its place in the list."""
    document = {"name": item.title, "url": item.link, "price": item.price}
    return ProductFailure(
        f"number {place} of the page", NO_EXTERNAL_ID, "The item has no id that can be read.", document
    )


def _images(addresses: Sequence[str], page_url: str) -> tuple[str, ...]:
    found = (address_of(value, page_url) for value in addresses)
    return tuple(dict.fromkeys(url for url in found if url is not None))[:MAX_IMAGES]


def _line(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None


def _currency(price: str | None, default: str | None) -> str | None:
    try:
        found = parse_price(price) if price else None
    except InvalidInputError:
        return default
    return (found.currency if found else None) or default
