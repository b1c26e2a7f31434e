"""The order in which waiting jobs of a simulation start: by age, or as the dispatcher chooses."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from import_core.domain.dispatch import RECENT_STARTS, Candidate, choose

if TYPE_CHECKING:
    from import_core.domain.simulation.backlog import Job

_START = datetime(2000, 1, 1, tzinfo=UTC)
_ROWS_PER_COMPANY = 8
"""So many rows of a company are looked at for one refill, as the dispatcher also looks at heads only."""


class Order(Protocol):
    """Where due jobs wait."""

    def add(self, job: Job, *, interrupted: bool = False) -> None:
        """A job is due; an interrupted one has had its turn."""

    def pop(self, now: float) -> Job | None:
        """The next job."""

    def fill(self, now: float) -> None:
        """Jobs have come: there may be room for some in the window."""

    def gone(self, job: Job) -> None:
        """A job that was taken is under way no more."""

    def resize(self, window: int) -> None:
        """So many jobs may be handed over at once (`dispatch.window`)."""

    def __len__(self) -> int: ...


class OldestFirst:
    """First come, first served."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def add(self, job: Job, *, interrupted: bool = False) -> None:
        """Interrupted ones go before the others."""
        if interrupted:
            self._jobs.appendleft(job)
        else:
            self._jobs.append(job)

    def pop(self, now: float) -> Job | None:
        """The oldest."""
        return self._jobs.popleft() if self._jobs else None

    def fill(self, now: float) -> None:
        """There is no window."""

    def gone(self, job: Job) -> None:
        """The order does not depend on it."""

    def resize(self, window: int) -> None:
        """The order does not depend on it."""

    def __len__(self) -> int:
        return len(self._jobs)


class AsDispatched:
    """By `dispatch.choose`: a window is handed over, and filled again when half of it is gone.

    The dispatcher fills it at each claim, and when jobs come; refilling it in halves gives nearly the same order at
    a fraction of the calculation. `always` has it filled as the dispatcher does.
    """

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._window = 1
        self._handed: deque[Job] = deque()
        self._waiting: dict[str, deque[Job]] = {}
        self._count = 0
        self._turn = 0
        self._starts: deque[str] = deque()
        self._shares: Counter[str] = Counter()
        """By company: its jobs that are handed over or run, and its last starts (`adapters/postgres/dispatching`)."""

    def add(self, job: Job, *, interrupted: bool = False) -> None:
        """Wait within the company, oldest first."""
        if interrupted:
            # It keeps its place, and is taken before the next refill.
            self._handed.appendleft(job)
            self._shares[job.arrival.company] += 1
            return
        self._count += 1
        self._waiting.setdefault(job.arrival.company, deque()).append(job)

    def pop(self, now: float) -> Job | None:
        """The next of the window."""
        if len(self._handed) <= self._window // 2:
            self._refill(now)
        if not self._handed:
            return None
        job = self._handed.popleft()
        company = job.arrival.company
        self._starts.append(company)
        self._shares[company] += 1
        if len(self._starts) > RECENT_STARTS:
            self._shares[self._starts.popleft()] -= 1
        self.fill(now)
        return job

    def fill(self, now: float) -> None:
        """Where it is always to be full."""
        if self._always:
            self._refill(now)

    def gone(self, job: Job) -> None:
        """It counts against its company's share no more."""
        self._shares[job.arrival.company] -= 1

    def resize(self, window: int) -> None:
        """What is handed over already stays so."""
        self._window = max(1, window)

    def __len__(self) -> int:
        return self._count + len(self._handed)

    def _refill(self, now: float) -> None:
        wanted = self._window - len(self._handed)
        if not self._count or wanted <= 0:
            return
        candidates = [
            Candidate(
                f"{job.number:09}", company, job.arrival.tier, _START + timedelta(seconds=job.arrival.at)
            )
            for company, jobs in self._waiting.items()
            for job in islice(jobs, _ROWS_PER_COMPANY)
        ]
        choice = choose(
            candidates,
            shares=self._shares,
            needed=wanted,
            now=_START + timedelta(seconds=now),
            turn=self._turn,
        )
        self._turn = choice.turn
        for chosen in choice.chosen:
            jobs = self._waiting[chosen.company_id]
            self._handed.append(jobs.popleft())
            self._shares[chosen.company_id] += 1
            if not jobs:
                del self._waiting[chosen.company_id]
        self._count -= len(choice.chosen)
