"""The limiter's scripts against every sequence of events that can be drawn, on a clock of the test's own.

A real Valkey runs them, with the clock replaced. Judged is what a provider would see: no window of arrivals ever
holds more calls than the limit, whatever is late, lost, given back, exchanged or forgotten.
"""

import asyncio
from bisect import insort
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from import_core.adapters.redis import limiter_scripts as scripts
from import_core.adapters.redis.limiter import (
    KEY_PREFIX,
    MARKER_KEY,
    SlidingWindowLimiter,
    declare_no_recent_calls,
)
from import_core.domain.limits import Grant, Wait
from import_local.samples.counters import most_in_window

CLOCK_KEY = "test-clock"
REQUESTS, WINDOW, MARGIN = 3, 60.0, 0.5
NO_WAIT, LONG_WAIT = 0.0, 10_000.0
TINY = 0.05
"""Seconds; the test's own time passes while a late call is told of."""

LATE = st.sampled_from([0.0, 0.5, 2.0, 15.0, 45.0])
"""Seconds after its grant that a call arrives at the provider, and is answered."""
PASS = st.tuples(st.just("pass"), st.sampled_from([0.1, 0.6, 5.0, 14.0, 30.0, 45.0, 60.3, 60.6]))
CALL = st.tuples(st.sampled_from(["call", "calls", "calls"]), LATE)
EVENTS = st.lists(
    st.one_of(
        PASS,
        PASS,
        CALL,
        CALL,
        st.tuples(st.just("ask"), st.sampled_from([NO_WAIT, LONG_WAIT])),
        st.tuples(st.just("ask again"), st.integers(0, 5)),
        st.tuples(st.just("give back"), st.integers(0, 5)),
        st.tuples(st.just("exchange"), st.integers(0, 5)),
        st.tuples(st.just("send"), st.integers(0, 5), LATE),
        st.tuples(st.just("flush")),
        st.tuples(st.just("fail over")),
    ),
    min_size=10,
    max_size=80,
)


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    told = f"{{math.floor(redis.call('GET', '{CLOCK_KEY}') / 1000000), redis.call('GET', '{CLOCK_KEY}') % 1000000}}"
    for name in ("ACQUIRE", "OBSERVE", "DATE"):
        script = getattr(scripts, name)
        assert "redis.call('TIME')" in script
        monkeypatch.setattr(scripts, name, script.replace("redis.call('TIME')", told))


@pytest_asyncio.fixture(loop_scope="session")
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@dataclass
class World:
    """What happened, by the test's own clock. A grant is held until its call is sent; it then arrives at a time."""

    redis: Redis
    now: float = 1_000_000.0
    since: float | None = 0.0
    """When the limiter was first asked after it forgot; None: it was not asked since."""
    forgot_at: float = 0.0
    held: list[tuple[float, Grant]] = field(default_factory=list)
    under_way: list[tuple[float, float, Grant]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)
    """The latest times that the limiter may count calls at, for what it has to grant."""

    async def begin(self) -> None:
        await self.redis.flushall()
        await self.set_clock()
        await declare_no_recent_calls(self.redis)
        self.limiter = SlidingWindowLimiter(
            self.redis,
            key="imports/acme",
            requests=REQUESTS,
            per_seconds=WINDOW,
            max_wait=LONG_WAIT,
            margin=MARGIN,
        )
        self.tickets = 0

    async def set_clock(self) -> None:
        await self.redis.set(CLOCK_KEY, round(self.now * 1_000_000))

    async def pass_time(self, seconds: float) -> None:
        """Time passes; what arrives in it is told at its moment."""
        until = self.now + seconds
        while True:
            due = min((call for call in self.under_way if call[0] <= until), default=None, key=lambda c: c[0])
            if due is None:
                break
            self.under_way.remove(due)
            self.now = max(self.now, due[0])
            await self.set_clock()
            await self.arrive(due[0], due[1], due[2])
        self.now = until
        await self.set_clock()

    async def arrive(self, at: float, granted_at: float, grant: Grant) -> None:
        clock = asyncio.get_running_loop().time()
        insort(self.arrivals, at)
        self.counted.remove(granted_at)
        insort(self.counted, max(granted_at, at - MARGIN))
        # In the event loop's time, in which the limiter is told, this call took as long as in the test's.
        await self.limiter.arrived(replace(grant, asked_at=clock - (at - granted_at)), clock)

    async def ask(self, patience: float, ticket: str | None = None, instead_of: Grant | None = None) -> None:
        if ticket is None:
            self.tickets += 1
            ticket = f"{self.tickets}:0.000"
        room = sum(at > self.now - WINDOW - MARGIN - TINY for at in self.counted) < REQUESTS
        if self.since is None:
            self.since = self.now
        knows = self.now - self.since > WINDOW + MARGIN + TINY
        alone = not await self.redis.zcard(f"{KEY_PREFIX}imports/acme:queue")
        answer = await self.limiter._ask(ticket, 0.0, patience=patience, instead_of=instead_of)
        if isinstance(answer, Grant):
            self.held.append((self.now, answer))
            insort(self.counted, self.now)
            if ticket in self.waiting:
                self.waiting.remove(ticket)
            return
        assert isinstance(answer, Wait)
        assert not (room and knows and alone), "what is free has to be granted"
        if patience and ticket not in self.waiting:
            self.waiting.append(ticket)

    async def play(self, event: tuple) -> None:
        match event:
            case ("pass", seconds):
                await self.pass_time(seconds)
            case ("ask", patience):
                await self.ask(patience)
            case ("ask again", place) if self.waiting:
                await self.ask(LONG_WAIT, self.waiting[place % len(self.waiting)])
            case ("call" | "calls" as what, seconds):
                for _ in range(REQUESTS if what == "calls" else 1):
                    await self.call(seconds)
            case ("send", place, seconds) if self.held:
                await self.send(place, seconds)
            case ("give back", place) if self.held:
                await self.limiter.release(self.take(place)[1], 0.0)
            case ("exchange", place) if self.held:
                await self.exchange(place)
            case ("flush" | "fail over" as what,):
                await self.forget(what)

    def take(self, place: int) -> tuple[float, Grant]:
        """One of the grants that are held; until it is sent, it counts for nothing that has to be granted."""
        granted_at, grant = self.held.pop(place % len(self.held))
        self.counted.remove(granted_at)
        return granted_at, grant

    async def call(self, seconds: float) -> None:
        held = len(self.held)
        await self.ask(NO_WAIT)
        if len(self.held) > held:
            await self.send(held, seconds)

    async def send(self, place: int, seconds: float) -> None:
        granted_at, grant = self.take(place)
        if self.now - granted_at > MARGIN / 2:
            # As the client does: too old to be sent, so it is somebody else's.
            await self.limiter.release(grant, 0.0)
            return
        insort(self.counted, granted_at)
        self.under_way.append((max(self.now, granted_at + seconds), granted_at, grant))

    async def exchange(self, place: int) -> None:
        granted_at, grant = self.take(place)
        held = len(self.held)
        await self.ask(NO_WAIT, instead_of=grant)
        counts = granted_at > self.forgot_at and self.now - granted_at < WINDOW + MARGIN - TINY
        assert len(self.held) > held or not counts, "it has its place already, whoever waits"

    async def forget(self, why: str) -> None:
        if why == "flush":
            await self.redis.flushall()
            await self.set_clock()
            self.waiting.clear()
        else:
            # The marker came along, of a history that is another now; the last grants did not.
            await self.redis.set(MARKER_KEY, "0 another")
            await self.redis.zpopmax(f"{KEY_PREFIX}imports/acme", 2)
        self.since, self.forgot_at = None, self.now

    async def end(self) -> None:
        await self.pass_time(100.0)
        assert most_in_window(self.arrivals, WINDOW - TINY) <= REQUESTS


# What is named here takes the place of what tests/conftest.py suppresses.
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(events=[("calls", 0.5), ("pass", 60.3), ("calls", 0.0)])
@example(events=[("call", 45.0), ("flush",), ("ask", NO_WAIT), ("pass", 60.6), ("calls", 0.0)])
@example(events=[("ask", NO_WAIT), ("calls", 0.0), ("ask", LONG_WAIT), ("pass", 0.6), ("exchange", 0)])
@given(events=EVENTS)
async def test_no_window_of_arrivals_holds_more_than_the_limit(
    own_clock: None, redis: Redis, events: list[tuple]
) -> None:
    world = World(redis)
    await world.begin()
    for event in events:
        await world.play(event)
    await world.end()
