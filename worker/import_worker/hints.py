"""Hears at once that jobs were taken from workers; a hint that is lost is made good by the next renewal."""

from __future__ import annotations

import asyncio

import structlog

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, listen
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.limits import growing_delay
from import_worker.leases import LeaseKeeper

log = structlog.get_logger(__name__)

LONGEST_WAIT_SECONDS = 10.0


async def heed_hints(database: Database, leases: LeaseKeeper) -> None:
    """Listen for ever, on a connection of its own, and have leases renewed that a hint names."""
    failures = 0
    while True:
        try:
            async for notification in listen(database, [CONTROL_CHANNEL]):
                failures = 0
                if notification.channel is None:
                    leases.doubt_all()
                else:
                    leases.doubt(notification.payload.split(","))
        except DatabaseUnavailableError as error:
            log.warning("hints.not_heard", detail=error.message)
        except Exception:
            # Without hints all goes on, later; without this task the worker would stop.
            log.exception("hints.not_heard")
        await asyncio.sleep(growing_delay(failures, first=0.25, longest=LONGEST_WAIT_SECONDS))
        failures += 1
