"""Runs a Starlette application with uvicorn inside this process's event loop, and stops it politely."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from import_core.observability.health import QuietServer

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 65
"""Longer than load balancers keep an idle connection (60 s), or they would send into one that just closed."""
HEAD_SECONDS = 15.0
"""Time for a request's line and headers: a connection that says nothing must not be kept for ever."""
VANISHED_MILLISECONDS = 30_000
SPARE_FILES = 2_000
SPARE_CONNECTIONS = 1_000
"""Connections to the API beside those of event streams; above, requests are answered with 503 before anything else."""
LONGEST_HEAD = 32_768
"""Bytes of a request's line and headers; a token may have a few thousand."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a time limit for the head of each request."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget_timer()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self._is_under_way():
            self._forget_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        self._head_timer = None
        if not self._is_under_way():
            self.transport.close()

    def _is_under_way(self) -> bool:
        # Before the first request uvicorn has None here, whatever its type says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class AppServer:
    """Serves one application on one address.

    Making one takes the address: raises OSError when that can't be had. `options` go to uvicorn (TLS).
    `shared`: several processes may have the same address, and the kernel spreads connections over them.
    """

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        *,
        close_seconds: int = 10,
        keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
        shared: bool = False,
        **options: Any,
    ) -> None:
        self._socket = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
            reuse_port=shared,
        )
        # Head and body are written apart: the body must not wait for the head's acknowledgement, which takes 40 ms.
        # Accepted connections have it from here: asyncio sets it only where a socket names its protocol by number.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted connections have it from here: who vanished without a word is noticed while something is sent.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_MILLISECONDS)
        self._server = QuietServer(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                h11_max_incomplete_event_size=LONGEST_HEAD,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=keep_alive_seconds,
                timeout_graceful_shutdown=close_seconds,
                **options,
            )
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`; requests under way are finished first."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Take no more connections and end `run` when what is under way has ended."""
        self._server.should_exit = True


def allow_connections(count: int) -> None:
    """Let this process have so many connections open, and files beside them, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
