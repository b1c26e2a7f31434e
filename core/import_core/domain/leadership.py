"""Who leads: a pure decision from the Lease that was read and when it last changed by our own clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LEASE_SECONDS = 10.0
RENEW_SECONDS = 2.0
SURE_SECONDS = 5.0
"""So long after it asked for its last renewal a leader is sure to be the only one: the rest of the Lease's
time is for what it then commits."""


class LeaseAction(StrEnum):
    """What to do with the Lease now."""

    CREATE = "Create"
    TAKE = "Take"
    RENEW = "Renew"
    WAIT = "Wait"
    STEP_DOWN = "StepDown"


@dataclass(frozen=True, slots=True)
class LeaseView:
    """What the API server has: the holder ("" for none) and a mark that changes with every renewal."""

    holder: str
    version: str
    lease_seconds: float
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Candidacy:
    """What one replica knows: the last Lease that it saw and since when, by its own monotonic clock.

    Only changes are timed, never the times in the Lease: the clocks of two machines may differ.
    """

    identity: str
    leading: bool = False
    seen: LeaseView | None = None
    seen_since: float = 0.0
    renewed_at: float = 0.0
    """When it asked for the last renewal that it knows to have succeeded."""

    def after_look(self, lease: LeaseView | None, now: float) -> Candidacy:
        """Take in a read of the Lease."""
        since = self.seen_since if lease == self.seen and lease is not None else now
        return Candidacy(self.identity, self.leading, lease, since, self.renewed_at)

    def after_write(self, lease: LeaseView, now: float, *, asked_at: float) -> Candidacy:
        """Take in that our write of the Lease, asked for at `asked_at`, succeeded."""
        return Candidacy(self.identity, True, lease, now, asked_at)

    def is_sure(self, now: float) -> bool:
        """Whether no other replica can lead at this moment."""
        return self.leading and now - self.renewed_at < SURE_SECONDS


def decide(candidacy: Candidacy, now: float) -> LeaseAction:
    """Decide after a look at the Lease.

    A leader steps down only when another replica holds the Lease: an API server that can't be reached
    changes nothing (docs/reference/lifecycle.md). A standby takes a Lease that was given back or whose
    holder has not renewed it for its time.
    """
    lease = candidacy.seen
    if lease is None:
        return LeaseAction.CREATE
    if lease.holder == candidacy.identity:
        return LeaseAction.RENEW
    if candidacy.leading and lease.holder:
        return LeaseAction.STEP_DOWN
    if not lease.holder or now - candidacy.seen_since >= lease.lease_seconds:
        return LeaseAction.TAKE
    return LeaseAction.WAIT
