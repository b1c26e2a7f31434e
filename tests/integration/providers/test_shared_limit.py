"""Two workers on one connection: the provider never sees more calls in its window than allowed."""

import asyncio

import pytest
from redis.asyncio import Redis

from import_core.adapters.redis.limiter import SlidingWindowLimiter, declare_no_recent_calls
from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import HandBackError
from import_local.samples.app import serve_samples
from import_local.samples.settings import SampleSettings
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.registry import PROVIDERS

REQUESTS, WINDOW, SCALE = 50, 60.0, 60.0


@pytest.fixture
async def sample_with_short_window():
    settings = SampleSettings(roastify_requests=REQUESTS, roastify_window_seconds=WINDOW / SCALE)
    async with serve_samples(settings) as running:
        yield running


def opened(running, redis, *, max_wait):
    connection = Connection(
        key="imports/acme",
        type="roastify",
        company_id="acme",
        base_url=f"{running.roastify_url}/tiny-70-0/v1",
        credentials={"apiKey": "rty_test_example"},
        allow=parse_allow_list("127.0.0.1"),
    )
    limiter = SlidingWindowLimiter(
        redis,
        key=connection.key,
        requests=REQUESTS,
        per_seconds=WINDOW,
        clock_scale=SCALE,
        max_wait=max_wait,
    )
    return PROVIDERS["roastify"](connection, limiter, CatalogueFilter())


async def import_all(running, url, *, max_wait=60.0):
    """Run one job's fetching as a worker would, coming back when it is handed back; returns the ids."""
    seen, cursor = [], None
    async with Redis.from_url(url) as redis:
        provider = opened(running, redis, max_wait=max_wait)
        while True:
            try:
                async for page in provider.pages(cursor):
                    seen += [product.external_id for product in page.products]
                    cursor = page.cursor
                break
            except HandBackError as error:
                await asyncio.sleep(error.retry_after)
        await provider.aclose()
    return seen


@pytest.mark.parametrize("max_wait", [60.0, 0.1])
async def test_two_workers_together_stay_within_the_limit(sample_with_short_window, redis_url, max_wait):
    async with Redis.from_url(redis_url) as redis:
        await declare_no_recent_calls(redis)
    results = await asyncio.gather(
        *(import_all(sample_with_short_window, redis_url, max_wait=max_wait) for _ in range(2))
    )
    counters = sample_with_short_window.account("roastify", "tiny-70-0").counters
    times = sorted(call.at for call in counters.calls)
    assert [len(seen) for seen in results] == [70, 70]
    assert [len(set(seen)) for seen in results] == [70, 70]
    assert counters.throttled == 0
    assert len(times) == 2 * 71
    gaps = [later - earlier for earlier, later in zip(times, times[REQUESTS:], strict=False)]
    assert min(gaps) > WINDOW / SCALE
