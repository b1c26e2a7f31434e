"""Event streams over HTTP: the newest state at once, then each newer one, heartbeats in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from import_core.domain.errors import ImportOperatorError, KubernetesUnavailableError
from import_core.domain.projection import FINAL_PHASES
from import_gateway.api.models import Import
from import_gateway.live.hub import LiveHub
from import_gateway.live.messages import HEARTBEAT, get_retry
from import_gateway.live.places import Place

RECONNECT_MILLISECONDS = 2000
FIRST_READ_SECONDS = 1.0
"""A stream begins with what was read after it was opened; when that takes longer, with what was known before."""
CHECK_SECONDS = 60.0
"""A stream may outlive its caller's token or rights: they are asked for again so often.

With what the gatekeeper remembers for 30 s, and the time of an answer, that is less than two minutes."""


class EventStream(StreamingResponse):
    """An answer of events, in a listener's place that is free again when it ends."""

    def __init__(self, events: AsyncGenerator[bytes, None], place: Place) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            # Proxies must pass each event on as it comes.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; however that goes, the place is free afterwards."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.free()

    async def stream_response(self, send: Send) -> None:
        """Send events until they end or the reader goes."""
        try:
            await super().stream_response(send)
        finally:
            await self._events.aclose()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a stream goes on: `check` raises where its caller may not listen any more."""

    last_id: str | None
    heartbeat_seconds: float
    check: Callable[[], Awaitable[None]]


async def job_events(hub: LiveHub, view: Import, terms: Terms) -> AsyncGenerator[bytes, None]:
    """A job's newest states until it has finished; nothing at first for who knows the present one already."""
    with hub.follow(view) as (job, news):
        yield get_retry(RECONNECT_MILLISECONDS)
        await hub.until_read(job, FIRST_READ_SECONDS)
        seen = job.version if terms.last_id == job.id else 0
        async for _ in _beats(hub, news, terms):
            if job.version == seen:
                yield HEARTBEAT
                continue
            seen = job.version
            hub.count_event("import")
            yield job.message
            if job.view.phase.value in FINAL_PHASES and job.version == seen:
                return


async def overview_events(hub: LiveHub, terms: Terms) -> AsyncGenerator[bytes, None]:
    """All that the page shows, then what changes; nothing at first for who knows the present state already."""
    with hub.follow_overview() as news:
        seen: int | None = None
        yield get_retry(RECONNECT_MILLISECONDS)
        async for _ in _beats(hub, news, terms):
            if seen is None and hub.overview_read.is_set() and terms.last_id == hub.overview_id:
                seen = hub.overview.version
            message = hub.overview_message(seen) if hub.overview_read.is_set() else None
            if message is None:
                yield HEARTBEAT
                continue
            seen = hub.overview.version
            yield message


async def _beats(hub: LiveHub, news: asyncio.Event, terms: Terms) -> AsyncGenerator[None, None]:
    """Come at once, then with each piece of news and after each silence; end with the hub or the caller's rights."""
    loop = asyncio.get_running_loop()
    checked_at = loop.time()
    while not hub.closed.is_set():
        news.clear()
        yield
        # A silent stream wakes for its check, too, however long its heartbeats are apart.
        wait = min(terms.heartbeat_seconds, max(0.0, checked_at + CHECK_SECONDS - loop.time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await news.wait()
        if loop.time() - checked_at >= CHECK_SECONDS:
            checked_at = loop.time()
            try:
                await terms.check()
            except KubernetesUnavailableError:
                continue  # that nobody can be asked says nothing about the caller
            except ImportOperatorError:
                return
