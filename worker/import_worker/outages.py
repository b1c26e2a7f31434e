"""Carries a write through a short outage of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.limits import growing_delay

Result = TypeVar("Result")

LONGEST_OUTAGE_SECONDS = 60.0
"""As long as a lease: without the database it can't be renewed, so waiting longer is of no use."""

log = structlog.get_logger(__name__)


async def through_outages(
    operation: Callable[[], Awaitable[Result]], *, what: str, seconds: float = LONGEST_OUTAGE_SECONDS
) -> Result:
    """Run an idempotent `operation` until the database answers, for at most about `seconds`.

    Raises DatabaseUnavailableError when it stays away, and everything else that `operation` raises.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    attempt = 0
    while True:
        try:
            return await operation()
        except DatabaseUnavailableError as error:
            delay = growing_delay(attempt, first=0.25, longest=5.0)
            if clock() + delay >= deadline:
                raise
            log.warning("database.unavailable", what=what, attempt=attempt, detail=error.message)
        await asyncio.sleep(delay)
        attempt += 1
