"""Keeps the webhooks as the ImportProviders name them, adds messages of progress, and tells of webhooks that are dead.

Messages of a job's end are written with the end itself, and workers send them: the operator reads no Secret and reaches
no public address.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping

from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_core.adapters.postgres.webhooks import Webhook, WebhookStore
from import_core.domain.errors import DatabaseUnavailableError, InvalidResourceError
from import_core.domain.notifications import (
    Endpoint,
    endpoint_changes,
    endpoint_of,
    notifications_finding,
)
from import_core.domain.resources.import_provider import parse_import_provider
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.loops.tell import Teller
from import_operator.state import OperatorState, name_of

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
PROGRESS_SECONDS = 10.0
"""Between two messages of progress of one job."""
PRUNE_SECONDS = 60.0
STATES = ("active", "failing", "disabled")


class NotifyLoop:
    """By the clock: what it finds is in the database, whichever process wrote it."""

    def __init__(
        self,
        state: OperatorState,
        webhooks: WebhookStore,
        tell: Teller,
        *,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self._state = state
        self._webhooks = webhooks
        self._tell = tell
        self._progress_seconds = progress_seconds
        self._states: dict[str, str] = {}
        self._prune_at = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("notify", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Bring endpoints and objects together, add progress, give up and forget what is over."""
        try:
            known = {webhook.endpoint.provider: webhook for webhook in await self._webhooks.read()}
            if await self._keep(known):
                known = {webhook.endpoint.provider: webhook for webhook in await self._webhooks.read()}
            self._show(known)
            metrics.WEBHOOK_OLDEST.set(await self._webhooks.oldest_seconds())
        except DatabaseUnavailableError:
            metrics.WEBHOOK_OLDEST.set(math.nan)
            raise
        if known:
            await self._webhooks.add_progress(every_seconds=self._progress_seconds)
        abandoned = await self._webhooks.abandon()
        if abandoned:
            log.warning("webhooks.abandoned", messages=abandoned)
        if time.monotonic() >= self._prune_at and not await self._webhooks.prune():
            self._prune_at = time.monotonic() + PRUNE_SECONDS

    async def _keep(self, known: Mapping[str, Webhook]) -> bool:
        """Write endpoints that differ from what the objects say; whether there were any."""
        bodies = {name_of(body): body for body in self._state.providers}
        wanted: dict[str, Endpoint | None] = {}
        unclear = set()
        for name, body in bodies.items():
            try:
                wanted[name] = endpoint_of(parse_import_provider(body))
            except InvalidResourceError:
                # Its status says what is wrong; meanwhile what was said before holds.
                unclear.add(name)
        changes = endpoint_changes(
            wanted,
            {name: webhook.endpoint for name, webhook in known.items() if name not in unclear},
            # Rather a wrong cluster than one without any provider.
            complete=self._state.jobs_listed and bool(bodies),
        )
        for endpoint in changes.put:
            await self._webhooks.put(endpoint)
            log.info("webhook.kept", provider=endpoint.provider)
        if changes.forget:
            await self._webhooks.forget(changes.forget)
            log.info("webhook.forgotten", providers=changes.forget)
        return bool(changes.put or changes.forget)

    def _show(self, known: Mapping[str, Webhook]) -> None:
        counts = Counter(_word(webhook) for webhook in known.values())
        for state in STATES:
            metrics.WEBHOOKS.labels(state).set(counts[state])
        for name, webhook in known.items():
            before, now = self._states.get(name), _word(webhook)
            if before == now:
                continue
            self._states[name] = now
            # Its status says so too.
            self._state.to_check.add(name)
            body = self._state.providers.named(name)
            if now == "disabled" and before is not None and body is not None:
                log.warning("webhook.disabled", provider=name, reason=webhook.reason)
                self._tell.tell(
                    IMPORT_PROVIDER,
                    body,
                    reason="WebhookDisabled",
                    action="Notify",
                    note=notifications_finding(
                        webhook.state, webhook.reason, webhook.message, webhook.failures
                    )[2],
                    warning=True,
                )
        for name in self._states.keys() - known.keys():
            del self._states[name]
            self._state.to_check.add(name)


def _word(webhook: Webhook) -> str:
    if webhook.state != "Active":
        return "disabled"
    return "failing" if webhook.failures else "active"
