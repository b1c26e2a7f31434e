"""A catalogue that tests can change while it is served: titles, prices, images, removals."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from import_local.samples.catalogue.model import Catalogue, Image, Product, Status

ImageChange = Literal["replace", "new-address"]
SortKey = Literal["ID", "TITLE", "CREATED_AT", "UPDATED_AT", "VENDOR", "PRODUCT_TYPE"]
SORTS: dict[str, Callable[[Product], Any]] = {
    "TITLE": lambda product: product.title.casefold(),
    "CREATED_AT": lambda product: product.created_at.isoformat(),
    "VENDOR": lambda product: product.vendor.casefold(),
    "PRODUCT_TYPE": lambda product: product.product_type.casefold(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductChange:
    """What is different from the catalogue's own product; None leaves a field as it is.

    `image_revision` changes the bytes of all the product's images, `address_revision` their address.
    """

    title: str | None = None
    price_cents: int | None = None
    status: Status | None = None
    removed: bool = False
    image_revision: int = 0
    address_revision: int = 0
    updated_at: datetime | None = None


UNCHANGED = ProductChange()


class LiveCatalogue:
    """A catalogue with changes laid over it; the changes are all it keeps in memory."""

    def __init__(self, base: Catalogue) -> None:
        self.name = base.name
        self.base = base
        self._changes: dict[int, ProductChange] = {}
        self._orders: dict[str, list[tuple[Any, int]]] = {}

    def change(self, index: int, change: ProductChange) -> None:
        """Lay `change` over product `index`; IndexError outside of the catalogue."""
        if not 0 <= index < self.base.count():
            raise IndexError(index)
        self._changes[index] = change
        self._orders.clear()

    def change_of(self, index: int) -> ProductChange:
        """Return the change that lies over product `index`."""
        return self._changes.get(index, UNCHANGED)

    def reset(self) -> None:
        """Take all changes back."""
        self._changes.clear()
        self._orders.clear()

    def count(self) -> int:
        """Return the number of products that are not removed."""
        return self.base.count() - sum(change.removed for change in self._changes.values())

    def product(self, index: int) -> Product | None:
        """Return product `index` as it is now, or None if it does not exist or was removed."""
        change = self.change_of(index)
        if change.removed or not 0 <= index < self.base.count():
            return None
        product = self.base.product(index)
        if change is UNCHANGED:
            return product
        variants = product.variants
        if change.price_cents is not None:
            variants = tuple(dataclasses.replace(item, price_cents=change.price_cents) for item in variants)
        return dataclasses.replace(
            product,
            title=change.title or product.title,
            status=change.status or product.status,
            variants=variants,
            updated_at=change.updated_at or product.updated_at,
        )

    def updated_at(self, index: int) -> datetime:
        """Return when product `index` last changed."""
        return self.change_of(index).updated_at or self.base.updated_at(index)

    def order(self, key: str) -> list[tuple[Any, int]]:
        """Return (sort value, index) of all products in the order of `key`; kept until the next change."""
        if key not in self._orders:
            alive = (index for index in range(self.base.count()) if not self.change_of(index).removed)
            if key == "ID":
                entries: list[tuple[Any, int]] = [(index, index) for index in alive]
            elif key == "UPDATED_AT":
                entries = sorted((self.updated_at(index).isoformat(), index) for index in alive)
            else:
                entries = sorted((self._sort_value(key, index), index) for index in alive)
            self._orders[key] = entries
        return self._orders[key]

    def _sort_value(self, key: str, index: int) -> Any:
        product = self.product(index)
        return SORTS[key](product) if product is not None else None

    def position_after(self, key: str, value: Any, index: int) -> int:
        """Return the place in `order(key)` behind (value, index), also if that product is gone."""
        return bisect.bisect_right(self.order(key), (value, index))

    def position_before(self, key: str, value: Any, index: int) -> int:
        """Return the place in `order(key)` of (value, index) or of what follows it."""
        return bisect.bisect_left(self.order(key), (value, index))

    def image_path(self, provider: str, product: Product, position: int) -> str:
        """Return the address of an image below the server's root; `?v=` changes with the address."""
        image = product.images[position]
        if image.path is not None:
            return image.path
        revision = self.change_of(product.index).address_revision
        version = int(product.created_at.timestamp()) + revision
        return f"images/{provider}/{self.name}/{product.index}/{position}/{image.filename}?v={version}"

    def image_revision(self, index: int) -> int:
        """Return the revision of the bytes of product `index`'s images; 0 is the original."""
        change = self.change_of(index)
        return change.image_revision + change.address_revision

    def image_bytes(self, index: int, image: Image) -> bytes:
        """Return the bytes that the image's address serves now. Takes CPU: call it in a thread."""
        return self.base.image_bytes(image, self.image_revision(index))
