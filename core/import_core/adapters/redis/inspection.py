"""Looks at a Redis server as the queue needs it. Changes nothing."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.domain.doctor.stores import SeenRedis
from import_core.domain.errors import QueueUnavailableError

ASK_SECONDS = 10.0


async def inspect_redis(client: Redis) -> SeenRedis:
    """Role, eviction policy and memory. Raises QueueUnavailableError."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            memory = await client.info("memory")
            replication = await client.info("replication")
    except (RedisError, TimeoutError, OSError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise QueueUnavailableError(f"Redis is not available: {detail}") from error
    policy = memory.get("maxmemory_policy")
    return SeenRedis(
        role=str(replication.get("role", "master")),
        policy=None if policy is None else str(policy),
        used=int(memory.get("used_memory", 0)),
        maximum=int(memory.get("maxmemory", 0)),
    )
