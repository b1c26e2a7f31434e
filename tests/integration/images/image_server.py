"""An HTTP server on loopback whose every answer is written by the test, byte for byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from import_core.domain.addresses import AllowedNetwork, parse_allow_list
from import_core.domain.errors import ItemError
from import_core.domain.images import Fetch
from import_worker.pipeline.download import Downloaded, ImageDownloader, NotModified


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]


Downloading = Callable[..., AbstractAsyncContextManager[ImageDownloader]]
Route = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ImageServer:
    """Routes are by path; `requests` records what was asked, in order."""

    port: int = 0
    scheme: str = "http"
    routes: dict[str, Route] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def allow(self) -> tuple[AllowedNetwork, ...]:
        return parse_allow_list(f"127.0.0.1:{self.port}")

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Answer `path` always the same; underscores in header names stand for hyphens."""

        async def route(_: Request, writer: asyncio.StreamWriter) -> None:
            reply(writer, body, status, headers)

        self.routes[path] = route
        return self.url(path)

    def serve_route(self, path: str, route: Route) -> str:
        self.routes[path] = route
        return self.url(path)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            request = Request(head[0].split(" ")[1], headers)
            self.requests.append(request)
            await self.routes[request.path.partition("?")[0]](request, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, which several tests want of it
        finally:
            writer.close()


def reply(
    writer: asyncio.StreamWriter, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    named = {"Content-Length": str(len(body)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    writer.write(f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + body)


@asynccontextmanager
async def running(context: ssl.SSLContext | None = None) -> AsyncIterator[ImageServer]:
    server = ImageServer(scheme="https" if context else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await server.handle(reader, writer)
        finally:
            tasks.discard(task)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fetch(
    downloader: ImageDownloader, url: str, conditions: Fetch | None = None
) -> Downloaded | NotModified:
    async with downloader.fetch(url, conditions) as answer:
        return answer


async def failure(downloader: ImageDownloader, url: str) -> ItemError:
    with pytest.raises(ItemError) as caught:
        await fetch(downloader, url)
    return caught.value


def answering(*answers: Sequence[str]) -> Any:
    """A resolver that gives these answers in turn, and its log of names."""
    asked: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolver, asked
