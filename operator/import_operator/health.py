"""A small HTTP server for probes and metrics: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

REQUEST_TIMEOUT_SECONDS = 5.0
REQUEST_LINES = 100
PLAIN = "text/plain; charset=utf-8"


class HealthServer:
    """Answers GET on one address; one request per connection."""

    def __init__(self, host: str, port: int, *, ready: Callable[[], bool]) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else self._port

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A caller that is too slow, sends rubbish or goes away concerns nobody but itself.
        with contextlib.suppress(TimeoutError, OSError, ValueError):
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                request = (await reader.readline()).decode("latin-1").split()
                for _ in range(REQUEST_LINES):
                    if await reader.readline() in (b"\r\n", b"\n", b""):
                        break
                status, content_type, body = self._answer(request)
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    def _answer(self, request: list[str]) -> tuple[str, str, bytes]:
        if len(request) != 3 or request[0] != "GET":
            return "405 Method Not Allowed", PLAIN, b"only GET\n"
        path = request[1].partition("?")[0]
        if path == "/healthz":
            return "200 OK", PLAIN, b"ok\n"
        if path == "/readyz":
            ready = self._ready()
            return (
                ("200 OK", PLAIN, b"ready\n") if ready else ("503 Service Unavailable", PLAIN, b"starting\n")
            )
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest()
        return "404 Not Found", PLAIN, b"not found\n"
