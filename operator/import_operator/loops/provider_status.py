"""Asks for checks of connections, and writes their results and the breakers into the ImportProviders' status.

The operator reads no Secrets: workers make the checks.
"""

from __future__ import annotations

from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.connections import ConnectionState, ConnectionStore
from import_core.adapters.postgres.webhooks import Webhook, WebhookStore
from import_core.domain.breaker import CLOSED, Breaker
from import_core.domain.connection_status import (
    BreakerChange,
    Check,
    breaker_change,
    describe_breaker,
    project_connection,
)
from import_core.domain.errors import (
    DatabaseUnavailableError,
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.notifications import notifications_finding
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import REFUSED_AGAIN_SECONDS, Loop
from import_operator.loops.tell import TellLoop
from import_operator.state import Body, OperatorState, generation_of, name_of, type_of, uid_of

log = get_logger(__name__)

BATCH = 100
INTERVAL_SECONDS = 30.0
PAUSE_SECONDS = 0.2


class ProviderStatusLoop:
    """Takes the names in `state.to_check`."""

    def __init__(
        self,
        state: OperatorState,
        connections: ConnectionStore,
        breakers: BreakerStore,
        kube: KubeClient,
        tell: TellLoop,
        *,
        webhooks: WebhookStore,
    ) -> None:
        self._state = state
        self._connections = connections
        self._breakers = breakers
        self._kube = kube
        self.again_seconds = REFUSED_AGAIN_SECONDS
        self._tell = tell
        self._webhooks = webhooks

    def loop(self) -> Loop:
        """Woken by changed providers, by checks that were made, and by breakers."""
        return Loop(
            "provider-status",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.to_check.wake,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Handle one batch of names; those that could not be handled wait again."""
        await self._forget()
        names = self._state.to_check.take(BATCH)
        if not names:
            return
        try:
            await self._handle(names)
        except (DatabaseUnavailableError, KubernetesUnavailableError):
            self._state.to_check.update(names)
            raise

    async def _forget(self) -> None:
        for name, uid in list(self._state.providers_gone.items()):
            await self._connections.forget(self._state.namespace, name, uid)
            if self._state.providers.named(name) is None:
                await self._breakers.forget(self._state.namespace, name)
            del self._state.providers_gone[name]

    async def _handle(self, names: list[str]) -> None:
        bodies = [body for name in names if (body := self._state.providers.named(name)) is not None]
        for body in bodies:
            await self._connections.request_check(
                self._state.namespace, name_of(body), uid_of(body), generation_of(body)
            )
        states = {state.name: state for state in await self._connections.read(self._state.namespace, names)}
        breakers = await self._breakers.read_many(self._state.namespace, names)
        webhooks = {webhook.endpoint.provider: webhook for webhook in await self._webhooks.read(names)}
        for body in bodies:
            name = name_of(body)
            check, breaker = _check_of(body, states.get(name)), breakers.get(name, CLOSED)
            await self._patch(body, check, breaker, webhooks.get(name))

    async def _patch(
        self, body: Body, check: Check | None, breaker: Breaker, webhook: Webhook | None
    ) -> None:
        told = None
        if webhook is not None:
            told = notifications_finding(webhook.state, webhook.reason, webhook.message, webhook.failures)
        patch = project_connection(body, check, datetime.now(UTC), breaker, told)
        if patch is None:
            return
        try:
            answer = await self._kube.patch_status(
                IMPORT_PROVIDER,
                self._state.namespace,
                name_of(body),
                patch,
                resource_version=body["metadata"]["resourceVersion"],
            )
        except (ObjectConflictError, ObjectNotFoundError):
            # Changed or gone: its event brings the object here again.
            metrics.STATUS_PATCHES.labels("ImportProvider", "conflict").inc()
        except (ObjectRefusedError, ObjectForbiddenError) as error:
            metrics.STATUS_PATCHES.labels("ImportProvider", "refused").inc()
            log.warning("status.refused", name=name_of(body), message=error.message)
            self._state.to_check.add_later(name_of(body), self.again_seconds)
        else:
            metrics.STATUS_PATCHES.labels("ImportProvider", "written").inc()
            self._state.providers.put(answer)
            self._say(body, breaker)

    def _say(self, body: Body, breaker: Breaker) -> None:
        """Tell once, when the status that says it is written, that a breaker has opened or closed."""
        change = breaker_change(body, breaker)
        if change is None:
            return
        metrics.BREAKER_CHANGES.labels(type_of(body), change).inc()
        opened = change is BreakerChange.OPENED
        log.warning(f"breaker.{change}", name=name_of(body), failures=breaker.failures)
        self._tell.tell(
            IMPORT_PROVIDER,
            body,
            reason="BreakerOpened" if opened else "BreakerClosed",
            action="Break" if opened else "Resume",
            note=describe_breaker(breaker)
            if opened
            else "The provider answers again: the jobs that waited for it are due",
            warning=opened,
        )


def _check_of(body: Body, state: ConnectionState | None) -> Check | None:
    """The last check, if it was of this object in its current generation."""
    if state is None or state.result is None or state.checked_at is None or state.uid != uid_of(body):
        return None
    if state.checked_generation != generation_of(body):
        return None
    result = state.result
    return Check(result.reachable, result.credentials_valid, result.reason, result.message, state.checked_at)
