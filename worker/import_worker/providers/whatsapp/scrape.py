"""A WhatsApp catalogue's page, read in a browser by selectors from the configuration."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from import_core.domain.errors import BrowserMissingError, ImportOperatorError, ProviderRejectedError
from import_core.domain.item_errors import GONE_FROM_SOURCE
from import_core.domain.products import Page, ProductFailure, SourceProduct
from import_core.domain.resources.whatsapp import ScrapeSettings
from import_core.domain.robots import product_of as product_token
from import_core.domain.scraping import product_of
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.browsing.proxy import CheckedProxy
from import_worker.providers.base import CatalogueFilter, Connection, RateLimiter, restarted, starts_over
from import_worker.providers.http import USER_AGENT, Answer, CallPolicy
from import_worker.providers.whatsapp.page_client import PageClient
from import_worker.providers.whatsapp.reading import CatalogueReading, Found

CURSOR_VERSION = 1
MOST_BYTES = 256 * 1024 * 1024
"""What the pages of one job may load in all."""


@dataclass(slots=True)
class Batch:
    """What a page of the import will hold."""

    products: list[SourceProduct] = field(default_factory=list)
    failures: list[ProductFailure] = field(default_factory=list)

    def page(self, cursor: Mapping[str, Any] | None, total: int | None = None) -> Page:
        """The page that these make."""
        return Page(tuple(self.products), cursor, total, tuple(self.failures))


class ScrapeProvider:
    """One catalogue's page; no credentials.

    The page can't be entered in the middle: a cursor holds short digests of the ids that are done, and whoever goes
    on scrolls past them. Items are visited in the page's order, their own pages only where selectors ask for it.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: RateLimiter,
        catalogue_filter: CatalogueFilter,
        *,
        scrape: ScrapeSettings,
        page_size: int = 20,
        policy: CallPolicy | None = None,
    ) -> None:
        del catalogue_filter
        self._connection = connection
        self._scrape = scrape
        self._page_size = page_size
        self._user_agent = scrape.user_agent or USER_AGENT
        self._client = PageClient(
            connection, limiter, user_agent=self._user_agent, policy=policy or CallPolicy()
        )
        self._hosts = frozenset({urlsplit(connection.base_url).hostname or "", *scrape.hosts})

    async def check(self) -> None:
        """Ask for the catalogue's page without a browser, where robots.txt lets it; a browser has to be there."""
        self._found_browser()
        await self._check_robots()
        parts = urlsplit(self._connection.base_url)
        self._check_answer(await self._client.get(parts.path or "/"))

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def preview(self) -> AsyncGenerator[Page, None]:
        """Yield the catalogue; nothing is set going here by reading."""
        return self.pages(None)

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncGenerator[Page, None]:
        """Yield the catalogue as it is scrolled; what was read before an error is yielded first."""
        over = starts_over(cursor, version=CURSOR_VERSION)
        pages = self._pages([] if cursor is None or over else list(cursor["seen"]))
        return restarted(pages) if over else pages

    async def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield these products: the list is read until all are found; what it ends without is gone."""
        if not external_ids:
            return
        wanted = dict.fromkeys(external_ids)
        async with self._reading() as reading, aclosing(reading.items(set())) as items:
            batch = Batch()
            async for found in items:
                if found.external_id not in wanted:
                    continue
                del wanted[found.external_id]
                error = await self._add(reading, batch, found)
                if error is not None or len(batch.products) + len(batch.failures) >= self._page_size:
                    yield batch.page(None)
                    batch = Batch()
                if error is not None:
                    raise error
                if not wanted:
                    break
            batch.failures += [
                ProductFailure(key, GONE_FROM_SOURCE, "The catalogue's page does not show it any more.")
                for key in wanted
            ]
            yield batch.page(None)

    async def _pages(self, seen: list[str]) -> AsyncGenerator[Page, None]:
        done = list(seen)
        waiting: list[Found] = []
        async with self._reading() as reading, aclosing(reading.items(set(seen))) as items:
            async for found in items:
                waiting.append(found)
                # One more than a page is known, so that the last page is the last one.
                if len(waiting) > self._page_size:
                    batch, error = await self._visit(reading, waiting, done)
                    yield batch.page(self._cursor(done))
                    if error is not None:
                        raise error
            batch, error = await self._visit(reading, waiting, done)
            if error is not None:
                yield batch.page(self._cursor(done))
                raise error
            if reading.cut_off is not None:
                # What the list is too long for is not gone: its end must not look like the catalogue's.
                yield batch.page(self._cursor(done))
                raise reading.cut_off
            yield batch.page(None, total=len(done))

    @staticmethod
    def _cursor(done: Sequence[str]) -> dict[str, Any]:
        return {"version": CURSOR_VERSION, "seen": list(done)}

    async def _visit(
        self, reading: CatalogueReading, waiting: list[Found], done: list[str]
    ) -> tuple[Batch, ImportOperatorError | None]:
        """Make a page of the first items that wait; what is in it is `done` and waits no more."""
        batch = Batch()
        for found in waiting[: self._page_size]:
            error = await self._add(reading, batch, found)
            if error is not None:
                return batch, error
            done.append(found.key)
            waiting.remove(found)
        return batch, None

    async def _add(self, reading: CatalogueReading, batch: Batch, found: Found) -> ImportOperatorError | None:
        """Put one item into a batch; the error instead, where its own page can't be had now."""
        if found.failure is not None:
            batch.failures.append(found.failure)
            return None
        item = found.item
        if self._scrape.item_page is not None:
            try:
                read = await reading.read_item(found)
            except ImportOperatorError as error:
                return error
            if isinstance(read, ProductFailure):
                batch.failures.append(read)
                return None
            item = item.with_page(read)
        batch.products.append(
            product_of(item, found.external_id, reading.url, currency=self._scrape.currency)
        )
        return None

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[CatalogueReading]:
        """The catalogue's page, loaded, in a browser context of its own. Raises what a page load raises."""
        browser = self._found_browser()
        proxy = CheckedProxy(self._connection.allow, self._hosts, MOST_BYTES)
        async with proxy, browser.context(proxy, user_agent=self._user_agent) as context:
            reading = CatalogueReading(
                self._client,
                context,
                proxy,
                settings=self._scrape,
                hosts=self._hosts,
                seconds=self._connection.timeout_seconds,
            )
            await reading.open()
            await self._check_robots()
            answer = await reading.load(self._connection.base_url)
            self._check_answer(answer)
            yield reading

    def _found_browser(self) -> ChromiumBrowser:
        browser = self._connection.browser
        if browser is None:
            raise BrowserMissingError
        browser.find()
        return browser

    async def _check_robots(self) -> None:
        """Raise ProviderRejectedError where robots.txt closes the catalogue's page to us."""
        if self._scrape.respect_robots and not await self._client.may_read(self._connection.base_url):
            raise ProviderRejectedError(
                f"The robots.txt of {self._client.host} does not let {product_token(self._user_agent)} read the"
                " catalogue's page. Use the Graph API (whatsapp.mode: Graph); or, with the host's permission, set"
                " spec.whatsapp.scrape.respectRobots to false."
            )

    def _check_answer(self, answer: Answer) -> None:
        """Raise ProviderRejectedError for an answer that is not the catalogue's page."""
        host, status = self._client.host, answer.status
        if status in {404, 410}:
            raise ProviderRejectedError(
                f"{host} has no page at this address (HTTP {status}); check spec.baseUrl."
            )
        if status in {401, 403, 451}:
            raise ProviderRejectedError(
                f"{host} does not show the page to us (HTTP {status}): it asks for a login or does not want to be"
                " read by programs. Use the Graph API (whatsapp.mode: Graph)."
            )
        if status >= 400:
            raise ProviderRejectedError(f"{host} refused the request (HTTP {status}).")
        if 300 <= status < 400:
            raise ProviderRejectedError(
                f"{host} redirects elsewhere (HTTP {status}); check spec.baseUrl and spec.whatsapp.scrape.hosts."
            )
