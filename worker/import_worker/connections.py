"""From an ImportProvider and its Secret to a provider that can be called: what the worker asks Kubernetes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from import_core.adapters.redis.limiter import SlidingWindowLimiter
from import_core.domain.addresses import AllowedNetwork
from import_core.domain.breaker import BreakerPolicy
from import_core.domain.errors import CredentialsError, ProviderNotFoundError
from import_core.domain.resources.import_provider import ImportProvider, parse_import_provider
from import_core.observability.redaction import hide_values
from import_worker.breakers import Breakers
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.providers.base import (
    CallGuard,
    CatalogueFilter,
    Connection,
    Provider,
    RateLimiter,
)
from import_worker.providers.metering import ConnectionMeter, MeteredLimiter
from import_worker.providers.outcomes import CallMeter, NoMeter
from import_worker.providers.registry import PROVIDERS


class ProviderDirectory(Protocol):
    """Where ImportProviders and Secrets are read; the worker may read those of its own namespace only.

    Both raise KubernetesUnavailableError.
    """

    async def get_provider(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The ImportProvider object, or None."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The Secret's values as text, or None."""


class ConnectionOpener:
    """Opens connections of the worker's own namespace.

    `wait_seconds` bounds the wait for a connection's call limit; `clock_scale` is the limiter's; `allow` are
    networks that may be called although they are not public; `browser` is for providers that read pages.
    """

    def __init__(
        self,
        directory: ProviderDirectory,
        redis: Redis,
        *,
        namespace: str,
        breakers: Breakers,
        wait_seconds: float,
        clock_scale: float = 1.0,
        allow: Sequence[AllowedNetwork] = (),
        browser: ChromiumBrowser | None = None,
    ) -> None:
        self.namespace = namespace
        self._directory = directory
        self._redis = redis
        self.breakers = breakers
        self._wait_seconds = wait_seconds
        self._clock_scale = clock_scale
        self._allow = tuple(allow)
        self._browser = browser

    async def find(self, name: str) -> ImportProvider:
        """The ImportProvider. Raises ProviderNotFoundError and InvalidResourceError."""
        body = await self._directory.get_provider(self.namespace, name)
        if body is None:
            raise ProviderNotFoundError(f"there is no ImportProvider {name} in namespace {self.namespace}")
        return parse_import_provider(body)

    async def open(
        self,
        found: ImportProvider,
        catalogue_filter: CatalogueFilter,
        *,
        longest_call_seconds: float = math.inf,
    ) -> Provider:
        """A provider ready to be called; the caller closes it. No call takes longer than the spec or this says.

        Raises CredentialsError, and ProviderRejectedError for an address that can't be called.
        """
        credentials = await self._credentials(found)
        # Whatever an error says of them, and wherever it is logged.
        hide_values(credentials.values())
        meter = ConnectionMeter(self.breakers.metrics, found.spec.type.value)
        timeout = min(float(found.spec.timeout_seconds), longest_call_seconds)
        guard = self.breakers.guard(
            self.namespace,
            found.metadata.name,
            policy=BreakerPolicy(
                found.spec.circuit_breaker.failure_threshold, float(found.spec.circuit_breaker.open_seconds)
            ),
            timeout_seconds=timeout,
            provider_type=found.spec.type.value,
        )
        connection = connection_of(
            found,
            credentials,
            namespace=self.namespace,
            timeout_seconds=timeout,
            allow=self._allow,
            guard=guard,
            meter=meter,
            browser=self._browser,
        )
        limiter = MeteredLimiter(
            shared_limiter(
                found,
                self._redis,
                key=connection.key,
                max_wait=self._wait_seconds,
                clock_scale=self._clock_scale,
            ),
            meter,
        )
        return PROVIDERS[connection.type](connection, limiter, catalogue_filter)

    async def _credentials(self, found: ImportProvider) -> Mapping[str, str]:
        """The values of the provider's Secret; empty for one that needs none."""
        reference = found.spec.credentials_secret_ref
        if reference is None:
            return {}
        credentials = await self._directory.get_secret(self.namespace, reference.name)
        if credentials is None:
            raise CredentialsError(f"there is no Secret {reference.name} in namespace {self.namespace}")
        return credentials


def connection_of(
    found: ImportProvider,
    credentials: Mapping[str, str],
    *,
    namespace: str,
    timeout_seconds: float,
    allow: tuple[AllowedNetwork, ...],
    guard: CallGuard,
    meter: CallMeter | None = None,
    browser: ChromiumBrowser | None = None,
) -> Connection:
    """An ImportProvider of a namespace with its Secret's values, as providers take it."""
    return Connection(
        key=f"{namespace}/{found.metadata.name}",
        type=found.spec.type.value,
        company_id=found.spec.company_id,
        base_url=found.spec.effective_base_url,
        credentials=credentials,
        timeout_seconds=timeout_seconds,
        allow=allow,
        guard=guard,
        meter=meter or NoMeter(),
        whatsapp=found.spec.whatsapp,
        browser=browser,
    )


def shared_limiter(
    found: ImportProvider, redis: Redis, *, key: str, max_wait: float, clock_scale: float
) -> RateLimiter:
    """The limiter of a connection that everybody shares who calls it; `max_wait` in seconds."""
    limit = found.spec.effective_rate_limit
    return SlidingWindowLimiter(
        redis,
        key=key,
        requests=limit.requests,
        per_seconds=float(limit.per_seconds),
        clock_scale=clock_scale,
        max_wait=max_wait,
    )
