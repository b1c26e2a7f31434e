"""Simulations of the dispatcher's choice: nobody waits for somebody else's backlog, and nobody starves."""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from import_core.domain.dispatch import RECENT_STARTS, Candidate, choose, window
from import_core.domain.jobs import Tier

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
JOB_SECONDS = 60.0


class Fleet:
    """Workers that take what is handed over in its order; a job takes a given time. Time is in seconds."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.now = 0.0
        self.waiting: list[Candidate] = []
        self.handed_over: list[Candidate] = []
        self.running: list[tuple[float, str, str]] = []
        self.started: dict[str, float] = {}
        self.durations: dict[str, float] = {}
        self.turn = 0
        self.recent: deque[str] = deque(maxlen=RECENT_STARTS)

    def submit(
        self,
        job_id: str,
        company: str,
        tier: Tier = Tier.BASIC,
        *,
        age: float = 0.0,
        seconds: float = JOB_SECONDS,
    ) -> None:
        queued = START + timedelta(seconds=self.now - age)
        self.waiting.append(Candidate(job_id, company, tier, queued))
        self.durations[job_id] = seconds

    def step(self) -> None:
        """Hand over, start what fits, and go on to the next end of a job."""
        self.dispatch()
        while self.handed_over and len(self.running) < self.slots:
            job = self.handed_over.pop(0)
            self.started[job.job_id] = self.now
            self.recent.append(job.company_id)
            heapq.heappush(self.running, (self.now + self.durations[job.job_id], job.job_id, job.company_id))
            self.dispatch()
        if self.running:
            self.now, _, _ = heapq.heappop(self.running)

    def dispatch(self) -> None:
        room = window(concurrency=1, ready_workers=self.slots, minimum_workers=0, starts_per_second=0.0)
        shares = Counter(job.company_id for job in self.handed_over)
        shares.update(company for _, _, company in self.running)
        shares.update(self.recent)
        choice = choose(
            self._heads(room),
            shares=shares,
            needed=room - len(self.handed_over),
            now=START + timedelta(seconds=self.now),
            turn=self.turn,
        )
        self.turn = choice.turn
        taken = {job.job_id for job in choice.chosen}
        self.handed_over += choice.chosen
        self.waiting = [job for job in self.waiting if job.job_id not in taken]

    def _heads(self, limit: int) -> Iterable[Candidate]:
        """More than that can't be chosen of one company."""
        seen: Counter[str] = Counter()
        for job in sorted(self.waiting, key=lambda job: job.queued_at):
            seen[job.company_id] += 1
            if seen[job.company_id] <= limit:
                yield job

    def until_started(self, job_id: str) -> float:
        while job_id not in self.started:
            self.step()
        return self.started[job_id]


@pytest.mark.parametrize("slots", [1, 5, 50])
def test_five_thousand_jobs_of_one_company_delay_anothers_single_job_by_two_jobs_time(slots: int) -> None:
    fleet = Fleet(slots)
    for number in range(5000):
        fleet.submit(f"big-{number:04}", "big", age=5000 - number)
    fleet.step()
    submitted = fleet.now
    fleet.submit("single", "small")
    # What runs, and what is handed over already: each a job's time.
    assert fleet.until_started("single") - submitted <= 2 * JOB_SECONDS


@settings(max_examples=50, deadline=None)
@given(
    slots=st.integers(1, 8),
    backlogs=st.lists(st.tuples(st.integers(1, 60), st.floats(1, 120)), min_size=1, max_size=6),
    steps=st.integers(0, 20),
)
def test_a_single_job_never_waits_for_more_than_those_under_way_and_one_of_each_company(
    slots: int, backlogs: Sequence[tuple[int, float]], steps: int
) -> None:
    fleet = Fleet(slots)
    for company, (jobs, seconds) in enumerate(backlogs):
        for number in range(jobs):
            fleet.submit(f"{company}-{number:02}", f"company-{company}", age=1000 - number, seconds=seconds)
    for _ in range(steps):
        fleet.step()
    submitted = fleet.now
    fleet.submit("single", "newcomer")
    started = fleet.until_started("single")
    between = [at for job, at in fleet.started.items() if submitted <= at < started and job != "single"]
    # The window's jobs, and at most one of each company that has none under way either and is older.
    assert len(between) <= 2 * slots + len(backlogs)


def test_an_enterprise_job_does_not_wait_for_a_backlog_that_has_aged() -> None:
    fleet = Fleet(5)
    for number in range(1000):
        fleet.submit(f"basic-{number:04}", f"company-{number}", age=7200 - number)
    fleet.step()
    submitted = fleet.now
    fleet.submit("enterprise", "large", Tier.ENTERPRISE)
    assert fleet.until_started("enterprise") - submitted <= 2 * JOB_SECONDS


def test_basic_never_starves_while_enterprise_floods() -> None:
    fleet = Fleet(5)
    for number in range(20):
        fleet.submit(f"basic-{number}", f"basic-company-{number}")
    flooded = 0
    while len([job for job in fleet.started if job.startswith("basic")]) < 20:
        while len(fleet.waiting) < 60:
            fleet.submit(f"large-{flooded}", f"large-{flooded % 30}", Tier.ENTERPRISE)
            flooded += 1
        fleet.step()
        assert fleet.now < 7200, "a row of the lowest tier is as good as the highest after 20 minutes"
    last = max(at for job, at in fleet.started.items() if job.startswith("basic"))
    # From 20 minutes on at least a quarter of the places: 20 jobs in 80 places, 5 at a time.
    assert last <= 1200 + (80 / 5 + 2) * JOB_SECONDS
    large = [at for job, at in fleet.started.items() if job.startswith("large")]
    assert sum(at >= 1200 for at in large) > 20, "and the others go on meanwhile"
