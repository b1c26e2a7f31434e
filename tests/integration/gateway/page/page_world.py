"""The page in a browser, as a test drives it."""

from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, expect
from scenes import start_scene
from stand_in import TOKEN, StandIn

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
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


class PageWorld:
    """A page, its gateway, and what the browser complained of."""

    def __init__(self, context: BrowserContext, page: Page, stand_in: StandIn) -> None:
        self.context = context
        self.page = page
        self.stand_in = stand_in
        self.errors: list[str] = []
        self.violations: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    async def open(cls, browser: Browser, stand_in: StandIn, **options: Any) -> "PageWorld":
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        await context.add_init_script(path=PROBES)
        page = await context.new_page()
        page.set_default_timeout(15_000)
        return cls(context, page, stand_in)

    async def close(self) -> None:
        self.violations += await self.page.evaluate("window.probes?.violations ?? []")
        await self.context.close()

    async def sign_in(self, *, scene: bool = True) -> None:
        """Open the page with a scene, and sign in as a person does."""
        if scene:
            start_scene(self.stand_in)
        await self.page.goto(self.stand_in.url)
        await self.page.get_by_label("Token").fill(TOKEN)
        await self.page.get_by_role("button", name="Sign in").click()
        await expect(self.page.locator("#live-text")).to_have_text("Live")

    def row(self, name: str) -> Any:
        """The row of a job."""
        return self.page.locator(f'.job[data-id="id-{name}"]')

    def group(self, group: str) -> Any:
        """A group of rows: running, waiting, failed, finished."""
        return self.page.locator(f'.group[data-group="{group}"]')
