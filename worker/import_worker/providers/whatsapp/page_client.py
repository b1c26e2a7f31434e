"""Page loads as calls of a connection: each with a grant, told to the breaker, tried again like any API call."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import replace
from urllib.parse import urljoin, urlsplit, urlunsplit

from import_core.domain.errors import ProviderRejectedError
from import_core.domain.robots import EVERYTHING_ALLOWED, MAX_BYTES, Robots, parse_robots, product_of
from import_worker.browsing.proxy import CheckedProxy
from import_worker.browsing.tab import Arrival, BrowserGoneError, PageLoadError, Tab
from import_worker.providers.attempts import Failure, Turn
from import_worker.providers.base import Connection, RateLimiter
from import_worker.providers.http import Answer, ApiClient, Call, CallPolicy
from import_worker.providers.outcomes import CallOutcome

BROWSE = "BROWSE"
"""The method of a call that is a page load in a browser."""
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PROXY_STATUSES = frozenset({403, 502})
"""What the proxy answers with in the place of a server; its problems tell that it was not the server itself."""
ROBOTS_SECONDS = 3600.0
"""A robots.txt is used for so long (RFC 9309, 2.4: at most a day)."""
ROBOTS_KEPT = 1_000
MOST_REDIRECTS = 5


class RobotsCache:
    """What hosts' robots.txt say, by origin and user agent, for all jobs of this process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, Robots]] = OrderedDict()

    def find(self, origin: str, product: str) -> Robots | None:
        """What is known and not too old."""
        kept = self._kept.get((origin, product))
        return kept[1] if kept is not None and time.monotonic() - kept[0] < ROBOTS_SECONDS else None

    def keep(self, origin: str, product: str, robots: Robots) -> None:
        """Remember; the oldest of many is forgotten."""
        self._kept[origin, product] = (time.monotonic(), robots)
        self._kept.move_to_end((origin, product))
        while len(self._kept) > ROBOTS_KEPT:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


ROBOTS = RobotsCache()


class PageClient(ApiClient):
    """Loads pages of one host. What it raises is what ApiClient raises.

    A page load counts as one call, whatever the page then loads by itself: that stays within the hosts, the kinds
    and the amounts that tab and proxy let through.
    """

    def __init__(
        self, connection: Connection, limiter: RateLimiter, *, user_agent: str, policy: CallPolicy
    ) -> None:
        parts = urlsplit(connection.base_url)
        self.origin = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        super().__init__(replace(connection, base_url=self.origin), limiter, policy=policy)
        self._user_agent = user_agent
        self._tab: Tab | None = None
        self._proxy: CheckedProxy | None = None

    async def browse(self, tab: Tab, proxy: CheckedProxy, url: str) -> Answer:
        """Load a page in a tab; `payload` of the answer is the address that it ended at."""
        self._tab, self._proxy = tab, proxy
        return await self.send(Call(BROWSE, url))

    async def get(self, path: str) -> Answer:
        """Ask for a page without a browser: for its status alone. Follows redirects within the host."""
        headers = {"User-Agent": self._user_agent, "Accept": "text/html,*/*;q=0.5"}
        for _ in range(MOST_REDIRECTS):
            answer = await self.send(Call("GET", path, headers=headers))
            target = urlsplit(urljoin(self.origin + path, answer.headers.get("location", "")))
            if not 300 <= answer.status < 400 or urlunsplit((*target[:2], "", "", "")) != self.origin:
                break
            path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        return answer

    async def may_read(self, url: str) -> bool:
        """Whether the host's robots.txt opens a page of it to our user agent."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return (await self.robots()).allows(path)

    async def robots(self) -> Robots:
        """What the host's robots.txt opens to our user agent."""
        product = product_of(self._user_agent)
        kept = ROBOTS.find(self.origin, product)
        if kept is None:
            answer = await self.get("/robots.txt")
            kept = EVERYTHING_ALLOWED
            if answer.status == 200:
                kept = parse_robots(answer.body[:MAX_BYTES].decode("utf-8", "replace"), self._user_agent)
            ROBOTS.keep(self.origin, product, kept)
        return kept

    async def _attempt(self, call: Call, turn: Turn) -> Answer | Failure:
        tab, proxy = self._tab, self._proxy
        if call.method != BROWSE or tab is None or proxy is None:
            return await super()._attempt(call, turn)
        proxy.problems.clear()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                arrival = await tab.goto(call.path, leave=lambda: self._leave_in_time(call, turn, limit))
        except TimeoutError as error:
            problem = f"{self.host} did not answer within {self._timeout:g} s."
            return Failure(problem, CallOutcome.TIMEOUT, error, final=True)
        except BrowserGoneError as error:
            problem = f"The worker's browser ended while it loaded a page of {self.host}."
            return Failure(problem, CallOutcome.UNREACHABLE, error, final=True)
        except PageLoadError as error:
            return self._explain(_word(error), proxy, call.path, error)
        turn.answered_at = asyncio.get_running_loop().time()
        return self._judge(arrival, proxy)

    def _judge(self, arrival: Arrival, proxy: CheckedProxy) -> Answer | Failure:
        """What an answered page load is; raises ProviderRejectedError for what is no page."""
        if arrival.status in PROXY_STATUSES and proxy.problem_of(arrival.url) is not None:
            return self._explain("no answer", proxy, arrival.url)
        if arrival.status >= 500:
            problem = f"{self.host} answers with a server error (HTTP {arrival.status})."
            return Failure(problem, CallOutcome.SERVER_ERROR)
        kind = arrival.headers.get("content-type", "text/html").partition(";")[0].strip().casefold()
        if arrival.status < 300 and kind not in HTML_TYPES:
            raise ProviderRejectedError(f"{self.host} answers with {kind[:60]!r} instead of a page.")
        return Answer(arrival.status, arrival.headers, arrival.url)

    def _explain(
        self, word: str, proxy: CheckedProxy, url: str, error: PageLoadError | None = None
    ) -> Failure:
        """Why a page could not be loaded: by what the proxy refused, else by the browser's word."""
        problem = proxy.problem_of(url)
        if problem is None and "ABORTED" not in word:
            # The page itself was reached, and what it redirects to was refused.
            refused = (
                found for found in proxy.problems.values() if found.is_other_host or found.is_forbidden
            )
            problem = next(refused, None)
        if problem is not None and problem.is_forbidden:
            raise ProviderRejectedError(
                f"spec.baseUrl: {problem.message}; the worker's setting PROVIDER_ALLOW opens addresses that are"
                " not public."
            ) from error
        if problem is not None and problem.is_other_host:
            raise ProviderRejectedError(
                f"{self.host} redirects to another host: {problem.message}. If that is where the catalogue is, add"
                " it to spec.whatsapp.scrape.hosts or change spec.baseUrl."
            ) from error
        if "Download is starting" in str(error):
            raise ProviderRejectedError(f"{self.host} offers a download instead of a page.") from error
        if proxy.is_used_up:
            raise ProviderRejectedError(
                f"The pages of {self.host} have more data than a job reads."
            ) from error
        return Failure(f"{self.host} can't be reached ({word}).", CallOutcome.UNREACHABLE, error)


def _word(error: PageLoadError) -> str:
    """The browser's own short word for a failed load, such as ERR_EMPTY_RESPONSE."""
    words = (word.removeprefix("net::").strip("().,") for word in str(error).split())
    return next((word for word in words if word.startswith("ERR_")), "PageLoadError")
