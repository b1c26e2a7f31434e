"""Runs kopf in a thread and an event loop of its own, and starts it anew when it ends.

kopf cancels every task that was started in its loop after it, when it ends; and it ends when the API server
answers with errors for too long, while the loops on PostgreSQL and Redis must go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import threading

import kopf

from import_core.adapters.kube.client import load_configuration
from import_core.adapters.kube.resources import GROUP
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.deployments import POOL_LABEL
from import_operator.inbox import Inbox
from import_operator.loops.runner import backoff

log = get_logger(__name__)

REQUEST_TIMEOUT_SECONDS = 10.0
EXIT_SECONDS = 5.0
LIST_PAGE = 500


def configure_kopf(settings: kopf.OperatorSettings) -> None:
    """No Events, no peering, no scanning of the cluster, no marks on objects under kopf's own names."""
    logging.getLogger("kopf").setLevel(logging.WARNING)  # it tells of every event otherwise
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
    settings.networking.connect_timeout = REQUEST_TIMEOUT_SECONDS
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 4)
    settings.watching.connect_timeout = REQUEST_TIMEOUT_SECONDS
    settings.watching.chunk_size = LIST_PAGE
    settings.watching.label_selectors["apps", "v1", "deployments"] = POOL_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = POOL_LABEL
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 1.0
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"operator.{GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"operator.{GROUP}")


def sign_in() -> kopf.ConnectionInfo:
    """Credentials from the same place as everywhere; kopf asks again when the server refuses them."""
    config = load_configuration().get()
    if config is None or config.user is None:
        raise kopf.LoginError("The Kubernetes configuration names no user")
    token = config.user.token
    if config.user.token_file is not None:
        with open(config.user.token_file, encoding="utf-8") as file:  # noqa: PTH123
            token = file.read().strip()
    cluster, user = config.cluster, config.user
    return kopf.ConnectionInfo(
        server=cluster.server,
        ca_path=None if cluster.certificate_auth is None else config.abs_file(cluster.certificate_auth),
        ca_data=cluster.certificate_auth_data,
        insecure=cluster.insecure,
        token=token,
        certificate_path=None if user.client_cert is None else config.abs_file(user.client_cert),
        certificate_data=user.client_cert_data,
        private_key_path=None if user.client_key is None else config.abs_file(user.client_key),
        private_key_data=user.client_key_data,
        default_namespace=config.namespace,
    )


class Watcher:
    """The thread in which kopf runs."""

    def __init__(self, inbox: Inbox, namespace: str) -> None:
        self._memo = kopf.Memo(inbox=inbox)
        self._namespace = namespace
        self._stop = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="watching", daemon=True)
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        """Set in the main loop when the thread has ended."""

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop watching; waits a bounded time."""
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, EXIT_SECONDS)

    def _run(self) -> None:
        try:
            self._watch_until_stopped()
        finally:
            # The main loop may be closed already when the process is about to end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.ended.set)

    def _watch_until_stopped(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                asyncio.run(self._watch())
            except Exception:
                failures += 1
                log.exception("watch.failed", namespace=self._namespace)
            if not self._stop.wait(backoff(max(1, failures), random.random())):  # noqa: S311
                metrics.WATCH_RESTARTS.inc()

    async def _watch(self) -> None:
        # The decorators fill kopf's default registry when they are imported.
        from import_operator import main

        registry = kopf.get_default_registry()
        log.info("watch.started", namespace=self._namespace, contents=main.__name__)
        await kopf.operator(
            registry=registry,
            memo=self._memo,
            namespaces=[self._namespace],
            standalone=True,
            stop_flag=self._stop,
        )
