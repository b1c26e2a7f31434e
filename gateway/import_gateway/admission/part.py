"""The admission webhook as a part of the gateway's process: certificate, listener, stores, in order."""

from __future__ import annotations

import asyncio
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.tasks import end_tasks
from import_core.observability.logs import get_logger
from import_gateway.admission.rotation import CertificateKeeper
from import_gateway.admission.tls import ServingContext
from import_gateway.admission.webhook import Webhook
from import_gateway.services import Services
from import_gateway.serving import AppServer

log = get_logger(__name__)

KEEP_ALIVE_SECONDS = 120
"""Longer than the API server keeps an idle connection (90 s): it must be the one that closes it."""
CONNECTIONS = 1000
"""Beyond them reviews are answered 503, and the API server lets the job through (failurePolicy: Ignore)."""


class AdmissionPart:
    """Serves from the first certificate on; before it the API server's calls are refused, and jobs pass."""

    def __init__(self, services: Services, kube: KubeClient) -> None:
        self._settings = services.settings
        namespace = services.settings.namespace
        self._context = ServingContext()
        self._keeper = CertificateKeeper(
            kube,
            services.settings,
            services.metrics,
            namespace=namespace,
            service_namespace=services.settings.pod_namespace,
            serve=self._context.load,
        )
        self._webhook = Webhook(
            services.room,
            services.metrics,
            namespace=namespace,
            unavailable=services.settings.unavailable_steps,
        )
        self._server: AppServer | None = None
        self._stopped = asyncio.Event()

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
        self._stopped.set()
        if self._server is not None:
            self._server.stop()

    async def _serve(self) -> None:
        await self._until_certificate()
        if self._stopped.is_set():
            return
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

    async def _until_certificate(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._keeper.serving, self._stopped)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(waits)
