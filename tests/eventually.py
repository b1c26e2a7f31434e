"""Waits for what nobody announces."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    check: Callable[[], Awaitable[Any]], *, seconds: float = 30.0, what: str = "the condition"
) -> Any:
    """Wait until `check` returns something true, and return it."""
    last: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                last = await check()
                if last:
                    return last
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}") from None
