"""One tab of a browser context: goes to pages that it is told, loads nothing else than they need, reads their DOM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import structlog

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Page, Request, Response, Route

log = structlog.get_logger(__name__)

DATA_KINDS = frozenset({"xhr", "fetch"})
LOADED_KINDS = DATA_KINDS | {"document", "script", "stylesheet"}
"""What a page may load; images are downloaded by the import, and fonts, media and the rest show nothing."""
MAX_REQUESTS = 2_000
"""Requests between two page loads."""

Leave = Callable[[], Awaitable[None]]
"""Returns when a page's own request may be sent."""


class PageLoadError(Exception):
    """The page could not be opened or read; the message is the browser's."""


class BrowserGoneError(PageLoadError):
    """The page's process or the whole browser ended."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a page load ended."""

    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


class Tab:
    """A tab that can reach `hosts` only, and of these only what a page needs to show its text."""

    def __init__(self, page: Page, session: CDPSession, hosts: Collection[str]) -> None:
        self._page = page
        self._session = session
        self._hosts = frozenset(hosts)
        self._leave: Leave | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._under_way: set[Request] = set()
        self._requests = 0
        self._crashed = False
        self._world: int | None = None
        self.failed_loads: list[int] = []
        """Statuses of answers that the page's own script was refused with by a failing or busy server; 0: none came.
        Whoever reads clears it."""

    @classmethod
    async def open(cls, context: BrowserContext, hosts: Collection[str]) -> Self:
        """Open an empty tab."""
        page = await context.new_page()
        tab = cls(page, await context.new_cdp_session(page), hosts)
        await page.route("**/*", tab._decide)
        page.on("request", tab._note_start)
        page.on("requestfinished", tab._note_end)
        page.on("requestfailed", tab._note_failure)
        page.on("response", tab._note_response)
        page.on("crash", tab._note_crash)
        page.on("popup", lambda popup: asyncio.ensure_future(_close(popup)))
        return tab

    @property
    def is_loading(self) -> bool:
        """Whether the page waits for its server."""
        return bool(self._under_way)

    async def goto(self, url: str, *, leave: Leave) -> Arrival:
        """Load a page until its HTML is read. Raises PageLoadError, and what `leave` raises. Bounded by the caller."""
        from playwright.async_api import Error

        self._leave, self._requests, self._world = leave, 0, None
        self._under_way.clear()
        self.failed_loads.clear()
        try:
            response = await self._page.goto(url, wait_until="domcontentloaded", timeout=0)
        except Error as error:
            self._raise_own()
            raise self._failure(error) from error
        finally:
            self._leave = None
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None
        if response is None:
            raise PageLoadError("the address names no page")
        return Arrival(response.url, response.status, dict(response.headers))

    def _raise_own(self) -> None:
        """Raise what `leave` raised: the browser only knows that the request was stopped."""
        task = self._leaving
        if task is not None and task.done() and not task.cancelled():
            error = task.exception()
            if error is not None:
                raise error

    async def run(self, script: str, arguments: Any, *, seconds: float) -> Any:
        """Run a function of ours in a world of its own beside the page, and return its JSON value.

        Raises PageLoadError where it fails, takes longer, or the page is gone.
        """
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(seconds):
                if self._world is None:
                    self._world = await self._new_world()
                answer = await self._session.send(
                    "Runtime.evaluate",
                    {
                        "expression": f"({script})({json.dumps(arguments)})",
                        "contextId": self._world,
                        "returnByValue": True,
                        "awaitPromise": True,
                        "timeout": seconds * 1000,
                    },
                )
        except TimeoutError as error:
            raise PageLoadError(f"the page could not be read within {seconds:g} s") from error
        except Error as error:
            raise self._failure(error) from error
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            described = details.get("exception", {}).get("description") or details.get("text", "")
            raise PageLoadError(str(described).partition("\n")[0][:200])
        return answer["result"].get("value")

    async def _new_world(self) -> int:
        tree = await self._session.send("Page.getFrameTree")
        frame = tree["frameTree"]["frame"]["id"]
        world = await self._session.send(
            "Page.createIsolatedWorld", {"frameId": frame, "worldName": "import-operator"}
        )
        return int(world["executionContextId"])

    async def _decide(self, route: Route, request: Request) -> None:
        """Let one request through, or not."""
        from playwright.async_api import Error

        try:
            if await self._may_pass(request):
                await route.continue_()
            elif request.is_navigation_request() and request.frame == self._page.main_frame:
                # An aborted one would put the browser's own error page in the place of the page.
                await route.fulfill(status=204)
            else:
                await route.abort("blockedbyclient")
        except Error as error:
            # The page went on meanwhile.
            log.debug("tab.request_gone", detail=str(error)[:200])

    async def _may_pass(self, request: Request) -> bool:
        self._requests += 1
        parts = urlsplit(request.url)
        if self._requests > MAX_REQUESTS or request.resource_type not in LOADED_KINDS:
            return False
        if parts.scheme not in {"http", "https"} or (parts.hostname or "") not in self._hosts:
            return False
        if request.resource_type != "document":
            return True
        # Frames within the page, and pages that lead away by themselves, are not followed: nobody granted them.
        leave, self._leave = self._leave, None
        if leave is None or request.frame != self._page.main_frame:
            return False
        self._leaving = asyncio.ensure_future(leave())
        await asyncio.wait({self._leaving})
        return not self._leaving.cancelled() and self._leaving.exception() is None

    def _failure(self, error: Exception) -> PageLoadError:
        message = str(error).strip().partition("\n")[0][:200]
        gone = self._crashed or self._page.is_closed() or "has been closed" in message or "crashed" in message
        return BrowserGoneError(message) if gone else PageLoadError(message)

    def _note_start(self, request: Request) -> None:
        self._under_way.add(request)

    def _note_end(self, request: Request) -> None:
        self._under_way.discard(request)

    def _note_failure(self, request: Request) -> None:
        self._under_way.discard(request)
        reason = request.failure or ""
        # What we stopped or the page gave up is no failure of its server.
        if request.resource_type in DATA_KINDS and "BLOCKED" not in reason and "ABORTED" not in reason:
            self._note_status(0)

    def _note_response(self, response: Response) -> None:
        if response.request.resource_type in DATA_KINDS and (
            response.status >= 500 or response.status == 429
        ):
            self._note_status(response.status)

    def _note_status(self, status: int) -> None:
        if len(self.failed_loads) < MAX_REQUESTS:
            self.failed_loads.append(status)

    def _note_crash(self, _page: Page) -> None:
        self._crashed = True


async def _close(popup: Page) -> None:
    from playwright.async_api import Error

    try:
        await popup.close()
    except Error as error:
        log.debug("tab.popup_gone", detail=str(error)[:200])
