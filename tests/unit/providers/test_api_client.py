"""One provider's HTTP calls: which answer becomes which error, what is tried again, what is bounded."""

import asyncio

import pytest

from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import (
    CredentialsError,
    HandBackError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_worker.providers.base import Connection
from import_worker.providers.http import ApiClient, Call, CallPolicy

SECRET = "shpat_very_secret"
POLICY = CallPolicy(first_outage_delay=0.001, first_throttle_delay=0.5, longest_answer=10_000)
CALL = Call("GET", "/things")


@pytest.fixture
async def client(connect, limiter):
    api = ApiClient(connect({"accessToken": SECRET}), limiter, policy=POLICY)
    yield api
    await api.aclose()


async def test_a_call_says_who_we_are_and_asks_the_limiter_once(client, server, reply, limiter):
    server.script(reply({"ok": True}))
    answer = await client.send(Call("GET", "/things", params={"a": "1"}, headers={"X-Key": "k"}))
    assert answer.payload == {"ok": True}
    assert server.requests[0].target == "/things?a=1"
    assert server.requests[0].headers["x-key"] == "k"
    assert server.requests[0].headers["user-agent"].startswith("import-operator")
    assert limiter.acquired == 1


async def test_a_passing_server_error_is_tried_again_each_time_with_a_grant(client, server, reply, limiter):
    server.script(reply(status=503), reply(status=500), reply({"ok": True}))
    assert (await client.send(CALL)).payload == {"ok": True}
    assert limiter.acquired == len(server.requests) == 3


async def test_a_lasting_server_error_makes_the_provider_unavailable(client, server, reply):
    server.script(reply(b"<html>", status=502))
    with pytest.raises(ProviderUnavailableError, match="HTTP 502"):
        await client.send(CALL)
    assert len(server.requests) == 1 + POLICY.outage_retries


async def test_an_answer_cut_off_is_tried_again(client, server, reply):
    server.script(reply({"a": "b" * 100}, truncated=True), reply({"ok": True}))
    assert (await client.send(CALL)).payload == {"ok": True}


async def test_nobody_there(limiter, unused_tcp_port):
    connection = Connection(
        key="k",
        type="t",
        company_id="c",
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
        credentials={},
        allow=parse_allow_list("127.0.0.1"),
    )
    api = ApiClient(connection, limiter, policy=POLICY)
    with pytest.raises(ProviderUnavailableError, match="can't be reached"):
        await api.send(CALL)
    await api.aclose()


async def test_a_timeout_is_not_tried_again(connect, server, reply, limiter):
    server.script(reply({}, delay=30))
    # Long enough to be asked at all, also where the machine is busy.
    api = ApiClient(connect({}, timeout_seconds=1.0), limiter, policy=POLICY)
    with pytest.raises(ProviderUnavailableError, match="within 1 s"):
        await api.send(CALL)
    await api.aclose()
    assert len(server.requests) == 1


async def test_throttling_blocks_the_connection_for_the_time_asked_for(client, server, reply, limiter):
    server.script(reply(status=429, headers={"Retry-After": "7"}), reply({"ok": True}))
    assert (await client.send(CALL)).payload == {"ok": True}
    assert limiter.blocks == [7.0]


async def test_throttling_without_a_time_waits_longer_each_time_and_gives_up(client, server, reply, limiter):
    server.script(reply(status=429))
    with pytest.raises(ProviderThrottledError) as raised:
        await client.send(CALL)
    assert limiter.blocks == [0.5, 1, 2, 4, 8]
    assert raised.value.retry_after == 15
    assert limiter.acquired == 1 + POLICY.throttle_retries


async def test_no_call_is_sent_without_a_grant(connect, server, reply, limiter):
    async def refuse(points):
        raise HandBackError(retry_after=9)

    limiter.acquire = refuse
    server.script(reply({}))
    api = ApiClient(connect({}), limiter, policy=POLICY)
    with pytest.raises(HandBackError):
        await api.send(CALL)
    await api.aclose()
    assert server.requests == []


async def test_a_grant_that_got_old_before_sending_is_renewed(client, server, reply, limiter):
    grant = limiter.acquire

    async def second_is_fresh(points=0.0, **more):
        limiter.lifetime = 60.0 if limiter.acquired else -1.0
        return await grant(points, **more)

    limiter.acquire = second_is_fresh
    server.script(reply({"ok": True}))
    await client.send(CALL)
    assert (limiter.acquired, len(server.requests)) == (2, 1)
    # Nothing was sent with the first, so it may be somebody else's.
    assert limiter.released == ["1"]


async def test_grants_that_always_come_too_late_send_nothing(client, server, reply, limiter):
    limiter.lifetime = -1.0
    server.script(reply({"ok": True}))
    with pytest.raises(HandBackError) as raised:
        await client.send(CALL)
    assert raised.value.waiting_reason == "ProviderLimit"
    assert (len(server.requests), len(limiter.released)) == (0, limiter.acquired)


async def test_a_grant_that_can_not_be_renewed_sends_nothing(client, server, reply, limiter):
    grant = limiter.acquire

    async def first_only(points=0.0, **more):
        if limiter.acquired:
            raise HandBackError(retry_after=9)
        return await grant(points, **more)

    limiter.acquire, limiter.lifetime = first_only, -1.0
    server.script(reply({"ok": True}))
    with pytest.raises(HandBackError):
        await client.send(CALL)
    assert server.requests == []


async def test_too_large_an_answer_is_refused_while_it_is_read(client, server, reply):
    server.script(reply({"a": "b" * 20_000}))
    with pytest.raises(ProviderRejectedError, match="10000 bytes"):
        await client.send(CALL)


async def test_redirects_are_not_followed(client, server, reply):
    server.script(reply(status=302, headers={"Location": "http://169.254.169.254/"}))
    answer = await client.send(CALL)
    assert len(server.requests) == 1
    error = client.refusal(answer, hint="")
    assert isinstance(error, ProviderRejectedError)
    assert "baseUrl" in error.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, CredentialsError),
        (403, CredentialsError),
        (400, ProviderRejectedError),
        (404, ProviderRejectedError),
        (422, ProviderRejectedError),
        (200, ProviderUnavailableError),
    ],
)
async def test_refusals_are_sorted_by_what_helps(client, server, reply, status, kind):
    server.script(reply(b"not json", status=status))
    answer = await client.send(CALL)
    assert answer.payload is None
    assert isinstance(client.refusal(answer, hint="check the key."), kind)


async def test_the_providers_words_are_cut_and_never_hold_a_secret(client, server, reply):
    server.script(reply({"message": "x"}, status=401))
    answer = await client.send(CALL)
    error = client.refusal(answer, hint="check it.", message=f"token {SECRET}\nis wrong " + "y" * 1000)
    assert SECRET not in error.message
    assert "token *** is wrong" in error.message
    assert len(error.message) < 450


async def test_large_answers_are_parsed_too(connect, server, reply, limiter):
    api = ApiClient(connect({}), limiter)
    server.script(reply({"a": "b" * 400_000}))
    assert len((await api.send(CALL)).payload["a"]) == 400_000
    await api.aclose()


async def test_cancelling_closes_the_connection(connect, server, reply, limiter):
    server.script(reply({}, delay=0.2))
    api = ApiClient(connect({}), limiter, policy=POLICY)
    task = asyncio.create_task(api.send(CALL))
    await server.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await server.disconnected.wait()
    await api.aclose()


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://x",
        "acme.myshopify.com",
        "http://",
        "http://999.1.1.1",
        "http://[1:2]",
        "http://[::1",
        "http://acme.example:99999",
        "http://acme.example:port",
    ],
)
def test_a_base_address_must_be_http(base_url, limiter):
    connection = Connection(key="k", type="t", company_id="c", base_url=base_url, credentials={})
    with pytest.raises(ProviderRejectedError, match=r"spec\.baseUrl"):
        ApiClient(connection, limiter)


@pytest.mark.parametrize("host", ["acme..example", "a" * 64 + ".example"])
async def test_a_host_that_is_no_name_can_not_be_reached(host, limiter):
    connection = Connection(key="k", type="t", company_id="c", base_url=f"http://{host}", credentials={})
    api = ApiClient(connection, limiter, policy=POLICY)
    with pytest.raises(ProviderUnavailableError, match="can't be reached"):
        await api.send(CALL)
    await api.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_an_address_that_is_not_public_is_refused_unless_allowed(host, server, reply, limiter):
    server.script(reply({"ok": True}))
    address = f"http://{host}:{server.url.rpartition(':')[2]}"
    connection = Connection(key="k", type="t", company_id="c", base_url=address, credentials={})
    api = ApiClient(connection, limiter, policy=POLICY)
    with pytest.raises(ProviderRejectedError, match=r"spec\.baseUrl: .* loopback .* PROVIDER_ALLOW"):
        await api.send(CALL)
    await api.aclose()
    assert server.requests == []


async def test_a_delay_asked_for_is_kept_and_bounded(client, server, reply, limiter):
    server.script(reply(status=429, headers={"Retry-After": "99999999"}))
    with pytest.raises(ProviderThrottledError) as raised:
        await client.send(CALL)
    assert raised.value.retry_after == 3600
    assert set(limiter.blocks) == {3600}


def test_the_providers_words_can_be_stored(connect, limiter):
    assert ApiClient(connect({}), limiter).quote("a\x00b\ud800c\x1bd") == " It says: a\ufffdb\ufffdc\ufffdd"
