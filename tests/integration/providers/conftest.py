"""The sample providers on loopback, and a limiter that counts and can run out."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from chromium import require_chromium

from import_core.domain.errors import HandBackError
from import_core.domain.limits import CostBucket, Grant
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.settings import SampleSettings
from import_worker.browsing.browser import ChromiumBrowser


class CountingLimiter:
    """Grants at once until `left` calls are used up (None: always), and remembers.

    It waits for the provider's own points, as the real one does for one caller.
    """

    def __init__(self, left: int | None = None) -> None:
        self.left = left
        self.acquired = 0
        self.blocks: list[float] = []
        self.points: list[float] = []
        self.observed: list[tuple[float, CostBucket | None]] = []
        self.released: list[str] = []
        self.arrivals: list[tuple[Grant, float]] = []
        self.lifetime = 60.0
        self.bucket: tuple[CostBucket, float] | None = None

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        if instead_of is not None:
            self.released.append(instead_of.id)
        if self.left is not None and self.acquired >= self.left:
            raise HandBackError("The call limit is used up.", retry_after=60, waiting_reason="ProviderLimit")
        self.acquired += 1
        self.points.append(points)
        if self.bucket is not None:
            bucket, at = self.bucket
            restored = bucket.restore_rate * (asyncio.get_running_loop().time() - at)
            wait = replace(bucket, available=bucket.available + restored).wait_for(points)
            await asyncio.sleep(wait if math.isfinite(wait) else 0.0)
        return Grant(str(self.acquired), asyncio.get_running_loop().time(), self.lifetime)

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        self.observed.append((points, bucket))
        if bucket is not None:
            self.bucket = (bucket, asyncio.get_running_loop().time())

    async def arrived(self, grant: Grant, by: float) -> None:
        self.arrivals.append((grant, by))

    async def release(self, grant: Grant, points: float) -> None:
        self.released.append(grant.id)

    async def block(self, seconds: float) -> None:
        self.blocks.append(seconds)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_samples() -> AsyncIterator[RunningSamples]:
    # The limiter here counts no points, so the shop must have as many as any test asks for.
    async with serve_samples(SampleSettings(shopify_bucket_points=100_000.0)) as running:
        yield running


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that read pages need a Chromium."""
    if "whatsapp_scrape" in item.nodeid or "whatsapp-scrape" in item.nodeid:
        require_chromium()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[ChromiumBrowser]:
    """One Chromium for all tests that read pages, started by the first of them."""
    browser = ChromiumBrowser()
    yield browser
    await browser.aclose()


@pytest.fixture
def samples(running_samples: RunningSamples) -> RunningSamples:
    for account in running_samples.sample.accounts():
        account.reset()
    return running_samples


@pytest.fixture
def limiter_type() -> type[CountingLimiter]:
    return CountingLimiter
