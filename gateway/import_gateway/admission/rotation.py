"""Keeps the webhook's certificate: looks at Secret and webhook configuration, decides, takes one step at a time."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import SECRET
from import_core.domain.certificates import (
    CertificateAction,
    CertificatePolicy,
    Sightings,
    next_certificate_action,
    sights,
)
from import_core.domain.errors import ImportOperatorError, ObjectConflictError, ObjectNotFoundError
from import_core.observability.logs import get_logger
from import_gateway.admission.certificates import KeyPair, make_key_pair, normal_host
from import_gateway.admission.keeping import Kept, read_secret, write_secret
from import_gateway.admission.settings import AdmissionSettings
from import_gateway.metrics import GatewayMetrics

log = get_logger(__name__)

WEBHOOK = "importjobs.imports.avnz.io"
"""Name of our webhook in its configuration; it is in the messages that submitters get."""
STEPS_AT_ONCE = 5

Json = dict[str, Any]


class CertificateKeeper:
    """One replica's part in it; all replicas do the same, and the Secret's resourceVersion lets one through."""

    def __init__(
        self,
        kube: KubeClient,
        settings: AdmissionSettings,
        metrics: GatewayMetrics,
        *,
        namespace: str,
        service_namespace: str,
        serve: Callable[[KeyPair], None],
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._metrics = metrics
        self._namespace = namespace
        self._serve = serve
        names = [name.strip() for name in settings.admission_hosts.split(",") if name.strip()]
        self._policy = CertificatePolicy(
            hosts=frozenset(map(normal_host, names or [f"import-gateway-admission.{service_namespace}.svc"])),
            settle_seconds=settings.certificate_settle_seconds,
            retire_seconds=settings.certificate_retire_seconds,
        )
        self._sightings = Sightings({})
        self._served: KeyPair | None = None
        self.looked = asyncio.Event()
        """Set after the first look, whatever came of it."""
        self.serving = asyncio.Event()
        """Set once there is a certificate."""

    async def run(self) -> None:
        """Look for ever. What fails is told and tried again at the next look; the certificate stays."""
        while True:
            try:
                await self._round()
            except ImportOperatorError as error:
                self._metrics.certificate_steps.labels("failed").inc()
                log.warning("certificate.look_failed", message=error.message)
            except Exception as error:  # noqa: BLE001 - API and page go on without a certificate
                self._metrics.certificate_steps.labels("failed").inc()
                log.warning("certificate.look_failed", message=type(error).__name__)
            self.looked.set()
            await asyncio.sleep(self._settings.certificate_check_seconds)

    async def _round(self) -> None:
        for _ in range(STEPS_AT_ONCE):
            try:
                if await self._step() is CertificateAction.WAIT:
                    return
            except ObjectConflictError as error:
                # Another replica was faster: what it did is looked at at once.
                log.info("certificate.changed_meanwhile", message=error.message)

    async def _step(self) -> CertificateAction:
        # The configuration first: a Secret read later is never older than what was published from it.
        configuration = await self._kube.get_webhook_configuration(self._settings.webhook_configuration)
        secret = await self._kube.get(SECRET, self._namespace, self._settings.certificate_secret)
        if secret is None:
            name = f"{self._namespace}/{self._settings.certificate_secret}"
            raise ObjectNotFoundError(f"There is no Secret {name}; apply deploy/ again")
        kept = read_secret(secret)
        self._take(kept)
        state = kept.state(_bundle(configuration))
        clock = time.monotonic()
        self._sightings = self._sightings.after(sights(state), clock)
        now = datetime.now(UTC)
        action = next_certificate_action(
            state, now, policy=self._policy, sightings=self._sightings, clock=clock
        )
        if action is CertificateAction.WAIT:
            return action
        if action is CertificateAction.PUBLISH:
            await self._publish(configuration or {}, kept)
        else:
            kept = self._after(action, kept, now)
            await self._kube.replace(SECRET, self._namespace, write_secret(secret, kept))
            self._take(kept)
        self._metrics.certificate_steps.labels(action.value).inc()
        log.info("certificate.step", step=action.value)
        return action

    def _after(self, action: CertificateAction, kept: Kept, now: datetime) -> Kept:
        if action is CertificateAction.SWITCH:
            return kept.switched()
        if action is CertificateAction.RETIRE:
            return kept.retired()
        life = timedelta(days=self._settings.certificate_days)
        pair = make_key_pair(self._policy.hosts, now=now, life=life)
        return kept.made(pair) if action is CertificateAction.MAKE else kept.prepared(pair)

    async def _publish(self, configuration: Mapping[str, Any], kept: Kept) -> None:
        await self._kube.set_authorities(
            self._settings.webhook_configuration,
            WEBHOOK,
            kept.authorities,
            resource_version=str(configuration["metadata"]["resourceVersion"]),
        )

    def _take(self, kept: Kept) -> None:
        if kept.current is None or kept.current == self._served:
            return
        state = kept.state(None)
        if state.current is None:
            return
        self._serve(kept.current)
        self._served = kept.current
        self._metrics.certificate_expiry.set(state.current.not_after.timestamp())
        self.serving.set()
        log.info("certificate.served", until=state.current.not_after.isoformat())


def _bundle(configuration: Mapping[str, Any] | None) -> bytes | None:
    """What the API server trusts where it calls our webhook; None where that is not configured."""
    for webhook in (configuration or {}).get("webhooks") or []:
        if webhook["name"] == WEBHOOK:
            try:
                return base64.b64decode(webhook["clientConfig"].get("caBundle") or "", validate=True)
            except (binascii.Error, ValueError):
                return b""
    return None
