"""The queue on a real Valkey: what is added, what was lost, and what a server must not be set to."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
import uvloop
from redis.asyncio import Redis

from import_core.adapters.redis.queue import JobQueue, connect, ping
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.jobs import Message


@pytest_asyncio.fixture(loop_scope="session")
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, client_name="tests")
    yield client
    await client.aclose()


@pytest.fixture
def queue(client: Redis) -> JobQueue:
    return JobQueue(client)


async def test_message_is_added_once_however_often_it_is_sent(queue: JobQueue) -> None:
    await queue.add([Message("a", 1), Message("b", 1)])
    await queue.add([Message("a", 1)])
    assert await queue.waiting_ids() == {"a-1", "b-1"}
    assert (await queue.counts())["waiting"] == 2


async def test_many_messages_go_in_batches(queue: JobQueue) -> None:
    await queue.add([Message(f"job-{number}", 3) for number in range(1201)])
    assert len(await queue.waiting_ids()) == 1201


async def test_nothing_to_add_is_nothing(queue: JobQueue) -> None:
    await queue.add([])
    assert await queue.waiting_ids() == frozenset()


async def test_first_look_counts_as_loss_and_the_next_does_not(queue: JobQueue) -> None:
    assert await queue.check_epoch()
    assert not await queue.check_epoch()


async def test_successor_finds_the_epoch_of_its_predecessor(queue: JobQueue, client: Redis) -> None:
    await queue.check_epoch()
    assert not await JobQueue(client).check_epoch()


async def test_flush_is_noticed_once(queue: JobQueue, client: Redis) -> None:
    await queue.check_epoch()
    await client.flushall()
    assert await queue.check_epoch()
    assert not await queue.check_epoch()


async def test_another_server_in_its_place_is_noticed(queue: JobQueue, client: Redis) -> None:
    await queue.check_epoch()
    await client.set(queue.epoch_key, "of a replica that was behind")
    assert await queue.check_epoch()


async def test_scripts_are_loaded_again_after_they_were_lost(queue: JobQueue, client: Redis) -> None:
    await queue.add([Message("a", 1)])
    await client.script_flush()
    await queue.add([Message("b", 1)])
    assert await queue.waiting_ids() == {"a-1", "b-1"}


async def test_queues_keep_apart(client: Redis) -> None:
    await JobQueue(client, "one").add([Message("a", 1)])
    assert await JobQueue(client, "two").waiting_ids() == frozenset()


async def test_eviction_is_told(queue: JobQueue, client: Redis) -> None:
    assert await queue.check() is None
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        problem = await queue.check()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
    assert problem is not None
    assert "allkeys-lru" in problem


async def test_server_that_is_away_is_said_to_be() -> None:
    nowhere = connect("redis://:secret-password@127.0.0.1:1/0", client_name="tests")
    queue = JobQueue(nowhere)
    for call in (queue.add([Message("a", 1)]), queue.waiting_ids(), queue.check_epoch(), queue.counts()):
        with pytest.raises(QueueUnavailableError) as caught:
            await call
        assert "secret-password" not in str(caught.value)
    await nowhere.aclose()


async def test_server_without_memory_says_so(queue: JobQueue, client: Redis) -> None:
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(QueueUnavailableError, match="maxmemory"):
            await queue.add([Message("a", 1)])
    finally:
        await client.config_set("maxmemory", "0")
    await queue.add([Message("a", 1)])
    assert await queue.waiting_ids() == {"a-1"}


@pytest.mark.parametrize("whole_list", [10_000, 0])
async def test_absent_messages_are_found_in_short_and_in_long_lists(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, whole_list: int
) -> None:
    monkeypatch.setattr("import_core.adapters.redis.queue.WHOLE_LIST", whole_list)
    await queue.add([Message(f"job-{number}", 1) for number in range(0, 400, 2)])
    asked = [f"job-{number}-1" for number in range(400)]
    assert await queue.absent(asked) == {f"job-{number}-1" for number in range(1, 400, 2)}
    assert await queue.absent([]) == set()


async def test_messages_of_a_queue_that_bullmq_paused_are_there(queue: JobQueue) -> None:
    await queue._queue.pause()
    await queue.add([Message("a", 1)])
    assert await queue.absent(["a-1", "b-1"]) == {"b-1"}


async def test_outdated_messages_are_weeded_out(queue: JobQueue) -> None:
    await queue.add([Message(f"job-{number}", 1) for number in range(1200)])
    seen: list[str] = []

    async def odd(queue_ids: Sequence[str]) -> list[str]:
        seen.extend(queue_ids)
        return [queue_id for queue_id in queue_ids if int(queue_id.split("-")[1]) % 2]

    removed = [queue_id async for page in queue.weed(odd) for queue_id in page]
    assert sorted(removed) == sorted(f"job-{number}-1" for number in range(1, 1200, 2))
    assert sorted(seen) == sorted(f"job-{number}-1" for number in range(1200)), "each was shown once"
    assert await queue.waiting_ids() == {f"job-{number}-1" for number in range(0, 1200, 2)}
    await queue.add([Message("job-1", 1)])
    assert "job-1-1" in await queue.waiting_ids(), "nothing of a removed message is left behind"


async def test_sign_of_life(client: Redis) -> None:
    await ping(client)
    nowhere = connect("redis://127.0.0.1:1/0", client_name="tests")
    with pytest.raises(QueueUnavailableError):
        await ping(nowhere)
    await nowhere.aclose()


def test_a_connection_that_closes_under_a_command_is_replaced(redis_url: str) -> None:
    """On uvloop, as in every process: it says RuntimeError where asyncio's own loop says OSError."""

    async def talk() -> None:
        plain = Redis.from_url(redis_url, max_connections=1)
        guarded = connect(redis_url, client_name="tests")
        await plain.ping()
        await abort_connections(plain)
        with pytest.raises(RuntimeError, match="is closed"):
            await plain.ping()
        await guarded.ping()
        await abort_connections(guarded)
        assert await guarded.ping()
        await plain.aclose()
        await guarded.aclose()

    uvloop.run(talk())


async def abort_connections(client: Redis) -> None:
    """Close the transports without telling the connections."""
    for connection in client.connection_pool._available_connections:
        connection._writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
