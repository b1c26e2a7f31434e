"""The gateway's process: opens its connections, serves until told to stop, and stops politely."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from starlette.applications import Starlette

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.tasks import end_tasks
from import_core.observability.health import HealthServer
from import_core.observability.logs import get_logger
from import_core.observability.presence import NeighbourWatch
from import_core.observability.process_metrics import measure_lag
from import_gateway.admission.part import AdmissionPart
from import_gateway.app import get_app
from import_gateway.searching import opened_search, opened_vectors
from import_gateway.services import Services, get_services
from import_gateway.serving import SPARE_CONNECTIONS, AppServer, allow_connections
from import_gateway.settings import GatewaySettings

log = get_logger(__name__)

DATABASE_CONNECTIONS = 8


def get_server(app: Starlette, settings: GatewaySettings) -> AppServer:
    """The API's server; with too many connections it answers 503 before anything else. Raises OSError."""
    return AppServer(
        app,
        settings.address,
        settings.http_port,
        shared=bool(settings.shared_address),
        limit_concurrency=settings.listeners_limit + SPARE_CONNECTIONS,
    )


class GatewayProcess:
    """One replica; `stop` set: it stops."""

    def __init__(self, settings: GatewaySettings, stop: asyncio.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._state: str | None = None
        self._kube: KubeClient | None = None
        self._admission: AdmissionPart | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> int:
        """Serve until stopped; returns the process's exit code: 0, or 1 when a part of it died."""
        async with AsyncExitStack() as stack:
            allow_connections(self._settings.listeners_limit)
            services = await self._open(stack)
            server = get_server(get_app(services), self._settings)
            stack.push_async_callback(self._end_tasks)
            self._start("hub", services.hub.run())
            self._start("api", server.run())
            self._start_parts(services)
            log.info("gateway.started", namespace=self._settings.namespace, port=server.port)
            exit_code = await self._until_stop()
            await self._drain(services, server, urgent=exit_code != 0)
        log.info("gateway.stopped", exitCode=exit_code)
        return exit_code

    async def _open(self, stack: AsyncExitStack) -> Services:
        settings = self._settings
        database = Database(
            settings.database_url.get_secret_value(),
            direct_url=settings.direct_url(),
            application="import-gateway",
            maximum=DATABASE_CONNECTIONS,
        )
        stack.push_async_callback(database.close)
        # It starts also while PostgreSQL is away, and says so: reviews and answers need not wait for it.
        await database.open()
        kube = None
        if not settings.is_standalone:
            kube = self._kube = KubeClient(field_manager="import-gateway")
            stack.push_async_callback(kube.close)
        life = LifeSign(database)
        stack.push_async_callback(life.close)
        vectors = await stack.enter_async_context(opened_vectors(settings, database))
        search = await stack.enter_async_context(opened_search(settings, database, vectors=vectors))
        services = get_services(settings, database, kube, search=search, not_ready=self._not_ready)
        stack.push_async_callback(services.sellers.aclose)
        process = services.metrics.process
        neighbours = NeighbourWatch({"PostgreSQL": life.ask}, show=process.show_neighbour)
        health = HealthServer(
            settings.pod_ip,
            settings.health_port,
            registry=services.metrics.registry,
            not_ready=self._not_ready,
        )
        self._start("health", health.run())
        self._start("neighbours", neighbours.run())
        self._start("event-loop-lag", measure_lag(process.event_loop_lag))
        return services

    def _start_parts(self, services: Services) -> None:
        """Start what runs beside the API."""
        if self._kube is not None:
            self._admission = AdmissionPart(services, self._kube)
            self._start("admission", self._admission.run())

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _not_ready(self) -> str | None:
        """Neighbours that are away don't count: what does not need them is answered all the same."""
        if self._state is None and self._admission is not None:
            return self._admission.why_not_ready()
        return self._state

    async def _until_stop(self) -> int:
        """Wait for a reason to stop; returns the exit code that goes with it."""
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({stop, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        died = [task for task in self._tasks.values() if task.done()]
        for task in died:
            log.error(
                "part.died", part=task.get_name(), exc_info=None if task.cancelled() else task.exception()
            )
        return 1 if died else 0

    async def _drain(self, services: Services, server: AppServer, *, urgent: bool) -> None:
        """Call itself unready, go on until nobody sends any more, then end streams and requests."""
        self._state = "stopping"
        log.info("gateway.stopping", seconds=0 if urgent else self._settings.drain_seconds)
        if not urgent:
            await asyncio.sleep(self._settings.drain_seconds)
        services.hub.close()
        server.stop()
        if self._admission is not None:
            self._admission.stop()
        await asyncio.wait({task for name, task in self._tasks.items() if name in {"api", "admission"}})
        await services.room.close()

    async def _end_tasks(self) -> None:
        await end_tasks(list(self._tasks.values()))
