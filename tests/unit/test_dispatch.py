"""Which rows go next: tiers with ageing, fair shares, no starvation, and a bounded window."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.dispatch import (
    AGED_TURN,
    TIER_STEP_SECONDS,
    WINDOW_LIMIT,
    Candidate,
    ReadyWorkers,
    StartRate,
    choose,
    window,
)
from import_core.domain.jobs import Tier

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def candidate(job_id: str, company: str = "acme", tier: Tier = Tier.BASIC, waited: float = 0) -> Candidate:
    return Candidate(job_id, company, tier, NOW - timedelta(seconds=waited))


def chosen(candidates: list[Candidate], needed: int, in_flight: dict[str, int] | None = None) -> list[str]:
    complete = {item.company_id: True for item in candidates}
    choice = choose(candidates, shares=in_flight or {}, needed=needed, now=NOW, complete=complete)
    return [item.job_id for item in choice.chosen]


def test_higher_tier_goes_first() -> None:
    rows = [
        candidate("basic", "a", Tier.BASIC, 100),
        candidate("pro", "b", Tier.PRO, 10),
        candidate("enterprise", "c", Tier.ENTERPRISE, 1),
    ]
    assert chosen(rows, 3) == ["enterprise", "pro", "basic"]


def test_waiting_raises_the_tier() -> None:
    rows = [candidate(f"new-{n}", f"large-{n}", Tier.ENTERPRISE) for n in range(8)]
    young = candidate("old", "a", Tier.BASIC, TIER_STEP_SECONDS * 2 - 1)
    assert chosen([*rows, young], 8) == [f"new-{n}" for n in range(8)]
    old = candidate("old", "a", Tier.BASIC, TIER_STEP_SECONDS * 2)
    assert chosen([*rows, old], 9).index("old") == AGED_TURN - 1, "one of every few places, not all of them"


def test_contested_places_are_counted_from_call_to_call() -> None:
    rows = [candidate(f"new-{n}", f"large-{n}", Tier.ENTERPRISE) for n in range(8)]
    old = candidate("old", "a", Tier.PRO, TIER_STEP_SECONDS)
    turn, order = 0, []
    for _ in range(AGED_TURN):
        waiting = [row for row in [*rows, old] if row.job_id not in order]
        choice = choose(waiting, shares={}, needed=1, now=NOW, turn=turn)
        turn = choice.turn
        order.append(choice.chosen[0].job_id)
    assert order[-1] == "old"


def test_age_does_not_put_one_company_of_a_tier_before_another() -> None:
    rows = [candidate(f"aged-{n}", "big", waited=TIER_STEP_SECONDS * 9) for n in range(9)]
    assert chosen([*rows, candidate("single", "small")], 2) == ["aged-0", "single"]


def test_companies_take_turns() -> None:
    rows = [candidate(f"big-{n}", "big", waited=100 - n) for n in range(10)] + [candidate("small", "small")]
    assert chosen(rows, 3) == ["big-0", "small", "big-1"]


def test_jobs_under_way_count_against_the_share() -> None:
    rows = [candidate("busy", "busy", waited=100), candidate("idle", "idle")]
    assert chosen(rows, 2, {"busy": 3}) == ["idle", "busy"]


def test_company_whose_known_rows_are_used_up_is_reported() -> None:
    rows = [candidate("a-1", "a"), candidate("b-1", "b")]
    choice = choose(rows, shares={}, needed=2, now=NOW, complete={"b": True})
    assert choice.exhausted == {"a"}


tiers = st.sampled_from(list(Tier))
candidates = st.lists(st.tuples(st.integers(0, 5), tiers, st.floats(0, 5000)), min_size=1, max_size=60).map(
    lambda rows: [
        candidate(f"job-{index:03}", f"company-{company}", tier, waited)
        for index, (company, tier, waited) in enumerate(rows)
    ]
)


@given(candidates, st.integers(0, 80))
def test_takes_as_many_as_needed_and_each_once(rows: list[Candidate], needed: int) -> None:
    order = chosen(rows, needed)
    assert len(order) == min(needed, len(rows))
    assert len(set(order)) == len(order)


@given(candidates)
def test_company_goes_oldest_first(rows: list[Candidate]) -> None:
    by_id = {row.job_id: row for row in rows}
    seen: dict[str, datetime] = {}
    for job_id in chosen(rows, len(rows)):
        row = by_id[job_id]
        assert seen.get(row.company_id, row.queued_at) <= row.queued_at
        seen[row.company_id] = row.queued_at


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.integers(1, 60))
def test_equal_tiers_share_fairly(backlogs: list[int], needed: int) -> None:
    rows = [
        candidate(f"{company}-{n}", f"company-{company}")
        for company, backlog in enumerate(backlogs)
        for n in range(backlog)
    ]
    by_id = {row.job_id: row.company_id for row in rows}
    shares = Counter(by_id[job_id] for job_id in chosen(rows, needed))
    for company, backlog in enumerate(backlogs):
        share = shares[f"company-{company}"]
        # Who has rows left has no fewer than anybody else, give or take the turn under way.
        if share < backlog:
            assert share >= max(shares.values()) - 1


def test_an_interrupted_job_keeps_its_turn_within_its_tier() -> None:
    interrupted = replace(candidate("cut", "busy"), interrupted=True)
    rows = [candidate("idle-1", "idle", waited=90), interrupted, candidate("pro", "other", Tier.PRO)]
    assert chosen(rows, 3, {"busy": 900}) == ["pro", "cut", "idle-1"]


def test_an_interrupted_job_gives_its_company_no_second_turn() -> None:
    interrupted = replace(candidate("cut", "busy", waited=99), interrupted=True)
    rows = [interrupted, candidate("busy-2", "busy"), candidate("idle-1", "idle")]
    assert chosen(rows, 3, {"busy": 9}) == ["cut", "idle-1", "busy-2"]


@given(candidates, st.integers(1, 5))
def test_nothing_starves(rows: list[Candidate], step: int) -> None:
    """With every round some rows go; a BASIC row that waits long enough is chosen, whatever else arrives."""
    old = candidate("old", "patient", Tier.BASIC, TIER_STEP_SECONDS * 3)
    fresh = [
        Candidate(row.job_id, row.company_id, Tier.ENTERPRISE, NOW - timedelta(seconds=1)) for row in rows
    ]
    assert "old" in chosen([*fresh, old], AGED_TURN - 1 + step)


def test_window_is_a_load_for_every_worker() -> None:
    assert window(concurrency=5, ready_workers=4, minimum_workers=2, starts_per_second=0) == 20
    assert window(concurrency=5, ready_workers=0, minimum_workers=2, starts_per_second=0) == 10


def test_window_is_two_seconds_of_fast_starts() -> None:
    assert window(concurrency=5, ready_workers=1, minimum_workers=1, starts_per_second=100) == 200


@given(st.integers(0, 100), st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1e6))
def test_window_is_bounded(concurrency: int, ready: int, minimum: int, starts: float) -> None:
    size = window(
        concurrency=concurrency, ready_workers=ready, minimum_workers=minimum, starts_per_second=starts
    )
    assert 0 <= size <= WINDOW_LIMIT


def test_start_rate_follows_what_left_the_window() -> None:
    rate = StartRate().after_look(unclaimed=0, now=0.0).after_hand_over(100)
    rate = rate.after_look(unclaimed=0, now=2.0)
    assert rate.per_second == pytest.approx(50.0)
    idle = rate.after_look(unclaimed=0, now=10.0)
    assert idle.per_second == 0.0


def looked(*looks: tuple[float, int, int]) -> int:
    workers = ReadyWorkers()
    for now, ready, replicas in looks:
        workers = workers.after_look(ready=ready, replicas=replicas, now=now)
    return workers.count


def test_ready_workers_are_counted() -> None:
    assert looked() == 0
    assert looked((0, 0, 5)) == 0, "none was ready yet"
    assert looked((0, 3, 5), (1, 5, 5)) == 5


def test_worker_that_is_unready_for_a_moment_still_counts() -> None:
    assert looked((0, 5, 5), (30, 3, 5)) == 5
    assert looked((0, 5, 5), (30, 3, 5), (61, 3, 5)) == 3


def test_all_workers_unready_keep_their_number_however_long() -> None:
    falling = [(float(second), 5 - second, 5) for second in range(6)]
    assert looked(*falling, (3600, 0, 5)) == 5, "Redis is away, not the workers"
    assert looked(*falling, (3600, 0, 5), (3601, 2, 5)) == 2


def test_workers_that_are_not_to_be_do_not_count() -> None:
    assert looked((0, 5, 5), (1, 5, 2)) == 2
    assert looked((0, 5, 5), (1, 0, 2)) == 2
    assert looked((0, 5, 5), (1, 0, 0)) == 0
