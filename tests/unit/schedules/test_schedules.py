"""What a schedule does at a moment: no run twice, none lost within its deadline, jitter that never moves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from import_core.domain.cron import Cron
from import_core.domain.resources.import_schedule import ConcurrencyPolicy
from import_core.domain.schedules import (
    FinishedRun,
    Missed,
    Plan,
    Seen,
    Waiting,
    Wave,
    decide,
    forecast,
    jitter_share,
    job_name,
    next_wave,
    surplus,
)

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
HOURLY = Plan(Cron.parse("0 * * * *"))


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return MIDNIGHT + timedelta(hours=hour, minutes=minute, seconds=second)


def test_run_starts_at_its_time_and_not_before() -> None:
    seen = Seen(created_at=at(0, 30))
    early = decide(HOURLY, seen, at(0, 59, 59))
    assert (early.run, early.next_start, early.look_at) == (None, at(1), at(1))
    due = decide(HOURLY, seen, at(1))
    assert (due.run, due.next_start, due.missed_count) == (at(1), at(2), 0)


def test_started_run_is_not_started_again() -> None:
    assert decide(HOURLY, Seen(MIDNIGHT, last=at(1)), at(1, 30)).run is None


def test_of_several_that_wait_only_the_last_starts() -> None:
    decision = decide(HOURLY, Seen(MIDNIGHT), at(5, 10))
    assert decision.run == at(5)
    assert (decision.missed_until, decision.missed_count) == (at(4), 4)
    assert decision.missed_reason is Missed.SUPERSEDED


def test_run_above_its_deadline_is_missed_once() -> None:
    plan = replace(HOURLY, deadline=timedelta(minutes=10))
    seen = Seen(MIDNIGHT)
    assert decide(plan, seen, at(1, 10)).run == at(1)
    late = decide(plan, seen, at(1, 10, 1))
    assert (late.run, late.missed_until, late.missed_count) == (None, at(1), 1)
    assert late.missed_reason is Missed.DEADLINE
    again = decide(plan, replace(seen, missed=at(1)), at(1, 30))
    assert (again.run, again.missed_until) == (None, None)


def test_missed_runs_are_counted_up_to_a_bound() -> None:
    decision = decide(Plan(Cron.parse("* * * * *")), Seen(MIDNIGHT - timedelta(days=300)), MIDNIGHT)
    assert (decision.run, decision.missed_count) == (MIDNIGHT, 100)


def test_forbid_waits_and_starts_when_the_earlier_run_is_done() -> None:
    running = Seen(MIDNIGHT, last=at(1), active=1)
    waits = decide(HOURLY, running, at(2))
    assert (waits.run, waits.due, waits.waiting) == (None, at(2), Waiting.PREVIOUS_RUN)
    assert decide(HOURLY, replace(running, active=0), at(2, 30)).run == at(2)


def test_waiting_run_is_looked_at_when_its_deadline_ends() -> None:
    plan = replace(HOURLY, deadline=timedelta(minutes=10))
    waits = decide(plan, Seen(MIDNIGHT, last=at(1), active=1), at(2))
    assert waits.look_at == at(2, 10, 1)


def test_allow_and_replace_do_not_wait() -> None:
    for policy in (ConcurrencyPolicy.ALLOW, ConcurrencyPolicy.REPLACE):
        plan = replace(HOURLY, policy=policy)
        assert decide(plan, Seen(MIDNIGHT, last=at(1), active=3), at(2)).run == at(2)


def test_held_while_intake_is_stopped_and_started_afterwards() -> None:
    held = decide(HOURLY, Seen(MIDNIGHT, hindrance=Waiting.INTAKE_STOPPED), at(1))
    assert (held.run, held.waiting) == (None, Waiting.INTAKE_STOPPED)
    assert decide(HOURLY, Seen(MIDNIGHT), at(1, 20)).run == at(1)


def test_suspended_starts_nothing_and_misses_all_but_the_last_run() -> None:
    suspended = replace(HOURLY, suspended=True)
    decision = decide(suspended, Seen(MIDNIGHT), at(5))
    assert (decision.run, decision.next_start, decision.look_at) == (None, None, None)
    assert decide(HOURLY, Seen(MIDNIGHT), at(5, 1)).run == at(5)


def test_run_that_its_jitter_keeps_back_is_the_next_one() -> None:
    plan = replace(HOURLY, share=0.5, jitter=timedelta(minutes=10))
    assert plan.start_of(at(1)) == at(1, 5)
    waits = decide(plan, Seen(MIDNIGHT), at(1, 4))
    assert (waits.run, waits.next_start, waits.look_at) == (None, at(1, 5), at(1, 5))
    due = decide(plan, Seen(MIDNIGHT), at(1, 5))
    assert (due.run, due.next_start) == (at(1), at(2, 5))
    # The run before it is not forgotten while this one is kept back.
    assert decide(plan, Seen(MIDNIGHT), at(2, 4)).run == at(1)


def test_clock_that_goes_back_repeats_nothing() -> None:
    decision = decide(HOURLY, Seen(MIDNIGHT, last=at(5)), at(3))
    assert (decision.run, decision.next_start) == (None, at(6))


EXPRESSIONS = st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "5,6 3 * * *", "0 2 * * *"])
PLANS = st.builds(
    Plan,
    cron=EXPRESSIONS.map(Cron.parse),
    share=st.floats(0, 1, exclude_max=True),
    jitter=st.integers(0, 3600).map(lambda seconds: timedelta(seconds=seconds)),
    deadline=st.none() | st.integers(10, 7200).map(lambda seconds: timedelta(seconds=seconds)),
    policy=st.sampled_from(list(ConcurrencyPolicy)),
)
STEPS = st.lists(
    st.tuples(
        st.integers(1, 4000), st.booleans(), st.booleans(), st.sampled_from(list(Waiting) + [None] * 5)
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200)
@given(PLANS, STEPS)
def test_no_run_twice_and_none_lost(plan: Plan, steps: list[tuple[int, bool, bool, Waiting | None]]) -> None:
    """Looks at any distance, with runs that last and hindrances: each time ends as started or as missed, once."""
    now, seen = MIDNIGHT, Seen(created_at=MIDNIGHT)
    started: list[datetime] = []
    missed = 0
    for seconds, finished, forgets, hindrance in steps:
        now += timedelta(seconds=seconds)
        if finished:
            seen = replace(seen, active=0)
        decision = decide(plan, replace(seen, hindrance=hindrance), now)
        missed += decision.missed_count
        seen = replace(seen, missed=decision.missed_until or seen.missed)
        run = decision.run
        if run is None:
            assert decision.look_at is not None
            assert decision.look_at > now
            continue
        assert plan.start_of(run) <= now
        assert plan.deadline is None or now <= plan.start_of(run) + plan.deadline
        assert run not in started
        assert plan.policy is not ConcurrencyPolicy.FORBID or seen.active == 0
        started.append(run)
        seen = replace(seen, last=run, active=seen.active + 1)
        if forgets:
            # A new operator finds the run by its job; what it sees is the same.
            assert decide(plan, seen, now).run is None
    assert started == sorted(started)
    if missed < 100:
        past = plan.cron.count(after=MIDNIGHT, before=seen.settled + timedelta(seconds=1), at_most=10**6)
        assert past == len(started) + missed
    # What is not settled is due no longer ago than its deadline at the last look, or not due at all.
    unsettled = plan.cron.next(seen.settled)
    last = decide(plan, seen, now)
    assert last.due is not None or last.missed_until is not None or plan.start_of(unsettled) > now


@given(PLANS, st.integers(0, 500))
def test_jitter_is_stable_and_within_its_bounds(plan: Plan, hours: int) -> None:
    time = plan.cron.next(MIDNIGHT + timedelta(hours=hours))
    following = plan.cron.next(time)
    start = plan.start_of(time)
    assert time <= start <= time + plan.jitter
    assert start < following
    assert start - time <= (following - time) / 2
    assert start == plan.start_of(time)


def test_a_thousand_nightly_schedules_are_spread() -> None:
    shares = [jitter_share("imports", f"merchant-{number}") for number in range(1000)]
    assert shares == [jitter_share("imports", f"merchant-{number}") for number in range(1000)]
    nightly = Plan(Cron.parse("0 2 * * *"), jitter=timedelta(minutes=5))
    plans = [replace(nightly, share=share) for share in shares]
    starts = forecast(plans, after=MIDNIGHT, until=at(12), at_most=5000)
    assert len(starts) == 1000
    assert at(2) <= starts[0] < starts[-1] < at(2, 5)
    assert max(starts.count(start) for start in set(starts)) <= 15


@given(PLANS, st.integers(0, 5000), st.integers(1, 200))
def test_forecast_tells_the_starts_that_come(plan: Plan, seconds: int, at_most: int) -> None:
    after = MIDNIGHT + timedelta(seconds=seconds)
    coming = forecast([plan, plan], after=after, until=after + timedelta(hours=4), at_most=at_most)
    assert coming == sorted(coming)
    assert len(coming) <= at_most
    assert all(after < start <= after + timedelta(hours=4) for start in coming)
    seen = Seen(
        created_at=MIDNIGHT - timedelta(days=2),
        last=plan.cron.latest(after=MIDNIGHT - timedelta(days=2), until=after),
    )
    if coming and plan.start_of(seen.last or after) <= after:
        assert decide(plan, seen, after).next_start == coming[0]


def test_wave_is_the_first_moment_with_enough_starts() -> None:
    starts = [at(1), at(2), at(2, 1), at(2, 2), at(3)]
    assert next_wave(starts, within=timedelta(minutes=5), least=3) == Wave(at(2), 3)
    assert next_wave(starts, within=timedelta(minutes=5), least=4) is None
    assert next_wave(starts, within=timedelta(minutes=1), least=1) == Wave(at(1), 1)
    assert next_wave([], within=timedelta(minutes=1), least=1) is None


def test_suspended_schedules_are_in_no_forecast() -> None:
    assert forecast([replace(HOURLY, suspended=True)], after=MIDNIGHT, until=at(9), at_most=9) == []


def test_history_limits_keep_the_newest_of_each_kind() -> None:
    runs = [FinishedRun(f"job-{hour}", at(hour), succeeded=hour % 2 == 0) for hour in range(8)]
    assert surplus(runs, successful=1, failed=2) == {"job-0", "job-2", "job-4", "job-1", "job-3"}
    assert surplus(runs, successful=10, failed=10) == set()


def test_name_of_a_job_is_decided_by_the_minute_of_its_time() -> None:
    assert job_name("acme-nightly", at(2)) == "acme-nightly-29453880"
