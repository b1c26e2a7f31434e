"""The page in a browser, as a test drives it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Locator, Page, expect
from scenes import start_scene
from stand_in import TOKEN, StandIn

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Registered before any script of the page: what the policy stops is kept where the test reads it.
PROBES = Path(__file__).with_name("probes.js")

# A busy machine draws slowly.
expect.set_options(timeout=20_000)


class BrowserPage:
    """A page in a context of its own, and what the browser complained of."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    @asynccontextmanager
    async def opened(cls, browser: Browser, **options: Any) -> AsyncIterator["BrowserPage"]:
        """Open an empty page; fails at the end when the browser noted an error or a CSP violation."""
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        await context.add_init_script(path=PROBES)
        opened = cls(context, await context.new_page())
        opened.page.set_default_timeout(20_000)
        try:
            yield opened
            assert await opened.page.evaluate("window.probes?.violations ?? []") == []
            assert opened.errors == []
        finally:
            await context.close()


class PageWorld:
    """A page of the stand-in."""

    def __init__(self, opened: BrowserPage, stand_in: StandIn) -> None:
        self.context = opened.context
        self.page = opened.page
        self.stand_in = stand_in

    @classmethod
    @asynccontextmanager
    async def open(cls, browser: Browser, stand_in: StandIn, **options: Any) -> AsyncIterator["PageWorld"]:
        """Open an empty page; the options are those of a browser's context."""
        async with BrowserPage.opened(browser, **options) as opened:
            yield cls(opened, stand_in)

    async def sign_in(self, *, scene: bool = True) -> None:
        """Open the page with a scene, and sign in as a person does."""
        if scene:
            start_scene(self.stand_in)
        await self.page.goto(self.stand_in.url)
        await self.page.get_by_label("Token").fill(TOKEN)
        await self.page.get_by_role("button", name="Sign in").click()
        await expect(self.page.locator("#live-text")).to_have_text("Live")

    def row(self, name: str) -> Locator:
        """The row of a job."""
        return self.page.locator(f'.job[data-id="id-{name}"]')

    def group(self, group: str) -> Locator:
        """A group of rows: running, waiting, failed, finished."""
        return self.page.locator(f'.group[data-group="{group}"]')
