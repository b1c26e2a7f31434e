"""What stands before each provider call of this worker: the circuit breakers that all workers share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore, Look
from import_core.adapters.postgres.notifications import BREAKER_CHANNEL, Notification
from import_core.domain.breaker import CLOSED, Breaker, BreakerPolicy, seconds_until_probe
from import_core.domain.errors import BreakerOpenError, DatabaseUnavailableError
from import_core.domain.jobs import WaitingReason
from import_core.domain.resources.import_provider import BreakerState
from import_core.observability.labels import provider_label
from import_core.observability.metrics import WorkerMetrics
from import_worker.listening import listen_for_ever
from import_worker.providers.base import Permit

log = structlog.get_logger(__name__)

TRUSTED_SECONDS = 1.0
"""What was read is believed for so long, unless a notification says that it changed."""
ASK_SECONDS = 2.0
"""A database that does not answer in time is no reason to stop calling a provider."""
AFTER_SILENCE_SECONDS = 5.0
"""It is then asked again after this time, so that calls are not slowed down by it."""
PROBE_SLACK_SECONDS = 15.0
"""A probe's holder may take so much longer than the call itself; it is taken for dead after that."""
KEPT = 1_000
"""Connections whose breaker is remembered."""
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Known:
    """A breaker as last read, and the loop's times when that was and until when it is believed."""

    look: Look
    read_at: float
    trusted_until: float = -1.0
    doubts: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Breakers:
    """The breakers as this worker knows them: read at most once a second each, and again when one changes.

    Counting and probing are exact over all workers, because they happen in PostgreSQL; what is kept here only
    saves asking before each call. While PostgreSQL is away the last known state holds, or else calls go through.
    """

    def __init__(self, database: Database, metrics: WorkerMetrics) -> None:
        self._database = database
        self.store = BreakerStore(database)
        self.metrics = metrics
        self._known: dict[tuple[str, str], _Known] = {}

    def guard(
        self, namespace: str, name: str, *, policy: BreakerPolicy, timeout_seconds: float, provider_type: str
    ) -> ConnectionGuard:
        """The guard of one connection, for one job or check."""
        return ConnectionGuard(
            self, (namespace, name), policy, timeout_seconds + PROBE_SLACK_SECONDS, provider_type
        )

    async def run(self) -> None:
        """Listen for ever, so that a change anywhere is known here at once."""
        await listen_for_ever(self._database, [BREAKER_CHANNEL], self._take, name="breakers")

    def _take(self, notification: Notification) -> None:
        self._doubt(notification.payload.split(",") if notification.channel else None)

    async def look(self, key: tuple[str, str]) -> tuple[Breaker, datetime | None]:
        """The breaker and the database's time, as far as known; a closed one and None where nothing is."""
        clock = asyncio.get_running_loop().time
        known = self._known.get(key)
        if known is None:
            self._bound()
            known = self._known[key] = _Known(Look(CLOSED, _NEVER), 0.0)
        if known.trusted_until < clock():
            async with known.reading:
                if known.trusted_until < clock():
                    await self._read(key, known)
        if known.look.at is _NEVER:
            return CLOSED, None
        return known.look.breaker, known.look.at + timedelta(seconds=clock() - known.read_at)

    def note(self, key: tuple[str, str]) -> None:
        """Read a breaker anew before it is believed again."""
        known = self._known.get(key)
        if known is not None:
            known.doubts += 1
            known.trusted_until = -1.0

    async def _read(self, key: tuple[str, str], known: _Known) -> None:
        clock = asyncio.get_running_loop().time
        try:
            started, doubts = clock(), known.doubts
            async with asyncio.timeout(ASK_SECONDS):
                known.look = await self.store.read(*key)
            known.read_at = started
            # What changed while it was read is read again before the next call.
            known.trusted_until = started + TRUSTED_SECONDS if known.doubts == doubts else -1.0
        except (DatabaseUnavailableError, TimeoutError) as error:
            known.trusted_until = clock() + AFTER_SILENCE_SECONDS
            log.warning("breaker.unknown", connection=key[1], detail=str(error))

    def _doubt(self, references: list[str] | None) -> None:
        if references is None:
            for key in self._known:
                self.note(key)
            return
        for reference in references:
            namespace, _, name = reference.partition("/")
            self.note((namespace, name))

    def _bound(self) -> None:
        while len(self._known) >= KEPT:
            del self._known[next(iter(self._known))]


class ConnectionGuard:
    """One connection's guard: asks its breaker before each call and tells it how each one ended."""

    def __init__(
        self,
        breakers: Breakers,
        key: tuple[str, str],
        policy: BreakerPolicy,
        lease_seconds: float,
        provider_type: str,
    ) -> None:
        self._breakers = breakers
        self._key = key
        self._policy = policy
        self._lease_seconds = lease_seconds
        self._type = provider_label(provider_type)

    async def check(self) -> None:
        """Raise BreakerOpenError where no call may be sent now."""
        breaker, now = await self._breakers.look(self._key)
        if now is not None and (wait := seconds_until_probe(breaker, now)) > 0:
            raise self._held(breaker, wait)

    async def enter(self) -> Permit:
        """Let one call through, or raise BreakerOpenError; an open breaker's probe is taken here."""
        breaker, _ = await self._breakers.look(self._key)
        if breaker.state is BreakerState.CLOSED:
            return Permit()
        holder = uuid.uuid4().hex
        try:
            async with asyncio.timeout(ASK_SECONDS):
                admission = await self._breakers.store.enter(
                    *self._key, holder=holder, lease_seconds=self._lease_seconds
                )
        except (DatabaseUnavailableError, TimeoutError) as error:
            # It may be taken, and runs out then; without its word no other call may go.
            raise self._held(breaker, self._policy.open_seconds) from error
        finally:
            self._breakers.note(self._key)
        if admission.wait_seconds is not None:
            raise self._held(admission.after, admission.wait_seconds)
        if admission.is_probe:
            log.info("breaker.probing", connection=self._key[1])
        return Permit(holder if admission.is_probe else None)

    async def succeeded(self, permit: Permit) -> None:
        """Told only where it changes something."""
        breaker, _ = await self._breakers.look(self._key)
        if permit.probe is None and (breaker.state is not BreakerState.CLOSED or not breaker.failures):
            return
        after = await self._told(self._breakers.store.succeeded(*self._key, holder=permit.probe))
        if permit.probe is not None and after is not None and after.state is BreakerState.CLOSED:
            log.info("breaker.closed", connection=self._key[1])

    async def failed(self, permit: Permit) -> BreakerOpenError | int:
        """Count it: the failures in a row, or the error where the breaker is open now."""
        self._breakers.metrics.provider_failures.labels(self._type).inc()
        before, _ = await self._breakers.look(self._key)
        after = await self._told(
            self._breakers.store.failed(*self._key, holder=permit.probe, policy=self._policy)
        )
        if after is None or after.state is BreakerState.CLOSED:
            return after.failures if after is not None else 0
        if before.state is BreakerState.CLOSED:
            log.warning("breaker.opened", connection=self._key[1], failures=after.failures)
        return self._refusal(after, self._policy.open_seconds)

    async def abandoned(self, permit: Permit) -> None:
        """Let another call probe, after the usual time."""
        if permit.probe is not None:
            await self._told(
                self._breakers.store.abandoned(*self._key, holder=permit.probe, policy=self._policy)
            )

    def throttled(self) -> None:
        """Count it."""
        self._breakers.metrics.provider_throttled.labels(self._type).inc()

    async def _told(self, telling: Coroutine[Any, Any, Breaker]) -> Breaker | None:
        """The breaker afterwards; None where the database is away: a failure is not counted then, and a probe
        that nobody hears of runs out."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await telling
        except (DatabaseUnavailableError, TimeoutError) as error:
            log.warning("breaker.not_told", connection=self._key[1], detail=str(error))
            return None
        finally:
            self._breakers.note(self._key)

    def _held(self, breaker: Breaker, wait: float) -> BreakerOpenError:
        """Count a call that is not sent."""
        self._breakers.metrics.provider_breaker_refusals.labels(self._type).inc()
        return self._refusal(breaker, wait)

    def _refusal(self, breaker: Breaker, wait: float) -> BreakerOpenError:
        if breaker.is_forced:
            why = f"{breaker.forced_by} opened its circuit breaker"
            why += f" ({breaker.forced_reason})" if breaker.forced_reason else ""
        else:
            why = f"it failed {breaker.failures} times in a row"
        return BreakerOpenError(
            f"The provider of {self._key[1]} is left alone: {why}.",
            retry_after=wait,
            waiting_reason=WaitingReason.BREAKER_OPEN,
        )
