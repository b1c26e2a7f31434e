"""Incremental re-imports: from when on a run lists what changed, and whether its end may move the mark.

A mark says: whatever changed at the source before it is in our tables. It is one for each connection, not one
for each mapping: a job with another mapping rewrites the same products, so what its predecessor knew is void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from import_core.domain.jobs import Progress

FINGERPRINT_VERSION = 1
"""Raised when the same settings give other rows than before, so that everything is read and mapped anew once."""

# What fails for these reasons fails again until the source changes it, which changes its time too. Everything
# else may pass, so the mark must not get past it.
LASTING_STAGES = ("map",)
LASTING_REASONS = (
    "NotFound",
    "InvalidUrl",
    "ForbiddenAddress",
    "TooManyRedirects",
    "TooLarge",
    "EmptyFile",
    "NotAnImage",
    "UnsupportedFormat",
    "Broken",
    "Truncated",
    "TooManyScans",
)


class ReimportMode(StrEnum):
    """Which products a run asks the provider for."""

    FULL = "Full"
    INCREMENTAL = "Incremental"


class FullReason(StrEnum):
    """Why a run reads the whole catalogue."""

    ASKED = "Asked"
    NO_TIME_FILTER = "NoTimeFilter"
    FIRST = "First"
    CHANGED = "Changed"
    DUE = "Due"
    CLOCK = "ClockWentBack"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a job wants to be re-imported.

    Every `full_every`-th run is full; `overlap_seconds` are asked for again before the mark, for clocks that differ
    and changes that a provider's index shows late.
    """

    mode: ReimportMode = ReimportMode.FULL
    full_every: int = 24
    overlap_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the last good run of a connection came to; times are PostgreSQL's.

    `listed_at`: when its listing began; `incrementals`: incremental runs begun since the last full one.
    """

    fingerprint: str
    listed_at: datetime
    incrementals: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """What a run lists: products changed after `since`, or all of them (None) for the reason `full`.

    `begun_at` is when it was decided, before the first call. Kept with the checkpoint, so that a later try
    of the run goes on in the same listing.
    """

    fingerprint: str
    begun_at: datetime
    since: datetime | None = None
    full: FullReason | None = None

    def to_json(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "fingerprint": self.fingerprint,
            "begunAt": self.begun_at.isoformat(),
            "since": self.since.isoformat() if self.since else None,
            "full": self.full.value if self.full else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Listing:
        """Read the stored form."""
        since, full = value.get("since"), value.get("full")
        return cls(
            value["fingerprint"],
            datetime.fromisoformat(value["begunAt"]),
            datetime.fromisoformat(since) if since else None,
            FullReason(full) if full else None,
        )


def decide_listing(
    policy: Policy, mark: Mark | None, *, fingerprint: str, filters_by_time: bool, now: datetime
) -> Listing:
    """Decide what a run that begins `now` lists. A doubt of any kind is a full listing."""
    full = _full_reason(policy, mark, fingerprint=fingerprint, filters_by_time=filters_by_time, now=now)
    if full is not None or mark is None:
        return Listing(fingerprint, now, full=full)
    return Listing(fingerprint, now, since=mark.listed_at - timedelta(seconds=policy.overlap_seconds))


def _full_reason(
    policy: Policy, mark: Mark | None, *, fingerprint: str, filters_by_time: bool, now: datetime
) -> FullReason | None:
    if policy.mode is ReimportMode.FULL:
        return FullReason.ASKED
    if not filters_by_time:
        return FullReason.NO_TIME_FILTER
    if mark is None:
        return FullReason.FIRST
    if mark.fingerprint != fingerprint:
        return FullReason.CHANGED
    if mark.listed_at > now:
        return FullReason.CLOCK
    return FullReason.DUE if mark.incrementals + 1 >= policy.full_every else None


def moves_mark(listing: Listing, progress: Progress, *, fingerprint: str, passing_failures: int) -> bool:
    """Whether the end of a run may move the mark to where its listing began.

    Not where an item failed for a reason that may pass, or the source listed less than it had counted: the next
    run has to ask for those again. Nor where settings changed between the run's tries.
    """
    return listing.fingerprint == fingerprint and not passing_failures and not progress.products_unlisted


def fingerprint_of(
    *,
    provider_uid: str,
    provider_type: str,
    base_url: str,
    mapping: Mapping[str, str],
    images_enabled: bool,
    images_per_product: int,
    thumbnails: Sequence[int],
) -> str:
    """Identity of all that decides how a source's products become rows (hex SHA-256).

    `mapping` has the expressions of all fields, defaults included.
    """
    content = [
        FINGERPRINT_VERSION,
        provider_uid,
        provider_type,
        base_url.rstrip("/"),
        sorted(mapping.items()),
        images_enabled,
        images_per_product,
        sorted(thumbnails),
    ]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def describe_listing(listing: Listing | None, progress: Progress) -> str | None:
    """What a person should know of an incremental run: that it was one, and since when; None for a full one."""
    if listing is None or listing.since is None:
        return None
    moment = listing.since.strftime("%Y-%m-%dT%H:%M:%SZ")
    if not progress.products_done:
        return f"nothing changed at the source since {moment}"
    return f"incremental: only products changed since {moment} were read"
