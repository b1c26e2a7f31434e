"""Following one object to its end, whatever happens to the connection meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import KubernetesUnavailableError

REREAD_SECONDS = 10.0
"""A watch that is silent for so long is checked by a read: it may be half-open, or may have begun too late."""
RECONNECT_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0

Version = dict[str, Any] | None
"""An ImportJob as the API server has it; None: deleted."""


class Follower:
    """One ImportJob's versions; `notice` is told what a person should know meanwhile."""

    def __init__(self, kube: KubeClient, namespace: str, name: str, *, notice: Callable[[str], None]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._notice = notice
        self._away_since: float | None = None

    async def versions(self, companion: asyncio.Task[None]) -> AsyncGenerator[Version, None]:
        """Yield the object's versions, the present one first and some twice, until the caller stops.

        An error of `companion` is raised here. Raises KubernetesUnavailableError when the API server does
        not answer for GIVE_UP_SECONDS, ObjectForbiddenError.
        """
        while True:
            try:
                async with aclosing(self._watched(companion)) as watched:
                    async for version in watched:
                        self._away_since = None
                        yield version
            except KubernetesUnavailableError as error:
                self._bear(error)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _watched(self, companion: asyncio.Task[None]) -> AsyncGenerator[Version, None]:
        stream = aiter(self._kube.watch_one(IMPORT_JOB, self._namespace, self._name))
        upcoming = asyncio.create_task(_next(stream))
        try:
            while True:
                waited: set[asyncio.Task[Any]] = {upcoming, companion}
                await asyncio.wait(waited, timeout=REREAD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if companion.done():
                    companion.result()
                if upcoming.done():
                    yield upcoming.result()
                    upcoming = asyncio.create_task(_next(stream))
                else:
                    yield await self._kube.get(IMPORT_JOB, self._namespace, self._name)
        finally:
            await end_tasks([upcoming])

    def _bear(self, error: KubernetesUnavailableError) -> None:
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now
            self._notice(f"Trying again for {GIVE_UP_SECONDS:g} s: {error}")
        elif now - self._away_since >= GIVE_UP_SECONDS:
            raise error


async def _next(stream: AsyncIterator[Version]) -> Version:
    async for version in stream:
        return version
    raise KubernetesUnavailableError("The API server ended the watch")
