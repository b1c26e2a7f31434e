"""Shared bounds of the image stages: bytes held in memory, and requests per host."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """A bounded number of bytes that tasks reserve before they hold them.

    Reservations are served in the order they were asked for, so a large one is not starved by small ones.
    A task must not reserve a second time while it holds a reservation: two that do would wait for each other.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody has reserved."""
        return self._free

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of the budget; one above the whole budget counts as the whole budget."""
        held = await self.acquire(size)
        try:
            yield
        finally:
            self.release(held)

    def release(self, held: int) -> None:
        """Give back what `acquire` returned."""
        self._free += held
        self._wake()

    async def acquire(self, size: int) -> int:
        """Wait for `size` bytes; returns those to `release`, in the event loop's thread, once they are free."""
        size = min(size, self.total)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not turn.cancelled():
                # The turn came in the same moment: the bytes were taken for us and nobody will hold them.
                self._free += size
            self._wake()
            raise
        return size

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


class HostLimits:
    """At most `limit` requests at a time to each host; hosts nobody asks for take no memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hosts: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @property
    def hosts(self) -> int:
        """Hosts with requests running or waiting."""
        return len(self._hosts)

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        """Wait for one of the host's slots and hold it."""
        semaphore, users = self._hosts.get(host, (asyncio.Semaphore(self._limit), 0))
        self._hosts[host] = (semaphore, users + 1)
        try:
            async with semaphore:
                yield
        finally:
            semaphore, users = self._hosts.pop(host)
            if users > 1:
                self._hosts[host] = (semaphore, users - 1)
