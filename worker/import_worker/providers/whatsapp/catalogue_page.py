"""A catalogue's page in a tab: its items as it is scrolled, or what it is instead. Page text is kept as plain text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from import_core.domain.errors import (
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.resources.whatsapp import ItemPageSelectors, ItemSelectors, ScrapeSettings
from import_core.domain.scraping import MAX_ADDRESS_LENGTH, MAX_IMAGES, PageLook, ScrapedItem
from import_core.domain.values import MAX_TEXT_LENGTH, MAX_TITLE_LENGTH
from import_worker.browsing.scripts import CHECK_SELECTORS, LOOK, READ_ITEM_PAGE, READ_ITEMS, WAIT_FOR_MORE
from import_worker.browsing.tab import PageLoadError, Tab
from import_worker.providers.http import SHORTEST_HAND_BACK

ITEMS_PER_READ = 100
MAX_ELEMENTS = 200_000
"""A page of more elements is not read."""
READ_SECONDS = 20.0
LONGEST_LIST_SECONDS = 1_200.0
"""A list is scrolled for so long at most; a job without a checkpoint for 30 minutes counts as stalled."""
PRICE_LENGTH = 200
DESCRIPTION_LENGTH = 20_000
_LIMITS = {
    "mostImages": MAX_IMAGES,
    # One more than is kept, so that what is too long shows.
    "mostAddress": MAX_ADDRESS_LENGTH + 1,
    "mostIdentifier": MAX_TEXT_LENGTH + 1,
    "mostTitle": MAX_TITLE_LENGTH + 1,
    "mostPrice": PRICE_LENGTH,
    "mostDescription": DESCRIPTION_LENGTH,
}


class CutOffError(ProviderRejectedError):
    """The list goes on, but is not read any further."""


@dataclass(slots=True)
class _Place:
    """How much of the list has been read: `count` items, of which the first and the last are known by their keys."""

    start: int = 0
    count: int = 0
    first: str = ""
    last: str = ""


class CataloguePage:
    """Reads the page in a tab. `seconds` bounds the wait for what the page loads after one scroll.

    All raise ProviderUnavailableError where the page or the browser is gone, and ProviderRejectedError naming what to
    change.
    """

    def __init__(self, tab: Tab, settings: ScrapeSettings, seconds: float) -> None:
        self.tab = tab
        self._settings = settings
        self._selectors = settings.selectors
        self._seconds = seconds

    async def check_selectors(self) -> None:
        """Raise ProviderRejectedError naming the selectors that are not valid CSS."""
        found = {f"selectors.{name}": value for name, value in _css(self._selectors).items()}
        if self._settings.item_page is not None:
            found |= {f"itemPage.{name}": value for name, value in _css(self._settings.item_page).items()}
        wrong = await self._run(CHECK_SELECTORS, found)
        if wrong:
            names = ", ".join(f"spec.whatsapp.scrape.{name}" for name in wrong)
            raise ProviderRejectedError(f"{names}: is not a valid CSS selector.")

    async def items(self) -> AsyncGenerator[ScrapedItem, None]:
        """The items in the page's order, each as often as it is seen; more are scrolled for when all are taken.

        An item without a title comes last: pages show places of items before their content. Ends when scrolling
        brings nothing new; raises CutOffError where it still does after `scroll.maxRounds`.
        """
        scroll = self._settings.scroll
        clock = asyncio.get_running_loop().time
        end = clock() + LONGEST_LIST_SECONDS
        place = _Place()
        idle = rounds = 0
        while True:
            async for item in self._unread(place):
                if item.title:
                    yield item
            # At first the page itself may still be at work.
            scrolls = place.count > 0
            if scrolls and rounds >= scroll.max_rounds > 0:
                raise CutOffError(
                    f"The list still grows after it was scrolled {rounds:,} times; raise"
                    " spec.whatsapp.scrape.scroll.maxRounds."
                )
            if clock() > end:
                raise CutOffError(f"The list still grows after {LONGEST_LIST_SECONDS / 60:g} minutes.")
            if scrolls and scroll.max_rounds == 0:
                break
            grown = await self._wait_for_more(place, scrolls=scrolls)
            rounds += scrolls and grown
            if grown:
                self.tab.failed_loads.clear()
            idle = 0 if grown else idle + 1
            if idle >= scroll.idle_rounds:
                break
        self._check_loads()
        async for item in self._unread(_Place()):
            yield item

    def _check_loads(self) -> None:
        """Raise where the page's script was refused its data: the list's end is not the catalogue's then."""
        if not self.tab.failed_loads:
            return
        status = self.tab.failed_loads[-1]
        if status == 429:
            raise ProviderThrottledError(
                "The page asks for its items more often than the host lets it.",
                retry_after=SHORTEST_HAND_BACK,
            )
        answer = f"HTTP {status}" if status else "no answer"
        raise ProviderUnavailableError(
            f"The page could not load its items ({answer}), so the list may lack some."
        )

    async def item_page(self, selectors: ItemPageSelectors) -> ScrapedItem:
        """What a product's own page says; while something of it is missing, the page is waited for until it rests."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._seconds
        parts = _css(selectors)
        # Any of them: what appears late changes the number of what is found.
        arguments = self._arguments(selectors) | {"item": ", ".join(parts.values())}
        has_come = True
        while True:
            read = await self._run(READ_ITEM_PAGE, arguments)
            _check_size(read)
            is_whole = all(read["images" if name == "image" else name] for name in parts)
            if is_whole or not has_come or clock() > end:
                return _item(read)
            has_come = await self._wait_for_more(
                _Place(count=read["count"]), scrolls=False, item=arguments["item"]
            )

    async def shows(self, selector: str | None) -> bool:
        """Whether something is there that a selector selects."""
        if selector is None:
            return False
        return bool((await self._run(LOOK, {"selectors": {"wanted": selector}}))["counts"]["wanted"])

    async def look(self, url: str, status: int) -> PageLook:
        """What the page is like."""
        found = {name: value for name, value in _css(self._selectors).items() if name != "item"}
        seen = await self._run(LOOK, {"selectors": found})
        return PageLook(
            url, status, str(seen["title"]), str(seen["text"]), int(seen["elements"]), seen["counts"]
        )

    async def _unread(self, place: _Place) -> AsyncGenerator[ScrapedItem, None]:
        """The items behind `place`, which moves on to the end of the list."""
        while True:
            arguments = self._arguments(self._selectors) | {
                "item": self._selectors.item,
                "start": place.start,
                "first": place.first,
                "most": ITEMS_PER_READ,
            }
            read = await self._run(READ_ITEMS, arguments)
            _check_size(read)
            place.start = read["from"] + len(read["items"])
            place.count, place.first, place.last = read["count"], read["first"], read["last"]
            for item in read["items"]:
                yield _item(item)
            if place.start >= place.count or not read["items"]:
                return

    async def _wait_for_more(self, place: _Place, *, scrolls: bool, item: str | None = None) -> bool:
        """Scroll on, and wait until the list is another one (True) or the page has come to rest (False)."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._seconds
        quiet = self._settings.scroll.quiet_milliseconds
        while True:
            arguments = {
                "item": item or self._selectors.item,
                # Beside the list nothing has a key, only a number.
                "idAttribute": None if item else self._selectors.id_attribute,
                "link": None if item else self._selectors.link,
                "count": place.count,
                "last": place.last,
                "quiet": quiet,
                "scrolls": scrolls,
                "mostAddress": _LIMITS["mostAddress"],
            }
            if await self._run(WAIT_FOR_MORE, arguments, seconds=READ_SECONDS + quiet / 1000):
                return True
            if not self.tab.is_loading or clock() > end:
                return False

    def _arguments(self, selectors: ItemSelectors | ItemPageSelectors) -> dict[str, Any]:
        return {
            **_css(selectors),
            "idAttribute": self._selectors.id_attribute,
            "imageAttribute": self._selectors.image_attribute,
            **_LIMITS,
        }

    async def _run(self, script: str, arguments: Any, *, seconds: float = READ_SECONDS) -> Any:
        try:
            return await self.tab.run(script, arguments, seconds=seconds)
        except PageLoadError as error:
            raise ProviderUnavailableError(f"The catalogue's page can't be read: {error}.") from error


def _css(selectors: ItemSelectors | ItemPageSelectors) -> Mapping[str, str]:
    """The selectors that are given, by their names in the spec."""
    found = selectors.to_json()
    return {name: value for name, value in found.items() if not name.endswith("Attribute")}


def _item(read: Mapping[str, Any]) -> ScrapedItem:
    return ScrapedItem(
        identifier=read.get("identifier"),
        title=(read.get("title") or "").strip() or None,
        price=(read.get("price") or "").strip() or None,
        description=(read.get("description") or "").strip() or None,
        link=read.get("link"),
        images=tuple(read.get("images") or ()),
    )


def _check_size(read: Mapping[str, Any]) -> None:
    if read["elements"] > MAX_ELEMENTS:
        raise ProviderRejectedError(
            f"The page has {read['elements']:,} elements; at most {MAX_ELEMENTS:,} are read."
        )
