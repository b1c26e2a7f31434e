"""Products read per minute from a sample WhatsApp catalogue, beside a bare HTTP client that reads the same data.

The page in Chromium with and without visits of the products' own pages, and the Graph API; no call limit, all on this
machine. The reference fetches the JSON that the page's script fetches. Run with `python -m bench scraping`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx2

from bench.table import median_of, print_table
from import_core.domain.addresses import parse_allow_list
from import_core.domain.limits import Grant
from import_core.domain.resources.whatsapp import WhatsAppSettings
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.settings import GRAPH_CATALOGUE, GRAPH_TOKEN, WHATSAPP_NUMBER, SampleSettings
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.whatsapp import WhatsAppProvider

PRODUCTS = 100
CATALOGUE = f"tiny-{PRODUCTS}-2"
ROUNDS = 3
SELECTORS = {
    "item": ".catalogue-item",
    "idAttribute": "data-product-id",
    "link": ".item-link",
    "title": ".item-title",
    "price": ".item-price",
    "description": ".item-text",
    "image": ".item-image",
}
LIST = {"mode": "Scrape", "scrape": {"selectors": SELECTORS}}
PAGES = {
    "mode": "Scrape",
    "scrape": {"selectors": SELECTORS, "itemPage": {"description": ".about", "image": ".photo"}},
}
GRAPH = {"mode": "Graph", "graph": {"catalogId": GRAPH_CATALOGUE}}


class Unlimited:
    """Grants every call at once."""

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        """Grant."""
        return Grant("bench", asyncio.get_running_loop().time(), 60.0)

    async def block(self, seconds: float) -> None:
        """Nothing to block."""

    async def observe(self, grant: Grant, points: float, bucket: object) -> None:
        """Not kept."""

    async def arrived(self, grant: Grant, by: float) -> None:
        """Not kept."""

    async def release(self, grant: Grant, points: float) -> None:
        """Not kept."""


async def read(samples: RunningSamples, browser: ChromiumBrowser, settings: Mapping[str, object]) -> None:
    """Read the whole catalogue once."""
    is_graph = settings["mode"] == "Graph"
    url = f"{samples.whatsapp_url}/{CATALOGUE}/c/{WHATSAPP_NUMBER}"
    connection = Connection(
        "bench/whatsapp",
        "whatsapp",
        "bench",
        f"{samples.graph_url}/{CATALOGUE}" if is_graph else url,
        {"accessToken": GRAPH_TOKEN} if is_graph else {},
        allow=parse_allow_list("127.0.0.1"),
        whatsapp=WhatsAppSettings.model_validate(settings),
        browser=browser,
    )
    provider = WhatsAppProvider(connection, Unlimited(), CatalogueFilter())
    count = 0
    async for page in provider.pages(None):
        count += len(page.products)
    await provider.aclose()
    if count != PRODUCTS:
        raise RuntimeError(f"{count} products came instead of {PRODUCTS}")


async def fetch(samples: RunningSamples) -> None:
    """The reference: the page's data without the page."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        offset, more = 0, True
        while more:
            url = f"{samples.whatsapp_url}/{CATALOGUE}/items?offset={offset}"
            body = (await client.get(url)).json()
            offset, more = offset + len(body["items"]), body["more"]


async def main() -> None:
    """Measure in turns and print the table."""
    browser = ChromiumBrowser()
    seconds: dict[str, list[float]] = {}
    async with serve_samples(SampleSettings(graph_calls=10**6)) as samples:
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "bare HTTP, the page's JSON": lambda: fetch(samples),
            "Graph API": lambda: read(samples, browser, GRAPH),
            "page in Chromium": lambda: read(samples, browser, LIST),
            "page and each product's page": lambda: read(samples, browser, PAGES),
        }
        # Chromium's start is not what is measured.
        await read(samples, browser, LIST)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
        await browser.aclose()
    bare = statistics.median(seconds["bare HTTP, the page's JSON"])
    rows = [
        (
            name,
            f"{60 * PRODUCTS / statistics.median(taken):,.0f}",
            median_of(taken),
            f"{statistics.median(taken) / bare:.1f}",
        )
        for name, taken in seconds.items()
    ]
    print_table(("way", "products a minute", f"{PRODUCTS} products, s", "ratio"), rows)
