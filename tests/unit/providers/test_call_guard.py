"""What one provider call asks its circuit breaker, and what it tells it of the call's end."""

import asyncio
from dataclasses import replace

import pytest

from import_core.domain.errors import (
    BreakerOpenError,
    HandBackError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_worker.providers.base import Permit
from import_worker.providers.http import ApiClient, Call, CallPolicy

POLICY = CallPolicy(first_outage_delay=0.001, longest_answer=10_000)
CALL = Call("GET", "/things")


class RecordingGuard:
    """Lets calls through until it is `open`, and remembers; opens with failure number `opens_at`."""

    def __init__(self, *, opens_at: int = 1000) -> None:
        self.told: list[str] = []
        self.opens_at = opens_at
        self.failures = 0
        self.is_open = False

    async def check(self) -> None:
        self.told.append("check")
        if self.is_open:
            raise BreakerOpenError(retry_after=60)

    async def enter(self) -> Permit:
        self.told.append("enter")
        return Permit("probe")

    async def succeeded(self, permit: Permit) -> None:
        self.told.append("succeeded")

    async def failed(self, permit: Permit) -> BreakerOpenError | int:
        self.told.append("failed")
        self.failures += 1
        return BreakerOpenError(retry_after=60) if self.failures >= self.opens_at else self.failures

    async def abandoned(self, permit: Permit) -> None:
        self.told.append("abandoned")

    def throttled(self) -> None:
        self.told.append("throttled")


ONCE = ["check", "enter", "succeeded"]


@pytest.fixture
def guard():
    return RecordingGuard()


@pytest.fixture
async def client(connect, limiter, guard):
    api = ApiClient(replace(connect({}), guard=guard), limiter, policy=POLICY)
    yield api
    await api.aclose()


@pytest.mark.parametrize("status", [200, 302, 401, 404, 422])
async def test_a_provider_that_answers_is_there(client, server, reply, guard, status):
    server.script(reply({}, status=status))
    await client.send(CALL)
    assert guard.told == ONCE


async def test_a_call_refused_as_too_many_is_counted_and_no_failure(client, server, reply, guard):
    server.script(reply(status=429, headers={"Retry-After": "0.01"}), reply({}))
    await client.send(CALL)
    assert guard.told == [*ONCE, "throttled", *ONCE]


async def test_each_failure_is_told_until_the_call_gives_up(client, server, reply, guard):
    server.script(reply(status=503))
    with pytest.raises(ProviderUnavailableError):
        await client.send(CALL)
    assert guard.told == ["check", "enter", "failed"] * (1 + POLICY.outage_retries)


async def test_a_call_that_gives_up_tells_what_had_failed_before_it(client, server, reply, guard):
    server.script(reply(status=503))
    for before in (0, 1 + POLICY.outage_retries):
        with pytest.raises(ProviderUnavailableError) as raised:
            await client.send(CALL)
        assert raised.value.failures_before == before


async def test_a_timeout_is_a_failure(connect, server, reply, limiter, guard):
    api = ApiClient(replace(connect({}, timeout_seconds=0.1), guard=guard), limiter, policy=POLICY)
    server.script(reply({}, delay=30))
    with pytest.raises(ProviderUnavailableError):
        await api.send(CALL)
    assert guard.told == ["check", "enter", "failed"]
    await api.aclose()


async def test_a_lost_connection_is_a_failure(client, server, reply, guard):
    server.script(reply({"a": "b" * 100}, truncated=True), reply({}))
    await client.send(CALL)
    assert guard.told == ["check", "enter", "failed", *ONCE]


async def test_the_failure_that_opens_the_breaker_is_the_last_call_and_says_why(client, server, reply, guard):
    guard.opens_at = 2
    server.script(reply(status=503))
    with pytest.raises(BreakerOpenError) as raised:
        await client.send(CALL)
    assert len(server.requests) == 2
    assert isinstance(raised.value.__cause__, ProviderUnavailableError)
    assert "HTTP 503" in str(raised.value.__cause__)


async def test_while_it_is_open_neither_the_limiter_nor_the_provider_is_asked(
    client, server, reply, guard, limiter
):
    guard.is_open = True
    with pytest.raises(BreakerOpenError):
        await client.send(CALL)
    assert (guard.told, limiter.acquired, server.requests) == (["check"], 0, [])


async def test_a_breaker_that_opened_while_the_limiter_was_waited_for_costs_no_grant(
    client, server, guard, limiter
):
    async def refuse():
        raise BreakerOpenError(retry_after=60)

    guard.enter = refuse
    with pytest.raises(BreakerOpenError):
        await client.send(CALL)
    assert (server.requests, limiter.released) == ([], ["1"])


async def test_a_probe_that_is_cancelled_is_given_back(client, server, reply, guard):
    server.script(reply({}, delay=30))
    call = asyncio.create_task(client.send(CALL))
    await server.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert guard.told == ["check", "enter", "abandoned"]


async def test_an_answer_that_is_too_large_proves_that_the_provider_is_there(client, server, reply, guard):
    server.script(reply({"a": "b" * 20_000}))
    with pytest.raises(ProviderRejectedError):
        await client.send(CALL)
    assert guard.told == ONCE


async def test_a_server_error_is_one_however_large(client, server, reply, guard):
    server.script(reply({"a": "b" * 20_000}, status=500), reply({}))
    await client.send(CALL)
    assert guard.told == ["check", "enter", "failed", *ONCE]


async def test_waiting_for_the_limiter_is_not_the_providers_silence(connect, server, reply, limiter, guard):
    grant = limiter.acquire

    async def slow(points=0.0, **more):
        if limiter.acquired:
            await asyncio.sleep(1.2)
            limiter.lifetime = 60.0
        return await grant(points, **more)

    limiter.acquire, limiter.lifetime = slow, -1.0
    server.script(reply({"ok": True}))
    api = ApiClient(replace(connect({}, timeout_seconds=1.0), guard=guard), limiter, policy=POLICY)
    assert (await api.send(CALL)).payload == {"ok": True}
    assert guard.told == ONCE
    await api.aclose()


async def test_a_limit_that_is_used_up_gives_a_stale_grant_back(client, server, limiter, guard):
    grant = limiter.acquire

    async def first_only(points=0.0, **more):
        if limiter.acquired:
            raise HandBackError(retry_after=9)
        return await grant(points, **more)

    limiter.acquire, limiter.lifetime = first_only, -1.0
    with pytest.raises(HandBackError):
        await client.send(Call("GET", "/things", points=7.0))
    assert (server.requests, limiter.observed) == ([], [])
    assert set(limiter.released) == {"1"}
    assert guard.told == ["check", "enter", "abandoned"]
