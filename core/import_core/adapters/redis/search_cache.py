"""Answers of searches that are kept for an hour, in a fixed number of places."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from import_core.adapters.redis.connections import pool
from import_core.adapters.tasks import heeded_cancellation
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.search import CacheEntry, Candidate

PREFIX = "imports-search"
KEPT_SECONDS = 3600
SLOTS = 4_096
"""Places: with 200 candidates of 60 bytes each the cache has 50 MB at most, whatever is asked."""
ASK_SECONDS = 0.25
"""A cache that takes longer than the question itself is none."""


def connect(url: str, *, client_name: str, ask_seconds: float = ASK_SECONDS) -> Redis:
    """A client that gives up at once: what the cache does not answer, the indexes do. Raises ValueError."""
    made = pool(
        url,
        decode_responses=True,
        client_name=client_name,
        socket_timeout=ask_seconds,
        socket_connect_timeout=ask_seconds,
        max_connections=50,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(made)


class SearchCache:
    """Candidates by company, version and query. Methods raise QueueUnavailableError."""

    def __init__(
        self,
        client: Redis,
        *,
        slots: int = SLOTS,
        seconds: int = KEPT_SECONDS,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self.slots = slots
        self._client = client
        self._seconds = seconds
        self._ask_seconds = ask_seconds

    async def get(self, entry: CacheEntry) -> list[Candidate] | None:
        """What was kept for exactly this question; None: nothing, or that of another one."""
        text = await self._ask(self._client.get(_name(entry)))
        if not isinstance(text, str):
            return None
        try:
            key, *candidates = json.loads(text)
            return [Candidate(*one) for one in candidates] if key == entry.key else None
        except (ValueError, TypeError):
            return None  # of another version of this program

    async def put(self, entry: CacheEntry, candidates: Sequence[Candidate]) -> None:
        """Keep an answer in the place of whatever is there."""
        rows = [[one.product_id, one.score, one.text_score, one.similarity] for one in candidates]
        text = json.dumps([entry.key, *rows], separators=(",", ":"))
        await self._ask(self._client.set(_name(entry), text, ex=self._seconds))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _ask(self, question: object) -> object:
        try:
            async with asyncio.timeout(self._ask_seconds):
                with heeded_cancellation():
                    return await question  # type: ignore[misc]
        except (RedisError, TimeoutError, OSError) as error:
            detail = " ".join(str(error).split()) or type(error).__name__
            raise QueueUnavailableError(f"Redis is not available: {detail}") from error


def _name(entry: CacheEntry) -> str:
    return f"{PREFIX}:{entry.slot}"
