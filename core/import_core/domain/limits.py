"""Provider limits as plain calculations: sliding windows, Retry-After, Shopify's cost bucket, page sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3600.0
"""Seconds; a provider that asks for more is asked again after this time."""


def effective_window(per_seconds: float, *, clock_scale: float, margin: float) -> float:
    """Seconds over which grants are counted: the scaled window and a margin for the way to the provider.

    A call arrives up to `margin` seconds after its grant; without the margin the provider could see two
    windows' calls closer together than they were granted. The margin is real time, so it is not scaled.
    What arrives later yet has to be counted from later on (`latest_arrival`).
    """
    if not per_seconds > 0 or not clock_scale > 0 or not margin >= 0:
        raise ValueError("per_seconds and clock_scale must be positive, margin must not be negative")
    return per_seconds / clock_scale + margin


LONGEST_WAY = 2.0
"""Seconds that a written request is believed to be under way to its provider at most. More would be safer and
would leave more of the limit unused where the provider takes long to answer: with this, a limit of a minute is used
by 96 % even then."""


def latest_arrival(*, written_at: float | None, ended_at: float) -> float:
    """When a call had reached its provider at the latest: before it was answered or given up, and soon after it was
    written (None: nobody knows when). All are seconds of one clock.
    """
    return ended_at if written_at is None else min(ended_at, written_at + LONGEST_WAY)


def growing_delay(attempt: int, *, first: float, factor: float = 2.0, longest: float) -> float:
    """Seconds before attempt number `attempt` (0: the first repetition), growing up to `longest`."""
    if attempt < 0:
        raise ValueError("attempt must not be negative")
    # The exponent is bounded so that a long series can't overflow a float.
    return min(longest, first * factor ** min(attempt, 64))


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, section 10.2.3: seconds or a date); None if unusable.

    Fractions are accepted because Shopify sends them ("2.0").
    """
    if header is None or not header.strip():
        return None
    text = header.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to send one call. `asked_at` is the event loop's time before the limiter was asked for it.

    A call that leaves over `lifetime` seconds after that could count in another window than it was granted in.
    """

    id: str
    asked_at: float
    lifetime: float


@dataclass(frozen=True, slots=True)
class Wait:
    """No call may be sent now; ask again after so many seconds."""

    seconds: float


CALLS_KEPT_BACK = 0.1
"""Share of Shopify's REST bucket that is left alone: calls of other workers may be on their way."""
REST_DRAIN_SECONDS = 20.0
"""Shopify's REST bucket drains in so many seconds, whatever its size (40 at 2/s, 80 at 4/s, 400 at 20/s)."""


def call_limit_pause(header: str | None) -> float:
    """Seconds for which to leave Shopify's REST API alone by X-Shopify-Shop-Api-Call-Limit ("32/40").

    0 while there is room, and for a header that can't be read.
    """
    used_text, _, size_text = (header or "").partition("/")
    try:
        used, size = int(used_text), int(size_text)
    except ValueError:
        return 0.0
    if not 0 < size <= 1_000_000 or used < 0:
        return 0.0
    too_many = used - math.floor(size * (1 - CALLS_KEPT_BACK))
    return max(0.0, min(too_many, size) * REST_DRAIN_SECONDS / size)


@dataclass(frozen=True, slots=True)
class CostBucket:
    """Shopify's bucket of query points as `throttleStatus` reports it (points, points, points per second)."""

    maximum: float
    available: float
    restore_rate: float

    def wait_for(self, cost: float) -> float:
        """Seconds until `cost` points are there; infinite if they never will be."""
        if cost <= self.available:
            return 0.0
        if cost > self.maximum or self.restore_rate <= 0:
            return math.inf
        return (cost - self.available) / self.restore_rate


@dataclass(frozen=True, slots=True)
class PageShape:
    """How many products one GraphQL call asks for, and how many variants and media of each."""

    products: int
    variants: int
    media: int

    def shrunk(self, *, cost: float | None, ceiling: float | None) -> PageShape | None:
        """The next smaller shape after a refusal for its cost; None if there is none.

        A connection's cost is proportional to its size, so a refusal that names cost and ceiling leads
        straight to the largest size that fits; one that doesn't halves.
        """
        share = 0.5
        if cost is not None and ceiling is not None and cost > 0:
            share = min(share, ceiling / cost) if cost >= 2 * ceiling else min(0.95, ceiling / cost)
        if self.products > 1:
            return replace(self, products=max(1, math.floor(self.products * share)))
        if self.variants > 1 or self.media > 1:
            return PageShape(1, max(1, self.variants // 2), max(1, self.media // 2))
        return None
