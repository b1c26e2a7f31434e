"""Ends tasks reliably."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


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
