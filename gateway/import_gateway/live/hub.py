"""Live events: hears of changes once, reads the rows once, and lets every listener take the newest state.

A listener has no queue. It knows which version it has sent and is woken when there is a newer one; what lies
between is never sent, so a slow listener costs no memory and delays nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
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
from import_core.domain.errors import ImportOperatorError
from import_core.domain.live import Change, VersionedState, state_id
from import_core.domain.projection import FINAL_PHASES
from import_core.domain.resources.import_job import JobPhase
from import_core.observability.logs import get_logger
from import_gateway.api.models import Import
from import_gateway.api.presenting import differs, event_id
from import_gateway.live.messages import get_message
from import_gateway.live.overview import OverviewReader, get_event, to_json
from import_gateway.live.places import Place, Places
from import_gateway.live.reading import MOST_OBJECTS, JobReader
from import_gateway.metrics import GatewayMetrics

log = get_logger(__name__)

COALESCE_SECONDS = 0.05
"""Hints that come within this time are answered by one read."""
OVERVIEW_SECONDS = 1.0
RETRY_SECONDS = 1.0
ABSENT_READS = 2
"""A job that so many reads in a row find neither as a row nor as an object was deleted: it ends as cancelled. One is
not enough, as it may be recorded between the look at the rows and the look at the objects."""


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
    has_row: bool = True
    """Whether the last read found a row."""
    asked: int = 0
    """When its object was asked for last, by counting."""
    absent: int = 0
    """Reads in a row that found neither row nor object."""

    def __post_init__(self) -> None:
        self._write()

    def take(self, view: Import | None) -> None:
        """Take in what was read; None: neither row nor object is there (any more)."""
        for reader in self.readers:
            reader.set()
        self.readers.clear()
        self.absent = 0 if view is not None else self.absent + 1
        if self.absent >= ABSENT_READS and self.view.phase.value not in FINAL_PHASES:
            view = self.view.model_copy(
                update={"phase": JobPhase.CANCELLED, "message": "The ImportJob was deleted", "estimate": None}
            )
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
        most_each: int,
        reread_seconds: float = 5.0,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._overview = overview
        self._metrics = metrics
        self._places = Places(most=most, most_each=most_each, changed=metrics.listeners.set)
        self._reread_seconds = reread_seconds
        self.closed = asyncio.Event()
        self.overview = VersionedState()
        self.overview_read = asyncio.Event()
        self._watched: dict[str, Watched] = {}
        self._changed: set[str] = set()
        self._without_row: set[str] = set()
        self._asked = 0
        self._wake_jobs = asyncio.Event()
        self._wake_objects = asyncio.Event()
        self._wake_overview = asyncio.Event()
        self._overview_listeners: set[asyncio.Event] = set()
        self._overview_stale = True
        self._overview_at = float("-inf")
        self._overview_id = (-1, "")
        self._overview_messages: tuple[int, dict[int | None, bytes | None]] = (-1, {})

    @property
    def listeners(self) -> int:
        """Open streams."""
        return len(self._places)

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
            asyncio.create_task(self._go_on("jobs", self._wake_jobs, self._read_jobs, self._mark_jobs)),
            asyncio.create_task(
                self._go_on("objects", self._wake_objects, self._read_objects, _mark_nothing)
            ),
            asyncio.create_task(
                self._go_on("overview", self._wake_overview, self._read_overview, self._mark_overview)
            ),
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

    def take_place(self, caller: str) -> Place:
        """Take a listener's place for a caller, before the answer begins.

        Raises TooManyListenersError and TooManyOwnListenersError.
        """
        return self._places.take(caller)

    @contextmanager
    def follow(
        self, view: Import, listener: asyncio.Event | None = None
    ) -> Iterator[tuple[Watched, asyncio.Event]]:
        """Follow a job from a state that was just read; the event, or `listener`, is set when there is a newer one."""
        job = self._watched.get(view.id)
        if job is None:
            job = self._watched[view.id] = Watched(view)
        # What changed between the read and now has been missed: it is read once more.
        self._hint([view.id])
        listener = listener or asyncio.Event()
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
        """Follow the overview; the event is set when `overview` has a newer version."""
        listener = asyncio.Event()
        if not self._overview_listeners:
            self.overview_read.clear()
            self._overview_stale = True
        self._overview_listeners.add(listener)
        self._wake_overview.set()
        try:
            yield listener
        finally:
            self._overview_listeners.discard(listener)

    async def _listen(self) -> None:
        while True:
            try:
                async for notification in listen(
                    self._database, [PROGRESS_CHANNEL, LIVE_CHANNEL, QUEUE_CHANNEL]
                ):
                    self._take(notification)
            except Exception as error:  # noqa: BLE001 - logged and counted there; listening must not end
                self._failed("listen", error)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, notification: Notification) -> None:
        if notification.channel is None:
            self._hint(list(self._watched))
        else:
            self._hint(notification.payload.split(","))

    def _hint(self, job_ids: list[str]) -> None:
        self._changed.update(job_id for job_id in job_ids if job_id in self._watched)
        self._overview_stale = True
        if self._changed:
            self._wake_jobs.set()
        if self._overview_listeners:
            self._wake_overview.set()

    async def _go_on(
        self,
        part: str,
        wake: asyncio.Event,
        read: Callable[[], Awaitable[None]],
        mark_all: Callable[[], None],
    ) -> None:
        """Read when woken, and everything that is followed now and then: a hint may have been lost.

        Each part has a task of its own: one whose source is slow or away delays no other.
        """
        all_read_at = time.monotonic()
        while True:
            wait = all_read_at + self._reread_seconds - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, wait)):
                    await wake.wait()
                    await asyncio.sleep(COALESCE_SECONDS)
            except TimeoutError:
                all_read_at = time.monotonic()
                mark_all()
            wake.clear()
            try:
                await read()
            except Exception as error:  # noqa: BLE001 - logged and counted there; reading must not end
                # What was to be read stays marked; listeners keep what they have.
                self._failed(part, error)
                await asyncio.sleep(RETRY_SECONDS)
                wake.set()

    def _mark_jobs(self) -> None:
        self._changed.update(self._watched)

    def _mark_overview(self) -> None:
        self._overview_stale = True

    async def _read_jobs(self) -> None:
        wanted, self._changed = self._changed, set()
        wanted.intersection_update(self._watched)
        if not wanted:
            return
        try:
            views = await self._jobs.read(list(wanted))
        except Exception:
            self._changed |= wanted
            raise
        for job_id in wanted:
            job = self._watched.get(job_id)
            if job is not None:
                job.has_row = job_id in views
                if job.has_row:
                    job.take(views[job_id])
                else:
                    self._without_row.add(job_id)
        if self._without_row:
            self._wake_objects.set()

    async def _read_objects(self) -> None:
        """Read the objects of jobs that have no row: some at a time, those first that were asked for longest ago."""
        jobs = [job for job_id in self._without_row if (job := self._watched.get(job_id)) and not job.has_row]
        chosen = sorted(jobs, key=lambda job: job.asked)[:MOST_OBJECTS]
        self._without_row.intersection_update(job.view.id for job in jobs)
        if not chosen:
            return
        self._asked += 1
        for job in chosen:
            job.asked = self._asked
        found = await self._jobs.read_objects([job.view for job in chosen])
        for job in chosen:
            self._without_row.discard(job.view.id)
            if not job.has_row:  # else it was recorded meanwhile, and the row is newer
                job.take(found.get(job.view.id))

    async def _read_overview(self) -> None:
        if not self._overview_listeners or not self._overview_stale:
            return
        left = self._overview_at + OVERVIEW_SECONDS - time.monotonic()
        if left > 0 and self.overview_read.is_set():
            asyncio.get_running_loop().call_later(left, self._wake_overview.set)
            return
        self._overview_stale, self._overview_at = False, time.monotonic()
        try:
            entries = await self._overview.read()
        except Exception:
            self._overview_stale = True
            raise
        changed = self.overview.replace(entries)
        if changed or not self.overview_read.is_set():
            self.overview_read.set()
            for listener in self._overview_listeners:
                listener.set()

    def _failed(self, part: str, error: Exception) -> None:
        self._metrics.live_failures.labels(part).inc()
        if isinstance(error, ImportOperatorError):
            log.warning("live.failed", part=part, message=error.message)
        else:
            log.error("live.failed", part=part, exc_info=error)

    def _everyone(self) -> Iterator[asyncio.Event]:
        yield from self._overview_listeners
        for job in self._watched.values():
            yield from job.listeners


def _mark_nothing() -> None:
    """Objects are read for jobs that have just been looked for in vain: those are marked already."""


def _named(change: Change, identity: str) -> tuple[str, str, Any]:
    event, data = get_event(change)
    return event, identity, data
