"""A scripted HTTP server on loopback and a limiter that only counts, for tests of one provider's parsing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from shopify_shop import SETTINGS, TOKEN, Shop, product

from import_core.domain.addresses import parse_allow_list
from import_core.domain.limits import CostBucket, Grant
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.shopify import ShopifyProvider

LOOPBACK = parse_allow_list("127.0.0.1")


@dataclass
class Request:
    """What the server was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What it answers; `truncated` closes the connection halfway, `delay` is in seconds."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    truncated: bool = False
    delay: float = 0.0

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | dict(self.headers)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if self.truncated:
            body = body[: len(body) // 2]
        return f"HTTP/1.1 {self.status} Scripted\r\n{head}\r\n".encode() + body


class ScriptedServer:
    """Answers each request by the test's function, and remembers it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.respond: Callable[[Request], Reply] = lambda _: Reply(status=404)
        self.arrived = asyncio.Event()
        self.disconnected = asyncio.Event()
        self.url = ""

    def script(self, *replies: Reply) -> None:
        """Answer with these in turn; the last one repeats."""
        rest = list(replies)
        self.respond = lambda _: rest.pop(0) if len(rest) > 1 else rest[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.disconnected.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, target, headers, body)
        self.requests.append(request)
        self.arrived.set()
        reply = self.respond(request)
        await asyncio.sleep(reply.delay)
        writer.write(reply.encoded())
        await writer.drain()
        return not reply.truncated


class CountingLimiter:
    """Grants at once and remembers."""

    def __init__(self) -> None:
        self.acquired = 0
        self.blocks: list[float] = []
        self.points: list[float] = []
        self.observed: list[tuple[float, CostBucket | None]] = []
        self.released: list[str] = []
        self.arrivals: list[tuple[Grant, float]] = []
        self.lifetime = 60.0

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        if instead_of is not None:
            self.released.append(instead_of.id)
        self.acquired += 1
        self.points.append(points)
        return Grant(str(self.acquired), asyncio.get_running_loop().time(), self.lifetime)

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        self.observed.append((points, bucket))

    async def arrived(self, grant: Grant, by: float) -> None:
        self.arrivals.append((grant, by))

    async def release(self, grant: Grant, points: float) -> None:
        self.released.append(grant.id)

    async def block(self, seconds: float) -> None:
        self.blocks.append(seconds)


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    listener = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield scripted
    listener.close()


@pytest.fixture
def limiter() -> CountingLimiter:
    return CountingLimiter()


@pytest.fixture
def connect(server: ScriptedServer) -> Callable[..., Connection]:
    def build(credentials: Mapping[str, str], *, timeout_seconds: float = 30.0) -> Connection:
        return Connection(
            key="imports/acme",
            type="test",
            company_id="acme",
            base_url=server.url,
            credentials=credentials,
            timeout_seconds=timeout_seconds,
            allow=LOOPBACK,
        )

    return build


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def shop(server, reply):
    server.respond = Shop(reply, [product(number) for number in range(10)])
    return server.respond


@pytest.fixture
async def shopify(connect, limiter):
    made = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=SETTINGS)
    yield made
    await made.aclose()
