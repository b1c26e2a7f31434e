"""Live events: hears of changes once, reads the rows once, and tells all listeners."""

from __future__ import annotations

import asyncio

from import_core.adapters.postgres import Database
from import_gateway.settings import GatewaySettings


class LiveHub:
    """One LISTEN connection for all listeners of this replica."""

    def __init__(self, database: Database, settings: GatewaySettings) -> None:
        self._database = database
        self._settings = settings
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Listen until `close`."""
        await self._closed.wait()

    def close(self) -> None:
        """End all streams."""
        self._closed.set()
