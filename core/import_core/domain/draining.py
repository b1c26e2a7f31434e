"""Which workers are asked to drain, which are taken back, and by how many their number may be lowered now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
BUSY_COST = "1000"
LEAVING_COST = "-1000"
IDLE_KEPT_SECONDS = 10.0
"""A busy pod's marks stay for so long after its last job: many jobs take less, and each change is a patch."""


class Standing(StrEnum):
    """Where a worker stands in the handshake."""

    WORKING = "Working"
    """Not asked."""
    DRAINING = "Draining"
    """Asked, and not done yet."""
    DRAINED = "Drained"
    """Takes nothing and holds nothing; or no process has started in its pod, and one that does will take nothing."""


class BusyScaleIn(StrEnum):
    """What happens when fewer workers would do and none is idle."""

    WAIT = "Wait"
    DRAIN_LEAST_WORK = "DrainLeastWork"


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of a Deployment that has not been told to stop."""

    pod_uid: str
    standing: Standing
    started: bool = True
    """Whether a worker process has entered itself."""
    jobs: int = 0
    """Jobs that it holds."""
    left: int = 0
    """Products that those jobs still have to import."""
    marked: bool = False
    """Whether its deletion cost is seen to be that of a pod that leaves."""
    going: bool = False
    """The number was about to be lowered for it a moment ago: it can't be taken back for a while."""


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What to do now: take back, ask, mark; then lower the number to `replicas`, for which `going` must go."""

    replicas: int
    ask: tuple[str, ...] = ()
    take_back: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    leaving: int = 0
    """Workers that are asked, or go."""
    waits: bool = False
    """Fewer would do, and no worker is idle."""


def plan_drains(
    members: Sequence[Member],
    *,
    replicas: int,
    desired: int,
    missing: int = 0,
    busy: BusyScaleIn = BusyScaleIn.WAIT,
) -> DrainPlan:
    """Decide for one Deployment.

    `replicas` is what it asks for now, `missing` how many of them have no pod yet. As many workers leave as are
    more than desired: first those without a pod, then those that drain already, then idle ones. A busy one
    never drains while an idle one does not. The number is lowered only by pods that do not exist and by drained
    ones whose deletion cost is known to the API server, so that those are what the ReplicaSet takes.
    """
    surplus = max(0, replicas - desired)
    vacant = min(missing, surplus)
    wanted = surplus - vacant
    leaving = _leaving(members, replicas)
    staying = sorted((m for m in members if m.standing is Standing.WORKING), key=_first_to_go)
    back = _most_needed_first(leaving)[: max(0, len(leaving) - wanted)]
    kept = [m for m in leaving if m not in back]
    ask = [m for m in staying if not m.jobs or busy is BusyScaleIn.DRAIN_LEAST_WORK][
        : max(0, wanted - len(kept))
    ]
    back, ask = _exchange(kept, staying, back, ask)
    going = [m for m in kept if m.standing is Standing.DRAINED and m.marked][:wanted]
    return DrainPlan(
        replicas=max(replicas, desired) if desired >= replicas else replicas - vacant - len(going),
        ask=_uids(ask),
        take_back=_uids(back),
        mark=_uids(m for m in kept if m.standing is Standing.DRAINED and not m.marked),
        going=_uids(going),
        leaving=len(kept) + len(ask) + vacant,
        waits=len(kept) + len(ask) < wanted,
    )


def _leaving(members: Sequence[Member], replicas: int) -> list[Member]:
    """Members that leave, without those that the ReplicaSet is about to delete already."""
    being_deleted = max(0, len(members) - replicas)
    leaving = [m for m in members if m.standing is not Standing.WORKING]
    leaving.sort(key=lambda m: (not m.going, m.pod_uid))
    deleted = [m for m in leaving if m.going][:being_deleted]
    return [m for m in leaving if m not in deleted]


def _most_needed_first(leaving: Sequence[Member]) -> list[Member]:
    """Those with most to do first, drained ones last; those that go can't come back."""
    free = [m for m in leaving if not m.going]
    return sorted(free, key=lambda m: (m.standing is Standing.DRAINED, m.marked, -m.jobs, -m.left, m.pod_uid))


def _exchange(
    kept: list[Member], staying: Sequence[Member], back: list[Member], ask: list[Member]
) -> tuple[list[Member], list[Member]]:
    """Let idle workers drain in the place of busy ones that were asked."""
    idle = [m for m in staying if not m.jobs and m not in ask]
    busy = [m for m in _most_needed_first(kept) if m.jobs and m.standing is Standing.DRAINING]
    count = min(len(idle), len(busy))
    for member in busy[:count]:
        kept.remove(member)
    return [*back, *busy[:count]], [*ask, *idle[:count]]


def _first_to_go(member: Member) -> tuple[bool, bool, int, int, str]:
    """Not started, idle, then the least work to lose."""
    return member.started, member.jobs > 0, member.left, member.jobs, member.pod_uid


def _uids(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(m.pod_uid for m in members)


@dataclass(frozen=True, slots=True)
class Marks:
    """A pod's annotations that keep others from stopping it, or invite the ReplicaSet to; None: absent."""

    cost: str | None = None
    do_not_disrupt: str | None = None

    def to_annotations(self) -> dict[str, str | None]:
        """As a merge patch takes them."""
        return {DELETION_COST: self.cost, DO_NOT_DISRUPT: self.do_not_disrupt}


BUSY_MARKS = Marks(BUSY_COST, "true")
LEAVING_MARKS = Marks(LEAVING_COST)
NO_MARKS = Marks()


def wanted_marks(member: Member, seen: Marks, *, idle_seconds: float) -> Marks:
    """The marks that a pod should have, which are those it has while it was busy a moment ago."""
    if member.jobs:
        return BUSY_MARKS
    if member.standing is Standing.DRAINED:
        return LEAVING_MARKS
    if seen == BUSY_MARKS and idle_seconds < IDLE_KEPT_SECONDS and member.standing is Standing.WORKING:
        return BUSY_MARKS
    return NO_MARKS
