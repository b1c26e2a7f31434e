"""Named side tasks: the worker needs all of them, so the end of one stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from import_core.adapters.tasks import end_tasks

log = structlog.get_logger(__name__)


class SideTasks:
    """Tasks that run as long as the worker; `died` is set when one ends, however it ends."""

    def __init__(self) -> None:
        self.died = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Start a side task under a name for the log."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda ended: self._on_end(name, ended))

    async def cancel(self, name: str) -> None:
        """End one side task that is no longer needed."""
        await end_tasks([self._tasks.pop(name)])

    async def close(self) -> None:
        """End all side tasks."""
        self._closing = True
        for name in reversed(list(self._tasks)):
            await self.cancel(name)

    def _on_end(self, name: str, ended: asyncio.Task[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if self._closing or name not in self._tasks:
            return
        log.error("side_task.died", task=name, exc_info=error)
        self.died.set()
