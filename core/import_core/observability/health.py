"""A process's HTTP face for the kubelet and Prometheus: /healthz, /readyz, /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

CLOSE_SECONDS = 3


class HealthServer:
    """Serves on one address; `not_ready` says why the process is not ready, None: it is.

    Making one takes the address: raises OSError when that can't be had.
    """

    def __init__(
        self, host: str, port: int, *, registry: CollectorRegistry, not_ready: Callable[[], str | None]
    ) -> None:
        self._registry = registry
        self._not_ready = not_ready
        self._socket = socket.create_server((host, port), reuse_port=False)
        config = uvicorn.Config(
            Starlette(
                routes=[
                    Route("/healthz", self._healthz),
                    Route("/readyz", self._readyz),
                    Route("/metrics", self._metrics),
                ]
            ),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            limit_concurrency=50,
        )
        self._server = QuietServer(config)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`."""
        self._server.should_exit = True

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        reason = self._not_ready()
        return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)

    async def _metrics(self, _request: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, self._registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class QuietServer(uvicorn.Server):
    """A uvicorn server inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process, which has more to stop than this server."""
        yield
