"""A way to the provider that takes longer than the limiter's margin, now and then: the limit holds all the same."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from import_core.adapters.redis.limiter import SlidingWindowLimiter, declare_no_recent_calls
from import_core.adapters.tasks import end_tasks
from import_core.domain.addresses import parse_allow_list
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.counters import most_in_window
from import_local.samples.settings import SampleSettings
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.registry import PROVIDERS

REQUESTS, WINDOW, MARGIN, LONGEST_DELAY, WORKERS = 10, 1.0, 0.1, 0.7, 10
CALLS = 6 * REQUESTS


@asynccontextmanager
async def slow_way(port: int, delay: Callable[[], float]) -> AsyncIterator[int]:
    """Carry each request to the port after a delay of its own, and each answer back at once; yields the near port."""

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait: Callable[[], float]
    ) -> None:
        while data := await reader.read(65_536):
            await asyncio.sleep(wait())
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(carry(reader, far_writer, delay))
            group.create_task(carry(far_reader, writer, lambda: 0.0))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def call_for_ever(running: RunningSamples, redis: Redis, port: int) -> None:
    limiter = SlidingWindowLimiter(
        redis, key="imports/acme", requests=REQUESTS, per_seconds=WINDOW, max_wait=60.0, margin=MARGIN
    )
    connection = Connection(
        key="imports/acme",
        type="roastify",
        company_id="acme",
        base_url=f"http://127.0.0.1:{port}/roastify/tiny-1-0/v1",
        credentials={"apiKey": "rty_test_example"},
        allow=parse_allow_list("127.0.0.1"),
    )
    provider = PROVIDERS["roastify"](connection, limiter, CatalogueFilter())
    try:
        while True:
            await provider.check()
    finally:
        await provider.aclose()


async def test_what_arrives_late_counts_from_then_on(redis_url: str) -> None:
    chance = random.Random(4711)
    settings = SampleSettings(roastify_requests=REQUESTS, roastify_window_seconds=WINDOW)
    async with serve_samples(settings) as running, Redis.from_url(redis_url) as redis:
        await declare_no_recent_calls(redis)
        counters = running.account("roastify", "tiny-1-0").counters
        port = int(running.base_url.rpartition(":")[2])
        async with slow_way(port, lambda: chance.choice([0.0, 0.0, LONGEST_DELAY])) as near:
            callers = [asyncio.create_task(call_for_ever(running, redis, near)) for _ in range(WORKERS)]
            async with asyncio.timeout(60):
                while counters.api_calls < CALLS and not any(caller.done() for caller in callers):  # noqa: ASYNC110 - looks from outside
                    await asyncio.sleep(0.01)
            await end_tasks(callers)
        assert all(caller.cancelled() for caller in callers)
        assert counters.throttled == 0
        assert most_in_window(sorted(call.at for call in counters.calls), WINDOW) <= REQUESTS
