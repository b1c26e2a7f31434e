"""The one way out of a browser context: a proxy on loopback that connects to checked addresses of named hosts only.

A browser's own means are not enough against pages that make it fetch private addresses: requests that follow a
redirect, WebSockets and preconnections pass no interception, and what was checked by name could be resolved to
something else when it is connected to. A browser that knows only a proxy resolves no names and opens no connections
of its own; here a name is resolved once, and the checked address is the one connected to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import structlog

from import_core.domain.addresses import DEFAULT_PORTS, AllowedNetwork, ForbiddenAddressError
from import_worker.network import MAX_ADDRESSES_TRIED, Resolver, checked_addresses, resolve

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
MAX_HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
HEAD_SECONDS = 20.0
CONNECT_SECONDS = 20.0
MAX_CONNECTIONS = 64
MAX_HOSTS_KEPT = 100
_HOP_HEADERS = frozenset({"proxy-connection", "proxy-authorization", "connection", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a host could not be reached; `is_forbidden`: because of its address, not for a passing reason."""

    message: str
    is_forbidden: bool = False
    is_other_host: bool = False


class TooMuchError(Exception):
    """More was transferred than one context may."""


@dataclass(slots=True)
class Target:
    """What one connection of the browser asks for. `head`: what is sent on first; None for a tunnel."""

    host: str
    port: int
    head: bytes | None = None
    body_bytes: int = 0


@dataclass(slots=True)
class CheckedProxy:
    """An HTTP proxy for one browser context.

    `hosts`: host names that may be reached at all. `most_bytes`: what may come back in all, over its life.
    """

    allow: Sequence[AllowedNetwork]
    hosts: Collection[str]
    most_bytes: int
    resolver: Resolver = resolve
    problems: dict[str, Problem] = field(default_factory=dict)
    received: int = 0
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, limit=MAX_HEAD_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def address(self) -> str:
        """The proxy's address for a browser."""
        if self._server is None:
            raise RuntimeError("the proxy is not listening")
        return f"http://{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def is_used_up(self) -> bool:
        """Whether no more may be transferred."""
        return self.received >= self.most_bytes

    def problem_of(self, url: str) -> Problem | None:
        """Why the host of an address could not be reached, if it could not lately."""
        return self.problems.get((urlsplit(url).hostname or "").casefold())

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS or self.is_used_up:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve_bounded(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve_bounded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            # A browser drops connections as it likes, and a page may make it say anything.
            log.debug("proxy.connection_ended", detail=str(error))
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        target = read_target(head)
        upstream = await self._connect(target)
        if isinstance(upstream, Problem):
            self._note(target.host.casefold(), upstream)
            await _refuse(writer, upstream)
            return
        there, back = upstream
        try:
            if target.head is None:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
            else:
                back.write(target.head)
                await back.drain()
            most = None if target.head is None else target.body_bytes
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_send(reader, back, most))
                if not await self._receive(there, writer) and target.head is not None:
                    # Left without an answer a browser would ask again by itself, which nobody granted.
                    problem = Problem(f"{target.host} closed without an answer")
                    self._note(target.host.casefold(), problem)
                    await _refuse(writer, problem)
                sending.cancel()
        except* OSError as errors:
            log.debug("proxy.connection_ended", detail=str(errors.exceptions[0]))
        except* TooMuchError:
            log.warning("proxy.used_up", bytes=self.received)
        finally:
            back.transport.abort()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass on what comes back until its end; returns whether anything came."""
        anything = False
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                anything = True
                self.received += len(chunk)
                if self.is_used_up:
                    raise TooMuchError
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            if anything:
                raise
        if anything:
            await _finish(writer)
        return anything

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | Problem:
        """A connection to a checked address, or why there is none."""
        host = target.host.casefold()
        if host not in self.hosts:
            return Problem(f"{host} is not among the hosts of the catalogue", is_other_host=True)
        try:
            addresses = await checked_addresses(host, target.port, self.allow, self.resolver)
        except ForbiddenAddressError as error:
            return Problem(error.message, is_forbidden=True)
        except (OSError, UnicodeError):
            return Problem(f"the name {host} can't be resolved")
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(str(address), target.port, limit=MAX_HEAD_BYTES)
            except OSError:  # TimeoutError is one
                continue
        return Problem(f"{host} can't be reached")

    def _note(self, host: str, problem: Problem) -> None:
        if host in self.problems or len(self.problems) < MAX_HOSTS_KEPT:
            self.problems[host] = problem


async def _refuse(writer: asyncio.StreamWriter, problem: Problem) -> None:
    """Answer in the place of a server that can't or must not be had; why is among the proxy's problems."""
    status = b"403 Forbidden" if problem.is_forbidden or problem.is_other_host else b"502 Bad Gateway"
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    await _finish(writer)


async def _finish(writer: asyncio.StreamWriter) -> None:
    """Close when all is written: what is still in our buffer would be cut off by aborting now."""
    writer.close()
    async with asyncio.timeout(HEAD_SECONDS):
        await writer.wait_closed()


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    """Pass on what the browser sends: for a tunnel all, else only the request's body.

    What follows is another request, maybe of another host: it gets no answer here, and is sent again.
    """
    left = most
    while left is None or left > 0:
        chunk = await reader.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
        if not chunk:
            return
        left = None if left is None else left - len(chunk)
        writer.write(chunk)
        await writer.drain()


def read_target(head: bytes) -> Target:
    """Read a request's head; raises ValueError for one that no browser sends to a proxy."""
    line, *headers = head.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    address, _, version = rest.rpartition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no HTTP/1 request")
    if method == "CONNECT":
        parts = urlsplit(f"//{address}")
        if not parts.hostname or parts.port is None:
            raise ValueError("a tunnel without host and port")
        return Target(parts.hostname, parts.port)
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("no absolute http address")
    kept = []
    body = 0
    for header in filter(None, headers):
        name = header.partition(":")[0].strip().casefold()
        if name == "transfer-encoding":
            raise ValueError("a request body of unknown length")
        if name == "content-length":
            body = int(header.partition(":")[2])
        if name not in _HOP_HEADERS:
            kept.append(header)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
    port = parts.port or DEFAULT_PORTS["http"]
    return Target(parts.hostname, port, "\r\n".join(lines).encode("latin-1"), max(0, body))
