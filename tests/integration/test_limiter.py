"""The shared limiter on a real Valkey: no window ever holds more grants than allowed."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from import_core.adapters.redis.limiter import KEY_PREFIX, SlidingWindowLimiter, declare_no_recent_calls
from import_core.domain.errors import HandBackError, QueueUnavailableError
from import_core.domain.limits import CostBucket, Grant, Wait
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
    window = 1.0
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
    assert 1040 < raised.value.retry_after <= 1050.001


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
    await one.observe(await one.acquire(10), 10, CostBucket(1000, 900, 50))
    await one.acquire(10)
    await one.block(25)
    waiters = [asyncio.create_task(one.acquire()) for _ in range(3)]
    await until_waiting(used_redis, 3)
    assert len(await grants(used_redis)) <= 3
    lives = {key: await used_redis.pttl(key) for key in await used_redis.keys("*")}
    # The last call may have left its short window by now, and the key with it.
    assert len(lives.keys() | {f"{KEY_PREFIX}imports/acme".encode()}) == 8
    assert all(life > 0 for life in lives.values())
    await cancel(*waiters)


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


async def until_waiting(redis: Redis, number: int) -> None:
    async with asyncio.timeout(20):
        while await redis.zcard(f"{KEY_PREFIX}imports/acme:queue") != number:  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.01)


async def cancel(*tasks: asyncio.Task[Grant]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_asking_once_grants_or_says_when_to_come_back(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=60)
    assert isinstance(await one.try_acquire(), Grant)
    answer = await one.try_acquire()
    assert isinstance(answer, Wait)
    assert 55 < answer.seconds <= 60.001
    await until_waiting(used_redis, 0)


async def test_waiters_of_all_workers_are_served_in_the_order_of_their_coming(
    redis_url: str, used_redis: Redis
) -> None:
    # Longer than it takes until all have come, on a busy machine, too.
    of_two: dict[str, Any] = {"requests": 2, "per_seconds": 1.5}
    connections = [Redis.from_url(redis_url) for _ in range(3)]
    for _ in range(2):
        await limiter(used_redis, **of_two).acquire()
    served: list[int] = []

    async def wait(number: int) -> None:
        await limiter(connections[number % 3], **of_two).acquire()
        served.append(number)

    waiters = []
    for number in range(8):
        waiters.append(asyncio.create_task(wait(number)))
        await until_waiting(used_redis, number + 1)
    # One that comes now finds its turn behind theirs, also when a call has left the window.
    latecomer = await limiter(used_redis, **of_two).try_acquire()
    assert isinstance(latecomer, Wait)
    await asyncio.gather(*waiters)
    for connection in connections:
        await connection.aclose()
    # Two are free at a time: within a pair the answers may overtake each other.
    assert [sorted(served[n : n + 2]) for n in range(0, 8, 2)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


async def test_a_cancelled_waiter_leaves_its_place_at_once(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=60, max_wait=1000)
    await one.acquire()
    first = asyncio.create_task(one.acquire())
    await until_waiting(used_redis, 1)
    second = asyncio.create_task(one.acquire())
    await until_waiting(used_redis, 2)
    await cancel(first)
    await until_waiting(used_redis, 1)
    await cancel(second)
    await until_waiting(used_redis, 0)


async def test_a_waiter_that_died_holds_nobody_up(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=2.0)
    await one.acquire()
    # As its worker left it, which asks no more.
    await one._ask("dead:0.000", 0.0, patience=100)
    await until_waiting(used_redis, 1)
    await one.acquire()
    await until_waiting(used_redis, 0)


async def test_no_more_waiters_are_kept_than_allowed(
    used_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("import_core.adapters.redis.limiter.MOST_WAITERS", 2)
    one = limiter(used_redis, requests=1, per_seconds=60, max_wait=1000)
    await one.acquire()
    for number in range(4):
        answer = await one._ask(f"waiter-{number}:0.000", 0.0, patience=1000)
        assert isinstance(answer, Wait)
    await until_waiting(used_redis, 2)


async def test_the_providers_own_bucket_is_obeyed_by_all_workers(redis_url: str, used_redis: Redis) -> None:
    one = limiter(used_redis, requests=100, per_seconds=60, max_wait=0)
    other = Redis.from_url(redis_url)
    two = limiter(other, requests=100, per_seconds=60, max_wait=0)
    first = await one.acquire()
    await one.observe(first, 0, CostBucket(maximum=1000, available=400, restore_rate=1))
    granted = await one.acquire(300)
    # What the first call may cost is not there for the second, until its answer tells what it did cost.
    with pytest.raises(HandBackError) as raised:
        await two.acquire(300)
    assert 150 < raised.value.retry_after <= 200
    await one.observe(granted, 300, CostBucket(maximum=1000, available=390, restore_rate=1))
    await two.acquire(300)
    await other.aclose()


async def test_points_are_kept_for_those_who_came_first(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=100, per_seconds=60, max_wait=1000)
    await one.observe(await one.acquire(), 0, CostBucket(maximum=1000, available=100, restore_rate=1))
    costly = asyncio.create_task(one.acquire(500))
    await until_waiting(used_redis, 1)
    answer = await one.try_acquire(50)
    assert isinstance(answer, Wait)
    assert 400 < answer.seconds <= 451
    assert isinstance(await one.try_acquire(), Grant)
    await cancel(costly)


async def test_a_call_that_costs_more_than_the_bucket_holds_is_the_providers_to_refuse(
    used_redis: Redis,
) -> None:
    one = limiter(used_redis, requests=100, per_seconds=60, max_wait=0)
    await one.observe(await one.acquire(), 0, CostBucket(maximum=1000, available=0, restore_rate=1))
    await one.acquire(1001)


async def test_a_grant_that_was_not_used_is_somebody_elses(used_redis: Redis) -> None:
    one = limiter(used_redis, requests=1, per_seconds=60, max_wait=0)
    await one.observe(await one.acquire(), 0, CostBucket(maximum=100, available=100, restore_rate=1))
    await used_redis.delete(f"{KEY_PREFIX}imports/acme")
    await one.release(await one.acquire(80), 80)
    await one.acquire(80)
    with pytest.raises(HandBackError):
        await one.acquire()


async def test_a_lowered_limit_holds_at_once(used_redis: Redis) -> None:
    for _ in range(5):
        await limiter(used_redis, requests=5, per_seconds=60, max_wait=0).acquire()
    answer = await limiter(used_redis, requests=2, per_seconds=60, max_wait=0).try_acquire()
    assert isinstance(answer, Wait)
    assert 55 < answer.seconds <= 60.001


async def test_a_shorter_window_makes_nobody_forget(used_redis: Redis) -> None:
    before, after = (limiter(used_redis, per_seconds=length) for length in (60, 0.05))
    for one in [before] * 5 + [after] * 7:
        await one.acquire()
    await after.release(await after.acquire(), 0)
    answer = await before.try_acquire()
    assert isinstance(answer, Wait)
    assert 55 < answer.seconds <= 60.001
    assert len(await grants(used_redis)) < 10, "no more are kept than the larger limit has use for"


async def test_a_longer_window_counts_what_a_shorter_one_granted(used_redis: Redis) -> None:
    before, after = (limiter(used_redis, requests=3, per_seconds=length) for length in (0.05, 60))
    await after.acquire()
    for _ in range(4):
        await before.acquire()
    assert isinstance(await after.try_acquire(), Wait)


async def test_a_limit_that_is_out_of_use_is_kept_for_no_longer(
    used_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("import_core.adapters.redis.limiter.IN_USE_SECONDS", 0)
    await limiter(used_redis, requests=9, per_seconds=0.2).acquire()
    async with asyncio.timeout(20):
        while await used_redis.get(f"{KEY_PREFIX}imports/acme:kept") != b"50000 2":
            await limiter(used_redis, requests=2, per_seconds=0.05).acquire()


async def test_without_redis_no_call_is_granted(unused_tcp_port: int) -> None:
    gone = Redis(host="127.0.0.1", port=unused_tcp_port)
    one = limiter(gone, unavailable_after=0.3)
    with pytest.raises(QueueUnavailableError, match="Redis does not answer"):
        await one.acquire()
    await gone.aclose()
