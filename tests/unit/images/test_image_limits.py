"""The byte budget and the per-host limit, also when waiters are cancelled."""

import asyncio

import pytest

from import_worker.pipeline.limits import ByteBudget, HostLimits


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def holder(budget: ByteBudget, size: int, log: list[int], release: asyncio.Event) -> "asyncio.Task[None]":
    async def hold() -> None:
        async with budget.reserve(size):
            log.append(size)
            await release.wait()

    return asyncio.create_task(hold())


async def test_waits_for_room_in_order() -> None:
    budget, log, release = ByteBudget(10), [], asyncio.Event()
    tasks = [holder(budget, size, log, release) for size in (6, 5, 1)]
    await settle()
    assert log == [6], "the small one came after the one that does not fit"
    release.set()
    await asyncio.gather(*tasks)
    assert (log, budget.free) == ([6, 5, 1], 10)


async def test_more_than_everything_is_everything() -> None:
    budget, log, release = ByteBudget(10), [], asyncio.Event()
    task = holder(budget, 99, log, release)
    await settle()
    assert (log, budget.free) == ([99], 0)
    release.set()
    await task
    assert budget.free == 10


async def test_a_cancelled_waiter_lets_the_next_one_in() -> None:
    budget, log, release = ByteBudget(10), [], asyncio.Event()
    first, second, third = (holder(budget, size, log, release) for size in (6, 8, 4))
    await settle()
    second.cancel()
    await settle()
    assert log == [6, 4]
    release.set()
    await asyncio.gather(first, third)
    assert budget.free == 10


async def test_a_waiter_cancelled_as_its_turn_comes_gives_the_bytes_back() -> None:
    budget, log, release = ByteBudget(10), [], asyncio.Event()
    first = holder(budget, 10, log, release)
    await settle()
    second = holder(budget, 10, log, asyncio.Event())
    await settle()
    release.set()
    await asyncio.sleep(0)  # the first wakes up and passes its bytes on in this step
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert budget.free == 10


async def test_hosts_are_forgotten_when_nobody_asks() -> None:
    limits, inside = HostLimits(1), asyncio.Event()
    leave = asyncio.Event()

    async def use(host: str) -> None:
        async with limits.slot(host):
            inside.set()
            await leave.wait()

    tasks = [asyncio.create_task(use(host)) for host in ("a", "a", "b")]
    await inside.wait()
    await settle()
    assert limits.hosts == 2
    tasks[1].cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    await asyncio.gather(tasks[0], tasks[2])
    assert limits.hosts == 0
