"""A WhatsApp catalogue in Meta's Graph API (developers.facebook.com/docs/marketing-api/reference/product-catalog)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from import_core.domain.errors import (
    CredentialsError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_core.domain.item_errors import GONE_FROM_SOURCE, NO_EXTERNAL_ID
from import_core.domain.products import Page, ProductFailure, SourceImage, SourceProduct
from import_core.domain.resources.whatsapp import GraphSettings
from import_core.domain.scraping import digest
from import_worker.providers.base import CatalogueFilter, Connection, RateLimiter, restarted, starts_over
from import_worker.providers.http import Answer, ApiClient, Call, CallPolicy
from import_worker.providers.roastify import read_id
from import_worker.providers.whatsapp.graph_errors import GraphError, read_error, read_word

CURSOR_VERSION = 1
CREDENTIALS_HINT = (
    "check the key accessToken in the provider's Secret: a token that has not expired, of an app with the permission"
    " catalog_management, for a user or system user that may see the catalogue."
)
FIELDS = (
    "id,retailer_id,name,description,price,sale_price,currency,availability,brand,image_url,"
    "additional_image_urls,url,inventory,visibility"
)
REMEMBERED = 1_000
"""Ids that a cursor remembers: an item that comes again does so near its first place."""
MAX_CURSOR_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class GraphCursor:
    """Where to go on: behind `after`. `seen`: distinct products so far; `recent`: digests of the last of their ids.

    `again`: the catalogue is listed a second time, for what the first listing missed. `seen` then counts both, or the
    second one alone where it began without knowing all ids of the first.
    """

    after: str | None = None
    seen: int = 0
    recent: tuple[str, ...] = ()
    again: bool = False

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """Read a stored cursor; one of another version starts from the beginning (upserts repeat safely)."""
        if value is None or starts_over(value, version=CURSOR_VERSION):
            return cls()
        return cls(value["after"], value["seen"], tuple(value["recent"]), value["again"])

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "version": CURSOR_VERSION,
            "after": self.after,
            "seen": self.seen,
            "recent": list(self.recent),
            "again": self.again,
        }


@dataclass(slots=True)
class Seen:
    """Ids that came already: all of this run, and the last ones of the run before."""

    count: int
    digests: set[str]
    recent: deque[str]

    @classmethod
    def of(cls, place: GraphCursor) -> Self:
        """What a cursor remembers."""
        return cls(place.seen, set(place.recent), deque(place.recent, maxlen=REMEMBERED))

    @property
    def is_whole(self) -> bool:
        """Whether all ids are known that were counted: only then may what comes once more be told from what is new."""
        return self.count == len(self.digests)

    def is_new(self, external_id: str) -> bool:
        """Whether a product comes for the first time; it is remembered."""
        short = digest(external_id)
        if short in self.digests:
            return False
        self.digests.add(short)
        self.recent.append(short)
        self.count += 1
        return True


@dataclass(frozen=True, slots=True)
class Listing:
    """One answer of the list: its products, and what comes behind."""

    items: tuple[Any, ...]
    after: str | None


class GraphProvider:
    """One catalogue; credentials key `accessToken`.

    The API may repeat items and miss some while the catalogue changes. Repeats are left out; where fewer products
    came than the catalogue says to have, it is listed a second time.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: RateLimiter,
        catalogue_filter: CatalogueFilter,
        *,
        graph: GraphSettings,
        policy: CallPolicy | None = None,
    ) -> None:
        token = connection.credential("accessToken")
        if not token:
            raise CredentialsError("The provider's Secret has no key accessToken.")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._graph = graph
        self._is_current = catalogue_filter.is_current
        self._root = f"/{graph.api_version}"
        self._api = ApiClient(connection, limiter, word_of=read_word, policy=policy or CallPolicy())

    async def check(self) -> None:
        """List one product."""
        await self._list(None, size=1)

    async def aclose(self) -> None:
        """Close connections."""
        await self._api.aclose()

    def preview(self) -> AsyncGenerator[Page, None]:
        """Yield the catalogue; nothing is set going here by reading."""
        return self.pages(None)

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncGenerator[Page, None]:
        """Yield the catalogue, a call for each page."""
        pages = self._pages(GraphCursor.parse(cursor))
        return restarted(pages) if starts_over(cursor, version=CURSOR_VERSION) else pages

    async def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield these products, a call for each: an unknown id among several would refuse them all."""
        for external_id in external_ids:
            found = await self._product(external_id)
            is_product = isinstance(found, SourceProduct)
            yield Page(
                products=(found,) if isinstance(found, SourceProduct) else (),
                cursor=None,
                failures=() if is_product else (found,),  # type: ignore[arg-type]
            )

    async def _pages(self, place: GraphCursor) -> AsyncGenerator[Page, None]:
        seen = Seen.of(place)
        if place.again and not seen.is_whole:
            # Counting on would count products twice, and so take a catalogue for complete that is not.
            place, seen = GraphCursor(again=True), Seen.of(GraphCursor())
        while True:
            try:
                listing = await self._list(place.after, size=self._graph.page_size)
            except CursorExpiredError:
                # The place in the list is forgotten: from the start, without what is still remembered.
                async for page in restarted(self._pages(GraphCursor())):
                    yield page
                return
            products, failures = self._read(listing.items, seen)
            is_last = listing.after is None
            again = place.again
            if is_last and not again and await self._has_more_than(seen.count):
                is_last, again = False, True
                if not seen.is_whole:
                    seen = Seen.of(GraphCursor())
            place = GraphCursor(listing.after, seen.count, tuple(seen.recent), again)
            yield Page(
                products=products,
                cursor=None if is_last else place.to_json(),
                total=seen.count if is_last else None,
                failures=failures,
            )
            if is_last:
                if again and self._is_current:
                    await self._check_complete(seen.count)
                return

    async def _has_more_than(self, count: int) -> bool:
        """Whether the catalogue says to have more products than came."""
        said = await self._product_count()
        return said is not None and said > count

    async def _check_complete(self, count: int) -> None:
        """Raise ProviderUnavailableError where products may be missing and what is missing would be archived."""
        said = await self._product_count()
        if said is not None and said > count:
            raise ProviderUnavailableError(
                f"{self._api.host} says that the catalogue has {said:,} products, but lists {count:,} of them, twice;"
                " nothing is archived by such a list."
            )

    async def _product_count(self) -> int | None:
        answer = await self._send(f"/{self._graph.catalog_id}", {"fields": "product_count"})
        count = answer.payload.get("product_count") if isinstance(answer.payload, dict) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def _read(
        self, items: Iterable[Any], seen: Seen
    ) -> tuple[tuple[SourceProduct, ...], tuple[ProductFailure, ...]]:
        products, failures = [], []
        for item in items:
            external_id = read_id(item.get("id")) if isinstance(item, dict) else None
            if external_id is None:
                place = f"number {seen.count + 1} of the list"
                failures.append(
                    ProductFailure(place, NO_EXTERNAL_ID, "The product is listed without an id.", item)
                )
            elif seen.is_new(external_id):
                products.append(SourceProduct(external_id, item, images_of(item)))
        return tuple(products), tuple(failures)

    async def _list(self, after: str | None, *, size: int) -> Listing:
        params = {"fields": FIELDS, "limit": str(size)} | ({"after": after} if after else {})
        try:
            answer = await self._send(f"/{self._graph.catalog_id}/products", params)
        except InvalidParameterError as error:
            if after is not None:
                raise CursorExpiredError from error
            raise ProviderRejectedError(error.message) from error
        payload = answer.payload
        try:
            items = payload["data"]
            paging = payload.get("paging") or {}
            # Without `next` this was the last page, also where it has cursors.
            behind = (paging.get("cursors") or {}).get("after") if paging.get("next") else None
        except (KeyError, TypeError, AttributeError) as error:
            raise ProviderUnavailableError(f"{self._api.host} gave a list that can't be read.") from error
        if not isinstance(items, list) or not isinstance(behind, str | None):
            raise ProviderUnavailableError(f"{self._api.host} gave a list that can't be read.")
        if behind is not None and (behind == after or not 0 < len(behind) <= MAX_CURSOR_LENGTH):
            raise ProviderRejectedError(f"{self._api.host} gave a list that does not go on.")
        return Listing(tuple(items), behind)

    async def _product(self, external_id: str) -> SourceProduct | ProductFailure:
        try:
            answer = await self._send(f"/{quote(external_id, safe='')}", {"fields": FIELDS})
        except UnknownObjectError:
            return ProductFailure(
                external_id, GONE_FROM_SOURCE, "The catalogue has no such product any more."
            )
        document = answer.payload
        if not isinstance(document, dict) or str(document.get("id")) != external_id:
            return ProductFailure(external_id, "Malformed", "The product's details can't be read.", document)
        return SourceProduct(external_id, document, images_of(document))

    async def _send(self, path: str, params: Mapping[str, str]) -> Answer:
        answer = await self._api.send(Call("GET", self._root + path, headers=self._headers, params=params))
        if answer.status == 200 and answer.payload is not None:
            return answer
        raise self._refusal(answer, read_error(answer.payload))

    def _refusal(self, answer: Answer, error: GraphError | None) -> Exception:
        if error is None:
            return self._api.refusal(answer, hint=CREDENTIALS_HINT)
        words = self._api.quote(error.message)
        host, code = self._api.host, error.code
        if error.is_of_credentials:
            return CredentialsError(
                f"{host} refused the credentials (code {code}): {CREDENTIALS_HINT}{words}"
            )
        if error.is_passing:
            return ProviderUnavailableError(f"{host} failed for a passing reason (code {code}).{words}")
        if error.is_unknown_object:
            return UnknownObjectError(
                f"{host} knows no such object (code {code}): check spec.whatsapp.graph.catalogId, and that the"
                f" token may see the catalogue.{words}"
            )
        kind = InvalidParameterError if code == 100 else ProviderRejectedError
        return kind(f"{host} refused the request (code {code}).{words}")


class InvalidParameterError(ProviderRejectedError):
    """The API does not understand what was asked."""


class CursorExpiredError(ProviderRejectedError):
    """The API does not know the place in the list any more."""


class UnknownObjectError(ProviderRejectedError):
    """The API knows no such object."""


def images_of(document: Mapping[str, Any]) -> tuple[SourceImage, ...]:
    """A product's images: the main one, then the others."""
    others = document.get("additional_image_urls")
    urls = [document.get("image_url"), *(others if isinstance(others, list) else [])]
    kept = dict.fromkeys(url for url in urls if isinstance(url, str) and url)
    return tuple(SourceImage(url) for url in kept)
