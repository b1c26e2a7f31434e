"""When a worker may go on with a job: only while its lease is known to stand."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

RENEW_EVERY_SECONDS = 10.0
UNCONFIRMED_LIMIT_SECONDS = 50.0
"""Below the lease of 60 s by more than one statement may take, so a worker stops before others may start."""


@dataclass(frozen=True, slots=True)
class RenewalOutcome:
    """What one renewal said: claims that stand, confirmed as of the moment before it was sent, and lost ones."""

    confirmed: frozenset[str]
    lost: frozenset[str]


def sort_renewal(asked: Iterable[str], confirmed: Set[str], busy: Set[str]) -> RenewalOutcome:
    """Sort the claims that were asked for; claims made meanwhile, and those in use right now, are neither."""
    asked = frozenset(asked)
    return RenewalOutcome(confirmed=asked & confirmed, lost=asked - confirmed - busy)
