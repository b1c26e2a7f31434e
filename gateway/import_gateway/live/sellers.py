"""One seller's stream: that company's newest imports and nothing else, whatever else there is to see.

Which imports these are is read again every few seconds, by an index; those that are under way are followed through the
hub, which reads each once for all who look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

from import_core.domain.errors import DependencyUnavailableError, ImportOperatorError
from import_core.domain.jobs import JobState
from import_core.domain.live import Change, VersionedState, state_id
from import_core.domain.projection import FINAL_PHASES
from import_core.domain.steps import StepKind
from import_gateway.api.models import Import
from import_gateway.live.hub import LiveHub, Watched
from import_gateway.live.messages import HEARTBEAT, get_message, get_retry
from import_gateway.live.overview import get_event, to_json
from import_gateway.live.reading import JobReader
from import_gateway.live.stream import RECONNECT_MILLISECONDS, Terms

SHOWN = 50
"""A seller's newest imports."""
_STEPS = frozenset(kind.value for kind in StepKind)


class SellerFeed:
    """The newest imports of one company, and what has changed of them."""

    def __init__(self, hub: LiveHub, jobs: JobReader, *, namespace: str, company_id: str) -> None:
        self._hub = hub
        self._jobs = jobs
        self._namespace = namespace
        self._company_id = company_id
        self._followed: dict[str, tuple[Watched, ExitStack]] = {}
        self._views: dict[str, Import] = {}
        self.news = asyncio.Event()
        self.state = VersionedState()

    async def read(self) -> None:
        """Read which imports there are. Raises DatabaseUnavailableError."""
        page = await self._jobs.views.page(
            namespace=self._namespace,
            states=list(JobState),
            company=self._company_id,
            limit=SHOWN,
            after=None,
        )
        rows = {job.id: job for job in page.jobs if job.queue not in _STEPS}
        # Estimates change with time alone; the hub adds them where something else has changed.
        self._views = await self._jobs.present(rows, estimates=False)
        unfinished = {key for key, view in self._views.items() if view.phase.value not in FINAL_PHASES}
        for job_id in self._followed.keys() - unfinished:
            self._followed.pop(job_id)[1].close()
        for job_id in unfinished - self._followed.keys():
            stack = ExitStack()
            job, _ = stack.enter_context(self._hub.follow(self._views[job_id], self.news))
            self._followed[job_id] = job, stack
        self.take()

    def take(self) -> None:
        """Take in what the hub has read of those that are followed."""
        newest = {job_id: job.view for job_id, (job, _) in self._followed.items()}
        views = {**self._views, **newest}
        # The hub may follow for others too, and a job belongs to one company for ever: this only makes sure.
        own = {key: view for key, view in views.items() if view.company_id == self._company_id}
        self.state.replace({f"job/{key}": to_json(view) for key, view in own.items()})

    @property
    def id(self) -> str:
        """The id of the newest state, whichever replica tells it."""
        return state_id({key: {**entry, "estimate": None} for key, entry in self.state.entries.items()})

    def close(self) -> None:
        """Follow nothing any more."""
        for _, stack in self._followed.values():
            stack.close()
        self._followed.clear()


async def seller_events(
    hub: LiveHub, feed: SellerFeed, terms: Terms, *, reread_seconds: float
) -> AsyncGenerator[bytes, None]:
    """All imports of the seller, then what changes; it ends with the hub, or when the link does."""
    seen: int | None = None
    last_sent = asyncio.get_running_loop().time()
    yield get_retry(RECONNECT_MILLISECONDS)
    try:
        while not hub.closed.is_set() and await _still_good(terms.check):
            with suppress(DependencyUnavailableError):  # the next look may find it again; what is known stays
                await feed.read()
                if seen is None and terms.last_id == feed.id:
                    seen = feed.state.version
            async for message, version in _until_reread(hub, feed, seen, reread_seconds):
                seen, last_sent = version, asyncio.get_running_loop().time()
                hub.count_event("seller")
                yield message
            if asyncio.get_running_loop().time() - last_sent >= terms.heartbeat_seconds:
                last_sent = asyncio.get_running_loop().time()
                yield HEARTBEAT
    finally:
        feed.close()


async def _until_reread(
    hub: LiveHub, feed: SellerFeed, seen: int | None, seconds: float
) -> AsyncGenerator[tuple[bytes, int], None]:
    """Changes until it is time to look again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not hub.closed.is_set():
        feed.news.clear()
        feed.take()
        change = feed.state.change_since(seen)
        if change is not None:
            seen = feed.state.version
            yield get_message(*_named(change, feed.id)), seen
        left = until - loop.time()
        if left <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await feed.news.wait()


async def _still_good(check: Callable[[], Awaitable[None]]) -> bool:
    try:
        await check()
    except DependencyUnavailableError:
        return True  # that nobody can be asked says nothing about the link
    except ImportOperatorError:
        return False
    return True


def _named(change: Change, identity: str) -> tuple[str, str, Any]:
    event, data = get_event(change)
    return event, identity, data
