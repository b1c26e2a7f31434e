"""ImportProvider: one company's connection to one provider account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from import_core.domain.resources.common import (
    CompanyId,
    Conditions,
    Count,
    Generation,
    Message,
    NameReference,
    ObjectMeta,
    PrinterColumn,
    ResourceDefinition,
    ResourceModel,
    Rule,
    Timestamp,
    immutable,
    parse,
)
from import_core.domain.resources.whatsapp import GRAPH_URL, WhatsAppMode, WhatsAppSettings


class ProviderType(StrEnum):
    """The providers that can be imported from."""

    SHOPIFY = "shopify"
    ROASTIFY = "roastify"
    WHATSAPP = "whatsapp"


class NotificationEvent(StrEnum):
    """What a webhook can be told of."""

    PROGRESS = "import.progress"
    COMPLETED = "import.completed"
    FAILED = "import.failed"
    CANCELLED = "import.cancelled"
    DEAD_LETTERED = "product.dead_lettered"
    LIVE = "catalogue.live"


class BreakerState(StrEnum):
    """State of a circuit breaker."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# A last label of digits would make it an IPv4 address, and there are no other forms of those here.
_NAME = rf"({_LABEL}\.)*[A-Za-z]([A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_GROUP = r"[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    (
        rf"({_GROUP}:){{7}}{_GROUP}",
        rf"({_GROUP}:){{1,7}}:",
        *(rf"({_GROUP}:){{1,{7 - after}}}(:{_GROUP}){{1,{after}}}" for after in range(1, 7)),
        rf":(:{_GROUP}){{1,7}}",
        r"::",
        rf"({_GROUP}:){{6}}{_IPV4}",
        rf"(::([Ff]{{4}}:)?|64:[Ff]{{2}}9[Bb]::){_IPV4}",
    )
)
_HOST = rf"({_NAME}|{_IPV4}|\[({_IPV6})\])"
_PORT = r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
BASE_URL = re.compile(rf"https?://{_HOST}{_PORT}(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?")
_LENGTH = re.compile(r"https?://(\[|[^:/]{1,253}([:/]|$)).*")
"""A host name has at most 253 characters (RFC 1035)."""


class RateLimit(ResourceModel):
    """API calls of this connection, over all workers. Downloads of images from a CDN don't count."""

    requests: Annotated[int, Field(ge=1, le=100_000)]
    """At most so many API calls within any window of perSeconds."""
    per_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Length of the window in seconds."""


DEFAULT_RATE_LIMITS: Mapping[ProviderType, RateLimit] = {
    ProviderType.SHOPIFY: RateLimit(requests=120),
    ProviderType.ROASTIFY: RateLimit(requests=100),
    ProviderType.WHATSAPP: RateLimit(requests=30),
}
"""Used where a provider names no limit (docs/reference/lifecycle.md)."""


class CircuitBreaker(ResourceModel):
    """When to leave a failing provider alone: no connection, no answer in time or a server error is a failure."""

    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 5
    """Opens after so many failures in a row."""
    open_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Stays open for so many seconds, then lets one call through to probe."""


def _cel_regex(pattern: str) -> str:
    return "'" + pattern.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WEBHOOK_URL = re.compile(rf"{BASE_URL.pattern}(\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?")


class Notifications(ResourceModel):
    """A webhook that is told of this connection's imports, by signed messages (Standard Webhooks)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="events",
            cel="self.events.all(event, self.events.exists_one(other, other == event))",
            message="events: every event may be named once",
            check=lambda told: len(set(told.events)) == len(told.events),
        ),
        Rule(
            field="url",
            # On the whole and not on the field, so that a refused URL is not repeated back: it may hold a secret.
            cel=" && ".join(
                f"self.url.matches({_cel_regex(f'^{pattern.pattern}$')})"
                for pattern in (_WEBHOOK_URL, _LENGTH)
            ),
            message="url: must be an https URL with a valid host and port, and without user, password or fragment",
            check=lambda told: bool(_WEBHOOK_URL.fullmatch(told.url) and _LENGTH.fullmatch(told.url)),
        ),
    )

    url: Annotated[str, Field(min_length=1, max_length=2048)]
    """Where messages are sent, such as https://example.com/hooks/imports. Public servers, by https; others only where
    the workers' WEBHOOK_ALLOW names them. Redirects are not followed."""
    secret_ref: NameReference
    """The Secret, in the same namespace, that messages are signed with: webhookSecret (whsec_ and base64), and while
    it is exchanged also previousWebhookSecret."""
    events: Annotated[
        tuple[Annotated[NotificationEvent, Field(strict=False)], ...],
        Field(
            strict=False, min_length=1, max_length=6, json_schema_extra={"x-kubernetes-list-type": "atomic"}
        ),
    ] = tuple(NotificationEvent)
    """What it is told of; everything by default. import.progress comes every ten seconds at most for each import."""


def _in_mode(mode: WhatsAppMode) -> str:
    return f"(has(self.whatsapp) && self.whatsapp.mode == '{mode.value}')"


class ImportProviderSpec(ResourceModel):
    """How to reach the provider account. companyId and type can't be changed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        immutable("companyId"),
        immutable("type"),
        Rule(
            field="baseUrl",
            # On the spec and not on the field, so that a refused URL's password is not repeated back.
            cel="!has(self.baseUrl) || ("
            + " && ".join(
                f"self.baseUrl.matches({_cel_regex(f'^{pattern.pattern}$')})"
                for pattern in (BASE_URL, _LENGTH)
            )
            + ")",
            message="baseUrl: must be an http or https URL with a valid host and port, and without user, password,"
            " query or fragment",
            check=lambda spec: (
                spec.base_url is None
                or bool(BASE_URL.fullmatch(spec.base_url) and _LENGTH.fullmatch(spec.base_url))
            ),
        ),
        Rule(
            field="baseUrl",
            cel=f"has(self.baseUrl) || {_in_mode(WhatsAppMode.GRAPH)}",
            message="baseUrl: is needed; only whatsapp.mode Graph has a default",
            check=lambda spec: spec.base_url is not None or spec.is_in_mode(WhatsAppMode.GRAPH),
        ),
        Rule(
            field="credentialsSecretRef",
            cel=f"has(self.credentialsSecretRef) || {_in_mode(WhatsAppMode.SCRAPE)}",
            message="credentialsSecretRef: is needed; only whatsapp.mode Scrape goes without credentials",
            check=lambda spec: (
                spec.credentials_secret_ref is not None or spec.is_in_mode(WhatsAppMode.SCRAPE)
            ),
        ),
        Rule(
            field="whatsapp",
            cel="(self.type == 'whatsapp') == has(self.whatsapp)",
            message="whatsapp: is needed with type whatsapp, and belongs to no other type",
            check=lambda spec: (spec.type is ProviderType.WHATSAPP) == (spec.whatsapp is not None),
        ),
    )

    company_id: CompanyId
    """Id of the company that this connection belongs to; jobs for other companies are refused. Can't be
    changed."""
    type: Annotated[ProviderType, Field(strict=False)]
    """The provider: shopify, roastify or whatsapp. Can't be changed."""
    base_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """The provider's address: for Shopify the shop, such as https://acme.myshopify.com; for Roastify the API,
    such as https://api.roastify.app/v1; for WhatsApp the catalogue's page, such as https://wa.me/c/491700000001,
    or the Graph API, which is the default there. Without user, password, query or fragment."""
    credentials_secret_ref: NameReference | None = None
    """The Secret with the credentials, in the same namespace. Shopify: accessToken, or clientId and
    clientSecret; Roastify: apiKey; WhatsApp with mode Graph: accessToken, with mode Scrape none is needed."""
    whatsapp: WhatsAppSettings | None = None
    """How a WhatsApp catalogue is read; with type whatsapp."""
    rate_limit: RateLimit | None = None
    """API calls of this connection, over all workers; if absent Shopify 120, Roastify 100 and WhatsApp 30 per
    minute. Where pages are read, a call is a page load."""
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    """When to leave a failing provider alone: no connection, no answer in time or a server error is a failure."""
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 30
    """A call to the provider fails after so many seconds."""
    notifications: Notifications | None = None
    """A webhook that is told of this connection's imports, by signed messages (Standard Webhooks)."""

    @property
    def effective_base_url(self) -> str:
        """The address to call: the spec's own, or else the Graph API's."""
        return self.base_url or GRAPH_URL

    def is_in_mode(self, mode: WhatsAppMode) -> bool:
        """Whether this is a WhatsApp catalogue that is read in `mode`."""
        return self.whatsapp is not None and self.whatsapp.mode is mode

    @property
    def effective_rate_limit(self) -> RateLimit:
        """The limit to keep: the spec's own, or else the provider type's default."""
        return self.rate_limit or DEFAULT_RATE_LIMITS[self.type]


class BreakerStatus(ResourceModel):
    """The circuit breaker of this connection."""

    state: Annotated[BreakerState, Field(strict=False)]
    """Closed: calls go through. Open: none does. HalfOpen: one call probes."""
    consecutive_failures: Count | None = None
    """Failures since the last success; absent while Closed."""
    opened_at: Timestamp | None = None
    """Since when no call succeeds; absent while Closed."""
    probe_at: Timestamp | None = None
    """When the next call may probe; absent while Closed, and while it was opened by hand."""
    opened_by: Annotated[str, Field(max_length=500)] | None = None
    """Who opened it by hand; it stays open until kubectl imports reset-breaker."""
    reason: Annotated[str, Field(max_length=500)] | None = None
    """Why it was opened by hand."""


class ImportProviderStatus(ResourceModel):
    """What is known about the connection; written by the operator."""

    breaker: BreakerStatus | None = None
    """The circuit breaker of this connection."""
    checked_at: Timestamp | None = None
    """When the connection was last checked."""
    message: Message | None = None
    """One sentence for people: what is wrong with the connection, if anything."""
    observed_generation: Generation | None = None
    """Generation of the object that this status is about."""
    conditions: Conditions = ()
    """Ready (jobs can use the connection), Reachable (the provider answers), CredentialsValid (it accepts the
    credentials), BreakerClosed (calls go through its circuit breaker), NotificationsActive (its webhook is told of
    imports)."""


class ImportProvider(ResourceModel):
    """One company's connection to one provider account: where it is, how to log in, and how fast to ask."""

    metadata: ObjectMeta
    spec: ImportProviderSpec
    """How to reach the provider account."""
    status: ImportProviderStatus = ImportProviderStatus()
    """What is known about the connection; written by the operator."""


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


DEFINITION = ResourceDefinition(
    kind="ImportProvider",
    plural="importproviders",
    singular="importprovider",
    short_name="ipr",
    model=ImportProvider,
    columns=(
        PrinterColumn("Type", ".spec.type", description="The provider"),
        PrinterColumn("Company", ".spec.companyId", description="Whom the connection belongs to"),
        PrinterColumn("Reachable", _condition("Reachable"), description="Whether the provider answers"),
        PrinterColumn("Credentials", _condition("CredentialsValid"), description="Whether it accepts them"),
        PrinterColumn("Breaker", ".status.breaker.state", description="State of the circuit breaker"),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date", "Time since the object was created"),
        PrinterColumn("URL", ".spec.baseUrl", description="The provider's address", priority=1),
        PrinterColumn("Message", ".status.message", description="What is wrong, for people", priority=1),
    ),
    selectable_fields=(".spec.companyId", ".spec.type"),
)


def parse_import_provider(body: Mapping[str, Any]) -> ImportProvider:
    """Read an ImportProvider from an object's JSON; raises InvalidResourceError naming the field."""
    return parse(ImportProvider, body)
