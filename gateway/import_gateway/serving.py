"""Runs a Starlette application with uvicorn inside this process's event loop, and stops it politely."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 65
"""Longer than load balancers keep an idle connection (60 s), or they would send into one that just closed."""
LONGEST_HEAD = 32_768
"""Bytes of a request's line and headers; a token may have a few thousand."""


class AppServer:
    """Serves one application on one address.

    Making one takes the address: raises OSError when that can't be had. `options` go to uvicorn (TLS).
    """

    def __init__(
        self, app: Starlette, host: str, port: int, *, close_seconds: int = 10, **options: Any
    ) -> None:
        self._socket = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                http="h11",
                h11_max_incomplete_event_size=LONGEST_HEAD,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
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


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has more to stop than this server."""
        yield
