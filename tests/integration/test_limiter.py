"""The shared limiter on a real Valkey: no window ever holds more grants than allowed."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from import_core.adapters.redis.limiter import KEY_PREFIX, SlidingWindowLimiter, declare_no_recent_calls
from import_core.domain.errors import HandBackError, QueueUnavailableError
from import_local.parts.valkey import ValkeyServer


@pytest_asyncio.fixture(loop_scope="session")
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def used_redis(redis: Redis) -> Redis:
    await declare_no_recent_calls(redis)
    return redis


def limiter(
    redis: Redis, *, requests: int = 5, per_seconds: float = 0.4, **more: float
) -> SlidingWindowLimiter:
    settings = {"max_wait": 30.0, "margin": 0.0} | more
    return SlidingWindowLimiter(
        redis, key="imports/acme", requests=requests, per_seconds=per_seconds, **settings
    )


async def grants(redis: Redis) -> list[int]:
    """Times of the grants still remembered, in microseconds of the server's clock."""
    return sorted(
        int(score) for _, score in await redis.zrange(f"{KEY_PREFIX}imports/acme", 0, -1, withscores=True)
    )


async def test_no_window_holds_more_than_the_limit_over_all_workers(
    redis_url: str, used_redis: Redis
) -> None:
    window = 0.4
    connections = [Redis.from_url(redis_url) for _ in range(4)]
    seen: set[int] = set()

    async def call(connection: Redis, times: int) -> None:
        for _ in range(times):
            await limiter(connection, per_seconds=window).acquire()
            seen.update(await grants(used_redis))

    await asyncio.gather(*(call(connection, 6) for connection in connections))
    for connection in connections:
        await connection.aclose()
    times = sorted(seen)
    assert len(times) == 24
    gaps = [later - earlier for earlier, later in zip(times, times[5:], strict=False)]
    assert min(gaps) > window * 1_000_000


async def test_the_window_includes_its_margin(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=1000, margin=50, max_wait=0)
    await one.acquire()
    with pytest.raises(HandBackError) as raised:
        await one.acquire()
    assert 1049 < raised.value.retry_after <= 1050.001


async def test_a_wait_beyond_the_longest_hands_the_job_back(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=2, per_seconds=60, max_wait=5)
    await one.acquire()
    await one.acquire()
    with pytest.raises(HandBackError) as raised:
        await one.acquire()
    assert 55 < raised.value.retry_after <= 60.001
    assert raised.value.waiting_reason == "ProviderLimit"
    assert len(await grants(used_redis)) == 2


async def test_lost_state_counts_as_a_full_window(redis: Redis) -> None:
    with pytest.raises(HandBackError) as raised:
        await limiter(redis, per_seconds=60, max_wait=5).acquire()
    assert 55 < raised.value.retry_after <= 60
    with pytest.raises(HandBackError):
        await limiter(redis, per_seconds=60, max_wait=5).acquire()


async def test_after_one_window_lost_state_is_known_again(redis: Redis) -> None:
    await limiter(redis, per_seconds=0.3).acquire()
    assert len(await grants(redis)) == 1


async def test_a_flush_while_working_is_noticed(used_redis: Redis) -> None:
    one = limiter(used_redis, per_seconds=60, max_wait=5)
    await one.acquire()
    await used_redis.flushall()
    with pytest.raises(HandBackError):
        await one.acquire()


@pytest_asyncio.fixture(loop_scope="session")
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Redis, Redis]]:
    """A primary and its replica, in step."""
    password = secrets.token_urlsafe(24)
    servers = [
        ValkeyServer(tmp_path / name, log_path=tmp_path / f"{name}.log", password=password)
        for name in ("primary", "replica")
    ]
    try:
        for server in servers:
            await server.start()
        primary, replica = (Redis.from_url(server.url, decode_responses=True) for server in servers)
        await replica.config_set("masterauth", password)
        await replica.replicaof("127.0.0.1", servers[0].port)
        await primary.set("in-step", 1)
        await until_copied(primary)
        yield primary, replica
        await primary.aclose()
        await replica.aclose()
    finally:
        for server in servers:
            await server.stop()


async def until_copied(primary: Redis) -> None:
    async with asyncio.timeout(20):
        while not await primary.wait(1, 1000):
            await primary.incr("in-step")


async def test_a_failover_that_lost_the_last_grants_is_noticed(pair: tuple[Redis, Redis]) -> None:
    primary, replica = pair
    await declare_no_recent_calls(primary)
    await limiter(primary, requests=3, per_seconds=60, max_wait=0).acquire()
    await until_copied(primary)
    await replica.execute_command("REPLICAOF", "NO", "ONE")
    # These two the replica never heard of.
    for _ in range(2):
        await limiter(primary, requests=3, per_seconds=60, max_wait=0).acquire()
    assert len(await grants(replica)) == 1
    with pytest.raises(HandBackError) as raised:
        await limiter(replica, requests=3, per_seconds=60, max_wait=0).acquire()
    assert 55 < raised.value.retry_after <= 60
    await declare_no_recent_calls(replica)
    with pytest.raises(HandBackError):
        await limiter(replica, requests=3, per_seconds=60, max_wait=0).acquire()


async def test_a_replica_that_comes_and_goes_changes_nothing(pair: tuple[Redis, Redis]) -> None:
    primary, replica = pair
    await declare_no_recent_calls(primary)
    one = limiter(primary, requests=3, per_seconds=60, max_wait=0)
    await one.acquire()
    await replica.execute_command("REPLICAOF", "NO", "ONE")
    await one.acquire()
    await replica.replicaof("127.0.0.1", primary.connection_pool.connection_kwargs["port"])
    await until_copied(primary)
    await one.acquire()
    assert len(await grants(primary)) == 3


async def test_declaring_changes_nothing_where_redis_remembers(redis: Redis) -> None:
    with pytest.raises(HandBackError):
        await limiter(redis, per_seconds=60, max_wait=5).acquire()
    await declare_no_recent_calls(redis)
    with pytest.raises(HandBackError):
        await limiter(redis, per_seconds=60, max_wait=5).acquire()


async def test_a_block_holds_for_every_worker(redis_url: str, used_redis: Redis) -> None:
    other = Redis.from_url(redis_url)
    await limiter(used_redis).block(40)
    await limiter(used_redis).block(1)
    with pytest.raises(HandBackError) as raised:
        await limiter(other, max_wait=5).acquire()
    await other.aclose()
    assert 30 < raised.value.retry_after <= 40


async def test_connections_do_not_share_a_window(used_redis: Redis) -> None:
    await limiter(used_redis, requests=1, per_seconds=60, max_wait=0).acquire()
    other = SlidingWindowLimiter(used_redis, key="imports/other", requests=1, per_seconds=60, max_wait=0)
    await other.acquire()


async def test_the_clock_can_be_scaled(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=600, clock_scale=10, max_wait=0)
    await one.acquire()
    with pytest.raises(HandBackError) as raised:
        await one.acquire()
    assert 50 < raised.value.retry_after <= 60.001


async def test_memory_is_bounded_and_every_key_expires(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=3, per_seconds=0.05)
    for _ in range(12):
        await one.acquire()
    await one.block(5)
    assert len(await grants(used_redis)) <= 3
    lives = {key: await used_redis.pttl(key) for key in await used_redis.keys("*")}
    assert len(lives) == 3
    assert all(life > 0 for life in lives.values())


async def test_a_waiter_can_be_cancelled(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=60, max_wait=100)
    await one.acquire()
    waiter = asyncio.create_task(one.acquire())
    await asyncio.sleep(0.05)
    assert not waiter.done()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert len(await grants(used_redis)) == 1


async def test_without_redis_no_call_is_granted(unused_tcp_port: int) -> None:
    gone = Redis(host="127.0.0.1", port=unused_tcp_port)
    one = limiter(gone, unavailable_after=0.3)
    with pytest.raises(QueueUnavailableError, match="Redis does not answer"):
        await one.acquire()
    await gone.aclose()
