"""Whether rows whose objects are gone may be cancelled: pure, and careful with many at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

ALWAYS_ALLOWED = 10
ALLOWED_SHARE = 0.2
"""More vanished objects than both of these at once look like a mistake, not like deletions."""
CLUSTER_CHANGED = "ClusterChanged"
TOO_MANY_AT_ONCE = "TooManyAtOnce"


@dataclass(frozen=True, slots=True)
class Guard:
    """What is remembered of a namespace: the uid that it had, and cancellations that wait for a person's word."""

    cluster_uid: str
    withheld: int = 0
    reason: str | None = None
    withheld_at: datetime | None = None
    confirmed_at: datetime | None = None
    confirmed_by: str | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether a person has confirmed that as many jobs as are withheld may be cancelled."""
        return self.withheld > 0 and self.confirmed_at is not None


@dataclass(frozen=True, slots=True)
class Ruling:
    """So many of the vanished jobs may be cancelled now, and so many wait for a person, for that reason."""

    cancel: int
    withheld: int = 0
    reason: str | None = None


def rule(*, gone: int, unfinished: int, cluster_uid: str, guard: Guard | None) -> Ruling:
    """Decide on `gone` of `unfinished` rows, counted against a complete list of the objects.

    Another uid of the namespace means another cluster, or a namespace made anew: what is missing in it was
    not deleted by anybody there. A confirmation is for as many as were withheld when it was given.
    """
    if not gone:
        return Ruling(0)
    if guard is not None and guard.is_confirmed:
        return Ruling(min(gone, guard.withheld))
    if guard is not None and guard.cluster_uid != cluster_uid:
        return Ruling(0, gone, CLUSTER_CHANGED)
    if gone > max(ALWAYS_ALLOWED, ALLOWED_SHARE * unfinished):
        return Ruling(0, gone, TOO_MANY_AT_ONCE)
    return Ruling(gone)


def needs_settling(guard: Guard | None, cluster_uid: str) -> bool:
    """Whether what is remembered differs from a namespace in which nothing is withheld."""
    return guard is None or guard.withheld > 0 or guard.cluster_uid != cluster_uid
