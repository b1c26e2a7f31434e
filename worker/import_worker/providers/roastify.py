"""Roastify (docs.roastify.app): a list of products, then one detail call for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import quote

from import_core.domain.errors import (
    CredentialsError,
    ImportOperatorError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_core.domain.item_errors import GONE_FROM_SOURCE, NO_EXTERNAL_ID
from import_core.domain.products import Page, ProductFailure, SourceImage, SourceProduct
from import_worker.providers.base import CatalogueFilter, Connection, RateLimiter, restarted, starts_over
from import_worker.providers.http import Answer, ApiClient, Call, CallPolicy

CURSOR_VERSION = 1
NOT_FOUND = "NotFound"
CREDENTIALS_HINT = "check the key apiKey in the provider's Secret."


@dataclass(frozen=True, slots=True)
class RoastifySettings:
    """How the catalogue is read.

    The list is asked for in the largest pages, since each list call is one of 100 a minute. A checkpoint
    has fewer products, because each of them is a call: a lost one repeats at most that many. The cursor
    carries the ids that were listed but not yet fetched.
    """

    list_size: int = 100
    page_size: int = 20
    concurrency: int = 4
    policy: CallPolicy = field(default_factory=CallPolicy)


@dataclass(frozen=True, slots=True)
class RoastifyCursor:
    """Where to go on: ids already listed, then the list from `after` on, if there is more."""

    pending: tuple[str, ...] = ()
    after: str | None = None
    more: bool = True
    seen: int = 0
    """Products done; with them the last list page tells the total."""

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Self:
        """Read a stored cursor; one of another version starts from the beginning (upserts repeat safely)."""
        if value is None or starts_over(value, version=CURSOR_VERSION):
            return cls()
        return cls(tuple(value["pending"]), value["after"], value["more"], value["seen"])

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "version": CURSOR_VERSION,
            "pending": list(self.pending),
            "after": self.after,
            "more": self.more,
            "seen": self.seen,
        }

    def without(self, done: Collection[str]) -> Self:
        """The place when these pending products are done."""
        pending = tuple(external_id for external_id in self.pending if external_id not in done)
        return replace(self, pending=pending, seen=self.seen + len(self.pending) - len(pending))

    @property
    def total(self) -> int | None:
        """Products in the whole catalogue, once the list has ended."""
        return None if self.more else self.seen + len(self.pending)

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return not self.pending and not self.more


Detail = SourceProduct | ProductFailure


class RoastifyProvider:
    """One Roastify account; credentials key `apiKey`; baseUrl includes the version (https://…/v1).

    Roastify has no filter by time and tells no time of change, so `updatedAfter` can't narrow the list;
    products that did not change are found unchanged after their detail call.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: RateLimiter,
        catalogue_filter: CatalogueFilter,
        *,
        settings: RoastifySettings | None = None,
    ) -> None:
        del catalogue_filter
        key = connection.credential("apiKey")
        if not key:
            raise CredentialsError("The provider's Secret has no key apiKey.")
        self._headers = {"x-api-key": key}
        self._settings = settings or RoastifySettings()
        self._api = ApiClient(connection, limiter, policy=self._settings.policy)

    async def check(self) -> None:
        """List one product."""
        await self._list(None, size=1)

    async def aclose(self) -> None:
        """Close connections."""
        await self._api.aclose()

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncGenerator[Page, None]:
        """Yield the catalogue; what was fetched before an error is yielded first, so no call is lost."""
        pages = self._pages(RoastifyCursor.parse(cursor))
        return restarted(pages) if starts_over(cursor, version=CURSOR_VERSION) else pages

    def preview(self) -> AsyncGenerator[Page, None]:
        """Yield the catalogue; nothing is set going here by reading."""
        return self.pages(None)

    async def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield these products, a detail call for each; what was fetched before an error is yielded first."""
        for start in range(0, len(external_ids), self._settings.page_size):
            asked = tuple(external_ids[start : start + self._settings.page_size])
            details, error = await self._details(asked)
            if details:
                yield Page(
                    tuple(item for item in details.values() if isinstance(item, SourceProduct)),
                    cursor=None,
                    failures=tuple(
                        item._replace(reason=GONE_FROM_SOURCE) if item.reason == NOT_FOUND else item
                        for item in details.values()
                        if isinstance(item, ProductFailure)
                    ),
                )
            if error is not None:
                raise error

    async def _pages(self, place: RoastifyCursor) -> AsyncGenerator[Page, None]:
        stored = place
        while True:
            nameless: tuple[ProductFailure, ...] = ()
            if not place.pending and place.more:
                place, nameless = await self._listed(place)
            details, error = await self._details(place.pending[: self._settings.page_size])
            place = place.without(details.keys())
            # Also a list without details is worth a checkpoint: with few calls granted at a time, a job
            # that had to list again each time would never get on.
            if error is None or place != stored:
                stored = place
                yield Page(
                    products=tuple(item for item in details.values() if isinstance(item, SourceProduct)),
                    cursor=None if place.at_end else place.to_json(),
                    total=place.total,
                    failures=(
                        *nameless,
                        *(item for item in details.values() if isinstance(item, ProductFailure)),
                    ),
                )
            if error is not None:
                raise error
            if place.at_end:
                return

    async def _listed(self, place: RoastifyCursor) -> tuple[RoastifyCursor, tuple[ProductFailure, ...]]:
        """The place with the next page of the list, and the products on it that have no id."""
        payload = await self._list(place.after, size=self._settings.list_size)
        try:
            listed = [(read_id(item.get("id")), item) for item in payload["products"]]
            more = bool(payload["pageInfo"]["hasNextPage"])
            after = payload["pageInfo"].get("endCursor")
        except (KeyError, TypeError, AttributeError) as error:
            raise ProviderUnavailableError(f"{self._api.host} gave a list that can't be read.") from error
        if more and (not isinstance(after, str) or after == place.after):
            raise ProviderRejectedError(f"{self._api.host} gave a list that does not go on.")
        nameless = tuple(
            ProductFailure(
                f"number {number} of the list", NO_EXTERNAL_ID, "The product is listed without an id.", item
            )
            for number, (external_id, item) in enumerate(listed, place.seen + 1)
            if external_id is None
        )
        # A list that changes while it is read may name a product twice.
        ids = dict.fromkeys(external_id for external_id, _ in listed if external_id is not None)
        seen = place.seen + len(nameless)
        return replace(place, pending=tuple(ids), after=after, more=more, seen=seen), nameless

    async def _list(self, after: str | None, *, size: int) -> Any:
        params = {"pageSize": str(size)} | ({"cursor": after} if after else {})
        answer = await self._api.send(Call("GET", "/products", headers=self._headers, params=params))
        if answer.status != 200 or answer.payload is None:
            raise self._refusal(answer)
        return answer.payload

    async def _details(self, ids: tuple[str, ...]) -> tuple[dict[str, Detail], Exception | None]:
        """Fetch in parallel: what was found, in the order of `ids`, and the error that ended it early.

        After an error no further call begins, but those under way are waited for: they have been granted.
        """
        found: dict[str, Detail] = {}
        errors: list[ImportOperatorError] = []

        async def fetch(work: Iterator[str]) -> None:
            for external_id in work:
                if errors:
                    return
                try:
                    found[external_id] = await self._detail(external_id)
                except ImportOperatorError as error:
                    errors.append(error)

        work = iter(ids)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(ids))):
                group.create_task(fetch(work))
        in_order = {external_id: found[external_id] for external_id in ids if external_id in found}
        return in_order, errors[0] if errors else None

    async def _detail(self, external_id: str) -> Detail:
        path = f"/products/{quote(external_id, safe='')}"
        answer = await self._api.send(Call("GET", path, headers=self._headers))
        if answer.status == 200:
            document = answer.payload
            if not isinstance(document, dict) or str(document.get("id")) != external_id:
                return ProductFailure(
                    external_id, "Malformed", "The product's details can't be read.", document
                )
            return SourceProduct(external_id, document, images_of(document))
        error = self._refusal(answer)
        if isinstance(error, ProviderRejectedError) and answer.status >= 400:
            reason = NOT_FOUND if answer.status == 404 else error.reason
            return ProductFailure(external_id, reason, error.message)
        raise error

    def _refusal(self, answer: Answer) -> Exception:
        message = answer.payload.get("message") if isinstance(answer.payload, dict) else None
        return self._api.refusal(answer, hint=CREDENTIALS_HINT, message=message)


def read_id(value: object) -> str | None:
    """A listed product's id; None where it has none that could be asked for."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) if str(value).strip() else None


def images_of(document: Mapping[str, Any]) -> tuple[SourceImage, ...]:
    """A product's images in order; the main image alone where the details list none."""
    listed = document.get("images")
    urls = [item.get("url") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    urls = urls or [document.get("imageUrl")]
    return tuple(SourceImage(url) for url in urls if isinstance(url, str) and url)
