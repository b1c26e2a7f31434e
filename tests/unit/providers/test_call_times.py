"""When a call counts: what the limiter is told of its arrival, and what is not sent any more."""

import asyncio
from dataclasses import replace

import pytest

from import_core.domain.errors import ProviderUnavailableError
from import_core.domain.limits import LONGEST_WAY, Grant, latest_arrival
from import_worker.providers.http import ApiClient, Call, CallPolicy

POLICY = CallPolicy(outage_retries=0)
CALL = Call("GET", "/things")


@pytest.fixture
async def client(connect, limiter):
    api = ApiClient(connect({}), limiter, policy=POLICY)
    yield api
    await api.aclose()


def test_a_call_had_arrived_before_it_was_answered_and_soon_after_it_was_written() -> None:
    assert latest_arrival(written_at=10.0, ended_at=10.3) == 10.3
    assert latest_arrival(written_at=10.0, ended_at=50.0) == 10.0 + LONGEST_WAY
    assert latest_arrival(written_at=None, ended_at=50.0) == 50.0


async def test_the_limiter_is_told_by_when_a_call_had_arrived(client, server, reply, limiter):
    server.script(reply({}, delay=0.2))
    before = asyncio.get_running_loop().time()
    await client.send(CALL)
    [(grant, arrived)] = limiter.arrivals
    assert grant.id == "1"
    assert arrived >= before + 0.2, "it may have been on its way until it was answered"


async def test_a_call_that_gets_no_answer_is_told_too(connect, server, reply, limiter):
    server.script(reply({}, delay=5))
    # Long enough to connect and write also where the machine is busy: what was not sent is given back.
    api = ApiClient(connect({}, timeout_seconds=1.0), limiter, policy=POLICY)
    with pytest.raises(ProviderUnavailableError):
        await api.send(CALL)
    await api.aclose()
    assert [grant.id for grant, _ in limiter.arrivals] == ["1"]
    assert limiter.released == []


async def test_a_call_that_is_cancelled_under_way_is_told_too(client, server, reply, limiter):
    server.script(reply({}, delay=5))
    task = asyncio.create_task(client.send(CALL))
    await server.arrived.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert [grant.id for grant, _ in limiter.arrivals] == ["1"]


async def test_the_arrival_is_told_of_the_grant_that_was_sent_with(client, server, reply, limiter):
    granting = limiter.acquire

    async def first_is_old(points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        grant = await granting(points, instead_of=instead_of)
        return grant if instead_of is not None else replace(grant, lifetime=-1.0)

    limiter.acquire = first_is_old
    server.script(reply({}))
    await client.send(CALL)
    assert [grant.id for grant, _ in limiter.arrivals] == ["2"]
    assert limiter.released == ["1"]


@pytest.fixture
def losing_connections(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Connecting loses a cancellation, as libraries do on Python 3.11; set when it waits for one."""
    import httpcore2

    connecting, connect_tcp = asyncio.Event(), httpcore2.AnyIOBackend.connect_tcp

    async def losing(*args, **more):
        connecting.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return await connect_tcp(*args, **more)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", losing)
    return connecting


async def test_nothing_is_sent_once_its_task_was_cancelled(
    client, server, reply, limiter, losing_connections
):
    server.script(reply({}))
    task = asyncio.create_task(client.send(CALL))
    await losing_connections.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert server.requests == []
    assert (limiter.released, limiter.arrivals) == (["1"], [])


async def test_nothing_is_sent_once_its_time_is_over(connect, server, reply, limiter, losing_connections):
    server.script(reply({}))
    api = ApiClient(connect({}, timeout_seconds=0.1), limiter, policy=POLICY)
    with pytest.raises(ProviderUnavailableError, match="did not answer"):
        await api.send(CALL)
    await api.aclose()
    assert server.requests == []
    assert (limiter.released, limiter.arrivals) == (["1"], [])
