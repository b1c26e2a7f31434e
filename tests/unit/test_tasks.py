"""Cancelled tasks end, also where a library lost the cancellation."""

import asyncio

import pytest

from import_core.adapters.tasks import heeded_cancellation, heeding_cancellation


async def losing() -> str:
    """Does what `asyncio.wait_for` of Python 3.11 does when both come together."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "result"
    return "late"


async def test_a_cancellation_that_was_lost_is_heeded() -> None:
    task = asyncio.create_task(heeding_cancellation(losing()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_result_is_passed_on_also_while_a_cancelled_task_cleans_up() -> None:
    results = []

    async def cleaning_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            results.append(await heeding_cancellation(asyncio.sleep(0, "cleaned")))

    task = asyncio.create_task(cleaning_up())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert results == ["cleaned"]
    assert task.cancelled()


async def test_a_time_limit_that_was_lost_is_heeded() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await heeding_cancellation(losing())


async def test_a_block_heeds_a_cancellation_that_was_lost_in_it() -> None:
    async def block() -> None:
        with heeded_cancellation():
            await losing()
        pytest.fail("went on")

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
