"""A real Chromium, the page, and a gateway whose answers the test decides."""

import shutil
from collections.abc import AsyncIterator

import pytest_asyncio
from chromium import require_chromium
from page_world import ARGUMENTS, PageWorld
from playwright.async_api import Browser, async_playwright
from stand_in import StandIn

from import_worker.browsing.browser import EXECUTABLES


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, headless."""
    require_chromium()
    path = next(filter(None, map(shutil.which, EXECUTABLES)))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def stand_in() -> AsyncIterator[StandIn]:
    """A gateway with nothing in it."""
    stand_in = StandIn()
    await stand_in.start()
    yield stand_in
    await stand_in.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def live(browser: Browser, stand_in: StandIn) -> AsyncIterator[PageWorld]:
    """A page in a context of its own; the test fails when the browser noted an error or a CSP violation."""
    async with PageWorld.open(browser, stand_in) as live:
        yield live
