"""Who calls over HTTP, how often, and from which page: pure rules; times are seconds of a monotonic clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whom the API server has recognised, as its TokenReview says."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """Tells accounts apart, whichever token they show; for limits."""
        return f"{self.username}\0{self.uid}"

    @property
    def key(self) -> str:
        """Tells callers with different rights apart; for what is remembered of these.

        A token's own id is among the extra fields, and may be what a right depends on.
        """
        parts = [self.username, self.uid, *sorted(self.groups)]
        parts += [f"{name}={value}" for name, values in sorted(self.extra.items()) for value in values]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Action(Enum):
    """What a caller wants: verb, resource and subresource of `imports.avnz.io` that RBAC must allow."""

    LIST = ("list", "importjobs", "")
    READ = ("get", "importjobs", "")
    SUBMIT = ("create", "importjobs", "")
    RETRY = ("patch", "importjobs", "")
    CANCEL = ("delete", "importjobs", "")
    PAUSE = ("create", "workerpools", "pause")
    """`workerpools/pause` exists for RBAC only, so that nobody may pause a queue by accident."""
    SEARCH = ("get", "products", "")
    """`products` exist for RBAC only; a product's name there is its company's id, so that a role may name companies."""

    LINK = ("create", "importjobs", "link")
    """`importjobs/link` exists for RBAC only: whoever may make links shows imports to people without an account."""

    @property
    def verb(self) -> str:
        """The verb."""
        return self.value[0]

    @property
    def resource(self) -> str:
        """The resource."""
        return self.value[1]

    @property
    def subresource(self) -> str:
        """The subresource, or nothing."""
        return self.value[2]

    @property
    def words(self) -> str:
        """As a person reads it: "create importjobs.imports.avnz.io"."""
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}.imports.avnz.io"


@dataclass(frozen=True, slots=True)
class CallRate:
    """How often one caller may call: `per_second` on average, `burst` at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """A caller's token bucket: `tokens` were in it at `at`."""

    tokens: float
    at: float


def take_call(bucket: Bucket | None, rate: CallRate, now: float) -> tuple[Bucket, float]:
    """The bucket after one more call, and seconds to wait: 0 where the call may go on.

    A refused call takes nothing: who asks too often is not kept out for longer by that.
    """
    if bucket is None:
        tokens = float(rate.burst)
    else:
        tokens = min(rate.burst, bucket.tokens + max(0.0, now - bucket.at) * rate.per_second)
    if tokens >= 1:
        return Bucket(tokens - 1, now), 0.0
    return Bucket(tokens, now), (1 - tokens) / rate.per_second


def is_full_again(bucket: Bucket, rate: CallRate, now: float) -> bool:
    """Whether forgetting the bucket changes nothing."""
    return bucket.tokens + (now - bucket.at) * rate.per_second >= rate.burst


def is_own_origin(origin: str | None, *, public_url: str, scheme: str, host: str) -> bool:
    """Whether a write with a cookie comes from our own page.

    `origin` is the header that browsers send with every write; absent, it does not come from a page of ours.
    With `public_url` it must be that one, else the address that the request was sent to.
    """
    if origin is None:
        return False
    return _origin(origin) is not None and _origin(origin) == _origin(public_url or f"{scheme}://{host}")


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what is no web address ("null" of sandboxed pages among them)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)
