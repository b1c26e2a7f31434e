"""What the server keeps for each shop and account: changed catalogue, faults, counters, rate limits."""

from __future__ import annotations

import bisect
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from import_local.samples.catalogue.expected import Provider
from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.registry import open_catalogue
from import_local.samples.counters import Counters
from import_local.samples.faults import FaultPlan
from import_local.samples.settings import SampleSettings
from import_local.samples.shopify.bulk import BulkOperations
from import_local.samples.shopify.cost import PointBucket

BulkMode = Literal["complete", "fail", "stall"]
CataloguePage = Literal[
    "usual", "changed", "consent", "login", "robot-check", "hostile", "away", "download", "endless"
]
"""What a WhatsApp catalogue's page is: `changed` has other classes, `away` redirects to a private address."""
GraphListing = Literal["steady", "repeats", "misses"]
"""Whether the Graph API's pages repeat items, or leave some out when the catalogue is first listed."""
LIMITERS_KEPT = 1_000


@dataclass(slots=True)
class CallBucket:
    """Shopify REST's leaky bucket: `used` of `size` calls, leaking `leak` a second."""

    size: int
    leak: float
    used: float
    at: float

    def take(self, now: float) -> bool:
        """Count one call, or say False if the bucket is full. Times are monotonic seconds."""
        self.used = max(0.0, self.used - (now - self.at) * self.leak)
        self.at = now
        if self.used + 1 > self.size:
            return False
        self.used += 1
        return True


@dataclass(slots=True)
class CallWindow:
    """A sliding window: at most `limit` calls in any `seconds`."""

    times: deque[float] = field(default_factory=deque)

    def take(self, now: float, limit: int, seconds: float) -> bool:
        """Count one call that came at `now`, or say False if the window is full. Times are monotonic seconds, and
        nearly in order: one request may be handled before another that came a little earlier.
        """
        while self.times and now - self.times[0] >= seconds:
            self.times.popleft()
        if len(self.times) >= limit:
            return False
        bisect.insort(self.times, now)
        return True


@dataclass(slots=True)
class Behaviour:
    """How a shop or account differs from the documented defaults.

    `rate_scale` multiplies every rate limit; `throttle_status` is the HTTP status of Shopify's THROTTLED;
    `page`, `is_closed_by_robots` and `listing` are a WhatsApp catalogue's.
    """

    rate_scale: float = 1.0
    throttle_status: Literal[200, 429] = 200
    bulk: BulkMode = "complete"
    bulk_seconds: float | None = None
    token_seconds: float | None = None
    page: CataloguePage = "usual"
    is_closed_by_robots: bool = False
    listing: GraphListing = "steady"


class Account:
    """Everything about one shop or account."""

    def __init__(
        self, provider: Provider, name: str, settings: SampleSettings, folder: Callable[[], Path]
    ) -> None:
        self.provider = provider
        self.name = name
        self.settings = settings
        self.catalogue = LiveCatalogue(open_catalogue(name, settings.data_folder))
        self.api_faults = FaultPlan()
        self.image_faults = FaultPlan()
        self.behaviour = Behaviour()
        self.counters = self._new_counters()
        self.issued_tokens: OrderedDict[str, float] = OrderedDict()
        self.listed_again: set[int] = set()
        self.bulk = BulkOperations(self.catalogue, folder)
        self._points: OrderedDict[str, PointBucket] = OrderedDict()
        self._calls: OrderedDict[str, CallBucket] = OrderedDict()
        self._windows: OrderedDict[str, CallWindow] = OrderedDict()

    def _new_counters(self) -> Counters:
        return Counters(deque(maxlen=self.settings.call_history))

    def reset_counters(self) -> None:
        """Start all counters at zero."""
        self.counters = self._new_counters()

    def reset(self) -> None:
        """Take back all faults, changes and counters; full rate limits."""
        self.catalogue.reset()
        self.api_faults = FaultPlan()
        self.image_faults = FaultPlan()
        self.behaviour = Behaviour()
        self.issued_tokens.clear()
        self.listed_again.clear()
        self.reset_limits()
        self.reset_counters()

    def reset_limits(self) -> None:
        """Give every client its full rate limit again."""
        self._points.clear()
        self._calls.clear()
        self._windows.clear()

    def points(self, token: str, now: float) -> PointBucket:
        """Return the token's bucket of GraphQL points, refilled."""
        scale = self.behaviour.rate_scale
        maximum = self.settings.shopify_bucket_points * max(1.0, scale)
        rate = self.settings.shopify_restore_points_per_second * scale
        bucket = _kept(self._points, token, lambda: PointBucket(maximum, rate, maximum, now))
        bucket.refill(now)
        bucket.maximum, bucket.rate = maximum, rate
        return bucket

    def rest_calls(self, token: str, now: float) -> CallBucket:
        """Return the token's bucket of REST calls."""
        leak = self.settings.shopify_rest_leak_per_second * self.behaviour.rate_scale
        bucket = _kept(
            self._calls, token, lambda: CallBucket(self.settings.shopify_rest_bucket, leak, 0.0, now)
        )
        bucket.leak = leak
        return bucket

    def take_call(self, key: str, now: float) -> bool:
        """Count a Roastify call of the key; False if its window is full."""
        window = _kept(self._windows, key, CallWindow)
        limit = max(1, round(self.settings.roastify_requests * self.behaviour.rate_scale))
        return window.take(now, limit, self.settings.roastify_window_seconds)

    def take_graph_call(self, token: str, now: float) -> bool:
        """Count a call of Meta's Graph API with the token; False if its window is full."""
        window = _kept(self._windows, token, CallWindow)
        limit = max(1, round(self.settings.graph_calls * self.behaviour.rate_scale))
        return window.take(now, limit, self.settings.graph_window_seconds)


Limiter = TypeVar("Limiter")


def _kept(store: OrderedDict[str, Limiter], key: str, make: Callable[[], Limiter]) -> Limiter:
    if key not in store:
        store[key] = make()
        if len(store) > LIMITERS_KEPT:
            store.popitem(last=False)
    return store[key]


class Sample:
    """The server's state: accounts by provider and name, made when first asked for."""

    def __init__(self, settings: SampleSettings) -> None:
        self.settings = settings
        self.started_at = time.monotonic()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._accounts: dict[tuple[str, str], Account] = {}
        self.robots_requests = 0

    def account(self, provider: Provider, name: str) -> Account:
        """Return the account; CatalogueNotFoundError for a name that stands for no catalogue."""
        account = self._accounts.get((provider, name))
        if account is None:
            account = Account(provider, name, self.settings, self.folder)
            if len(self._accounts) >= self.settings.state_limit:
                del self._accounts[next(iter(self._accounts))]
            self._accounts[provider, name] = account
        return account

    def folder(self) -> Path:
        """Return the folder for result files, made when first needed: most servers never write one."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="import-samples-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def accounts(self) -> list[Account]:
        """Return all accounts that were asked for so far."""
        return list(self._accounts.values())

    async def close(self) -> None:
        """End running bulk operations and remove their files."""
        for account in self.accounts():
            await account.bulk.close()
        if self._folder is not None:
            self._folder.cleanup()
