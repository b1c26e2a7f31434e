"""The browser's proxy without a browser: whom it connects to, how much it passes on, and what it refuses."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from import_core.domain.addresses import parse_allow_list
from import_worker.browsing.proxy import CheckedProxy, read_target


class Server:
    """Answers every connection with `answer`, and keeps what came."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def world(server: Server, *, addresses=("127.0.0.1",), hosts=("shop.example",), allow=None, most=10**6):
    """A proxy for names that `addresses` answers, before a server; asks are counted."""
    asked = []

    async def resolver(host, port):
        asked.append(host)
        return list(addresses)

    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    rule = parse_allow_list(f"127.0.0.1:{server.port}" if allow is None else allow)
    async with CheckedProxy(rule, frozenset(hosts), most, resolver) as proxy:
        yield proxy, asked
    listening.close()


async def ask(proxy: CheckedProxy, request: str, *, then: bytes = b"") -> bytes:
    port = int(proxy.address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode() + then)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def refused(proxy: CheckedProxy, request: str) -> bool:
    """Whether a connection is closed without a word."""
    try:
        return await ask(proxy, request) == b""
    except ConnectionError:
        return True


def get(server: Server, host: str = "shop.example") -> str:
    return f"GET http://{host}:{server.port}/c/1?a=b HTTP/1.1\r\nHost: {host}\r\nProxy-Connection: x\r\n\r\n"


async def test_a_request_reaches_the_checked_address_in_the_form_of_a_server():
    server = Server()
    async with world(server) as (proxy, asked):
        assert (await ask(proxy, get(server))).endswith(b"ok")
    assert server.requests == [b"GET /c/1?a=b HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"]
    # Resolved once: the address that was checked is the one that was connected to.
    assert asked == ["shop.example"]
    assert proxy.received > 0


async def test_a_second_request_of_a_connection_is_not_passed_on():
    server = Server()
    async with world(server) as (proxy, _):
        await ask(proxy, get(server), then=get(server, "evil.example").encode())
    assert len(server.requests) == 1


async def test_a_tunnel_passes_bytes_both_ways():
    server = Server()
    async with world(server) as (proxy, _):
        head = f"CONNECT shop.example:{server.port} HTTP/1.1\r\n\r\n"
        answer = await ask(proxy, head, then=b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert answer.endswith(b"ok")
    assert server.requests == [b"hello\r\n\r\n"]


@pytest.mark.parametrize("form", ["get", "tunnel"])
@pytest.mark.parametrize(
    ("options", "host", "words"),
    [
        ({}, "other.example", "not among the hosts"),
        ({"allow": ""}, "shop.example", "loopback"),
        ({"addresses": ("169.254.169.254",)}, "shop.example", "link-local"),
        ({"addresses": ("127.0.0.1", "10.0.0.1")}, "shop.example", "private"),
        ({"addresses": ("::ffff:10.0.0.1",)}, "shop.example", "private"),
        ({"allow": "127.0.0.1:1"}, "shop.example", "loopback"),
    ],
)
async def test_other_hosts_and_private_addresses_are_never_connected_to(form, options, host, words):
    server = Server()
    async with world(server, **options) as (proxy, _):
        request = get(server, host) if form == "get" else f"CONNECT {host}:{server.port} HTTP/1.1\r\n\r\n"
        answer = await ask(proxy, request)
        problem = proxy.problem_of(f"http://{host}/")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert problem is not None
    assert words in problem.message
    assert server.requests == []


async def test_a_server_that_closes_without_an_answer_is_not_asked_again():
    server = Server(b"")
    async with world(server) as (proxy, _):
        assert (await ask(proxy, get(server))).startswith(b"HTTP/1.1 502 ")
        problem = proxy.problem_of("http://shop.example/")
    assert problem is not None
    assert "without an answer" in problem.message


async def test_no_more_than_the_limit_is_passed_on():
    server = Server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    async with world(server, most=100_000) as (proxy, _):
        assert len(await ask(proxy, get(server))) < 200_000
        assert proxy.is_used_up
        assert await refused(proxy, get(server))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET ftp://a.example/ HTTP/1.1\r\n\r\n",
        "CONNECT a.example HTTP/1.1\r\n\r\n",
        "CONNECT :80 HTTP/1.1\r\n\r\n",
        "nonsense\r\n\r\n",
        "POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST http://a.example/ HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        "GET http://[/ HTTP/1.1\r\n\r\n",
        "GET http://a.example:99999/ HTTP/1.1\r\n\r\n",
    ],
)
def test_what_no_browser_says_is_refused(head: str) -> None:
    with pytest.raises(ValueError):
        read_target(head.encode())
