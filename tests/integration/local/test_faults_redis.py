"""Valkey is killed, restarted and replaced by its replica; clients stay at one address."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from import_core.adapters.tasks import end_tasks
from import_local.faults.links import Links
from import_local.faults.servers import RedisFaults
from import_local.parts.valkey_pair import ValkeyPair


@pytest_asyncio.fixture(loop_scope="session")
async def pair(tmp_path: Path) -> AsyncIterator[ValkeyPair]:
    pair = ValkeyPair(tmp_path / "valkey", log_folder=tmp_path, password="example")
    await pair.start()
    yield pair
    await pair.stop()
    assert pair.processes() == []


@pytest_asyncio.fixture(loop_scope="session")
async def links(pair: ValkeyPair) -> AsyncIterator[Links]:
    links = Links(("workers-redis", "operator-redis", "workers-s3"))
    await links.start()
    for link in links.ending_in("redis"):
        link.point_to(pair.port)
    yield links
    await links.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def client(pair: ValkeyPair, links: Links) -> AsyncIterator[Redis]:
    """A client at the address that never changes."""
    client = Redis.from_url(
        links["workers-redis"].through(pair.url),
        decode_responses=True,
        socket_timeout=10,
        retry=Retry(NoBackoff(), 1),
    )
    yield client
    await client.aclose()


async def test_twice_the_replica_takes_over_with_all_data(
    pair: ValkeyPair, links: Links, client: Redis
) -> None:
    faults = RedisFaults(pair, links)
    for number in range(2):
        await client.set(f"kept-{number}", "x" * 1000)
        before = pair.primary
        await faults.fail_over()
        assert pair.primary is not before
        assert before.child is None
        assert await client.exists(*[f"kept-{n}" for n in range(number + 1)]) == number + 1
        assert len(pair.processes()) == 2
    assert (await client.info("replication"))["connected_slaves"] == 1


async def test_the_last_writes_are_lost_when_asked_for(pair: ValkeyPair, links: Links, client: Redis) -> None:
    faults = RedisFaults(pair, links)
    await client.set("early", "1")
    await pair.wait_until_replica_has_all()
    changed = asyncio.Event()
    writing = asyncio.create_task(_write_until_it_fails(client, changed))
    await changed.wait()
    # Long enough for a write on a busy machine, too.
    await faults.fail_over(lose_last_writes=True, seconds_lost=1)
    acknowledged = await writing
    assert await client.get("early") == "1"
    assert await client.scard("late") < acknowledged


async def _write_until_it_fails(client: Redis, began: asyncio.Event) -> int:
    """Add numbers to a set, one each time; returns how many were acknowledged by the first primary."""
    number = 0
    connection = await client.connection_pool.get_connection()
    try:
        while True:
            await connection.send_command("SADD", "late", str(number))
            await connection.read_response()
            number += 1
            began.set()
    except (OSError, RedisError):
        return number
    finally:
        await connection.disconnect()
        await client.connection_pool.release(connection)


async def test_a_restarted_primary_is_empty_at_the_same_address(
    pair: ValkeyPair, links: Links, client: Redis
) -> None:
    changes: list[int] = []
    faults = RedisFaults(pair, links, changed=lambda: changes.append(len(pair.processes())))
    await client.set("lost", "1")
    port = pair.port
    await faults.kill_and_restart()
    assert pair.port == port
    assert await client.exists("lost") == 0
    await client.set("kept", "1")
    await faults.fail_over()
    assert await client.get("kept") == "1"
    assert changes == [2, 2]


async def test_a_failover_that_was_broken_off_is_brought_to_its_end(
    pair: ValkeyPair, links: Links, client: Redis
) -> None:
    faults = RedisFaults(pair, links)
    await client.set("kept", "1")
    before = pair.primary
    failover = asyncio.create_task(faults.fail_over(outage_seconds=3600))
    async with asyncio.timeout(30):
        while pair.primary is before:  # noqa: ASYNC110 - the pair tells nobody
            await asyncio.sleep(0.05)
    await end_tasks([failover])
    links.heal()
    await faults.repair()
    assert await client.get("kept") == "1"
    assert len(pair.processes()) == 2
    assert (await client.info("replication"))["connected_slaves"] == 1


async def test_a_replica_that_follows_nobody_is_replaced(
    pair: ValkeyPair, links: Links, client: Redis
) -> None:
    assert pair.replica is not None
    await pair.replica.promote()
    assert await pair.repair()
    assert not await pair.repair()
    assert (await client.info("replication"))["connected_slaves"] == 1
