"""One Chromium for a whole worker process: started when a page is first asked for, again when it died, shared."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from import_core.adapters.packages import optional
from import_core.domain.errors import BrowserMissingError, MissingPackageError, ProviderUnavailableError
from import_worker.browsing.proxy import CheckedProxy

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright

log = structlog.get_logger(__name__)

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
LONGEST_TEMPORARY_FOLDER = 48
LAUNCH_SECONDS = 30.0
CLOSE_SECONDS = 5.0
ARGUMENTS = (
    # Names are resolved by the proxy alone, and a browser that lost its proxy finds nobody.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-quic",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-plugins",
    "--no-first-run",
    "--no-pings",
    "--js-flags=--max-old-space-size=256",
)
VIEWPORT = (1280, 1600)
ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),
    *("FONTCONFIG_FILE", "FONTCONFIG_PATH", "FONTCONFIG_SYSROOT"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_DATA_DIRS", "XDG_RUNTIME_DIR"),
)
"""What Chromium sees of the worker's environment, where the database's and the object store's secrets are."""


class ChromiumBrowser:
    """The process's Chromium, with a context for each job.

    `executable`: path of a Chromium; empty: the first of EXECUTABLES on the PATH. `is_sandboxed` False: without
    Chromium's own sandbox, which root has none of in any case.
    """

    def __init__(self, executable: str = "", *, is_sandboxed: bool = True) -> None:
        self._executable = executable
        self._is_sandboxed = is_sandboxed and os.geteuid() != 0
        self._starting = asyncio.Lock()
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self.launches = 0

    def find(self) -> Path:
        """The Chromium to start; raises BrowserMissingError naming what to install or to set."""
        try:
            optional("playwright.async_api", extra="scraping", purpose="Reading pages")
        except MissingPackageError as error:
            # Of this kind for jobs: they fail at once, and the backlog of others goes on.
            raise BrowserMissingError(error.message) from error
        if self._executable:
            path = Path(self._executable)
            if not (path.is_file() and os.access(path, os.X_OK)):
                raise BrowserMissingError(
                    f"This worker can't read pages: CHROMIUM_PATH is {path}, which is no program. Set it to a"
                    " Chromium, or leave it empty to take the one on the PATH."
                )
            return path
        found = next(filter(None, map(shutil.which, EXECUTABLES)), None)
        if found is None:
            raise BrowserMissingError(
                f"This worker can't read pages: there is no {' or '.join(EXECUTABLES[:2])} on its PATH. Run the"
                " image target worker-scraping in the WorkerPool's template, install Debian's package chromium,"
                " or set CHROMIUM_PATH."
            )
        return Path(found)

    @asynccontextmanager
    async def context(self, proxy: CheckedProxy, *, user_agent: str) -> AsyncIterator[BrowserContext]:
        """A context of its own: no cookies, no downloads, no service workers, and no way out but the proxy.

        Raises BrowserMissingError, and ProviderUnavailableError where Chromium does not start.
        """
        from playwright.async_api import Error

        context = None
        for _ in range(2):
            browser = await self._running()
            try:
                context = await browser.new_context(
                    accept_downloads=False,
                    service_workers="block",
                    user_agent=user_agent,
                    proxy={"server": proxy.address, "bypass": "<-loopback>"},
                    viewport={"width": VIEWPORT[0], "height": VIEWPORT[1]},
                )
                break
            except Error as error:
                # It died since it was last asked.
                log.warning("browser.died", detail=str(error)[:300])
                await self._forget(browser)
        if context is None:
            raise ProviderUnavailableError("The worker's browser ends as soon as it is started.")
        try:
            yield context
        finally:
            await _in_time(context.close(), what="context")

    async def aclose(self) -> None:
        """End Chromium; the next context starts it again."""
        async with self._starting:
            if self._browser is not None:
                await _in_time(self._browser.close(), what="browser")
                self._browser = None
            if self._playwright is not None:
                await _in_time(self._playwright.stop(), what="playwright")
                self._playwright = None

    async def _running(self) -> Browser:
        async with self._starting:
            if self._browser is not None and self._browser.is_connected():
                return self._browser
            self._browser = await self._launch(self.find(), ARGUMENTS)
            self.launches += 1
            log.info("browser.started", version=self._browser.version, sandboxed=self._is_sandboxed)
            return self._browser

    async def _launch(self, executable: Path, arguments: Sequence[str]) -> Browser:
        from playwright.async_api import Error, async_playwright

        try:
            if self._playwright is None:
                self._playwright = await async_playwright().start()
            return await self._playwright.chromium.launch(
                executable_path=executable,
                args=list(arguments),
                chromium_sandbox=self._is_sandboxed,
                timeout=LAUNCH_SECONDS * 1000,
                env=_environment(os.environ),
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
        except Error as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise ProviderUnavailableError(
                f"The worker's browser ({executable}) does not start: {first} If it says something of a sandbox,"
                " see CHROMIUM_SANDBOX in docs/how-to/whatsapp-catalogues.md."
            ) from error

    async def _forget(self, browser: Browser) -> None:
        async with self._starting:
            if self._browser is browser:
                self._browser = None
        await _in_time(browser.close(), what="browser")


def _environment(of_worker: Mapping[str, str]) -> dict[str, str | float | bool]:
    """Chromium's environment: pages that others wrote run in its processes."""
    seen = {name: of_worker[name] for name in ENVIRONMENT if name in of_worker}
    return {**seen, "TMPDIR": _temporary_folder()}


def _temporary_folder() -> str:
    """Where Chromium puts its socket, whose address the system limits to about 100 characters."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= LONGEST_TEMPORARY_FOLDER else "/tmp"  # noqa: S108 - made with a random name


async def _in_time(closing: object, *, what: str) -> None:
    """Close a thing of the browser; one that hangs or is gone already is only told of."""
    from playwright.async_api import Error

    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing  # type: ignore[misc]
    except (Error, TimeoutError) as error:
        log.warning("browser.not_closed", what=what, detail=str(error)[:200])
