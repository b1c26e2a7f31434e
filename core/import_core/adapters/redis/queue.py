"""The hot buffer between dispatcher and workers: a BullMQ queue that holds ids only and may be lost at any time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from bullmq import Queue  # type: ignore[import-untyped]
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from import_core.adapters.redis.connections import pool
from import_core.adapters.tasks import heeded_cancellation
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE, Message

QUEUE_PREFIX = "imports"
SOCKET_TIMEOUT_SECONDS = 5.0
CALL_TIMEOUT_SECONDS = 10.0
ADD_BATCH = 500
MESSAGE_NAME = "import"
WHOLE_LIST = 10_000
"""A waiting list up to this length is read in one go; in a longer one each message is searched for."""
SEARCH_BATCH = 100
PAGE = 500

# BullMQ never retries, delays or keeps anything: PostgreSQL does (docs/reference/lifecycle.md).
MESSAGE_OPTIONS = {"attempts": 1, "removeOnComplete": True, "removeOnFail": True}


def connect(url: str, *, client_name: str) -> Redis:
    """A client that reconnects by itself and gives up a call after a bounded time."""
    made = pool(
        url,
        decode_responses=True,
        client_name=client_name,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )
    return Redis.from_pool(made)


async def ping(client: Redis) -> None:
    """Ask Redis for a sign of life. Raises QueueUnavailableError."""
    async with _translated():
        await client.ping()


class JobQueue:
    """One BullMQ queue, seen from the dispatcher.

    Every method raises QueueUnavailableError when Redis does not answer or is not ready.
    """

    def __init__(self, client: Redis, name: str = DEFAULT_QUEUE) -> None:
        self.name = name
        self._client = client
        self._queue = Queue(name, {"connection": client, "prefix": QUEUE_PREFIX})
        self._epoch: str | None = None

    @property
    def _waiting_lists(self) -> tuple[str, ...]:
        """BullMQ moves waiting messages to another list when somebody pauses the queue there."""
        return tuple(self._queue.toKey(part) for part in ("wait", "paused"))

    @property
    def epoch_key(self) -> str:
        """The key that is gone when Redis lost its data."""
        return f"{QUEUE_PREFIX}:{self.name}:epoch"

    async def add(self, messages: Sequence[Message]) -> None:
        """Add messages, in their order; one whose id is still there is ignored."""
        for start in range(0, len(messages), ADD_BATCH):
            async with _translated():
                await self._queue.addBulk(
                    [
                        {
                            "name": MESSAGE_NAME,
                            "data": message.to_data(),
                            "opts": {**MESSAGE_OPTIONS, "jobId": message.queue_id},
                        }
                        for message in messages[start : start + ADD_BATCH]
                    ]
                )

    async def waiting_ids(self) -> frozenset[str]:
        """BullMQ ids that no worker has fetched yet; the dispatcher's window bounds their number."""
        async with _translated(), self._client.pipeline(transaction=True) as pipeline:
            for key in self._waiting_lists:
                pipeline.lrange(key, 0, -1)
            lists = await pipeline.execute()
        return frozenset(identifier for part in lists for identifier in part)

    async def absent(self, queue_ids: Sequence[str]) -> set[str]:
        """Those of the ids that no waiting message bears; bounded in memory however long the list is."""
        async with _translated(), self._client.pipeline(transaction=True) as pipeline:
            for key in self._waiting_lists:
                pipeline.llen(key)
            length = sum(await pipeline.execute())
        if length <= WHOLE_LIST:
            return set(queue_ids) - await self.waiting_ids()
        found: set[str] = set()
        for start in range(0, len(queue_ids), SEARCH_BATCH):
            batch = queue_ids[start : start + SEARCH_BATCH]
            async with _translated(), self._client.pipeline(transaction=False) as pipeline:
                for queue_id in batch:
                    for key in self._waiting_lists:
                        pipeline.lpos(key, queue_id)
                places = await pipeline.execute()
            width = len(self._waiting_lists)
            found.update(
                queue_id
                for number, queue_id in enumerate(batch)
                if any(place is not None for place in places[number * width : (number + 1) * width])
            )
        return set(queue_ids) - found

    async def weed(
        self, outdated: Callable[[Sequence[str]], Awaitable[Collection[str]]]
    ) -> AsyncIterator[list[str]]:
        """Show `outdated` all waiting ids in pages, remove those that it returns, and yield what was removed.

        A message that a worker has fetched meanwhile stays: it is locked, and the worker drops it itself.
        """
        for key in self._waiting_lists:
            start = 0
            while True:
                async with _translated():
                    page = [str(item) for item in await self._client.lrange(key, start, start + PAGE - 1)]
                if not page:
                    break
                removed = []
                for queue_id in await outdated(page):
                    async with _translated():
                        if await self._queue.remove(queue_id) == 1:
                            removed.append(queue_id)
                # New messages come in front and only make some be seen twice.
                start += len(page) - len(removed)
                if removed:
                    yield removed

    async def check_epoch(self) -> bool:
        """Tell whether Redis lost its data since the last look (or was never seen before).

        A missing key is set again, so one loss is told once to one of several operators.
        """
        fresh = uuid.uuid4().hex
        async with _translated(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(self.epoch_key, fresh, nx=True)
            pipeline.get(self.epoch_key)
            _, current = await pipeline.execute()
        known, self._epoch = self._epoch, str(current)
        return current == fresh or (known is not None and current != known)

    async def counts(self) -> dict[str, int]:
        """Messages by BullMQ state, for metrics and status screens."""
        async with _translated():
            counts = await self._queue.getJobCounts("waiting", "active", "failed", "delayed")
        return {str(state): int(count) for state, count in counts.items()}

    async def check(self) -> str | None:
        """What is wrong with the server's settings, in words; None: nothing."""
        async with _translated():
            memory = await self._client.info("memory")
        policy = memory.get("maxmemory_policy")
        if policy in (None, "noeviction"):
            return None
        return f"Redis evicts keys when memory is short (maxmemory-policy {policy}); BullMQ needs noeviction"


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
            with heeded_cancellation():
                yield
    except (RedisError, TimeoutError, OSError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise QueueUnavailableError(f"Redis is not available: {detail}") from error
