"""Who calls, and whether they may: asked of the API server, remembered for a short time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from import_core.adapters.kube.client import KubeClient
from import_core.domain.callers import Action, Bucket, Caller, CallRate, is_full_again, take_call
from import_core.domain.errors import ImportOperatorError, KubernetesUnavailableError
from import_gateway.access.authority import ApiServerAuthority, Authority
from import_gateway.access.brief_cache import BriefCache
from import_gateway.settings import GatewaySettings

KNOWN_SECONDS = 30.0
"""A token that is revoked, or a right that is taken away, works for so long at most."""
UNKNOWN_SECONDS = 5.0
"""A refusal holds for a shorter time: who was just given a right should not have to wait."""
MOST_REMEMBERED = 10_000
REVIEWS_AT_ONCE = 16
"""Tokens that are asked about at the same time, of callers who were known lately and as many of strangers: somebody
who makes up tokens keeps no others from the API server."""
STRANGERS_REMEMBERED = 1_000
"""Tokens that stand for nobody; they push no others out."""
LONGEST_TOKEN = 16_384


class NotAuthenticatedError(ImportOperatorError):
    """A valid bearer token is needed."""


class NotAllowedError(ImportOperatorError):
    """The caller may not do this."""


class TooManyCallsError(ImportOperatorError):
    """The caller sends too many requests."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a token stands for; None: nobody."""

    caller: Caller | None


class Gatekeeper:
    """Authenticates, limits and authorises callers; no user store of our own, no token kept in the clear."""

    def __init__(
        self,
        kube: KubeClient | None,
        settings: GatewaySettings,
        *,
        authority: Authority | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`authority`: who is asked instead of the API server."""
        if authority is None:
            if kube is None:
                raise ValueError("there is nobody to ask about tokens")
            authority = ApiServerAuthority(kube, audience=settings.token_audience)
        self._authority = authority
        self._audience = settings.token_audience
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._reviews = asyncio.Semaphore(REVIEWS_AT_ONCE)
        self._strangers_reviews = asyncio.Semaphore(REVIEWS_AT_ONCE)
        self._tokens: BriefCache[_Known] = BriefCache(
            seconds=lambda _: KNOWN_SECONDS, most=MOST_REMEMBERED, clock=clock
        )
        self._strangers: BriefCache[_Known] = BriefCache(
            seconds=lambda _: UNKNOWN_SECONDS, most=STRANGERS_REMEMBERED, clock=clock
        )
        self._rights: BriefCache[bool] = BriefCache(
            seconds=lambda allowed: KNOWN_SECONDS if allowed else UNKNOWN_SECONDS,
            most=MOST_REMEMBERED,
            clock=clock,
        )
        self._limits = CallLimits(CallRate(settings.calls_per_minute / 60, settings.calls_burst), clock=clock)

    def knows(self, token: str) -> bool:
        """Whether the token has stood for somebody of late, be it to ask once more whether it still does."""
        return self._key(token) in self._tokens

    async def authenticate(self, token: str) -> Caller:
        """Whose token it is. Raises NotAuthenticatedError, KubernetesUnavailableError, ObjectForbiddenError."""
        if not token or len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
            raise NotAuthenticatedError
        key = self._key(token)
        if key in self._tokens:
            known = await self._tokens.get(key, lambda: self._review(token, self._reviews))
        else:
            known = await self._strangers.get(key, lambda: self._review(token, self._strangers_reviews))
        self._sort(key, known)
        if known.caller is None:
            raise NotAuthenticatedError(
                "The token is not valid: it has expired, or it was made for another audience than "
                f"{self._audience}"
            )
        return known.caller

    async def may(self, caller: Caller, action: Action, *, namespace: str, name: str = "") -> bool:
        """Whether the caller may do that. Raises KubernetesUnavailableError, ObjectForbiddenError."""
        return await self._rights.get(
            (caller.key, action, namespace, name),
            lambda: self._authority.allows(caller, action, namespace=namespace, name=name),
        )

    async def authorise(self, caller: Caller, action: Action, *, namespace: str, name: str = "") -> None:
        """Let pass who may do that. Raises NotAllowedError and what `may` raises."""
        if not await self.may(caller, action, namespace=namespace, name=name):
            subject = f"{name} in namespace {namespace}" if name else f"namespace {namespace}"
            raise NotAllowedError(f"{caller.username} may not {action.words}: {subject}")

    def count_call(self, caller: Caller) -> None:
        """Count one more request. Raises TooManyCallsError above the limit."""
        wait = self._limits.take(caller.account)
        if wait > 0:
            raise TooManyCallsError(
                f"{caller.username} sends more requests than {self._limits.words}", retry_after=wait
            )

    def _key(self, token: str) -> bytes:
        return hmac.digest(self._salt, token.encode("utf-8", "replace"), hashlib.sha256)

    def _sort(self, key: bytes, known: _Known) -> None:
        """Keep good tokens and others apart."""
        if known.caller is None and key in self._tokens:
            self._tokens.forget(key)
            self._strangers.put(key, known)
        elif known.caller is not None and key not in self._tokens:
            self._strangers.forget(key)
            self._tokens.put(key, known)

    async def _review(self, token: str, reviews: asyncio.Semaphore) -> _Known:
        try:
            async with asyncio.timeout(5.0):
                await reviews.acquire()
        except TimeoutError as error:
            raise KubernetesUnavailableError("Too many tokens wait for the API server's word") from error
        try:
            return _Known(await self._authority.whose(token))
        finally:
            reviews.release()


class CallLimits:
    """A token bucket for each caller, in this replica's memory; those that are full again are forgotten."""

    def __init__(self, rate: CallRate, *, clock: Callable[[], float], most: int = MOST_REMEMBERED) -> None:
        self._rate = rate
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def words(self) -> str:
        """The limit, for people."""
        return f"{self._rate.per_second * 60:g} a minute, or {self._rate.burst} at once"

    def take(self, key: str) -> float:
        """Count a call; returns seconds to wait, 0 where it may go on."""
        now = self._clock()
        bucket, wait = take_call(self._buckets.pop(key, None), self._rate, now)
        self._buckets[key] = bucket
        while self._buckets:
            oldest = next(iter(self._buckets))
            spent = not is_full_again(self._buckets[oldest], self._rate, now)
            if oldest == key or (spent and len(self._buckets) <= self._most):
                break
            del self._buckets[oldest]
        return wait
