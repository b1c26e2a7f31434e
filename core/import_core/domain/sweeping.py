"""Which finished objects go now: by their time to live, and the oldest ones above a number. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from import_core.domain.projection import is_final
from import_core.domain.reopening import HonouredRequests, decide_reopening, requests_of
from import_core.domain.resources.import_job import DEFAULT_TTL_SECONDS


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished object: when its job finished, and when its time is over."""

    finished_at: datetime
    expires_at: datetime


def finished_of(body: Mapping[str, Any]) -> Finished | None:
    """Read an ImportJob's end; None while it has not finished.

    The platform may end a row without giving a time: the last change of a condition counts then.
    """
    if not is_final(body):
        return None
    status = body["status"]
    changes = [condition["lastTransitionTime"] for condition in status.get("conditions") or []]
    last = status.get("completedAt") or max(changes, default=None) or body["metadata"]["creationTimestamp"]
    finished_at = datetime.fromisoformat(last)
    seconds = (body.get("spec") or {}).get("ttlSecondsAfterFinished", DEFAULT_TTL_SECONDS)
    return Finished(finished_at, finished_at + timedelta(seconds=seconds))


def choose(
    finished: Mapping[str, Finished], *, now: datetime, kept: int, at_most: int, held: Container[str] = ()
) -> list[str]:
    """Uids of at most `at_most` objects to delete now: expired ones, then the oldest of those above `kept`.

    `held`: objects that must stay for the moment.
    """
    expired = heapq.nsmallest(
        at_most,
        ((end.expires_at, uid) for uid, end in finished.items() if end.expires_at <= now and uid not in held),
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


def may_go(body: Mapping[str, Any], row: HonouredRequests | None) -> bool:
    """Whether the object is done with: its job runs no more, and nothing is asked of it that is not done yet."""
    if not is_final(body):
        return False
    if row is None:
        return True
    generation = int(body["metadata"].get("generation") or 0)
    return row.state.is_final and not decide_reopening(requests_of(body), row, generation=generation).waits
