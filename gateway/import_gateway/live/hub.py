"""Live events: hears of changes once, reads the rows once, and lets every listener take the newest state.

A listener has no queue. It knows which version it has sent and is woken when there is a newer one; what lies
between is never sent, so a slow listener costs no memory and delays nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.notifications import (
    LIVE_CHANNEL,
    PROGRESS_CHANNEL,
    QUEUE_CHANNEL,
    Notification,
    listen,
)
from import_core.domain.errors import DatabaseUnavailableError, ImportOperatorError
from import_core.domain.live import Change, VersionedState, state_id
from import_core.domain.resources.import_job import JobPhase
from import_core.observability.logs import get_logger
from import_gateway.api.models import Import
from import_gateway.api.presenting import differs, event_id
from import_gateway.live.messages import get_message
from import_gateway.live.overview import OverviewReader, get_event, to_json
from import_gateway.live.reading import JobReader
from import_gateway.metrics import GatewayMetrics

log = get_logger(__name__)

COALESCE_SECONDS = 0.05
"""Hints that come within this time are answered by one read."""
OVERVIEW_SECONDS = 1.0
RETRY_SECONDS = 1.0


class TooManyListenersError(ImportOperatorError):
    """There are as many event streams as this replica holds open."""


@dataclass(slots=True, eq=False)
class Watched:
    """One job that somebody follows: its newest state, and who is to be woken."""

    view: Import
    version: int = 1
    listeners: set[asyncio.Event] = field(default_factory=set)
    id: str = ""
    message: bytes = b""
    """The state as it is sent, made once for all."""
    readers: set[asyncio.Event] = field(default_factory=set)
    """Who waits for the next read, changed or not."""

    def __post_init__(self) -> None:
        self._write()

    def take(self, view: Import | None) -> None:
        """Take in what was read; None: neither row nor object is there (any more)."""
        for reader in self.readers:
            reader.set()
        self.readers.clear()
        if view is not None and differs(view, self.view):
            self.view = view
            self.version += 1
            self._write()
            for listener in self.listeners:
                listener.set()

    def _write(self) -> None:
        self.id = event_id(self.view)
        self.message = get_message("import", self.id, to_json(self.view))


class LiveHub:
    """One LISTEN connection for all listeners of this replica."""

    def __init__(
        self,
        database: Database,
        jobs: JobReader,
        overview: OverviewReader,
        metrics: GatewayMetrics,
        *,
        most: int,
        reread_seconds: float = 5.0,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._overview = overview
        self._metrics = metrics
        self._most = most
        self._listeners = 0
        self._reread_seconds = reread_seconds
        self.closed = asyncio.Event()
        self.overview = VersionedState()
        self.overview_read = asyncio.Event()
        self._watched: dict[str, Watched] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._overview_listeners: set[asyncio.Event] = set()
        self._overview_stale = True
        self._overview_at = float("-inf")
        self._overview_id = (-1, "")
        self._overview_messages: tuple[int, dict[int | None, bytes | None]] = (-1, {})

    @property
    def listeners(self) -> int:
        """Open streams."""
        return self._listeners

    @property
    def overview_id(self) -> str:
        """The id of the overview's state: it follows from its content, whichever replica tells it."""
        version = self.overview.version
        if self._overview_id[0] != version:
            self._overview_id = (version, state_id(self.overview.entries))
        return self._overview_id[1]

    def overview_message(self, seen: int | None) -> bytes | None:
        """What a listener who knows version `seen` lacks, as it is sent; made once for all who know that one."""
        version = self.overview.version
        if self._overview_messages[0] != version:
            self._overview_messages = (version, {})
        made = self._overview_messages[1]
        if seen not in made:
            change = self.overview.change_since(seen)
            made[seen] = None if change is None else get_message(*_named(change, self.overview_id))
        if made[seen] is not None:
            self.count_event("overview")
        return made[seen]

    def count_event(self, event: str) -> None:
        """Count an event that is sent."""
        self._metrics.events.labels(event).inc()

    async def run(self) -> None:
        """Listen and read until `close`."""
        tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._read_on()),
            asyncio.create_task(self.closed.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def close(self) -> None:
        """End all streams."""
        self.closed.set()
        for listener in self._everyone():
            listener.set()

    def check_room(self) -> None:
        """Raise TooManyListenersError where no more streams are taken; sooner than the stream itself could tell."""
        if self.listeners >= self._most:
            raise TooManyListenersError

    @contextmanager
    def follow(self, view: Import) -> Iterator[tuple[Watched, asyncio.Event]]:
        """Follow a job from a state that was just read; the event is set when there is a newer one.

        Raises TooManyListenersError.
        """
        with self._counted():
            job = self._watched.get(view.id)
            if job is None:
                job = self._watched[view.id] = Watched(view)
            # What changed between the read and now has been missed: it is read once more.
            self._hint([view.id])
            listener = asyncio.Event()
            job.listeners.add(listener)
            try:
                yield job, listener
            finally:
                job.listeners.discard(listener)
                if not job.listeners:
                    self._watched.pop(view.id, None)

    async def until_read(self, job: Watched, seconds: float) -> None:
        """Wait until the job is read once more, or for so long; `follow` has asked for it."""
        reader = asyncio.Event()
        job.readers.add(reader)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await reader.wait()
        job.readers.discard(reader)

    @contextmanager
    def follow_overview(self) -> Iterator[asyncio.Event]:
        """Follow the overview; the event is set when `overview` has a newer version.

        Raises TooManyListenersError.
        """
        with self._counted():
            listener = asyncio.Event()
            if not self._overview_listeners:
                self.overview_read.clear()
                self._overview_stale = True
            self._overview_listeners.add(listener)
            self._wake.set()
            try:
                yield listener
            finally:
                self._overview_listeners.discard(listener)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.check_room()
        self._listeners += 1
        self._metrics.listeners.set(self._listeners)
        try:
            yield
        finally:
            self._listeners -= 1
            self._metrics.listeners.set(self._listeners)

    async def _listen(self) -> None:
        while True:
            try:
                async for notification in listen(
                    self._database, [PROGRESS_CHANNEL, LIVE_CHANNEL, QUEUE_CHANNEL]
                ):
                    self._take(notification)
            except DatabaseUnavailableError as error:
                log.warning("live.not_listening", message=error.message)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, notification: Notification) -> None:
        if notification.channel is None:
            self._hint(list(self._watched))
        else:
            self._hint(notification.payload.split(","))

    def _hint(self, job_ids: list[str]) -> None:
        self._changed.update(job_id for job_id in job_ids if job_id in self._watched)
        self._overview_stale = True
        if self._changed or self._overview_listeners:
            self._wake.set()

    async def _read_on(self) -> None:
        """Read what changed, and everything that is followed now and then: a hint may have been lost."""
        all_read_at = time.monotonic()
        while True:
            wait = all_read_at + self._reread_seconds - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, wait)):
                    await self._wake.wait()
                    await asyncio.sleep(COALESCE_SECONDS)
            except TimeoutError:
                all_read_at = time.monotonic()
                self._changed.update(self._watched)
                self._overview_stale = True
            self._wake.clear()
            try:
                await self._read_jobs()
                await self._read_overview()
            except ImportOperatorError as error:
                # What was to be read stays marked; listeners keep what they have.
                log.warning("live.not_read", message=error.message)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _read_jobs(self) -> None:
        wanted, self._changed = self._changed, set()
        wanted.intersection_update(self._watched)
        if not wanted:
            return
        try:
            views = await self._jobs.read(list(wanted))
            without = [
                self._watched[job_id].view for job_id in wanted - views.keys() if job_id in self._watched
            ]
            views |= await self._jobs.read_objects(
                [view for view in without if view.phase is JobPhase.PENDING]
            )
        except ImportOperatorError:
            self._changed |= wanted
            raise
        for job_id in wanted:
            job = self._watched.get(job_id)
            if job is not None:
                job.take(views.get(job_id))

    async def _read_overview(self) -> None:
        if not self._overview_listeners or not self._overview_stale:
            return
        left = self._overview_at + OVERVIEW_SECONDS - time.monotonic()
        if left > 0 and self.overview_read.is_set():
            asyncio.get_running_loop().call_later(left, self._wake.set)
            return
        self._overview_stale, self._overview_at = False, time.monotonic()
        try:
            entries = await self._overview.read()
        except ImportOperatorError:
            self._overview_stale = True
            raise
        changed = self.overview.replace(entries)
        if changed or not self.overview_read.is_set():
            self.overview_read.set()
            for listener in self._overview_listeners:
                listener.set()

    def _everyone(self) -> Iterator[asyncio.Event]:
        yield from self._overview_listeners
        for job in self._watched.values():
            yield from job.listeners


def _named(change: Change, identity: str) -> tuple[str, str, Any]:
    event, data = get_event(change)
    return event, identity, data
