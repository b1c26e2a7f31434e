"""Sliding-window limiter of one connection's API calls, shared by all workers through Redis."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.adapters.redis import limiter_scripts as scripts
from import_core.adapters.tasks import heeding_cancellation
from import_core.domain.errors import HandBackError, QueueUnavailableError
from import_core.domain.jobs import WaitingReason
from import_core.domain.limits import CostBucket, Grant, Wait, effective_window, growing_delay
from import_core.observability.logs import get_logger

log = get_logger(__name__)

KEY_PREFIX = "imports:limit:"
MARKER_KEY = "imports:limit-state-since"
"""Since when which history of Redis has remembered all grants: microseconds of the server's clock, and the
replication id; absent, or of another history: grants may have been forgotten."""
MARKER_SECONDS = 30 * 24 * 3600
SAFETY_MARGIN = 0.5
"""Seconds between a grant and the call's arrival at the provider that the window allows for. A call that may have
arrived later counts from then (`arrived`)."""
IN_USE_SECONDS = 3600
"""Jobs may call by a limit that was changed after they started; one that nobody asked with for a window and this
time is over, and grants are no longer kept for it."""
LONGEST_PAUSE = 5.0
"""Seconds after which a waiter asks again at the latest: others may have left the queue, and who stays away for
a second longer than announced has lost its place."""
MOST_WAITERS = 1_000
"""Waiters of one connection that have a place; more come in when there is room."""
KEPT_MILLISECONDS = 60_000
"""For so long after its window is a connection's key kept, beyond need."""
TELL_SECONDS = 1.0
"""A waiter that is cancelled, or a call that has ended, takes that long at most to say so; what was not said runs
out by itself."""


class SlidingWindowLimiter:
    """Grants at most `requests` calls in any window of `per_seconds`, over all workers of one Redis.

    Who waits is served in the order of coming, over all workers. `clock_scale` makes the window pass that many
    times faster (tests). `max_wait` (seconds) bounds one call's waiting; beyond it the job gives its place up.
    Unknown state counts as a full window: after Redis lost its memory, was started again or failed over,
    nothing is granted for one window (see `declare_no_recent_calls`). Callers may have different limits: each
    keeps its own, counting the calls of all. At most twice the largest `requests` grants and MOST_WAITERS waiters
    are kept per connection, and every key expires.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        key: str,
        requests: int,
        per_seconds: float,
        clock_scale: float = 1.0,
        max_wait: float,
        margin: float = SAFETY_MARGIN,
        unavailable_after: float = 10.0,
    ) -> None:
        if requests < 1:
            raise ValueError("requests must be at least 1")
        window = effective_window(per_seconds, clock_scale=clock_scale, margin=margin)
        self._key = key
        self._requests = requests
        self._window_microseconds = round(window * 1_000_000)
        self._max_wait = max_wait
        self._margin = margin
        # Half of the margin is for the way from us to the provider.
        self._lifetime = margin / 2
        self._unavailable_after = unavailable_after
        self._acquire = redis.register_script(scripts.ACQUIRE)
        self._leave = redis.register_script(scripts.LEAVE)
        self._release = redis.register_script(scripts.RELEASE)
        self._observe = redis.register_script(scripts.OBSERVE)
        self._block = redis.register_script(scripts.BLOCK)
        self._date = redis.register_script(scripts.DATE)
        name = f"{KEY_PREFIX}{key}"
        self._block_key = f"{name}:block"
        self._queue_keys = [f"{name}:queue", f"{name}:alive"]
        self._points_keys = [f"{name}:points", f"{name}:held"]
        self._keys = [
            name,
            self._block_key,
            MARKER_KEY,
            *self._queue_keys,
            *self._points_keys,
            f"{name}:kept",
        ]

    async def try_acquire(self, points: float = 0.0) -> Grant | Wait:
        """Grant one call now, or say after which time to ask again; takes no place among the waiters.

        Raises QueueUnavailableError when Redis does not answer.
        """
        return await self._ask(_ticket(points), points, patience=0.0)

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        """Wait for one call's turn; `points`: what it is expected to cost of the provider's own bucket.

        `instead_of`: a grant of as many points that got too old before anything was sent with it. It is given back
        in any case; where it still counts, the new one takes its place and needs no other turn.

        Raises HandBackError (waiting reason ProviderLimit) when it is further away than `max_wait`, and
        QueueUnavailableError when Redis does not answer: without its word no call is sent.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._max_wait
        ticket, is_queued = _ticket(points), False
        try:
            while True:
                patience = max(0.0, deadline - clock())
                is_queued = is_queued or patience > 0
                answer = await self._ask(ticket, points, patience=patience, instead_of=instead_of)
                if isinstance(answer, Grant):
                    is_queued = False
                    return answer
                is_queued = answer.seconds <= patience
                if not is_queued:
                    raise HandBackError(
                        f"The call limit of {self._key} is used up.",
                        retry_after=answer.seconds,
                        waiting_reason=WaitingReason.PROVIDER_LIMIT,
                    )
                # Each has a moment of its own; only those that a block held back would wake together.
                pause = min(answer.seconds, LONGEST_PAUSE)
                await asyncio.sleep(pause + random.uniform(0, 0.01))  # noqa: S311 - spreads load only
        finally:
            if is_queued:
                # The place is free for those behind at once.
                await self._tell(lambda: self._leave(keys=self._queue_keys, args=[ticket]))

    async def block(self, seconds: float) -> None:
        """Let no worker call this connection for `seconds` of real time."""
        milliseconds = max(1, round(seconds * 1000))
        await self._run(lambda: self._block(keys=[self._block_key], args=[milliseconds]))

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        """Tell how a call that was granted with `points` ended: the provider's bucket, if it told of it.

        Until then its points count as used, for a minute at most: what can't be told is left to that.
        """
        told = ["", "", ""] if bucket is None else [bucket.maximum, bucket.available, bucket.restore_rate]
        args = [grant.id, _number(points), *told]
        await self._tell(lambda: self._observe(keys=self._points_keys, args=args))

    async def arrived(self, grant: Grant, by: float) -> None:
        """Tell that a call sent with this grant has reached the provider `by` then at the latest (the event loop's
        time). Where that is later than the margin allows for, it counts as granted later from now on.
        """
        if by - grant.asked_at <= self._margin:
            return
        clock = asyncio.get_running_loop().time
        life = self._window_microseconds // 1000 + KEPT_MILLISECONDS

        def date() -> Awaitable[Any]:
            ago = round((clock() - by + self._margin) * 1_000_000)
            return self._date(keys=[self._keys[0]], args=[grant.id, ago, life])

        await self._tell(date)

    async def release(self, grant: Grant, points: float) -> None:
        """Give a grant back that no call was sent with; one that can't be given back stays used."""
        keys, args = [self._keys[0], self._points_keys[1]], [grant.id, _number(points)]
        await self._tell(lambda: self._release(keys=keys, args=args))

    async def _ask(
        self, ticket: str, points: float, *, patience: float, instead_of: Grant | None = None
    ) -> Grant | Wait:
        asked_at = 0.0
        grant = ""

        async def ask() -> Any:
            nonlocal asked_at, grant
            # One of a try whose answer got lost stays counted, and is too old to be used.
            asked_at, grant = asyncio.get_running_loop().time(), uuid.uuid4().hex
            args: list[str | int] = [
                self._requests,
                self._window_microseconds,
                grant,
                MARKER_SECONDS * 1000,
                ticket,
                round(patience * 1_000_000),
                round(LONGEST_PAUSE * 1_000_000),
                MOST_WAITERS,
                _number(points),
                IN_USE_SECONDS * 1000,
                instead_of.id if instead_of is not None else "",
            ]
            return await self._acquire(keys=self._keys, args=args)

        wait = int(await self._run(ask)) / 1_000_000
        return Wait(wait) if wait > 0 else Grant(grant, asked_at, self._lifetime)

    async def _tell(self, command: Callable[[], Awaitable[Any]]) -> None:
        """Say what helps others and is not needed to be right; also while being cancelled, so for a bounded time."""
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await heeding_cancellation(command())
        except (RedisError, OSError) as error:
            log.info("limiter.not_told", connection=self._key, error=type(error).__name__)

    async def _run(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Try until `unavailable_after`."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._unavailable_after
        attempt = 0
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await heeding_cancellation(command())
            except (RedisError, OSError) as error:
                if clock() >= deadline:
                    raise QueueUnavailableError(
                        "Redis does not answer, so no provider call can be granted."
                    ) from error
            delay = growing_delay(attempt, first=0.1, longest=1.0)
            await asyncio.sleep(min(delay, max(0.0, deadline - clock())))
            attempt += 1


async def declare_no_recent_calls(redis: Redis) -> None:
    """Say that nobody has called any provider for a long time, where Redis itself can't know.

    For an installation that has never run a job, or whose job table shows that none ran within the
    longest window: its first calls then need not wait as after a loss of Redis. Changes nothing when
    Redis remembers.
    """
    await redis.eval(scripts.DECLARE, 1, MARKER_KEY, str(MARKER_SECONDS * 1000))


def _ticket(points: float) -> str:
    """A place among the waiters; those behind see what it is going to cost."""
    return f"{uuid.uuid4().hex}:{_number(points)}"


def _number(points: float) -> str:
    return f"{max(points, 0.0):.3f}"
