"""The admission webhook as a part of the gateway's process: certificate, listener, stores, in order."""

from __future__ import annotations

import asyncio
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.tasks import end_tasks
from import_core.observability.logs import get_logger
from import_gateway.admission.room import Room
from import_gateway.admission.rotation import CertificateKeeper
from import_gateway.admission.tls import ServingContext
from import_gateway.admission.webhook import Webhook
from import_gateway.metrics import GatewayMetrics
from import_gateway.serving import AppServer
from import_gateway.settings import GatewaySettings

log = get_logger(__name__)

DATABASE_CONNECTIONS = 2
"""Of its own: whatever the API's callers ask, a review need not queue behind it."""
KEEP_ALIVE_SECONDS = 120
"""Longer than the API server keeps an idle connection (90 s): it must be the one that closes it."""
CONNECTIONS = 1000
"""Beyond them reviews are answered 503, and the API server lets the job through (failurePolicy: Ignore)."""


class AdmissionPart:
    """Serves from the first certificate on; before it the API server's calls are refused, and jobs pass."""

    def __init__(self, settings: GatewaySettings, kube: KubeClient, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._database = Database(
            settings.database_url.get_secret_value(),
            application="import-gateway-admission",
            maximum=DATABASE_CONNECTIONS,
        )
        self._context = ServingContext()
        self.room = Room(self._database, kube, settings, metrics, namespace=settings.namespace)
        self._keeper = CertificateKeeper(
            kube, settings, metrics, namespace=settings.namespace, serve=self._context.load
        )
        self._webhook = Webhook(self.room, metrics, namespace=settings.namespace)
        self._server: AppServer | None = None

    async def open(self) -> None:
        """Open the connections, also while PostgreSQL is away."""
        await self._database.open()

    async def run(self) -> None:
        """Keep the certificate and serve, until `stop`."""
        keeping = asyncio.create_task(self._keeper.run(), name="certificate")
        serving = asyncio.create_task(self._serve(), name="webhook")
        try:
            done, _ = await asyncio.wait({keeping, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks([keeping, serving])
        for task in done:
            task.result()

    def why_not_ready(self) -> str | None:
        """Not ready before the first look at the certificate; one that can't be had doesn't keep the API away."""
        return None if self._keeper.looked.is_set() else "the certificate has not been looked at yet"

    def stop(self) -> None:
        """Take no more connections, and end `run` when what is under way has ended."""
        if self._server is not None:
            self._server.stop()

    async def close(self) -> None:
        """Close the connections."""
        await self.room.close()
        await self._database.close()

    async def _serve(self) -> None:
        await self._keeper.serving.wait()
        options: dict[str, Any] = {
            "ssl_context_factory": self._context,
            "limit_concurrency": CONNECTIONS,
        }
        self._server = AppServer(
            self._webhook.app(),
            self._settings.address,
            self._settings.admission_port,
            keep_alive_seconds=KEEP_ALIVE_SECONDS,
            shared=bool(self._settings.shared_address),
            **options,
        )
        log.info("admission.serving", port=self._server.port)
        await self._server.run()
