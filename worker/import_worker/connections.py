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
from import_worker.breakers import Breakers
from import_worker.providers.base import CatalogueFilter, Connection, Provider, RateLimiter
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
    networks that may be called although they are not public.
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
    ) -> None:
        self.namespace = namespace
        self._directory = directory
        self._redis = redis
        self.breakers = breakers
        self._wait_seconds = wait_seconds
        self._clock_scale = clock_scale
        self._allow = tuple(allow)

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
        secret_name = found.spec.credentials_secret_ref.name
        credentials = await self._directory.get_secret(self.namespace, secret_name)
        if credentials is None:
            raise CredentialsError(f"there is no Secret {secret_name} in namespace {self.namespace}")
        timeout = min(float(found.spec.timeout_seconds), longest_call_seconds)
        connection = Connection(
            key=f"{self.namespace}/{found.metadata.name}",
            type=found.spec.type.value,
            company_id=found.spec.company_id,
            base_url=found.spec.base_url,
            credentials=credentials,
            timeout_seconds=timeout,
            allow=self._allow,
            guard=self.breakers.guard(
                self.namespace,
                found.metadata.name,
                policy=BreakerPolicy(
                    found.spec.circuit_breaker.failure_threshold,
                    float(found.spec.circuit_breaker.open_seconds),
                ),
                timeout_seconds=timeout,
                provider_type=found.spec.type.value,
            ),
        )
        return PROVIDERS[connection.type](connection, self._limiter(found, connection.key), catalogue_filter)

    def _limiter(self, found: ImportProvider, key: str) -> RateLimiter:
        limit = found.spec.effective_rate_limit
        return SlidingWindowLimiter(
            self._redis,
            key=key,
            requests=limit.requests,
            per_seconds=float(limit.per_seconds),
            clock_scale=self._clock_scale,
            max_wait=self._wait_seconds,
        )
