"""The consumer pauses and goes on under load: every message is handled once, and none is left lying."""

import asyncio
import random
from collections import Counter

from eventually import eventually

from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import DEFAULT_QUEUE, Message
from import_core.observability.metrics import WorkerMetrics
from import_worker.consumer import QueueConsumer

MESSAGES = 240
PAUSES = 25


async def test_nothing_is_taken_while_paused_and_nothing_is_left_lying(redis_url: str) -> None:
    client = connect(redis_url, client_name="tests")
    queue = JobQueue(client)
    handled: Counter[str] = Counter()
    running = 0
    source = random.Random(7)

    async def handle(message: Message) -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(source.uniform(0, 0.01))
        handled[message.job_id] += 1
        running -= 1

    consumer = QueueConsumer(
        redis_url, queue=DEFAULT_QUEUE, concurrency=3, handle=handle, metrics=WorkerMetrics()
    )

    async def add() -> None:
        for number in range(MESSAGES):
            await queue.add([Message(f"job-{number}", 1)])
            await asyncio.sleep(source.choice((0, 0, 0.005)))

    consuming = asyncio.create_task(consumer.run())
    adding = asyncio.create_task(add())
    for _ in range(PAUSES):
        await asyncio.sleep(source.uniform(0, 0.02))
        await asyncio.wait_for(consumer.pause(), 10)
        before = sum(handled.values())
        assert running == 0
        assert (await queue.counts())["active"] == 0, "a message was fetched and not handled"
        await asyncio.sleep(0.01)
        assert sum(handled.values()) == before
        consumer.resume()
    await adding

    async def all_handled() -> bool:
        return len(handled) == MESSAGES

    await eventually(all_handled, what="every message is handled")
    assert set(handled.values()) == {1}
    # Idle, and so waiting for a message: that wait is given up at once; a stop while paused ends it all.
    await asyncio.wait_for(consumer.pause(), 3)
    consumer.stop()
    await asyncio.wait_for(consuming, 5)
    await consumer.close()
    await client.aclose()


async def test_a_pause_that_is_taken_back_lets_the_rest_be_taken(redis_url: str) -> None:
    client = connect(redis_url, client_name="tests")
    queue = JobQueue(client)
    handled: list[str] = []
    release = asyncio.Event()

    async def handle(message: Message) -> None:
        if message.job_id == "long":
            await release.wait()
        handled.append(message.job_id)

    consumer = QueueConsumer(
        redis_url, queue=DEFAULT_QUEUE, concurrency=2, handle=handle, metrics=WorkerMetrics()
    )
    consuming = asyncio.create_task(consumer.run())
    await queue.add([Message("long", 1)])

    async def taken() -> bool:
        return (await queue.counts())["active"] == 1

    await eventually(taken, what="the long message is taken")
    pausing = asyncio.create_task(consumer.pause())
    await asyncio.sleep(0)
    await queue.add([Message("short", 1)])
    await asyncio.sleep(0.2)
    assert not pausing.done()
    assert handled == []
    pausing.cancel()
    await asyncio.wait([pausing])
    consumer.resume()

    async def short_is_done() -> bool:
        return handled == ["short"]

    await eventually(short_is_done, what="the short message is handled beside the long one")
    release.set()
    consumer.stop()
    await asyncio.wait_for(consuming, 5)
    assert handled == ["short", "long"]
    await consumer.close()
    await client.aclose()


async def test_a_stop_leaves_no_message_that_was_fetched_lying(redis_url: str) -> None:
    client = connect(redis_url, client_name="tests")
    queue = JobQueue(client)
    handled: Counter[str] = Counter()
    source = random.Random(11)

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        handled[message.job_id] += 1

    await queue.add([Message(f"job-{number}", 1) for number in range(2 * MESSAGES)])
    for _ in range(PAUSES):
        consumer = QueueConsumer(
            redis_url, queue=DEFAULT_QUEUE, concurrency=3, handle=handle, metrics=WorkerMetrics()
        )
        consuming = asyncio.create_task(consumer.run())
        await asyncio.sleep(source.uniform(0, 0.03))
        consumer.stop()
        await asyncio.wait_for(consuming, 10)
        assert (await queue.counts())["active"] == 0, "a message was fetched and not handled"
        await consumer.close()
    assert len(handled) + (await queue.counts())["waiting"] == 2 * MESSAGES
    assert set(handled.values()) == {1}
    await client.aclose()


async def test_an_acknowledgement_fetches_the_next_message(redis_url: str) -> None:
    client = connect(redis_url, client_name="tests")
    queue = JobQueue(client)
    await queue.add([Message(f"job-{number}", 1) for number in range(MESSAGES)])
    done = asyncio.Event()
    left = MESSAGES

    async def handle(_: Message) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    consumer = QueueConsumer(
        redis_url, queue=DEFAULT_QUEUE, concurrency=3, handle=handle, metrics=WorkerMetrics()
    )
    await client.config_resetstat()
    consuming = asyncio.create_task(consumer.run())
    await asyncio.wait_for(done.wait(), 30)
    consumer.stop()
    await asyncio.wait_for(consuming, 10)
    scripts = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    # Beside one for each message: the first fetches, looks that found nothing, and the check for stalled messages.
    assert scripts < 1.25 * MESSAGES
    await consumer.close()
    await client.aclose()
