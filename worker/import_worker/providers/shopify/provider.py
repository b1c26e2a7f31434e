"""The Shopify provider: decides between paging and a bulk operation, and resumes either."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from import_core.domain.errors import CredentialsError, ProviderRejectedError
from import_core.domain.products import Page
from import_worker.providers.base import CatalogueFilter, Connection, RateLimiter, restarted, starts_over
from import_worker.providers.shopify.bulk import BulkReader, BulkUnavailableError
from import_worker.providers.shopify.client import GraphQLClient
from import_worker.providers.shopify.paging import Paging
from import_worker.providers.shopify.queries import COUNT, SHOP, search_for
from import_worker.providers.shopify.settings import CURSOR_VERSION, ShopifyCursor, ShopifySettings

_log = structlog.get_logger(__name__)


class ShopifyProvider:
    """One shop; baseUrl is its address (https://{shop}.myshopify.com).

    Credentials keys: `accessToken`, or `clientId` and `clientSecret` (client-credentials grant). Scope
    read_products; weights and stock also need read_inventory where the shop asks for it.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: RateLimiter,
        catalogue_filter: CatalogueFilter,
        *,
        settings: ShopifySettings | None = None,
    ) -> None:
        self._settings = settings or ShopifySettings()
        self._search = search_for(catalogue_filter.updated_after)
        self._client = GraphQLClient(connection, limiter, policy=self._settings.policy)
        self._paging = Paging(self._client, self._settings, self._search)
        self._bulk = BulkReader(
            self._client,
            connection,
            self._settings,
            self._search,
            adopts_older=not catalogue_filter.is_current,
        )

    async def check(self) -> None:
        """Read the shop's id and one product."""
        await self._client.execute(SHOP)

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncGenerator[Page, None]:
        """Yield the catalogue.

        When a bulk operation fails, paging starts over: products that were yielded already come again,
        and are found unchanged.
        """
        pages = self._pages(ShopifyCursor.parse(cursor))
        return restarted(pages) if starts_over(cursor, version=CURSOR_VERSION) else pages

    def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield these products, some by each query."""
        return self._paging.products(external_ids)

    async def preview(self) -> AsyncGenerator[Page, None]:
        """Yield the catalogue page by page, however large it is: a bulk operation takes the shop's one place."""
        count, exact = await self._count()
        place = replace(ShopifyCursor(), total=count if exact else None, counted=True)
        async with aclosing(self._paging.pages(place, stored=place)) as pages:
            async for page in pages:
                yield page

    async def _pages(self, stored: ShopifyCursor) -> AsyncGenerator[Page, None]:
        place = stored
        use_bulk = place.bulk is not None
        if not place.counted:
            count, exact = await self._count()
            use_bulk = count is not None and count > self._settings.bulk_above
            place = replace(place, total=count if exact else None, counted=True)
        if use_bulk:
            try:
                async with aclosing(self._bulk.pages(place)) as pages:
                    async for page in pages:
                        yield page
            except BulkUnavailableError as error:
                _log.warning("provider.bulk_unavailable", provider="shopify", reason=error.message)
                place = place.without_bulk()
            else:
                return
        paged = self._paging.pages(place, stored=stored)
        async with aclosing(restarted(paged) if use_bulk else paged) as pages:
            async for page in pages:
                yield page

    async def _count(self) -> tuple[int | None, bool]:
        """Products that match, and whether the number is exact; None where the shop doesn't tell."""
        try:
            data = await self._client.execute(COUNT, {"query": self._search})
        except CredentialsError:
            raise
        except ProviderRejectedError as error:
            _log.info("provider.count_unavailable", provider="shopify", reason=error.message)
            return None, False
        value = data.get("productsCount")
        if not isinstance(value, dict) or not isinstance(value.get("count"), int):
            return None, False
        return value["count"], value.get("precision") == "EXACT"
