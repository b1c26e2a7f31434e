"""Ends tasks reliably, and lets them notice that they shall end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
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


async def heeding_cancellation(awaitable: Awaitable[T]) -> T:
    """The result, unless the task was cancelled meanwhile, even if what is awaited lost the cancellation.

    redis-py sends by `asyncio.wait_for`, which on Python 3.11 drops one that comes as the sending ends
    (python/cpython#86296): the task would go on as if nobody had asked it to stop.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await awaitable
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result
