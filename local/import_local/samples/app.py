"""Puts the sample providers together: the application, and a server of it for tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from import_local.samples import (
    control,
    gemini,
    hostile,
    image_routes,
    roastify,
    whatsapp,
    whatsapp_graph,
)
from import_local.samples.catalogue.expected import Provider
from import_local.samples.image_routes import ImageStore
from import_local.samples.settings import SampleSettings
from import_local.samples.shopify import routes as shopify_routes
from import_local.samples.state import Account, Sample

STOP_SECONDS = 1
KEEP_ALIVE_SECONDS = 75
"""For so long an idle connection stays open, at the real providers for minutes: longer than clients keep theirs (httpx
for 5 s), or one would now and then be closed just as it is used again."""


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def create_app(settings: SampleSettings | None = None) -> Starlette:
    """Return the application. `app.state.sample` is its state, which tests may read and change directly."""
    sample = Sample(settings or SampleSettings())

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await sample.close()

    app = Starlette(
        routes=[
            Route("/healthz", _health),
            *shopify_routes.routes(),
            *roastify.routes(),
            *gemini.routes(),
            *whatsapp.routes(),
            *whatsapp_graph.routes(),
            *image_routes.routes(),
            *hostile.routes(),
            *control.routes(),
        ],
        lifespan=lifespan,
    )
    app.state.sample = sample
    app.state.images = ImageStore(sample.settings.image_cache_bytes)
    return app


class DroppableProtocol(H11Protocol):
    """HTTP/1.1 that hands its transport to the application, so that a fault can drop the connection, and the
    monotonic time when a request's head was read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport in the state of this connection's requests."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "transport": transport}

    def data_received(self, data: bytes) -> None:
        """Keep the time too: on a busy machine a request may wait for long until it is handled."""
        self.app_state["arrived"] = time.monotonic()
        super().data_received(data)


class SampleServer(uvicorn.Server):
    """A server inside another program's event loop: says when it listens, leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then set `listening`."""
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield


def server_config(app: Starlette) -> uvicorn.Config:
    """Return uvicorn's configuration for the application."""
    return uvicorn.Config(
        app,
        http=DroppableProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class RunningSamples:
    """A running server: its root address (no slash at the end) and its state."""

    base_url: str
    sample: Sample

    @property
    def shopify_url(self) -> str:
        """The address below which every shop is found by name."""
        return f"{self.base_url}/shopify"

    @property
    def roastify_url(self) -> str:
        """The address below which every account is found by name; add `/v1`."""
        return f"{self.base_url}/roastify"

    @property
    def gemini_url(self) -> str:
        """The address of the stand-in for the Gemini API, as GEMINI_BASE_URL."""
        return f"{self.base_url}/gemini/empty"

    @property
    def whatsapp_url(self) -> str:
        """The address below which every seller is found by name; add `/c/491700000001`."""
        return f"{self.base_url}/whatsapp"

    @property
    def graph_url(self) -> str:
        """The address below which every seller's Graph API is found by name."""
        return f"{self.base_url}/graph"

    def account(self, provider: Provider, name: str) -> Account:
        """Return a shop's or account's state: faults, counters, catalogue."""
        return self.sample.account(provider, name)


@contextlib.asynccontextmanager
async def serve_samples(
    settings: SampleSettings | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RunningSamples]:
    """Serve the sample providers in this event loop; port 0 takes a free one. OSError if it is taken."""
    app = create_app(settings)
    # asyncio turns Nagle's algorithm off only for sockets that name TCP: without it, answers wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    server = SampleServer(server_config(app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    listening = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield RunningSamples(f"http://{host}:{listener.getsockname()[1]}", app.state.sample)
    finally:
        listening.cancel()
        server.should_exit = True
        await task
        listener.close()
