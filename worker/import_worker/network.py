"""Connections to servers that merchants name: a name is resolved once, and only checked addresses are used.

The check and the connection use the same answer of DNS, so a name that answers differently the second time
(DNS rebinding) gains nothing. TLS and the Host header keep the name: only the connection is pinned.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore2
import httpx2

from import_core.domain.addresses import AllowedNetwork, ForbiddenAddressError, IPAddress, refusal

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name as text; raises OSError, or UnicodeError for what can't be a name."""

RESOLVE_TIMEOUT = 10.0
MAX_ADDRESSES_TRIED = 3


async def resolve(host: str, port: int) -> Sequence[str]:
    """Resolve with the system's resolver, outside the event loop's thread."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def checked_addresses(
    host: str, port: int, allow: Sequence[AllowedNetwork], resolver: Resolver = resolve
) -> list[IPAddress]:
    """The addresses of a host, resolved once, all of which may be connected to.

    Raises ForbiddenAddressError, and OSError or UnicodeError for a name that can't be resolved.
    """
    async with asyncio.timeout(RESOLVE_TIMEOUT):
        answers = await resolver(host, port)
    addresses = [ipaddress.ip_address(answer.partition("%")[0]) for answer in answers]
    for address in addresses:
        # One forbidden answer among public ones is refused too: an honest host has no such answer.
        reason = refusal(address, port, allow)
        if reason is not None:
            raise ForbiddenAddressError(f"{host} resolves to {address}, {reason}")
    return addresses


class CheckedNetworkBackend(httpcore2.AsyncNetworkBackend):
    """Opens TCP connections to public addresses and those in the allow-list, and to no other."""

    def __init__(self, allow: Sequence[AllowedNetwork], resolver: Resolver) -> None:
        self._allow = tuple(allow)
        self._resolver = resolver
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers; raises ForbiddenAddressError."""
        addresses = await self._checked_addresses(host, port)
        last_error: Exception | None = None
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            try:
                return await self._backend.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last_error = error
        raise last_error or httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no URL names a socket file."""
        raise ForbiddenAddressError("a socket file is no address")

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await self._backend.sleep(seconds)

    async def _checked_addresses(self, host: str, port: int) -> list[IPAddress]:
        try:
            return await checked_addresses(host, port, self._allow, self._resolver)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise httpcore2.ConnectError(f"the name {host} can't be resolved: {error}") from error


class CheckedTransport(httpx2.AsyncHTTPTransport):
    """Carries an HTTP client's requests over checked connections; requests raise ForbiddenAddressError too."""

    def __init__(self, allow: Sequence[AllowedNetwork], limits: httpx2.Limits) -> None:
        super().__init__(verify=tls_context(), limits=limits, trust_env=False)
        # The client library takes no network backend of one's own, so its pool is replaced by one that has it.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=CheckedNetworkBackend(allow, resolve),
        )


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The usual certificate authorities; shared, because loading them takes a while."""
    return httpx2.create_ssl_context(trust_env=False)
