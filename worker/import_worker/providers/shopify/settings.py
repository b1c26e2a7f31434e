"""Settings of the Shopify provider, and the cursor it resumes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from import_core.domain.limits import PageShape
from import_worker.providers.base import starts_over
from import_worker.providers.http import CallPolicy

CURSOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class ShopifySettings:
    """How a catalogue is read; times in seconds, sizes in bytes."""

    shape: PageShape = PageShape(products=50, variants=10, media=10)  # noqa: RUF009 - frozen
    """First size of a page; it shrinks when Shopify says that it costs too much."""
    by_id: int = 10
    """Products asked for by their ids at once: few enough to be accepted at the first time."""
    nested_page: int = 100
    """Variants or media per call beyond a product's first ones."""
    bulk_above: int = 1000
    """Products above which one bulk operation replaces paging."""
    bulk_page_size: int = 200
    """Products of a page from a bulk operation's result: it costs no call, and each page has a price of its own."""
    bulk_page_children: int = 1000
    """Variants and media after which such a page ends: a checkpoint is not to come after more images than before."""
    first_poll: float = 1.0
    longest_poll: float = 15.0
    foreign_bulk_wait: float = 300.0
    """How long to wait for another bulk operation of the same app before paging instead."""
    bulk_heartbeat: float = 300.0
    """While waiting, an empty page this often keeps the job from looking stalled."""
    bulk_timeout: float = 6 * 3600.0
    download_timeout: float = 3600.0
    download_tries: int = 3
    longest_download: int = 8 * 1024**3
    longest_line: int = 16 * 1024**2
    policy: CallPolicy = field(default_factory=CallPolicy)


@dataclass(frozen=True, slots=True)
class ShopifyCursor:
    """Where to go on: after a product by paging, or in the result of a bulk operation from `index` on."""

    after: str | None = None
    shape: PageShape | None = None
    """Size that Shopify accepted, so that a resumed job need not find it again."""
    bulk: str | None = None
    index: int = 0
    total: int | None = None
    counted: bool = False
    """Whether the shop has been asked for its number of products."""

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """Read a stored cursor; one of another version starts from the beginning (upserts repeat safely)."""
        if value is None or starts_over(value, version=CURSOR_VERSION):
            return cls()
        shape = value.get("shape")
        return cls(
            after=value.get("after"),
            shape=PageShape(*shape) if shape else None,
            bulk=value.get("bulk"),
            index=value.get("index", 0),
            total=value.get("total"),
            counted=True,
        )

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        stored: dict[str, Any] = {"version": CURSOR_VERSION, "total": self.total}
        if self.bulk is not None:
            return stored | {"bulk": self.bulk, "index": self.index}
        shape = self.shape and [self.shape.products, self.shape.variants, self.shape.media]
        return stored | {"after": self.after, "shape": shape}

    def without_bulk(self) -> Self:
        """The start of paging, keeping what is known of the catalogue."""
        return replace(self, bulk=None, index=0, after=None)
