"""Hands due rows to Redis, and hands over again what Redis lost (docs/reference/lifecycle.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from import_core.adapters.hand_overs import OVERDUE_SECONDS
from import_core.adapters.postgres.dispatching import DispatchStore, DispatchTransaction
from import_core.adapters.postgres.queue_state import QueueState
from import_core.adapters.redis.queue import JobQueue
from import_core.domain.dispatch import (
    WINDOW_LIMIT,
    Candidate,
    StartLimit,
    StartRate,
    choose,
    may_start,
    window,
)
from import_core.domain.emergency import TRIAL_STARTS, EmergencyPhase
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.jobs import Message
from import_core.domain.repairs import RepairKind
from import_core.fail_points import fail_point
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.recovering import recover_hand_overs
from import_operator.state import OperatorState

log = get_logger(__name__)

TICK_SECONDS = 1.0
PAUSE_SECONDS = 0.01
CHECK_SECONDS = 5.0
FETCHED_SECONDS = 2.0
"""A message fetched by a living worker is claimed within this time; a claim that comes later finds it outdated."""
RECOVERY_LIMIT = 2000
"""Overdue rows that one check looks at; the repair loop looks at all."""
LINES_AT_ONCE = 200
"""Lines of the log between two turns of the other loops."""
FIRST_ROWS_OF_A_COMPANY = 8


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the workers of one queue can take: jobs at once, by ready workers or else by the minimum."""

    jobs: int
    start_limit: StartLimit | None = None
    """Never more starts than this, or no limit."""


class DispatchLoop:
    """One round serves every queue; all of it may run in two replicas at the same time without harm."""

    def __init__(
        self,
        state: OperatorState,
        store: DispatchStore,
        *,
        queue: Callable[[str], JobQueue],
        capacities: Callable[[], Mapping[str, Capacity]],
    ) -> None:
        self._state = state
        self._store = store
        self._queue = queue
        self._capacities = capacities
        self._rates: dict[str, StartRate] = {}
        self._checked_at: dict[str, float] = {}
        self._doubtful: set[str] = set()
        """Queues of which Redis may lack anything: it lost its data, or a write to it failed."""
        self._paused: set[str] = set()
        self._turns: dict[str, int] = {}
        """Places that several tiers had a claim on, counted by queue."""
        self._ends_seen: dict[str, int] = {}
        self._look_at: dict[str, float] = {}
        """When to look for messages that ended workers had fetched and not yet claimed."""

    def loop(self) -> Loop:
        """Woken by recorded jobs, and by notifications of claims and ends."""
        return Loop(
            "dispatch",
            self.round,
            interval=TICK_SECONDS,
            wake=self._state.dispatch_wanted,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Check and fill each queue."""
        for name, capacity in self._capacities().items():
            await self._serve(name, capacity)

    async def _serve(self, name: str, capacity: Capacity) -> None:
        queue = self._queue(name)
        try:
            await self._check(queue)
            messages = await self._hand_over(name, capacity)
            if messages:
                fail_point("dispatch.committed")
            await queue.add(messages)
        except QueueUnavailableError:
            # Rows may be handed over that Redis never saw; looked at as soon as it is back.
            self._doubtful.add(name)
            raise
        if messages:
            fail_point("dispatch.added")
            metrics.JOBS_DISPATCHED.labels(metrics.queue_label(name)).inc(len(messages))
            log.info("jobs.dispatched", queue=name, jobs=len(messages))
            for number, message in enumerate(messages, start=1):
                if number % LINES_AT_ONCE == 0:
                    # A whole window is thousands of lines: other loops get their turn in between.
                    await asyncio.sleep(0)
                log.info(
                    "job.dispatched",
                    queue=name,
                    jobId=message.job_id,
                    correlationId=message.correlation_id or message.job_id,
                    dispatch=message.dispatch,
                )

    async def _check(self, queue: JobQueue) -> None:
        """Find hand-overs that Redis does not have: all of them when it lost its data, else overdue ones."""
        now = time.monotonic()
        forgot = await queue.check_epoch()
        if forgot:
            # Until all is handed over again, also when this round fails.
            self._doubtful.add(queue.name)
        takeover = queue.name not in self._checked_at
        after_end = self._is_look_due_after_end(queue.name, now)
        if queue.name in self._doubtful:
            await recover_hand_overs(
                self._store,
                queue,
                older_than_seconds=0.0,
                kind=RepairKind.REDIS_LOST if forgot else RepairKind.HAND_OVER_LOST,
                cause="RedisLost" if forgot else "AddFailed",
            )
        elif after_end:
            await recover_hand_overs(
                self._store,
                queue,
                older_than_seconds=FETCHED_SECONDS,
                kind=RepairKind.HAND_OVER_LOST,
                cause="WorkerEnded",
                looks=RECOVERY_LIMIT,
            )
            self._look_at.pop(queue.name, None)
        elif takeover or now - self._checked_at[queue.name] >= CHECK_SECONDS:
            await recover_hand_overs(
                self._store,
                queue,
                older_than_seconds=OVERDUE_SECONDS,
                kind=RepairKind.HAND_OVER_LOST,
                cause="Overdue",
                looks=RECOVERY_LIMIT,
            )
        else:
            return
        self._doubtful.discard(queue.name)
        self._checked_at[queue.name] = now

    def _is_look_due_after_end(self, name: str, now: float) -> bool:
        """Whether to look for what ended workers had fetched; by then all of it is FETCHED_SECONDS old."""
        if name not in self._look_at and self._ends_seen.get(name, 0) != self._state.ends_seen:
            self._ends_seen[name] = self._state.ends_seen
            self._look_at[name] = now + FETCHED_SECONDS
        return name in self._look_at and now >= self._look_at[name]

    async def _hand_over(self, name: str, capacity: Capacity) -> list[Message]:
        rate = self._rates.get(name, StartRate())
        async with self._store.transaction() as hand_over:
            if not await hand_over.lock():
                return []
            queue = await hand_over.state(name)
            self._note_pause(name, queue)
            if queue.dispatch_paused:
                self._rates.pop(name, None)
                await hand_over.take_back(name)
                return []
            await hand_over.take_back_paused(name)
            unclaimed = await hand_over.unclaimed(name)
            rate = rate.after_look(unclaimed=unclaimed, now=time.monotonic())
            self._rates[name] = rate
            room = window(
                concurrency=1,
                ready_workers=capacity.jobs,
                minimum_workers=0,
                starts_per_second=rate.per_second,
            )
            needed = min(room - unclaimed, *await _limits(hand_over, name, queue, capacity, unclaimed))
            if needed <= 0:
                return []
            chosen, turn = await choose_due(
                hand_over,
                name,
                needed=needed,
                now=datetime.now(UTC),
                basic_delay_seconds=queue.basic_delay_seconds,
                turn=self._turns.get(name, 0),
            )
            self._turns[name] = turn
            messages = await hand_over.hand_over([candidate.job_id for candidate in chosen])
        self._rates[name] = rate.after_hand_over(len(messages))
        return messages

    def _note_pause(self, name: str, queue: QueueState) -> None:
        """The objects of waiting jobs say whether their queue is paused."""
        metrics.QUEUE_PAUSED.labels(metrics.queue_label(name)).set(queue.paused)
        paused = queue.dispatch_paused
        if paused != (name in self._paused):
            self._paused ^= {name}
            log.warning("queue.paused" if paused else "queue.resumed", queue=name)
            self._state.project_waiting()


async def _limits(
    hand_over: DispatchTransaction, name: str, queue: QueueState, capacity: Capacity, unclaimed: int
) -> list[int]:
    """How many jobs may be handed over by the queue limiter, and by a trial after an emergency pause."""
    limits = [WINDOW_LIMIT]
    if capacity.start_limit is not None:
        jobs, seconds = capacity.start_limit.jobs, capacity.start_limit.seconds
        started = await hand_over.started(name, seconds=seconds, limit=jobs)
        limits.append(may_start(jobs=jobs, started=started, unclaimed=unclaimed))
    if queue.emergency.phase is EmergencyPhase.TRYING:
        started = await hand_over.started(name, since=queue.emergency.since, limit=TRIAL_STARTS)
        limits.append(may_start(jobs=TRIAL_STARTS, started=started, unclaimed=unclaimed))
    return limits


async def choose_due(
    hand_over: DispatchTransaction,
    queue: str,
    *,
    needed: int,
    now: datetime,
    basic_delay_seconds: float = 0.0,
    turn: int = 0,
) -> tuple[list[Candidate], int]:
    """Choose up to `needed` due rows, reading only as many rows of each company as its share asks for.

    Returns them with the next `turn`.
    """
    known: dict[str, list[Candidate]] = {
        candidate.company_id: [candidate]
        for candidate in await hand_over.heads(queue, basic_delay_seconds=basic_delay_seconds)
    }
    if not known:
        return [], turn
    shares = await hand_over.shares(queue)
    complete: dict[str, bool] = {}
    limit = FIRST_ROWS_OF_A_COMPANY
    while True:
        candidates = [candidate for rows in known.values() for candidate in rows]
        choice = choose(candidates, shares=shares, needed=needed, now=now, complete=complete, turn=turn)
        if not choice.exhausted:
            return list(choice.chosen), choice.turn
        limit = min(limit, needed + 1)
        for company in choice.exhausted:
            known[company] = []
        for candidate in await hand_over.more(
            queue, sorted(choice.exhausted), limit=limit, basic_delay_seconds=basic_delay_seconds
        ):
            known[candidate.company_id].append(candidate)
        for company in choice.exhausted:
            # More than needed can't be chosen of one company.
            complete[company] = len(known[company]) < limit or limit > needed
        limit *= 4
