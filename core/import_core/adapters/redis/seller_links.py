"""Sellers' links in Redis: each goes by itself when its time is up, and all of them when Redis loses its data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.domain.errors import QueueUnavailableError
from import_core.domain.seller_links import SellerLink, link_from_json

CALL_SECONDS = 3.0
MOST_LISTED = 1_000
PREFIX = "imports:seller-link"


class SellerLinkStore:
    """The links of one namespace. Every method raises QueueUnavailableError when Redis does not answer."""

    def __init__(self, client: Redis, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def put(self, link: SellerLink) -> None:
        """Keep a link until its time is up."""
        async with _translated(), self._client.pipeline(transaction=True) as pipeline:
            until = int(link.expires_at.timestamp())
            pipeline.set(self._key(link.id), json.dumps(link.to_json()), exat=until)
            pipeline.zadd(self._index, {link.id: until})
            # The index lives as long as its longest link.
            pipeline.expireat(self._index, until, nx=True)
            pipeline.expireat(self._index, until, gt=True)
            await pipeline.execute()

    async def get(self, link_id: str) -> SellerLink | None:
        """The link of that id, unless its time is up, it was revoked or Redis has lost it."""
        async with _translated():
            return _read(link_id, await self._client.get(self._key(link_id)))

    async def revoke(self, link_id: str) -> bool:
        """Have it open nothing any more; whether there was such a link."""
        async with _translated(), self._client.pipeline(transaction=True) as pipeline:
            pipeline.delete(self._key(link_id))
            pipeline.zrem(self._index, link_id)
            deleted, _ = await pipeline.execute()
            return bool(deleted)

    async def listed(self, now: datetime) -> list[SellerLink]:
        """The links whose time is not up, those that last longest first; 1,000 at most."""
        async with _translated():
            await self._client.zremrangebyscore(self._index, "-inf", now.timestamp())
            ids = await cast("Awaitable[list[str]]", self._client.zrevrange(self._index, 0, MOST_LISTED - 1))
            if not ids:
                return []
            values = await self._client.mget([self._key(link_id) for link_id in ids])
        found = (_read(link_id, value) for link_id, value in zip(ids, values, strict=True))
        return [link for link in found if link is not None]

    @property
    def _index(self) -> str:
        return f"{PREFIX}s:{{{self._namespace}}}"

    def _key(self, link_id: str) -> str:
        # The braces keep a namespace's keys in one slot of a cluster.
        return f"{PREFIX}:{{{self._namespace}}}:{link_id}"


def _read(link_id: str, value: str | bytes | None) -> SellerLink | None:
    try:
        return link_from_json(link_id, json.loads(value)) if value else None
    except (KeyError, ValueError, TypeError):
        # Nobody but this module writes it: what can't be read opens nothing.
        return None


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise QueueUnavailableError(f"Redis is not available: {type(error).__name__}") from error
