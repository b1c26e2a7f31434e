"""Hears at once what is asked of workers; a hint that is lost is made good by the next look."""

from __future__ import annotations

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, DRAIN_CHANNEL, Notification
from import_worker.draining import DrainKeeper
from import_worker.leases import LeaseKeeper
from import_worker.listening import listen_for_ever


async def heed_hints(database: Database, leases: LeaseKeeper, drains: DrainKeeper | None = None) -> None:
    """Listen for ever: have leases renewed that a hint names, and requests to drain read."""

    def take(notification: Notification) -> None:
        asked = notification.channel in (None, DRAIN_CHANNEL)
        if asked and drains is not None:
            drains.heed(notification.payload.split(",") if notification.channel else None)
        if notification.channel is None:
            leases.doubt_all()
        elif notification.channel == CONTROL_CHANNEL:
            leases.doubt(notification.payload.split(","))

    await listen_for_ever(database, [CONTROL_CHANNEL, DRAIN_CHANNEL], take, name="hints")
