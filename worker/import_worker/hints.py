"""Hears at once that jobs were taken from workers; a hint that is lost is made good by the next renewal."""

from __future__ import annotations

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, Notification
from import_worker.leases import LeaseKeeper
from import_worker.listening import listen_for_ever


async def heed_hints(database: Database, leases: LeaseKeeper) -> None:
    """Listen for ever, and have leases renewed that a hint names."""

    def take(notification: Notification) -> None:
        if notification.channel is None:
            leases.doubt_all()
        else:
            leases.doubt(notification.payload.split(","))

    await listen_for_ever(database, CONTROL_CHANNEL, take, name="hints")
