"""Which finished objects go now: by their time to live, and the oldest ones above a number. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from import_core.domain.projection import is_final
from import_core.domain.reopening import Action, HonouredRequests, decide_reopening, requests_of
from import_core.domain.resources.import_job import DEFAULT_TTL_SECONDS

HELD_SECONDS = 30.0
LONGEST_HELD_SECONDS = 600.0
"""An object that must stay is looked at again after the first time, then after twice as long, up to this one:
many that must stay don't keep the others from being looked at."""
GIVEN_UP_AFTER = timedelta(days=1)
"""A request for another run that is refused keeps its object so much longer than its time to live."""


@dataclass(frozen=True, slots=True)
class Hold:
    """An object that stays for now: not looked at before `until`, in seconds of a monotonic clock."""

    until: float
    seconds: float

    @classmethod
    def after(cls, before: Hold | None, *, now: float) -> Hold:
        """The next hold of an object that was held before, or was not."""
        seconds = min(2 * before.seconds, LONGEST_HELD_SECONDS) if before is not None else HELD_SECONDS
        return cls(now + seconds, seconds)

    @property
    def is_longest(self) -> bool:
        """Whether it has grown as far as it does."""
        return self.seconds >= LONGEST_HELD_SECONDS


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished object: when its job finished, and when its time is over."""

    finished_at: datetime
    expires_at: datetime


def finished_of(body: Mapping[str, Any]) -> Finished | None:
    """Read an ImportJob's end; None while it has not finished, or when it is being deleted.

    The platform may end a row without giving a time: the last change of a condition counts then.
    """
    if not is_final(body) or "deletionTimestamp" in body["metadata"]:
        return None
    status = body["status"]
    changes = [condition["lastTransitionTime"] for condition in status.get("conditions") or []]
    last = status.get("completedAt") or max(changes, default=None) or body["metadata"]["creationTimestamp"]
    finished_at = datetime.fromisoformat(last)
    seconds = (body.get("spec") or {}).get("ttlSecondsAfterFinished", DEFAULT_TTL_SECONDS)
    return Finished(finished_at, finished_at + timedelta(seconds=seconds))


def choose(
    finished: Mapping[str, Finished],
    *,
    now: datetime,
    kept: int,
    at_most: int,
    held: Container[str] = (),
    surplus: Container[str] = (),
) -> list[str]:
    """Uids of at most `at_most` objects to delete now: expired ones, then the oldest of those above `kept`.

    `held`: objects that must stay for the moment. `surplus`: objects whose time counts as over.
    """
    expired = heapq.nsmallest(
        at_most,
        (
            (end.expires_at, uid)
            for uid, end in finished.items()
            if (end.expires_at <= now or uid in surplus) and uid not in held
        ),
    )
    chosen = {uid: None for _, uid in expired}
    excess = min(len(finished) - len(chosen) - kept, at_most - len(chosen))
    if excess > 0:
        oldest = heapq.nsmallest(
            excess,
            (
                (end.finished_at, uid)
                for uid, end in finished.items()
                if uid not in chosen and uid not in held
            ),
        )
        chosen.update({uid: None for _, uid in oldest})
    return list(chosen)


def may_go(body: Mapping[str, Any], row: HonouredRequests | None, *, refused: bool = False) -> bool:
    """Whether the object is done with: its job and its steps are through, and nothing is asked of it that is not done.

    `refused`: it can't be run again as it is, and has waited long enough for a better spec.
    """
    if not is_final(body):
        return False
    if row is None:
        return True
    generation = int(body["metadata"].get("generation") or 0)
    decision = decide_reopening(requests_of(body), row, generation=generation)
    refused = refused and decision.action in {Action.RETRY, Action.RETRY_ITEMS}
    return row.state.is_final and not row.has_open_steps and (refused or not decision.waits)
