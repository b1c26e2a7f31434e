"""Which phase of its import a job is in, and how long it spent in each: for metrics and every line of its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

import structlog

Item = TypeVar("Item")


class Phase(StrEnum):
    """What a job does at a time; the label `phase` of imports_page_phase_duration_seconds has all but two."""

    CONNECT = "connect"
    """Before the first page: reading the job, its provider and credentials. Not measured."""
    FETCH = "fetch"
    """Waiting for a page; the next one is fetched and mapped beside the one in hand."""
    MAP = "map"
    """Time of its own only as far as `fetch` shows it."""
    IMAGES = "images"
    COMMIT = "commit"
    REMOVE = "remove"
    """After the last page: archiving what is gone from the source. Not measured."""


class PhaseClock:
    """One job's phases. `current` is the last one entered: where a job failed that has failed."""

    def __init__(self) -> None:
        self.current = Phase.CONNECT
        self._page: dict[Phase, float] = {}
        self._job: dict[Phase, float] = {}

    @contextmanager
    def enter(self, phase: Phase) -> Iterator[None]:
        """Be in a phase; lines logged meanwhile bear its name."""
        clock = asyncio.get_running_loop().time
        self.current, began = phase, clock()
        with structlog.contextvars.bound_contextvars(phase=phase.value):
            try:
                yield
            finally:
                self.add(phase, clock() - began)

    def add(self, phase: Phase, seconds: float) -> None:
        """Count time of a phase that is not entered, as it passes beside another."""
        self._page = added(self._page, {phase: seconds})

    def take_page(self) -> dict[Phase, float]:
        """Seconds by phase since this was last called."""
        page, self._page = self._page, {}
        self._job = added(self._job, page)
        return page

    def job_milliseconds(self) -> dict[str, int]:
        """Milliseconds by phase of the whole try so far."""
        return in_milliseconds(added(self._job, self._page))


def added(first: Mapping[Phase, float], second: Mapping[Phase, float]) -> dict[Phase, float]:
    """The seconds of both, by phase."""
    return {phase: first.get(phase, 0.0) + second.get(phase, 0.0) for phase in (*first, *second)}


def in_milliseconds(seconds: Mapping[Phase, float]) -> dict[str, int]:
    """As a log line says it."""
    return {phase.value: round(value * 1000) for phase, value in seconds.items()}


async def fetched(pages: AsyncIterator[Item], phases: PhaseClock) -> AsyncGenerator[Item, None]:
    """The same pages; waiting for each is the phase `fetch`. Whoever opened `pages` closes them."""
    while True:
        with phases.enter(Phase.FETCH):
            page = await anext(pages, None)
        if page is None:
            return
        yield page
