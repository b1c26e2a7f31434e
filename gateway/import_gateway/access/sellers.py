"""Sellers' links: who opened the page by one, and whether it still stands. A seller is no account of the cluster."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from import_core.adapters.redis.queue import connect
from import_core.adapters.redis.seller_links import SellerLinkStore
from import_core.domain.callers import CallRate
from import_core.domain.errors import ImportOperatorError, QueueUnavailableError
from import_core.domain.seller_links import (
    ID_BYTES,
    SECRET_BYTES,
    NewLink,
    SellerLink,
    link_id_of,
    new_link,
    opens,
)
from import_gateway.access.brief_cache import BriefCache
from import_gateway.access.credentials import is_secure
from import_gateway.access.gatekeeper import CallLimits, TooManyCallsError
from import_gateway.settings import GatewaySettings

KNOWN_SECONDS = 3.0
"""A link that is revoked opens nothing after so long, in every replica."""
MOST_REMEMBERED = 10_000


class LinkInvalidError(ImportOperatorError):
    """The link is not valid any more: it has expired, was revoked or is unknown."""


class Sellers:
    """The links of the namespace; without Redis there are none."""

    def __init__(self, settings: GatewaySettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        url = settings.redis_url.get_secret_value()
        self._client: Redis | None = connect(url, client_name="import-gateway") if url else None
        self._store = SellerLinkStore(self._client, namespace=settings.namespace) if self._client else None
        self._known: BriefCache[SellerLink | None] = BriefCache(
            seconds=lambda _: KNOWN_SECONDS, most=MOST_REMEMBERED, clock=clock
        )
        self._limits = CallLimits(CallRate(settings.calls_per_minute / 60, settings.calls_burst), clock=clock)

    @property
    def store(self) -> SellerLinkStore:
        """Where links are kept. Raises QueueUnavailableError where the gateway has no Redis."""
        if self._store is None:
            raise QueueUnavailableError(
                "Sellers' links need Redis: the gateway has neither REDIS_URL nor REDIS_HOST"
            )
        return self._store

    async def create(self, *, company_id: str, minutes: int, created_by: str) -> NewLink:
        """Make and keep a link. Raises QueueUnavailableError."""
        random = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
        made = new_link(
            random,
            namespace=self._settings.namespace,
            company_id=company_id,
            created_by=created_by,
            now=datetime.now(UTC),
            minutes=minutes,
        )
        await self.store.put(made.link)
        return made

    async def open(self, token: str) -> SellerLink:
        """The link of a token. Raises LinkInvalidError, QueueUnavailableError."""
        link_id, store = link_id_of(token), self.store
        if link_id is None:
            raise LinkInvalidError
        link = await self._known.get(link_id, lambda: store.get(link_id))
        if link is None or not opens(link, token, namespace=self._settings.namespace, now=datetime.now(UTC)):
            raise LinkInvalidError
        return link

    async def revoke(self, link_id: str) -> bool:
        """Have a link open nothing any more; whether there was one. Raises QueueUnavailableError."""
        revoked = await self.store.revoke(link_id)
        self._known.forget(link_id)
        return revoked

    def count_call(self, link: SellerLink) -> None:
        """Count one more request. Raises TooManyCallsError above the limit of callers."""
        wait = self._limits.take(link.id)
        if wait > 0:
            raise TooManyCallsError(f"More requests than {self._limits.words}", retry_after=wait)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            await self._client.aclose()


def read_token(request: Request, settings: GatewaySettings) -> str:
    """The token in a seller's cookie. Raises LinkInvalidError where there is none."""
    token = request.cookies.get(cookie_name(settings), "")
    if not token:
        raise LinkInvalidError
    return token


def cookie_name(settings: GatewaySettings) -> str:
    """A cookie of its own: a seller's link never stands for an account, nor the other way round."""
    return "__Host-imports-seller" if is_secure(settings) else "imports-seller"


def set_seller(response: Response, token: str, link: SellerLink, settings: GatewaySettings) -> None:
    """Have the browser keep the token as long as the link lasts, out of reach of scripts and of other sites."""
    left = (link.expires_at - datetime.now(UTC)).total_seconds()
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=max(1, int(left)),
        path="/",
        httponly=True,
        samesite="strict",
        secure=is_secure(settings),
    )


def forget_seller(response: Response, settings: GatewaySettings) -> None:
    """Have the browser forget it."""
    response.delete_cookie(
        cookie_name(settings), path="/", httponly=True, samesite="strict", secure=is_secure(settings)
    )
