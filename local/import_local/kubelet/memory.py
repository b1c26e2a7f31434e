"""Enforces memory limits: the resident memory of a container's processes, looked at every second."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from import_local.kubelet.processes import get_resident_sums, list_processes, send_signal
from import_local.kubelet.records import Attempt


class MemoryWatcher:
    """Kills a container whose processes together are larger than its limit, as OOMKilled.

    Shared pages count for each process that has them, so the sum is an upper bound.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._watched: dict[Attempt, int] = {}
        self._wake = asyncio.Event()

    @contextmanager
    def watch(self, attempt: Attempt, limit: int | None) -> Iterator[None]:
        """Hold a running container to a limit in bytes; None means no limit."""
        if limit is not None:
            self._watched[attempt] = limit
            self._wake.set()
        try:
            yield
        finally:
            self._watched.pop(attempt, None)

    async def run(self) -> None:
        """Check for ever; rests while there is nothing to watch."""
        while True:
            if not self._watched:
                self._wake.clear()
                await self._wake.wait()
            await self.check()
            await asyncio.sleep(self._interval)

    async def check(self) -> None:
        """Look once at all watched containers and kill those above their limits."""
        children = {
            child: (attempt, limit)
            for attempt, limit in self._watched.items()
            if (child := attempt.read_process("child")) is not None
        }
        facts = await asyncio.to_thread(list_processes)
        sums = get_resident_sums(facts, {child.pid for child in children})
        for child, (attempt, limit) in children.items():
            resident = sums[child.pid]
            if resident > limit:
                message = f"the processes of the container used {resident} bytes of memory, limit {limit}"
                attempt.set_reason("OOMKilled", message)
                send_signal(child, signal.SIGKILL)
