"""Reads a Shopify catalogue page by page; products with many variants or media take calls of their own."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from import_core.domain.errors import (
    HandBackError,
    ItemError,
    JobError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_core.domain.item_errors import GONE_FROM_SOURCE, NO_EXTERNAL_ID
from import_core.domain.limits import PageShape
from import_core.domain.products import Page, ProductFailure, SourceProduct
from import_worker.providers.shopify.client import GraphQLClient, QueryTooCostlyError
from import_worker.providers.shopify.documents import (
    Connection,
    check_length,
    read_connection,
    source_product,
)
from import_worker.providers.shopify.queries import MEDIA, PRODUCTS, PRODUCTS_BY_ID, VARIANTS
from import_worker.providers.shopify.settings import ShopifyCursor, ShopifySettings

PRODUCT_ID = re.compile(r"gid://shopify/Product/[0-9]+")


@dataclass(frozen=True, slots=True)
class Listing:
    """One answer to the products query: (cursor, node) of each product."""

    edges: tuple[tuple[str, Any], ...]
    next_cursor: str | None


@dataclass(slots=True)
class Part:
    """What was read of one page before it ended or an error ended it; `last` is where to go on."""

    last: str | None
    products: list[SourceProduct] = field(default_factory=list)
    failures: list[ProductFailure] = field(default_factory=list)
    error: JobError | HandBackError | None = None


class Paging:
    """Pages through the products of one shop, in the order of their ids."""

    def __init__(self, client: GraphQLClient, settings: ShopifySettings, search: str | None) -> None:
        self._client = client
        self._search = search
        self._shape = settings.shape
        self._by_id = settings.by_id
        self._nested = {"variants": settings.nested_page, "media": settings.nested_page}

    async def pages(self, place: ShopifyCursor, *, stored: ShopifyCursor) -> AsyncGenerator[Page, None]:
        """Yield the rest of the catalogue; what was read before an error is yielded first.

        `stored` is the job's checkpoint. Whatever was learnt since is worth one, products or not: with few
        calls granted at a time, a job that had to find the page size again each time would never get on.
        """
        self._shape = place.shape or self._shape
        while True:
            part = await self._read(place.after)
            at_end = part.error is None and part.last is None
            place = replace(place, after=part.last, shape=self._shape)
            if part.error is None or place != stored:
                stored = place
                yield Page(
                    products=tuple(part.products),
                    cursor=None if at_end else place.to_json(),
                    total=place.total,
                    failures=tuple(part.failures),
                )
            if part.error is not None:
                raise part.error
            if at_end:
                return

    async def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield the products of these ids; what was read before an error is yielded first."""
        self._shape = replace(self._shape, products=min(self._shape.products, self._by_id))
        ids: Sequence[str] = [one for one in external_ids if PRODUCT_ID.fullmatch(one)]
        others = [one for one in external_ids if not PRODUCT_ID.fullmatch(one)]
        if others:
            # One id of another form would have Shopify refuse the whole query.
            message = "Shopify has no product with an id of this form."
            foreign = [ProductFailure(external_id, GONE_FROM_SOURCE, message) for external_id in others]
            yield Page((), cursor=None, failures=tuple(foreign))
        while ids:
            part, ids = await self._read_by_id(ids)
            if part.products or part.failures:
                yield Page(tuple(part.products), cursor=None, failures=tuple(part.failures))
            if part.error is not None:
                raise part.error

    async def _read_by_id(self, ids: Sequence[str]) -> tuple[Part, Sequence[str]]:
        """The next products, and the ids that are left to ask for."""
        part = Part(None)
        try:
            data = await self._fitted(PRODUCTS_BY_ID, lambda shape: {"ids": list(ids[: shape.products])})
            asked, nodes = ids[: self._shape.products], data.get("nodes")
            if not isinstance(nodes, list) or len(nodes) != len(asked):
                raise ProviderUnavailableError(f"{self._client.api.host} gave an answer that can't be read.")
            for external_id, node in zip(asked, nodes, strict=True):
                outcome = await self._found(external_id, node)
                if isinstance(outcome, SourceProduct):
                    part.products.append(outcome)
                else:
                    part.failures.append(outcome)
        except (JobError, HandBackError) as error:
            part.error = error
        return part, ids[len(part.products) + len(part.failures) :]

    async def _found(self, external_id: str, node: Any) -> SourceProduct | ProductFailure:
        if node is None:
            return ProductFailure(external_id, GONE_FROM_SOURCE, "The shop has this product no more.")
        if not isinstance(node, dict) or node.get("id") != external_id:
            return ProductFailure(external_id, "Malformed", "The product can't be read.", node)
        return await self._complete(node, external_id)

    async def _read(self, after: str | None) -> Part:
        part = Part(after)
        try:
            listing = await self._list(after)
            for cursor, node in listing.edges:
                outcome = await self._complete(node, cursor)
                if isinstance(outcome, SourceProduct):
                    part.products.append(outcome)
                else:
                    part.failures.append(outcome)
                part.last = cursor
            part.last = listing.next_cursor
        except (JobError, HandBackError) as error:
            part.error = error
        return part

    async def _list(self, after: str | None) -> Listing:
        data = await self._fitted(
            PRODUCTS, lambda shape: {"first": shape.products, "after": after, "query": self._search}
        )
        try:
            connection = data["products"]
            edges = tuple((str(edge["cursor"]), edge["node"]) for edge in connection["edges"])
            info = connection["pageInfo"]
            next_cursor = info["endCursor"] if info["hasNextPage"] else None
        except (KeyError, TypeError) as error:
            raise ProviderUnavailableError(
                f"{self._client.api.host} gave a page that can't be read."
            ) from error
        if next_cursor is not None and next_cursor == after:
            raise ProviderRejectedError(f"{self._client.api.host} gave the same page twice.")
        return Listing(edges, next_cursor)

    async def _fitted(self, query: str, sized: Callable[[PageShape], dict[str, Any]]) -> dict[str, Any]:
        """Run a query of many products, with fewer of them until Shopify accepts its cost."""
        while True:
            shape = self._shape
            variables = {"variants": shape.variants, "media": shape.media, **sized(shape)}
            try:
                return await self._client.execute(query, variables, cost_key=(query, shape))
            except QueryTooCostlyError as error:
                smaller = shape.shrunk(cost=error.cost, ceiling=error.ceiling)
                if smaller is None:
                    raise
                self._shape = smaller

    async def _complete(self, node: Any, cursor: str) -> SourceProduct | ProductFailure:
        """One product with all its variants and media; a failure when Shopify can't give it."""
        if not isinstance(node, dict) or not isinstance(node.get("id"), str):
            return ProductFailure(cursor, NO_EXTERNAL_ID, "The product can't be read: it has no id.", node)
        external_id: str = node["id"]
        try:
            variants = await self._whole(external_id, "variants", read_connection(node.get("variants")))
            media = await self._whole(external_id, "media", read_connection(node.get("media")))
        except ValueError as error:
            return ProductFailure(external_id, "Malformed", f"The product can't be read: {error}.", node)
        except (ItemError, ProviderRejectedError) as error:
            return ProductFailure(external_id, error.reason, error.message, node)
        return source_product(node, variants, media)

    async def _whole(self, external_id: str, name: str, first: Connection) -> list[dict[str, Any]]:
        """All nodes of a product's connection; raises ValueError, and ItemError where there are too many."""
        nodes = list(first.nodes)
        check_length(name, len(nodes))
        cursor = first.next_cursor
        while cursor is not None:
            page = await self._more(external_id, name, cursor)
            if page.next_cursor == cursor or (page.next_cursor is not None and not page.nodes):
                raise ValueError(f"its {name} do not go on")
            nodes.extend(page.nodes)
            check_length(name, len(nodes))
            cursor = page.next_cursor
        return nodes

    async def _more(self, external_id: str, name: str, after: str) -> Connection:
        query = VARIANTS if name == "variants" else MEDIA
        while True:
            size = self._nested[name]
            variables = {"id": external_id, "first": size, "after": after}
            try:
                data = await self._client.execute(query, variables, cost_key=(name, size))
            except QueryTooCostlyError:
                if size == 1:
                    raise
                self._nested[name] = max(1, size // 2)
                continue
            product = data.get("product")
            if product is None:
                raise ValueError("it was removed meanwhile")
            return read_connection(product.get(name) if isinstance(product, dict) else None)
