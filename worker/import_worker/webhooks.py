"""One attempt to deliver a message to a webhook: signed, bounded in time, only to addresses that may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Protocol

import httpcore2
from standardwebhooks import Webhook as Signer

from import_core.domain.addresses import AllowedNetwork, ForbiddenAddressError
from import_core.domain.limits import retry_after_seconds
from import_core.domain.notifications import Attempt
from import_worker.network import CheckedNetworkBackend, Resolver, resolve, tls_context

ATTEMPT_SECONDS = 15.0
"""From the first packet to the answer's status; Standard Webhooks asks for 15 to 30 seconds."""
CONNECT_SECONDS = 5.0
CONNECTIONS = 64
LONGEST_RETRY_AFTER = 100
"""Characters of a Retry-After header that are looked at."""


class Receiver(Protocol):
    """Where messages are sent."""

    async def send(
        self, url: str, body: str, *, message_id: str, secrets: Sequence[str], now: datetime
    ) -> Attempt:
        """Make one attempt; however it ends, it is told and not raised."""


class WebhookClient:
    """Sends messages over checked connections. Nothing of an answer is read but its status and Retry-After.

    `allow` opens addresses that are not public, and plain http to these alone.
    """

    def __init__(
        self,
        allow: Sequence[AllowedNetwork],
        *,
        resolver: Resolver = resolve,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._allow = tuple(allow)
        self._resolver = resolver
        self._attempt_seconds = attempt_seconds
        self._secure = _pool(CheckedNetworkBackend(self._allow, resolver))
        self._plain = _pool(CheckedNetworkBackend(self._allow, self._resolve_allowed))

    async def send(
        self, url: str, body: str, *, message_id: str, secrets: Sequence[str], now: datetime
    ) -> Attempt:
        """Make one attempt; the timestamp that is signed is `now`, so that receivers may refuse old messages."""
        headers = [
            ("content-type", "application/json"),
            ("user-agent", "import-operator-webhooks/1"),
            ("webhook-id", message_id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(Signer(secret).sign(message_id, now, body) for secret in secrets)),
        ]
        pool = self._plain if url.startswith("http://") else self._secure
        try:
            async with asyncio.timeout(self._attempt_seconds):
                return await self._post(pool, url, body.encode(), headers)
        except TimeoutError:
            return Attempt(error=f"no answer within {self._attempt_seconds:g} s")
        except ForbiddenAddressError as error:
            return Attempt(error=error.message)
        except (httpcore2.TimeoutException, httpcore2.NetworkError) as error:
            return Attempt(error=f"can't be reached: {type(error).__name__}: {error}")
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            return Attempt(error=f"does not speak HTTP: {type(error).__name__}")
        except (OSError, ValueError) as error:
            # What no library has a word for; untold, it would be tried for ever.
            return Attempt(error=f"can't be asked: {type(error).__name__}")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._secure.aclose()
        await self._plain.aclose()

    async def _post(
        self, pool: httpcore2.AsyncConnectionPool, url: str, body: bytes, headers: list[tuple[str, str]]
    ) -> Attempt:
        limits = {"connect": CONNECT_SECONDS, "read": self._attempt_seconds, "write": CONNECT_SECONDS}
        async with pool.stream(
            "POST",
            url,
            headers=[("host", _host(url)), ("content-length", str(len(body))), *headers],
            content=body,
            extensions={"timeout": limits},
        ) as answer:
            # The body is never read: closing the answer closes its connection where there is one.
            if 300 <= answer.status < 400:
                return Attempt(answer.status, error=f"answered {answer.status}: redirects are not followed")
            return Attempt(answer.status, retry_after=_retry_after(answer.headers))

    async def _resolve_allowed(self, host: str, port: int) -> Sequence[str]:
        """Addresses that plain http may be spoken to: those in the allow-list."""
        found = await self._resolver(host, port)
        for address in found:
            parsed = ip_address(address.partition("%")[0])
            if not any(entry.covers(parsed, port) for entry in self._allow):
                raise ForbiddenAddressError(
                    "plain http is for addresses in WEBHOOK_ALLOW only: the URL must be https"
                )
        return found


def _pool(backend: CheckedNetworkBackend) -> httpcore2.AsyncConnectionPool:
    return httpcore2.AsyncConnectionPool(
        ssl_context=tls_context(),
        max_connections=CONNECTIONS,
        max_keepalive_connections=0,
        network_backend=backend,
    )


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].partition("?")[0]


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """Seconds that the answer asks for."""
    found = [value for name, value in headers if name.lower() == b"retry-after"]
    text = found[0].decode("latin-1")[:LONGEST_RETRY_AFTER] if found else None
    return retry_after_seconds(text, now=datetime.now(UTC))
