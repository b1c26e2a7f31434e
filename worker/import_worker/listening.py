"""Listens to PostgreSQL for as long as the worker runs, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import Notification, listen
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.limits import growing_delay

log = structlog.get_logger(__name__)

LONGEST_WAIT_SECONDS = 10.0


async def listen_for_ever(
    database: Database, channels: Sequence[str], take: Callable[[Notification], None], *, name: str
) -> None:
    """Give each notification of these channels to `take`, on a connection of its own; `name` says in the log whose.

    What was missed meanwhile is for `take` to make good: a new connection begins with `channel` None.
    """
    failures = 0
    while True:
        try:
            async for notification in listen(database, channels):
                failures = 0
                take(notification)
        except DatabaseUnavailableError as error:
            log.warning(f"{name}.not_heard", detail=error.message)
        except Exception:
            # What is heard only saves time: the end of this task would stop the worker for it.
            log.exception(f"{name}.not_heard")
        await asyncio.sleep(growing_delay(failures, first=0.25, longest=LONGEST_WAIT_SECONDS))
        failures += 1
