"""Ends tasks reliably, and lets them notice that they shall end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def end_tasks(tasks: Collection[asyncio.Task[Any]], *, again_seconds: float = 0.5) -> None:
    """Cancel tasks and wait until all have ended, whatever they end with.

    Once is not enough: on Python 3.11 `asyncio.wait_for`, which psycopg waits with, loses a cancellation
    that comes together with its result (python/cpython#86296), and the task goes on as if nothing were.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again_seconds)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain of it


@contextmanager
def heeded_cancellation() -> Iterator[None]:
    """End the block with the cancellation that came while it ran, even if what was awaited in it lost that.

    redis-py sends by `asyncio.wait_for`, which on Python 3.11 drops one that comes as the sending ends
    (python/cpython#86296): the task would go on as if nobody had asked it to stop.
    """
    before = cancellations_of_this_task()
    yield
    if cancellations_of_this_task() > before:
        raise asyncio.CancelledError


async def heeding_cancellation(awaitable: Awaitable[T]) -> T:
    """The result, unless the task was cancelled meanwhile (see `heeded_cancellation`)."""
    with heeded_cancellation():
        return await awaitable


def cancellations_of_this_task() -> int:
    """How often the task that runs was asked to stop (time limits among it) and has not said that it did."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
