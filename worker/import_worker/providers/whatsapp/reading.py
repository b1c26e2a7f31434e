"""One reading of a catalogue: its page in a tab, what its items are, and in a second tab the items' own pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from import_core.domain.errors import CatalogueTooLargeError, PermanentError, ProviderRejectedError
from import_core.domain.item_errors import GONE_FROM_SOURCE
from import_core.domain.products import ProductFailure
from import_core.domain.resources.whatsapp import ScrapeSettings
from import_core.domain.scraping import (
    ScrapedItem,
    address_of,
    digest,
    id_of,
    nameless,
    nothing_found,
    wall_of,
)
from import_worker.browsing.proxy import CheckedProxy
from import_worker.browsing.tab import Tab
from import_worker.providers.http import Answer
from import_worker.providers.whatsapp.catalogue_page import CataloguePage, CutOffError
from import_worker.providers.whatsapp.page_client import PageClient

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext


@dataclass(frozen=True, slots=True)
class Found:
    """One item of the list on its way to a product; `failure` where it can be none. `key`: for the cursor."""

    key: str
    external_id: str
    item: ScrapedItem
    failure: ProductFailure | None = None


class CatalogueReading:
    """`open`, then `load`, then `items` once. `cut_off`: why `items` ended before the list did."""

    def __init__(
        self,
        client: PageClient,
        context: BrowserContext,
        proxy: CheckedProxy,
        *,
        settings: ScrapeSettings,
        hosts: Collection[str],
        seconds: float,
    ) -> None:
        self._client = client
        self._context = context
        self._proxy = proxy
        self._settings = settings
        self._hosts = hosts
        self._seconds = seconds
        self._list: CataloguePage | None = None
        self._item: CataloguePage | None = None
        self._answer = Answer(0, {}, "")
        self.cut_off: PermanentError | None = None

    @property
    def url(self) -> str:
        """The address that the catalogue's page was found at."""
        return str(self._answer.payload)

    async def open(self) -> None:
        """Open a tab and look whether the selectors are selectors; nothing is loaded yet."""
        await self._list_page()

    async def load(self, url: str) -> Answer:
        """Load the catalogue's page."""
        page = await self._list_page()
        self._answer = await self._client.browse(page.tab, self._proxy, url)
        return self._answer

    async def items(self, done: Collection[str]) -> AsyncGenerator[Found, None]:
        """The items whose keys are not `done`, each once. Raises ProviderRejectedError where there are none at all."""
        page = await self._list_page()
        known = set(done)
        place = 0
        try:
            async with aclosing(page.items()) as items:
                async for item in items:
                    found = self._found(item, place + 1)
                    place += 1
                    if found.key in known:
                        continue
                    if len(known) >= self._settings.max_items:
                        self.cut_off = CatalogueTooLargeError(
                            f"The catalogue has more than {self._settings.max_items:,} products; raise"
                            " spec.whatsapp.scrape.maxItems."
                        )
                        return
                    known.add(found.key)
                    yield found
        except CutOffError as error:
            self.cut_off = error
            return
        if not place and not await page.shows(self._settings.selectors.empty):
            raise await self._nothing(page)

    async def read_item(self, found: Found) -> ScrapedItem | ProductFailure:
        """Read a product's own page; what is wrong with it alone is a failure. Raises what a page load raises."""
        selectors = self._settings.item_page
        url = address_of(found.item.link or "", self.url) if found.item.link else None
        if selectors is None or url is None or (urlsplit(url).hostname or "") not in self._hosts:
            return self._failed(
                found, "Malformed", "The item has no link to a page of the catalogue's hosts."
            )
        if self._settings.respect_robots and not await self._client.may_read(url):
            return self._failed(found, "ClosedByRobots", "The host's robots.txt closes the item's page.")
        page = await self._item_page()
        answer = await self._client.browse(page.tab, self._proxy, url)
        if answer.status in {404, 410}:
            return self._failed(found, GONE_FROM_SOURCE, f"The item's page is gone (HTTP {answer.status}).")
        if answer.status >= 300:
            return self._failed(
                found, ProviderRejectedError.reason, f"The item's page was refused (HTTP {answer.status})."
            )
        return await page.item_page(selectors)

    def _found(self, item: ScrapedItem, place: int) -> Found:
        external_id = id_of(item, self.url)
        if external_id is None:
            # Without an id it is known by what it shows, so that it is told of once.
            shown = digest(f"{item.title}\n{item.link}\n{item.price}")
            return Found(shown, f"number {place} of the page", item, nameless(item, place))
        return Found(digest(external_id), external_id, item)

    @staticmethod
    def _failed(found: Found, reason: str, message: str) -> ProductFailure:
        return ProductFailure(
            found.external_id, reason, message, {"name": found.item.title, "url": found.item.link}
        )

    async def _nothing(self, page: CataloguePage) -> ProviderRejectedError:
        look = await page.look(self.url, self._answer.status)
        wall = wall_of(look)
        if wall is not None:
            return ProviderRejectedError(
                f"{self._client.host} shows {wall.value} instead of the catalogue (titled"
                f" {' '.join(look.title.split())[:80]!r}). A program must not pass that: use the Graph API"
                " (whatsapp.mode: Graph), or ask the host for a page that programs may read."
            )
        return ProviderRejectedError(
            f"{self._client.host}: {nothing_found(look, self._settings.selectors.item)}."
        )

    async def _list_page(self) -> CataloguePage:
        if self._list is None:
            self._list = await self._new_page()
            await self._list.check_selectors()
        return self._list

    async def _item_page(self) -> CataloguePage:
        if self._item is None:
            self._item = await self._new_page()
        return self._item

    async def _new_page(self) -> CataloguePage:
        tab = await Tab.open(self._context, self._hosts)
        return CataloguePage(tab, self._settings, self._seconds)
