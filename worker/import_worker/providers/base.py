"""What a provider is: something that yields a catalogue page by page and knows nothing of databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from import_core.domain.addresses import AllowedNetwork
from import_core.domain.errors import BreakerOpenError, CredentialsError
from import_core.domain.limits import CostBucket, Grant
from import_core.domain.products import Page
from import_core.domain.resources.whatsapp import WhatsAppSettings
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.providers.outcomes import CallMeter, NoMeter


class RateLimiter(Protocol):
    """Waits until one more API call of this connection is within its limit, over all workers."""

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        """Return when a call may be sent; raises HandBackError when the wait would be too long.

        `points`: what the call costs of a bucket that the provider keeps. `release` has to follow, or `arrived`
        and `observe`. `instead_of`: a grant that got too old before anything was sent, and is given back.
        """

    async def block(self, seconds: float) -> None:
        """Obey the provider's own word: nobody calls for this many seconds."""

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        """Tell the other workers what the answer to a call said of the provider's bucket; None: nothing."""

    async def arrived(self, grant: Grant, by: float) -> None:
        """Tell by when, of the event loop's time, a call had reached the provider at the latest."""

    async def release(self, grant: Grant, points: float) -> None:
        """Give a grant back that no call was sent with."""


@dataclass(frozen=True, slots=True)
class Permit:
    """A call that the connection's breaker lets through; `probe` names it where its end decides."""

    probe: str | None = None


class CallGuard(Protocol):
    """What stands before a connection's calls beside the limiter: its circuit breaker, and the counting."""

    async def check(self) -> None:
        """Raise BreakerOpenError where no call may be sent now. Cheap: asked before the limiter is."""

    async def enter(self) -> Permit:
        """Let one call through. One of the next three has to follow. Raises BreakerOpenError."""

    async def succeeded(self, permit: Permit) -> None:
        """The provider answered, if only by refusing the request."""

    async def failed(self, permit: Permit) -> BreakerOpenError | int:
        """The provider failed; the error is for its job where the breaker is open now, else there are so many
        failures in a row, this one among them; 0: not known."""

    async def abandoned(self, permit: Permit) -> None:
        """The call was not sent, or was cancelled."""

    def throttled(self) -> None:
        """The provider said that it was asked too often."""


class NoGuard:
    """Lets everything through, for calls that are no connection's."""

    async def check(self) -> None:
        """Nothing to check."""

    async def enter(self) -> Permit:
        """Always."""
        return Permit()

    async def succeeded(self, permit: Permit) -> None:
        """Not kept."""

    async def failed(self, permit: Permit) -> BreakerOpenError | int:
        """Not kept."""
        return 0

    async def abandoned(self, permit: Permit) -> None:
        """Not kept."""

    def throttled(self) -> None:
        """Not counted."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One company's connection to one provider account, resolved for one job.

    `credentials` are the Secret's values and are never logged. `timeout_seconds` bounds each API call.
    """

    key: str
    """namespace/name of the ImportProvider: the limiter's and the breaker's key."""
    type: str
    company_id: str
    base_url: str
    credentials: Mapping[str, str] = field(repr=False)
    timeout_seconds: float = 30.0
    allow: tuple[AllowedNetwork, ...] = ()
    """Networks that may be called although they are not public."""
    guard: CallGuard = field(default_factory=NoGuard, repr=False, compare=False)
    meter: CallMeter = field(default_factory=NoMeter, repr=False, compare=False)
    whatsapp: WhatsAppSettings | None = None
    browser: ChromiumBrowser | None = field(default=None, repr=False, compare=False)
    """The process's browser, for providers that read pages."""

    def credential(self, key: str) -> str | None:
        """One of the Secret's values; None where it is absent or empty.

        Raises CredentialsError naming the key where the value can't be sent in an HTTP header.
        """
        value = self.credentials.get(key)
        if not value:
            return None
        if value.endswith(("\n", "\r")):
            raise CredentialsError(
                f"The value of {key} in the provider's Secret ends in a line break; make the Secret without it"
                " (printf instead of echo)."
            )
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise CredentialsError(
                f"The value of {key} in the provider's Secret has a character that no credential has: only"
                " printable ASCII characters, without blanks around them, can be sent."
            )
        return value


@dataclass(frozen=True, slots=True)
class CatalogueFilter:
    """Which products to fetch; `updated_after` is an RFC 3339 time.

    `is_current`: all that is read must be read anew since the job began, because what it lacks is archived. A
    listing that somebody else began earlier may lack a product that is newer than it.
    """

    updated_after: str | None = None
    is_current: bool = False


class Provider(Protocol):
    """One provider account. Errors: CredentialsError, ProviderRejectedError, ProviderUnavailableError,
    ProviderThrottledError, HandBackError; nothing else leaves it."""

    async def check(self) -> None:
        """Prove with one cheap call that the account is reachable and the credentials are valid."""

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncIterator[Page]:
        """Yield the catalogue from after `cursor` (None: from the start)."""

    def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        """Yield these products, in pages: each asked for comes once, as a product or as a failure.

        One that the source no longer has is a failure with the reason GoneFromSource. Pages have no cursor
        and no total; what was read before an error is yielded first. No filter applies.
        """

    def preview(self) -> AsyncGenerator[Page, None]:
        """Yield the catalogue from the start as `pages` does, without setting anything going at the provider that
        outlives a call: for somebody who looks at its first page."""

    async def aclose(self) -> None:
        """Close connections."""


def starts_over(cursor: Mapping[str, Any] | None, *, version: int) -> bool:
    """Whether a stored cursor is of another version: it can't be read, so the catalogue starts over."""
    return cursor is not None and cursor.get("version") != version


async def restarted(pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Page, None]:
    """The same pages, of which the first says that the catalogue starts over."""
    is_first = True
    async with aclosing(pages):
        async for page in pages:
            yield replace(page, restarted=is_first or page.restarted)
            is_first = False


ProviderFactory = Callable[[Connection, RateLimiter, CatalogueFilter], Provider]
