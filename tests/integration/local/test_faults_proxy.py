"""The proxy of the fault tests does to real connections what it is told, and nothing else."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from import_local.faults.links import Links
from import_local.faults.proxy import LinkRules, TcpProxy

_SHORT = 0.3
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EchoServer:
    """Sends back what it gets, after its name."""

    def __init__(self, name: bytes = b"") -> None:
        self._name = name
        self.open = 0
        self.port = 0
        self.changed = asyncio.Event()

    async def __aenter__(self) -> "EchoServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.changed.set()
        with contextlib.suppress(ConnectionError):
            writer.write(self._name)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        self.open -= 1
        self.changed.set()

    async def until_open(self, number: int) -> None:
        async with asyncio.timeout(10):
            while self.open != number:
                self.changed.clear()
                await self.changed.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[EchoServer]:
    async with EchoServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(server: EchoServer) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()
    await server.until_open(0)


async def connect(proxy: TcpProxy) -> _Stream:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def echo(stream: _Stream, data: bytes) -> bytes:
    reader, writer = stream
    writer.write(data)
    await writer.drain()
    async with asyncio.timeout(10):
        return await reader.readexactly(len(data))


async def is_silent(stream: _Stream, data: bytes) -> bool:
    stream[1].write(data)
    try:
        async with asyncio.timeout(_SHORT):
            await stream[0].read(1)
    except TimeoutError:
        return True
    return False


async def is_reset(stream: _Stream) -> bool:
    try:
        async with asyncio.timeout(10):
            while await stream[0].read(65536):
                pass
    except ConnectionResetError:
        return True
    return False


async def test_bytes_pass_whole_both_ways_with_an_end_of_each(proxy: TcpProxy, server: EchoServer) -> None:
    reader, writer = await connect(proxy)
    sent = os.urandom(5_000_000)

    async def send() -> None:
        writer.write(sent)
        writer.write_eof()
        await writer.drain()

    sending = asyncio.create_task(send())
    async with asyncio.timeout(30):
        received = await reader.read(-1)
    await sending
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
    await server.until_open(0)
    assert proxy.bytes_passed == 2 * len(sent)
    writer.close()


async def test_a_reader_that_stops_stops_its_sender(proxy: TcpProxy) -> None:
    _, writer = await connect(proxy)

    async def send_until_held_back() -> None:
        for _ in range(200):
            writer.write(b"x" * 1_000_000)
            async with asyncio.timeout(_SHORT):
                await writer.drain()

    with pytest.raises(TimeoutError):
        await send_until_held_back()
    writer.transport.abort()


async def test_a_cut_link_resets_refuses_and_heals_at_the_same_port(
    proxy: TcpProxy, server: EchoServer
) -> None:
    stream = await connect(proxy)
    assert await echo(stream, b"before") == b"before"
    await proxy.cut()
    assert await is_reset(stream)
    await server.until_open(0)
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    assert proxy.connections == 0
    await proxy.heal()
    stream = await connect(proxy)
    assert await echo(stream, b"after") == b"after"
    stream[1].close()


async def test_a_black_hole_swallows_without_a_word(proxy: TcpProxy, server: EchoServer) -> None:
    old, idle = await connect(proxy), await connect(proxy)
    assert await echo(old, b"before") == b"before"
    assert await echo(idle, b"before") == b"before"
    proxy.black_hole()
    assert await is_silent(old, b"swallowed")
    new = await connect(proxy)
    assert await is_silent(new, b"swallowed")
    assert server.open == 2, "the server was told nothing"
    await proxy.heal()
    assert await is_reset(old)
    assert await is_reset(new)
    assert await echo(idle, b"lost nothing") == b"lost nothing"
    await server.until_open(1)
    idle[1].close()


async def test_the_end_of_a_lost_connection_reaches_nobody(proxy: TcpProxy, server: EchoServer) -> None:
    lost = await connect(proxy)
    assert await echo(lost, b"before") == b"before"
    proxy.lose_connections()
    lost[1].transport.abort()
    new = await connect(proxy)
    assert await echo(new, b"new ones work") == b"new ones work"
    await asyncio.sleep(_SHORT)
    assert server.open == 2
    await proxy.heal()
    await server.until_open(1)
    new[1].close()


async def test_a_delay_holds_each_way_and_nothing_longer(proxy: TcpProxy) -> None:
    stream = await connect(proxy)
    await echo(stream, b"warm")
    proxy.set_rules(LinkRules(delay=0.2))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await echo(stream, os.urandom(100_000))
    assert loop.time() - began >= 0.4
    stream[1].write(b"slow")
    proxy.set_rules(LinkRules())
    async with asyncio.timeout(10):
        assert await stream[0].readexactly(4) == b"slow"
    stream[1].close()


async def test_a_throttled_link_passes_so_many_bytes_per_second(proxy: TcpProxy) -> None:
    stream = await connect(proxy)
    proxy.set_rules(LinkRules(bytes_per_second=100_000))
    loop = asyncio.get_running_loop()
    began = loop.time()
    data = os.urandom(50_000)
    assert await echo(stream, data) == data
    assert loop.time() - began >= 0.5
    stream[1].close()


async def test_connections_are_cut_after_so_many_bytes(proxy: TcpProxy) -> None:
    proxy.set_rules(LinkRules(bytes_until_cut=1000))
    stream = await connect(proxy)
    assert await echo(stream, b"x" * 400) == b"x" * 400
    stream[1].write(b"y" * 5_000)
    assert await is_reset(stream)
    assert proxy.bytes_passed == 1000
    await proxy.heal()
    stream = await connect(proxy)
    assert len(await echo(stream, b"x" * 5_000)) == 5_000
    stream[1].close()


async def test_a_target_that_does_not_listen_resets(proxy: TcpProxy) -> None:
    proxy.point_to(1)
    assert await is_reset(await connect(proxy))


async def test_an_endpoint_switches_to_another_server() -> None:
    async with EchoServer(b"one") as one, EchoServer(b"two") as two:
        proxy = TcpProxy(one.port)
        await proxy.start()
        stream = await connect(proxy)
        assert await stream[0].readexactly(3) == b"one"
        proxy.point_to(two.port)
        assert await is_reset(stream)
        stream = await connect(proxy)
        assert await stream[0].readexactly(3) == b"two"
        await proxy.stop()
        await two.until_open(0)
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)


async def test_hundreds_of_connections_at_once(proxy: TcpProxy, server: EchoServer) -> None:
    streams = await asyncio.gather(*(connect(proxy) for _ in range(400)))
    answers = await asyncio.gather(
        *(echo(stream, str(number).encode() * 100) for number, stream in enumerate(streams))
    )
    assert answers == [str(number).encode() * 100 for number in range(400)]
    assert proxy.connections == 400
    proxy.reset_connections()
    assert all(await asyncio.gather(*(is_reset(stream) for stream in streams)))
    assert proxy.connections == 0


async def test_links_pass_bytes_while_the_tests_own_loop_is_blocked(server: EchoServer) -> None:
    links = Links(("workers-echo",))
    await links.start()
    try:
        link = links["workers-echo"]
        link.point_to(server.port)
        assert links.ending_in("echo") == [link]
        stream = await asyncio.open_connection("127.0.0.1", link.port)
        assert await echo(stream, b"through a thread") == b"through a thread"
        link.cut()
        assert await is_reset(stream)
        link.heal()
        assert link.through("redis://:secret@127.0.0.1:1/0") == f"redis://:secret@127.0.0.1:{link.port}/0"
        stream = await asyncio.open_connection("127.0.0.1", link.port)
        assert await echo(stream, b"healed") == b"healed"
        assert link.connections == 1
    finally:
        await links.stop()
    assert await is_reset(stream)
    await links.stop()
