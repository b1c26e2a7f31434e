"""Measures the work of queues for DrainTime: sizes, rate and providers' limits, from PostgreSQL and live objects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.jobs import Depth
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.work import SIZES_AT_ONCE, WorkStore
from import_core.domain.drain_time import Work
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.resources.import_provider import DEFAULT_RATE_LIMITS, ProviderType
from import_core.domain.work_counting import CallLimit, Counted, Source, WorkBook, WorkSeen, count_work
from import_core.observability.logs import get_logger
from import_operator.state import Body, OperatorState, type_of

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""Work is dearer to count than jobs; a depth that has changed by a tenth is looked at sooner."""
UNKNOWN_KIND = "unknown"
KEPT_SECONDS = 30.0
"""Work that can't be counted is taken to be the last one for so long; then the depth decides."""


@dataclass(slots=True)
class _Look:
    seen: WorkSeen
    limits: Mapping[Source, CallLimit]
    depth: int
    at: float
    counted: dict[float, Counted] = field(default_factory=dict)
    """By drain time, since pools of one queue may have their own."""


class WorkMeasure:
    """Remembers the last look at each queue, and what was learnt of its jobs."""

    def __init__(
        self, state: OperatorState, work: WorkStore, breakers: BreakerStore, queues: QueueStateStore
    ) -> None:
        self._queues = queues
        self._state = state
        self._work = work
        self._breakers = breakers
        self._books: dict[str, WorkBook] = {}
        self._looks: dict[str, _Look] = {}
        self._looking = asyncio.Lock()
        """Pools of one queue would else count what has finished twice."""

    def keep(self, queues: set[str]) -> None:
        """Forget all queues but these."""
        self._books = {queue: book for queue, book in self._books.items() if queue in queues}
        self._looks = {queue: look for queue, look in self._looks.items() if queue in queues}

    async def look(self, queue: str, depth: Depth, *, drain_seconds: float, now: float) -> Work | None:
        """The work of a queue; None where it is not known, which is not none."""
        async with self._looking:
            last = self._looks.get(queue)
            if last is None or _is_outdated(last, depth, now):
                try:
                    last = await self._measure(queue, depth, now)
                except DatabaseUnavailableError as error:
                    log.warning("work.unknown", queue=queue, message=error.message)
                    if last is None or now - last.at > KEPT_SECONDS:
                        return None
        return self._counted(queue, last, drain_seconds).work

    def _counted(self, queue: str, look: _Look, drain_seconds: float) -> Counted:
        if drain_seconds not in look.counted:
            look.counted[drain_seconds] = count_work(
                look.seen, self._books[queue], look.limits, due=look.depth, drain_seconds=drain_seconds
            )
        return look.counted[drain_seconds]

    async def _measure(self, queue: str, depth: Depth, now: float) -> _Look:
        book = self._books.setdefault(queue, WorkBook())
        last = self._looks.get(queue)
        seen = await self._work.look(queue, since=book.looked_at)
        unknown = book.unknown(seen)[:SIZES_AT_ONCE]
        sizes = await self._work.sizes(unknown) if unknown else {}
        limits = await self._limits(seen)
        slow = [counted.slow for counted in last.counted.values()] if last is not None else []
        book.take_in(seen, limits, frozenset().union(*slow))
        book.keep_sizes(sizes, unknown)
        look = _Look(seen, limits, depth.due, now)
        self._looks[queue] = look
        return look

    async def _limits(self, seen: WorkSeen) -> Mapping[Source, CallLimit]:
        """Limits of the connections that jobs wait for, run for or have ended for; others are not known to have one.

        What a person has paused is let through as little as what an open circuit breaker holds.
        """
        namespace = self._state.namespace
        closed = {("provider", name) for name in await self._breakers.not_closed(namespace)}
        closed |= {
            (pause.scope, pause.name)
            for pause in await self._queues.pauses()
            if pause.namespace in {"", namespace}
        }
        sources = {group.source for group in seen.waiting}
        sources |= {job.source for job in seen.running}
        sources |= {job.source for job in seen.finished}
        limits: dict[Source, CallLimit] = {}
        for source in sources:
            ours = source.namespace in {"", namespace}
            body = self._state.providers.named(source.provider) if ours else None
            held = ours and ("provider", source.provider) in closed
            if held or ("company", source.company) in closed:
                limits[source] = CallLimit(0.0, UNKNOWN_KIND if body is None else type_of(body))
            elif body is not None:
                limits[source] = call_limit(body)
        return limits


def call_limit(body: Body) -> CallLimit:
    """What the provider of a connection lets through, by its ImportProvider."""
    kind = type_of(body)
    wanted = (body.get("spec") or {}).get("rateLimit") or {}
    default = DEFAULT_RATE_LIMITS[ProviderType(kind)]
    requests = float(wanted.get("requests") or default.requests)
    return CallLimit(requests / float(wanted.get("perSeconds") or default.per_seconds), kind)


def _is_outdated(look: _Look, depth: Depth, now: float) -> bool:
    changed = abs(depth.due - look.depth) * 10 > look.depth
    return changed or now - look.at >= LOOK_SECONDS
