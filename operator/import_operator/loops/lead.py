"""Holds the Lease, so that one replica leads; a standby takes over when it is given back or not renewed."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import LEASE
from import_core.domain.errors import (
    ImportOperatorError,
    LeaseUncertainError,
    ObjectConflictError,
    ObjectNotFoundError,
)
from import_core.domain.leadership import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    Candidacy,
    LeaseAction,
    LeaseView,
    decide,
)
from import_core.observability.logs import get_logger
from import_operator import metrics

log = get_logger(__name__)

ROUND_TIMEOUT_SECONDS = 5.0


class SupersededError(ImportOperatorError):
    """Another replica holds the Lease; this one must end."""


class Leadership:
    """This replica's hold on the Lease."""

    def __init__(self, kube: KubeClient, *, namespace: str, name: str, identity: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._candidacy = Candidacy(identity)
        self._body: dict[str, Any] | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica leads."""
        return self._candidacy.leading

    def check(self) -> None:
        """Raises LeaseUncertainError unless no other replica can lead at this moment."""
        if not self._candidacy.is_sure(time.monotonic()):
            raise LeaseUncertainError

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        while not self.leading:
            await self._round_or_wait()
            if not self.leading:
                await asyncio.sleep(RENEW_SECONDS)
        metrics.LEADING.set(1)
        log.info("lease.acquired", identity=self._candidacy.identity)

    async def keep(self) -> None:
        """Renew the Lease for ever. Raises SupersededError when another replica holds it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._round_or_wait()

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end."""
        metrics.LEADING.set(0)
        body = self._body
        if body is None or body["spec"].get("holderIdentity") != self._candidacy.identity:
            return
        try:
            async with asyncio.timeout(ROUND_TIMEOUT_SECONDS):
                body = {**body, "spec": {**body["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
                await self._kube.replace(LEASE, self._namespace, body)
            log.info("lease.released", identity=self._candidacy.identity)
        except (ImportOperatorError, TimeoutError) as error:
            log.warning("lease.not_released", message=str(error))

    async def _round_or_wait(self) -> None:
        try:
            async with asyncio.timeout(ROUND_TIMEOUT_SECONDS):
                await self._round()
        except (ObjectConflictError, ObjectNotFoundError):
            # Somebody else wrote first; the next look tells who.
            return
        except SupersededError:
            raise
        except (ImportOperatorError, TimeoutError) as error:
            # Also a refusal: an API server that has just started may not know its users' rights yet, and
            # only another holder of the Lease is a reason to end.
            log.warning("lease.unreachable", leading=self.leading, message=str(error))

    async def _round(self) -> None:
        self._body = await self._kube.get(LEASE, self._namespace, self._name)
        now = time.monotonic()
        self._candidacy = self._candidacy.after_look(_view(self._body), now)
        match decide(self._candidacy, now):
            case LeaseAction.CREATE:
                self._body = await self._kube.create(LEASE, self._namespace, self._wanted(transitions=0))
            case LeaseAction.TAKE | LeaseAction.RENEW as action:
                seen = self._candidacy.seen
                transitions = (seen.transitions if seen else 0) + (action is LeaseAction.TAKE)
                self._body = await self._kube.replace(
                    LEASE, self._namespace, self._wanted(transitions=transitions)
                )
            case LeaseAction.STEP_DOWN:
                raise SupersededError
            case LeaseAction.WAIT:
                return
        written = _view(self._body)
        if written is not None:
            self._candidacy = self._candidacy.after_write(written, time.monotonic(), asked_at=now)

    def _wanted(self, *, transitions: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (self._body or {}).get("spec") or {}
        identity = self._candidacy.identity
        kept = before.get("holderIdentity") == identity
        metadata: dict[str, Any] = {"name": self._name}
        if self._body is not None:
            metadata = self._body["metadata"]
        return {
            "metadata": metadata,
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": int(LEASE_SECONDS),
                "acquireTime": before.get("acquireTime", now) if kept else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }


def _view(body: dict[str, Any] | None) -> LeaseView | None:
    if body is None:
        return None
    spec = body.get("spec") or {}
    return LeaseView(
        holder=str(spec.get("holderIdentity") or ""),
        version=f"{spec.get('renewTime')} {spec.get('leaseTransitions')} {body['metadata'].get('uid')}",
        lease_seconds=float(spec.get("leaseDurationSeconds") or LEASE_SECONDS),
        transitions=int(spec.get("leaseTransitions") or 0),
    )
