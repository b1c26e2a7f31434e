"""Sliding-window limiter of one connection's API calls, shared by all workers through Redis."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.domain.errors import HandBackError, QueueUnavailableError
from import_core.domain.jobs import WaitingReason
from import_core.domain.limits import effective_window, growing_delay, waits_too_long

KEY_PREFIX = "imports:limit:"
MARKER_KEY = "imports:limit-state-since"
"""Since when which history of Redis has remembered all grants: microseconds of the server's clock, and the
replication id; absent, or of another history: grants may have been forgotten."""
MARKER_SECONDS = 30 * 24 * 3600
SAFETY_MARGIN = 0.5
"""Seconds between a grant and the call's arrival at the provider that the window allows for."""

# A replica that is promoted, and a server that starts again, gets a new replication id: its last grants may be
# lost, although the marker was copied. Asked inside the script, so that no connection can hold an old answer.
_HISTORY = """
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
"""

# One script, so that no other worker's call comes between counting and granting. The clock is the
# server's, so that workers' clocks don't matter. Returns 0, or the microseconds to wait.
_ACQUIRE = (
    _HISTORY
    + """
local window_key, block_key, marker_key = KEYS[1], KEYS[2], KEYS[3]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local member, marker_ms = ARGV[3], tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local marker = redis.call('GET', marker_key)
local since, remembered = string.match(marker or '', '^(%d+) (%w+)$')
since = tonumber(since)
if not since or remembered ~= history then
  since = now
  redis.call('SET', marker_key, string.format('%.0f ', now) .. history, 'PX', marker_ms)
else
  redis.call('PEXPIRE', marker_key, marker_ms)
end

local wait = redis.call('PTTL', block_key) * 1000
redis.call('ZREMRANGEBYSCORE', window_key, '-inf', string.format('(%.0f', now - window))
-- Within a window of having forgotten, grants may be unknown: the window counts as full.
if now - since < window then
  wait = math.max(wait, since + window - now)
end
local used = redis.call('ZCARD', window_key)
if used >= limit then
  local freeing = redis.call('ZRANGE', window_key, used - limit, used - limit, 'WITHSCORES')
  wait = math.max(wait, tonumber(freeing[2]) + window - now + 1)
end
if wait > 0 then
  return string.format('%.0f', wait)
end
redis.call('ZADD', window_key, string.format('%.0f', now), member)
redis.call('PEXPIRE', window_key, math.ceil(window / 1000) + 1000)
return '0'
"""
)

_DECLARE = (
    _HISTORY
    + """
return redis.call('SET', KEYS[1], '0 ' .. history, 'NX', 'PX', ARGV[1])
"""
)

# A longer block is never shortened by a later, shorter one.
_BLOCK = """
local milliseconds = tonumber(ARGV[1])
if redis.call('PTTL', KEYS[1]) < milliseconds then
  redis.call('SET', KEYS[1], '1', 'PX', milliseconds)
end
return 1
"""


class SlidingWindowLimiter:
    """Grants at most `requests` calls in any window of `per_seconds`, over all workers of one Redis.

    `clock_scale` makes the window pass that many times faster (tests). `max_wait` (seconds) bounds one
    call's waiting; beyond it the job gives its place up. Unknown state counts as a full window: after
    Redis lost its memory, was started again or failed over, nothing is granted for one window (see
    `declare_no_recent_calls`). At most
    `requests` entries are kept per connection, and every key expires.
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
        self._unavailable_after = unavailable_after
        self._acquire = redis.register_script(_ACQUIRE)
        self._block = redis.register_script(_BLOCK)
        self._keys = [f"{KEY_PREFIX}{key}", f"{KEY_PREFIX}{key}:block", MARKER_KEY]

    async def acquire(self) -> None:
        """Wait for one call's turn.

        Raises HandBackError (waiting reason ProviderLimit) when it is further away than `max_wait`, and
        QueueUnavailableError when Redis does not answer: without its word no call is sent.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        while True:
            wait = await self._ask()
            if wait <= 0:
                return
            if waits_too_long(waited=clock() - started, wait=wait, max_wait=self._max_wait):
                raise HandBackError(
                    f"The call limit of {self._key} is used up.",
                    retry_after=wait,
                    waiting_reason=WaitingReason.PROVIDER_LIMIT,
                )
            # Waiters of several workers would else all wake at the same moment.
            await asyncio.sleep(wait + random.uniform(0, 0.05))  # noqa: S311 - spreads load only

    async def block(self, seconds: float) -> None:
        """Let no worker call this connection for `seconds` of real time."""
        milliseconds = max(1, round(seconds * 1000))
        await self._run(lambda: self._block(keys=[self._keys[1]], args=[milliseconds]))

    async def _ask(self) -> float:
        """Seconds to wait; 0: granted."""
        args: list[str | int] = [
            self._requests,
            self._window_microseconds,
            uuid.uuid4().hex,
            MARKER_SECONDS * 1000,
        ]
        answer = await self._run(lambda: self._acquire(keys=self._keys, args=args))
        return int(answer) / 1_000_000

    async def _run(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Try until `unavailable_after`; a grant whose answer got lost stays counted, which is the safe side."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._unavailable_after
        attempt = 0
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await command()
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
    await redis.eval(_DECLARE, 1, MARKER_KEY, str(MARKER_SECONDS * 1000))
