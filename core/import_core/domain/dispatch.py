"""Which due jobs are handed to Redis next, and how many."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from import_core.domain.jobs import Tier

WINDOW_LIMIT = 2000
WINDOW_SECONDS = 2.0
RECENT_STARTS = 1000
"""So many of the last starts count against the shares of their companies."""
READY_SECONDS = 60.0
"""A worker that was ready this lately counts as ready for the window."""
TIER_STEP_SECONDS = 600.0
"""A tier rises one step for each of these that its oldest row has waited (docs/reference/lifecycle.md)."""
AGED_TURN = 4
"""Of the places that a tier and a lower one that has risen to it both want, every so many-th is the latter's."""
_Entry = tuple[bool, int, datetime, str, str]
_RANK = {Tier.BASIC: 0, Tier.PRO: 1, Tier.ENTERPRISE: 2}


@dataclass(frozen=True, slots=True)
class ReadyWorkers:
    """How many workers count for the window: a worker that is not ready for a moment still has its place.

    `seen` holds (time, ready) with falling numbers: the first is the highest of the last READY_SECONDS. When
    all of them turn unready, a neighbour of theirs is away; they are not gone, so the number holds until one
    is ready again.
    """

    seen: tuple[tuple[float, int], ...] = ()
    replicas: int = 0

    def after_look(self, *, ready: int, replicas: int, now: float) -> ReadyWorkers:
        """Take in that `ready` of the `replicas` workers asked for were ready at `now` (monotonic seconds)."""
        if ready == 0 and replicas > 0:
            return ReadyWorkers(self.seen, replicas)
        kept = [(at, count) for at, count in self.seen if now - at < READY_SECONDS and count > ready]
        return ReadyWorkers((*kept, (now, ready)), replicas)

    @property
    def count(self) -> int:
        """Workers to hand jobs to; never more than there are to be."""
        return min(self.replicas, self.seen[0][1]) if self.seen else 0


@dataclass(frozen=True, slots=True)
class StartLimit:
    """The queue limiter: at most `jobs` start within any `seconds`; more wait, none is dropped."""

    jobs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A due row."""

    job_id: str
    company_id: str
    tier: Tier
    queued_at: datetime
    """Since when it waits: recorded, or reopened."""
    interrupted: bool = False
    """Its worker died or stopped, so it goes on where it was and takes no second turn."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen rows in order, and the companies of which more rows must be known to go on."""

    chosen: tuple[Candidate, ...]
    exhausted: frozenset[str]
    turn: int = 0
    """Where the next choice goes on to count."""


def window(*, concurrency: int, ready_workers: int, minimum_workers: int, starts_per_second: float) -> int:
    """How many unclaimed hand-overs Redis may hold: a load for every worker, or two seconds' worth of starts."""
    by_workers = concurrency * max(ready_workers, minimum_workers)
    by_rate = int(WINDOW_SECONDS * starts_per_second + 0.999)
    return min(WINDOW_LIMIT, max(by_workers, by_rate))


def may_start(*, jobs: int, started: int, unclaimed: int) -> int:
    """How many more jobs may be handed over where at most `jobs` may start in a time.

    What was handed over and is not claimed yet may start at any moment, so it counts as started: whatever
    the workers do, no more than `jobs` start within any time of that length.
    """
    return max(0, jobs - started - unclaimed)


def choose(
    candidates: Iterable[Candidate],
    *,
    shares: Mapping[str, int],
    needed: int,
    now: datetime,
    complete: Mapping[str, bool] | None = None,
    turn: int = 0,
) -> Choice:
    """Choose up to `needed` rows: by tier, interrupted ones first, then to the company with the smallest share.

    Equal shares go by age.

    `shares`: jobs of each company that are under way or were started lately. A company's rows are taken oldest
    first. A lower tier whose oldest row has waited TIER_STEP_SECONDS for
    each step between gets every AGED_TURN-th place that the higher one wants as well: it never starves, and
    the higher one does not wait for its backlog. Age alone never puts one company of a tier before another.
    `turn` counts such places from call to call.

    `complete` tells for which companies every due row is among the candidates; another company whose rows
    are used up is reported as exhausted, because its next row might come before those chosen after it.
    """
    queues = _by_company(candidates)
    lanes = _lanes(queues, shares, now)
    chosen: list[Candidate] = []
    exhausted: set[str] = set()
    while lanes and len(chosen) < needed:
        lane, turn = _next_lane(lanes, turn)
        _, share, _, _, company = heapq.heappop(lane.entries)
        queue = queues[company]
        chosen.append(queue.popleft())
        if queue:
            heapq.heappush(lane.entries, _entry(queue, share + 1))
        elif not (complete or {}).get(company, False):
            exhausted.add(company)
        if not lane.entries:
            lanes.remove(lane)
    return Choice(tuple(chosen), frozenset(exhausted), turn)


@dataclass(slots=True)
class _Lane:
    """The companies of one tier: a heap by share, then age. `reach`: the rank that its oldest row has risen to."""

    rank: int
    reach: int
    oldest: datetime
    entries: list[_Entry]


def _lanes(queues: Mapping[str, deque[Candidate]], shares: Mapping[str, int], now: datetime) -> list[_Lane]:
    """Highest tier first."""
    by_tier: dict[Tier, list[_Entry]] = defaultdict(list)
    for company, queue in queues.items():
        by_tier[queue[0].tier].append(_entry(queue, shares.get(company, 0)))
    lanes = []
    for tier, entries in by_tier.items():
        heapq.heapify(entries)
        oldest = min(entry[2] for entry in entries)
        waited = max(0.0, (now - oldest).total_seconds())
        lanes.append(_Lane(_RANK[tier], _RANK[tier] + int(waited // TIER_STEP_SECONDS), oldest, entries))
    return sorted(lanes, key=lambda lane: -lane.rank)


def _next_lane(lanes: list[_Lane], turn: int) -> tuple[_Lane, int]:
    """Whose the next place is, and the count of contested places after it."""
    top, *lower = lanes
    aged = [lane for lane in lower if lane.reach >= top.rank]
    if not aged:
        return top, turn
    turn = (turn + 1) % AGED_TURN
    return (top if turn else min(aged, key=lambda lane: lane.oldest)), turn


def _by_company(candidates: Iterable[Candidate]) -> dict[str, deque[Candidate]]:
    grouped: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        grouped[candidate.company_id].append(candidate)
    return {
        company: deque(sorted(rows, key=lambda row: (row.queued_at, row.job_id)))
        for company, rows in grouped.items()
    }


def _entry(queue: deque[Candidate], share: int) -> _Entry:
    head = queue[0]
    return (not head.interrupted, share, head.queued_at, head.job_id, head.company_id)


@dataclass(frozen=True, slots=True)
class StartRate:
    """A running measure of job starts per second, from what left the window between two looks."""

    per_second: float = 0.0
    unclaimed: int | None = None
    looked_at: float | None = None

    def after_look(self, *, unclaimed: int, now: float) -> StartRate:
        """Take in that `unclaimed` rows are left at `now` (seconds of a monotonic clock)."""
        if self.unclaimed is None or self.looked_at is None or now <= self.looked_at:
            return StartRate(self.per_second, unclaimed, now)
        started = max(0, self.unclaimed - unclaimed)
        elapsed = now - self.looked_at
        weight = min(1.0, elapsed / WINDOW_SECONDS)
        return StartRate(self.per_second + weight * (started / elapsed - self.per_second), unclaimed, now)

    def after_hand_over(self, count: int) -> StartRate:
        """Take in that `count` rows more were handed over."""
        return StartRate(self.per_second, (self.unclaimed or 0) + count, self.looked_at)
