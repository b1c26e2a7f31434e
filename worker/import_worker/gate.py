"""Who may run on this worker at the same time: jobs share it, a suspected one has it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class JobGate:
    """A readers-writer lock in which a reader may ask to become the writer; writers go first."""

    def __init__(self) -> None:
        self._sharing = 0
        self._alone = False
        self._waiting_alone = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[Place]:
        """Enter together with others; waits while a job is alone or waits to be."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not self._waiting_alone)
            self._sharing += 1
        place = Place(self)
        try:
            yield place
        finally:
            await self._leave(place)

    async def _become_alone(self, place: Place) -> None:
        async with self._changed:
            self._sharing -= 1
            place.shares = False
            self._waiting_alone += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: not self._sharing and not self._alone)
                self._alone = place.alone = True
            finally:
                self._waiting_alone -= 1
                self._changed.notify_all()

    async def _leave(self, place: Place) -> None:
        async with self._changed:
            if place.alone:
                self._alone = False
            elif place.shares:
                self._sharing -= 1
            self._changed.notify_all()


class Place:
    """One job's place on the worker."""

    def __init__(self, gate: JobGate) -> None:
        self._gate = gate
        self.shares = True
        self.alone = False

    async def become_alone(self) -> None:
        """Wait until every other job has left; new ones wait meanwhile."""
        await self._gate._become_alone(self)
