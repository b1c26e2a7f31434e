"""Sends the messages of the outbox as a side task: at least once, in order for each job, slow endpoints apart.

Workers send because they are the ones that may read Secrets and reach public addresses. Any number of them send at the
same time: a message is taken under a lease, and of one endpoint at most a few at once by all of them together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from import_core.adapters.postgres.notifications_outbox import NotificationOutbox, OutboxMessage, Standing
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import (
    DatabaseUnavailableError,
    DependencyUnavailableError,
    ImportOperatorError,
    InvalidInputError,
)
from import_core.domain.limits import growing_delay
from import_core.domain.notifications import (
    AfterFailure,
    Attempt,
    after_failure,
    message_body,
    signing_secrets,
)
from import_core.observability.metrics import WorkerMetrics
from import_core.observability.redaction import hide_values
from import_worker.outages import through_outages
from import_worker.webhooks import Receiver

log = structlog.get_logger(__name__)

POLL_SECONDS = 3.0
"""Between two looks of one worker; workers look at different moments, so messages wait less the more there are."""
AT_ONCE = 32
"""Messages that one worker sends at the same time."""
EACH = 4
"""Messages that all workers send to one endpoint at the same time."""
POSTPONED_SECONDS = 30.0
SECRET_SECONDS = 30.0
"""An exchanged secret is used after that time."""
SECRETS_KEPT = 1_000
LONGEST_WAIT_SECONDS = 30.0


class SecretDirectory(Protocol):
    """Where Secrets are read."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The Secret's values as text, or None."""


class WebhookSender:
    """Runs until it is cancelled; what it was sending then is sent again when its lease has ended."""

    def __init__(
        self,
        outbox: NotificationOutbox,
        receiver: Receiver,
        directory: SecretDirectory,
        metrics: WorkerMetrics,
        *,
        namespace: str,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._receiver = receiver
        self._directory = directory
        self._metrics = metrics
        self._namespace = namespace
        self._poll_seconds = poll_seconds
        self._secrets: OrderedDict[str, tuple[tuple[str, ...], float]] = OrderedDict()
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look for due messages and send them."""
        failures = 0
        try:
            while True:
                try:
                    await self._start_due()
                    failures = 0
                except ImportOperatorError as error:
                    # Imports go on without webhooks; messages wait in the database.
                    log.warning("webhooks.not_looked", detail=error.message)
                    failures += 1
                await self._wait(failures)
        finally:
            await end_tasks(list(self._sending))

    async def _start_due(self) -> None:
        free = AT_ONCE - len(self._sending)
        if free <= 0:
            return
        for message in await self._outbox.take(free, each=EACH):
            task = asyncio.create_task(self._deliver(message), name=f"webhook-{message.id}")
            self._sending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        # The next message of the same job or endpoint may go now.
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook.not_sent", exc_info=error)

    async def _wait(self, failures: int) -> None:
        spread = 0.5 + random.random()  # noqa: S311
        seconds = self._poll_seconds * spread + (
            growing_delay(failures, first=1.0, longest=LONGEST_WAIT_SECONDS) if failures else 0.0
        )
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _deliver(self, message: OutboxMessage) -> None:
        try:
            secrets = await self._secrets_of(message.secret_name)
        except InvalidInputError as error:
            await self._write(message, Attempt(error=f"can't be signed: {error.message}"))
            return
        except DependencyUnavailableError as error:
            log.warning("webhook.postponed", provider=message.provider, detail=error.message)
            await through_outages(
                lambda: self._outbox.postpone(message, POSTPONED_SECONDS), what="webhook.postpone"
            )
            return
        body = message_body(message.event, message.created_at, message.data)
        started = time.monotonic()
        attempt = await self._receiver.send(
            message.url, body, message_id=message.message_id, secrets=secrets, now=datetime.now(UTC)
        )
        self._metrics.webhook_seconds.observe(time.monotonic() - started)
        await self._write(message, attempt)

    async def _write(self, message: OutboxMessage, attempt: Attempt) -> None:
        try:
            if attempt.delivered:
                await through_outages(
                    lambda: self._outbox.delivered(message, attempt), what="webhook.delivered"
                )
                result = "delivered"
            else:
                decision = await through_outages(
                    lambda: self._outbox.failed(message, attempt, lambda known: decide(attempt, known)),
                    what="webhook.failed",
                )
                result = "failed" if decision is None or decision.delay is not None else "abandoned"
                self._tell(message, attempt, decision)
        except DatabaseUnavailableError as error:
            # Its lease ends, and it is sent once more: at least once.
            log.warning("webhook.result_lost", provider=message.provider, detail=error.message)
            return
        self._metrics.webhook_deliveries.labels(result).inc()

    def _tell(self, message: OutboxMessage, attempt: Attempt, decision: AfterFailure | None) -> None:
        log.warning(
            "webhook.failed",
            provider=message.provider,
            jobId=message.job_id,
            webhookId=message.message_id,
            webhookEvent=message.event,
            attempt=message.attempts,
            status=attempt.status,
            detail=attempt.words,
            again=None if decision is None else decision.delay,
            disabled=None if decision is None else decision.disable,
        )

    async def _secrets_of(self, name: str) -> tuple[str, ...]:
        """The signing secrets in a Secret. Raises InvalidInputError and KubernetesUnavailableError."""
        known = self._secrets.get(name)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        values = await self._directory.get_secret(self._namespace, name)
        if values is None:
            raise InvalidInputError("secretRef", f"there is no Secret {name}")
        hide_values(values.values())
        found = signing_secrets(values)
        self._secrets[name] = (found, time.monotonic() + SECRET_SECONDS)
        self._secrets.move_to_end(name)
        while len(self._secrets) > SECRETS_KEPT:
            self._secrets.popitem(last=False)
        return found


def decide(attempt: Attempt, known: Standing) -> AfterFailure:
    """What becomes of a message after a failed attempt."""
    return after_failure(
        attempt,
        attempts=known.attempts,
        tried_seconds=known.tried_seconds,
        failures=known.failures,
        failing_seconds=known.failing_seconds,
        spread=random.random(),  # noqa: S311
    )
